"""Real videos without labels, on top of mmaction2 (which this module needs to be imported)."""

import logging
from collections.abc import Callable, Iterator, Sequence

from mmaction.datasets import VideoDataset
from mmengine.fileio import exists, isdir
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ..captions.file import CaptionError, CaptionFile
from ..contours.cache import key_of
from ..utils.lists import EntryList, list_of, read_list
from ..utils.media import VIDEOS, list_media
from .decoding import ReplaceBrokenVideos
from .lazy_samples import LazySamples
from .transforms.codes import check_codes
from .transforms.contours import check_contours
from .transforms.repeats import repeat_clips


@DATASETS.register_module()
class VideoFolderDataset(ReplaceBrokenVideos, VideoDataset):
    """Videos of a folder, for pretraining, which needs no labels.

    Without ``ann_file``, each file below the folder whose name ends in one of ``extensions`` is a
    sample, in the order of the sorted paths; hidden files are left out. With ``ann_file``, each
    line of it is, see :func:`bimm_mm.utils.lists.read_list`. A broken video is replaced, see
    :class:`bimm_mm.datasets.broken.ReplaceBroken`. Source: our choice.

    Args:
        data_root: Folder that ``ann_file`` and ``data_prefix['video']`` are relative to. With the
            other defaults, the folder of the videos itself.
        pipeline: Transforms, from a dict with ``filename`` to ``inputs`` and ``data_samples``; with
            VideoInit, VideoDecode and ``FormatShape(input_format='NCTHW')``, ``inputs`` is
            (1, 3, T, H, W), uint8, RGB.
        ann_file: List, a path, or a path and a label, per line. '' takes what is in the folder.
        data_prefix: ``video`` is the folder of the videos.
        extensions: Endings of video files, in any case.
        contour_cache: Folder of contours for ``LoadContours``, made by
            ``tools/dataset_converters/extract_contours.py`` of the folder of the videos.
        caption_file: Captions of the videos, see :mod:`bimm_mm.captions.file`, for ``LoadCaption``;
            paths in it are relative to the folder of the videos. Videos that it lacks have no
            caption.
        with_motion_vectors: Whether ``LoadMotionVectors`` in the pipeline is to read them.
        code_cache: Folder of codes of whole frames for ``LoadCodes``, or several, made by
            ``tools/dataset_converters/extract_codes.py --whole`` of the folder of the videos.
        num_repeats: Clips per video, R, each with frames and a crop of its own (repeated sampling,
            MAE-ST); ``inputs`` then is (R, 3, T, H, W), and a batch has R times as many samples:
            docs/speed_input.md says what that means for the schedule.
        **kwargs: Other arguments of mmaction2's VideoDataset; and ``decode_timeout``, see
            :class:`bimm_mm.datasets.decoding.ReplaceBrokenVideos`.

    Raises:
        FileNotFoundError: The folder or ``ann_file`` does not exist, or the folder holds no video,
            or there is no ``contour_cache``, ``code_cache`` or ``caption_file``.
        CaptionError: A line of ``caption_file`` is none, or it has none of the videos.
        ContourCacheError, CodeCacheError: The contours or codes of some videos are missing.
        ValueError: Neither names a place, a line of ``ann_file`` is none, an extension does not
            start with a dot, ``decode_timeout`` is not positive, or ``num_repeats`` less than 1;
            with more than 1, on access, ``pipeline`` does not open and decode videos.
        BrokenSampleError: On access, ten videos in a row are broken; in evaluation, one is.
    """

    def __init__(
        self,
        data_root: str = '',
        pipeline: Sequence[dict | Callable] = (),
        ann_file: str = '',
        data_prefix: dict[str, str] | None = None,
        extensions: Sequence[str] = VIDEOS,
        contour_cache: str | None = None,
        caption_file: str | None = None,
        with_motion_vectors: bool = False,
        code_cache: str | Sequence[str] | None = None,
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
        self.contour_cache, self.code_cache = contour_cache, code_cache
        self.caption_file, self.with_motion_vectors = caption_file, with_motion_vectors
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline,
            data_root=data_root,
            data_prefix=dict(video='') if data_prefix is None else data_prefix,
            **(dict(serialize_data=False) | kwargs),  # LazySamples are small as they are
        )

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on video ``idx``, for ``num_repeats`` clips."""
        if self.num_repeats == 1:
            return super().prepare_data(idx)
        return repeat_clips(self.pipeline, self.get_data_info(idx), self.num_repeats)

    def load_data_list(self) -> Sequence[dict]:
        """List the videos: a dict with ``filename`` and ``label`` each, label -1 if unknown.

        With caches, ``contours`` and ``codes_from`` say where those of the video are; with a file
        of captions, ``captions`` is the list of them, empty for a video that has none.
        """
        folder = self.data_prefix['video']
        entries = self._list_videos(folder)
        names = Names(entries, folder)
        beside = Beside(
            folder,
            contour_cache=self.contour_cache,
            code_caches=check_codes(self.code_cache, names),
            captions=None if self.caption_file is None else self._read_captions(names),
            with_motion_vectors=self.with_motion_vectors,
        )
        if self.contour_cache is not None:
            check_contours(self.contour_cache, 'videos', names, folder, self.ann_file)
        return LazySamples(entries, folder, add=beside)

    def _read_captions(self, names: 'Names') -> CaptionFile:
        captions = CaptionFile(self.caption_file)
        missing = int((~captions.has(names)).sum())
        if missing == len(names):
            raise CaptionError(
                f'caption_file={self.caption_file!r} has none of the {len(names)} videos, as '
                f'{names[0]!r}: its paths must be relative to the folder of the videos, '
                f'{names.folder!r}'
            )
        if missing:
            print_log(
                f'{missing} of {len(names)} videos have no caption in {self.caption_file}; they '
                'are masked at random',
                logger='current',
                level=logging.WARNING,
            )
        return captions

    def _list_videos(self, folder: str) -> EntryList:
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
            entries = read_list(self.ann_file, self.delimiter)
            for entry in entries:
                entry.label()  # raises where a line is none
            return entries
        try:
            names = list_media(folder, self.extensions)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'data_root: {error}; other endings can be given as extensions'
            ) from error
        return list_of(names, folder)


class Names(Sequence):
    """Names of videos in caches and files of captions: their paths below the folder.

    Args:
        entries: The lines of the list.
        folder: The folder of the videos.
    """

    def __init__(self, entries: EntryList, folder: str) -> None:
        self.entries, self.folder = entries, folder

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> str:
        return key_of(self.entries.path(index), self.folder)

    def __iter__(self) -> Iterator[str]:
        return (key_of(path, self.folder) for path in self.entries.paths())


class Beside:
    """Adds to a sample what lies beside the videos: where its contours and codes are, its captions.

    Args:
        folder: The folder of the videos.
        contour_cache: Folder of the contours; None for none.
        code_caches: Folders of codes.
        captions: The captions; None for none.
        with_motion_vectors: Whether motion vectors are to be read.
    """

    def __init__(
        self,
        folder: str,
        contour_cache: str | None,
        code_caches: tuple[str, ...],
        captions: CaptionFile | None,
        with_motion_vectors: bool,
    ) -> None:
        self.folder, self.contour_cache, self.code_caches = folder, contour_cache, code_caches
        self.captions, self.with_motion_vectors = captions, with_motion_vectors

    def __call__(self, path: str, sample: dict) -> None:
        if self.with_motion_vectors:
            sample['with_motion_vectors'] = True
        if self.contour_cache is None and not self.code_caches and self.captions is None:
            return
        name = key_of(path, self.folder)
        if self.contour_cache is not None:
            sample['contours'] = (self.contour_cache, name)
        if self.code_caches:
            sample['codes_from'] = (self.code_caches, name)
        if self.captions is not None:
            sample['captions'] = self.captions.get(name)
