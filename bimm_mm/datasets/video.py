"""Real videos without labels, on top of mmaction2 (which this module needs to be imported)."""

from collections.abc import Callable, Sequence

from mmaction.datasets import VideoDataset
from mmengine.fileio import exists, isdir, join_path
from mmengine.registry import DATASETS

from ..utils.media import VIDEOS, list_media
from . import av_video  # noqa: F401  registers AvInit
from .decoding import ReplaceBrokenVideos
from .repeats import repeat_clips
from .transforms.contours import add_contours


@DATASETS.register_module()
class VideoFolderDataset(ReplaceBrokenVideos, VideoDataset):
    """Videos of a folder, for pretraining, which needs no labels.

    Without ``ann_file``, each file below the folder whose name ends in one of ``extensions`` is a
    sample, in the order of the sorted paths; hidden files are left out. With ``ann_file``, it is
    mmaction2's VideoDataset with an early check of the paths. A broken video is replaced, see
    :class:`bimm_mm.datasets.broken.ReplaceBroken`. Source: our choice.

    Args:
        data_root (str): Folder that ``ann_file`` and ``data_prefix['video']`` are relative to.
            With the other defaults, the folder of the videos itself.
        pipeline (Sequence): Transforms, from a dict with ``filename`` to ``inputs`` and
            ``data_samples``; with mmaction2's decord transforms and
            ``FormatShape(input_format='NCTHW')``, ``inputs`` is (1, 3, T, H, W), uint8, RGB.
        ann_file (str): Annotation file, one ``path label`` or ``path`` per line. Defaults to '':
            take what is in the folder.
        data_prefix (dict): ``video`` is the folder of the videos.
        extensions (Sequence[str]): Endings of video files, in any case.
        contour_cache (str, optional): Folder of contours for ``LoadContours``, made by
            ``tools/dataset_converters/extract_contours.py`` of the folder of the videos.
        num_repeats (int): clips per video, R, each with frames and a crop of its own (repeated
            sampling, MAE-ST); ``inputs`` then is (R, 3, T, H, W), and a batch has R times as many
            samples: docs/speed_input.md says what that means for the schedule.
        **kwargs: Other arguments of mmaction2's VideoDataset; and ``decode_timeout``, see
            :class:`bimm_mm.datasets.decoding.ReplaceBrokenVideos`.

    Raises:
        FileNotFoundError: If the folder or ``ann_file`` does not exist, or the folder holds no
            video, or there is no ``contour_cache``.
        ContourCacheError: If the contours of some videos are missing.
        ValueError: If neither names a place, an extension does not start with a dot, or
            ``decode_timeout`` is not positive, or ``num_repeats`` less than 1; with more than 1,
            on access, if ``pipeline`` does not decode by decord.
        BrokenSampleError: On access, if ten videos in a row are broken; in evaluation, if one is.
    """

    def __init__(
        self,
        data_root: str = '',
        pipeline: Sequence[dict | Callable] = (),
        ann_file: str = '',
        data_prefix: dict[str, str] | None = None,
        extensions: Sequence[str] = VIDEOS,
        contour_cache: str | None = None,
        num_repeats: int = 1,
        **kwargs,
    ) -> None:
        if isinstance(extensions, str) or not all(e.startswith('.') for e in extensions):
            raise ValueError(
                "extensions must be a sequence of endings that start with a dot, as ('.mp4',), "
                f'but got {extensions!r}'
            )
        if num_repeats < 1:
            raise ValueError(f'num_repeats={num_repeats} must be at least 1')
        self.num_repeats = num_repeats
        self.extensions = tuple(extension.lower() for extension in extensions)
        self.contour_cache = contour_cache
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline,
            data_root=data_root,
            data_prefix=dict(video='') if data_prefix is None else data_prefix,
            **kwargs,
        )

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on video ``idx``, for ``num_repeats`` clips."""
        if self.num_repeats == 1:
            return super().prepare_data(idx)
        return repeat_clips(self.pipeline, self.get_data_info(idx), self.num_repeats)

    def load_data_list(self) -> list[dict]:
        """List the videos: a dict with ``filename`` and ``label`` each, label -1 if unknown.

        With a cache, ``contours`` says where those of the video are.
        """
        folder = self.data_prefix['video']
        videos = self._list_videos(folder)
        return add_contours(videos, self.contour_cache, 'videos', folder, self.ann_file)

    def _list_videos(self, folder: str) -> list[dict]:
        if not folder and not self.ann_file:
            raise ValueError(
                "data_root (or data_prefix['video']) must name a folder of videos, or ann_file "
                'a list of them, but all are empty'
            )
        if folder and not isdir(folder):
            raise FileNotFoundError(
                "data_root joined with data_prefix['video'] must be an existing folder of "
                f'videos, but got {folder!r}'
            )
        if self.ann_file:
            if not exists(self.ann_file):
                raise FileNotFoundError(
                    f'ann_file must be an existing file, but got {self.ann_file!r}; leave it '
                    'empty to take all videos of the folder'
                )
            return super().load_data_list()
        try:
            names = list_media(folder, self.extensions)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'data_root: {error}; other endings can be given as extensions'
            ) from error
        return [dict(filename=join_path(folder, name), label=-1) for name in names]
