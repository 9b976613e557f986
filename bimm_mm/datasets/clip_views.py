"""Several clips of each video: for contrast between them."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset

from ..codes.cache import CodeCache


def draw_starts(
    length: int, num_frames: int, num_clips: int, max_distance: int | None = None
) -> list[int]:
    """Draw where clips begin (VIMPAC, section 3.3).

    The first is uniform among the places where a clip fits. So are the others, independently, or
    among those at most ``max_distance`` frames away from the first.

    Args:
        length: Frames of the video.
        num_frames: Frames of a clip; a shorter video gives clips that begin with it.
        num_clips: Number of clips.
        max_distance: Largest distance from the first one's beginning.
    """
    last = max(length - num_frames, 0)
    first = int(torch.randint(last + 1, ()))
    low, high = 0, last
    if max_distance is not None:
        low, high = max(first - max_distance, 0), min(first + max_distance, last)
    return [first, *(int(torch.randint(low, high + 1, ())) for _ in range(num_clips - 1))]


def jitter_colors(clips: Tensor, strength: float) -> Tensor:
    """Change the light of clips (N, 3, T, H, W) uint8; see :class:`ClipViewsDataset`."""
    if not strength:
        return clips
    gain, offset = (strength * (2 * torch.rand(2, len(clips), 3, 1, 1, 1) - 1)).unbind()
    middle = 127.5
    changed = (clips.float() - middle) * (1 + gain) + middle + middle * offset
    return changed.round_().clamp_(0, 255).to(clips.dtype)


def _check(num_frames: int, num_clips: int, max_distance: int | None) -> None:
    if num_frames < 1 or num_clips < 1:
        raise ValueError(f'num_frames={num_frames} and num_clips={num_clips} must be at least 1')
    if max_distance is not None and max_distance < 0:
        raise ValueError(f'max_distance={max_distance} must be 0 or more')


@DATASETS.register_module()
class ClipViewsDataset(Dataset):
    """Short random clips cut out of each longer clip of another data set.

    Args:
        dataset: Config of a data set whose samples have ``inputs`` (3, T, H, W).
        num_frames: Frames of a clip. Where T is less, the last frame is repeated, and
            ``num_valid_frames`` says so.
        num_clips: Clips per sample.
        max_distance: See :func:`draw_starts`; in frames.
        color_jitter: How far the light changes from clip to clip, 0 for not at all: each channel
            of a clip is multiplied by up to 1 ± ``color_jitter`` about gray, and up to half of it
            of the full range is added. Real videos do that by themselves; of generated ones,
            clips of a video would be known by their colors.

    Raises:
        ValueError: If an argument is out of range.

    Samples are those of ``dataset`` with ``inputs`` (num_clips, 3, num_frames, H, W), and
    ``num_valid_frames`` in ``data_samples``.
    """

    def __init__(
        self,
        dataset: dict,
        num_frames: int = 5,
        num_clips: int = 2,
        max_distance: int | None = None,
        color_jitter: float = 0.0,
    ) -> None:
        _check(num_frames, num_clips, max_distance)
        if not 0 <= color_jitter < 1:
            raise ValueError(f'color_jitter={color_jitter} must be in [0, 1)')
        self.dataset, self.color_jitter = DATASETS.build(dataset), color_jitter
        self.num_frames, self.num_clips, self.max_distance = num_frames, num_clips, max_distance

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """Sample ``index``, with other clips each time."""
        sample = dict(self.dataset[index])
        video: Tensor = sample['inputs']
        starts = draw_starts(video.shape[1], self.num_frames, self.num_clips, self.max_distance)
        frames = torch.tensor(starts)[:, None] + torch.arange(self.num_frames)
        frames = frames.clamp_(max=video.shape[1] - 1)
        clips = video[:, frames].transpose(0, 1)  # (num_clips, 3, num_frames, H, W)
        sample['inputs'] = jitter_colors(clips, self.color_jitter).contiguous()
        sample['data_samples'] = sample.get('data_samples', BaseDataElement()).clone()
        sample['data_samples'].num_valid_frames = min(video.shape[1], self.num_frames)
        return sample


@DATASETS.register_module()
class CodeClipsDataset(Dataset):
    """Clips of codes that were made beforehand, for VIMPAC.

    Videos shorter than a clip are filled up with PAD. Without ``ann_file`` all videos of the cache
    are taken, for pretraining.

    Args:
        code_cache: Folder that ``tools/dataset_converters/extract_codes.py`` made.
        ann_file: List of videos, ``path label`` or ``path`` per line, relative to the folder that
            the codes were made of.
        num_frames: Frames of a clip, T.
        num_clips: Clips per video. In training they are drawn at random, see
            :func:`draw_starts`.
        max_distance: Largest distance of the beginnings of clips, in frames of the cache.
        frame_interval: Every n-th frame of the cache is taken: 16 fps in the cache and 4 give 4
            fps.
        views: Attributes of the views to draw from, such as ``dict(flip=False)``; all when left
            out. In training one is drawn for each clip.
        test_mode: Take ``num_clips`` clips at equal distances, each in every one of ``views``: 10
            clips and ``dict(resize=320, flip=False)`` give 10 x 3 of them.

    Raises:
        FileNotFoundError: If there is no cache or no list.
        CodeCacheError: If the cache lacks videos or views.
        ValueError: If an argument is out of range, or there are no videos.

    Each sample is a dict of ``inputs``, (clips, T, rows, columns) int64, and ``data_samples`` with
    ``gt_label`` (1,) where there is one, and ``filename``.
    """

    def __init__(
        self,
        code_cache: str,
        ann_file: str = '',
        num_frames: int = 5,
        num_clips: int = 2,
        max_distance: int | None = None,
        frame_interval: int = 1,
        views: dict | None = None,
        test_mode: bool = False,
    ) -> None:
        _check(num_frames, num_clips, max_distance)
        if frame_interval < 1:
            raise ValueError(f'frame_interval={frame_interval} must be at least 1')
        self.cache = CodeCache(code_cache)
        self.views = self.cache.find_views(**(views or {}))
        self.videos = self._read_list(ann_file)
        if not self.videos:
            raise ValueError(f'no videos in {ann_file or code_cache}')
        if ann_file:
            self.cache.check([name for name, _ in self.videos])
        self.num_frames, self.num_clips, self.max_distance = num_frames, num_clips, max_distance
        self.frame_interval, self.test_mode = frame_interval, test_mode
        self.pad_code = self.cache.num_codes + 1

    def _read_list(self, ann_file: str) -> list[tuple[str, int | None]]:
        if not ann_file:
            return [(name, None) for name in self.cache.names()]
        videos = []
        with open(ann_file) as file:
            for line in filter(None, map(str.strip, file)):
                name, _, label = line.rpartition(' ')
                is_label = bool(name) and label.isdigit()
                videos.append((name, int(label)) if is_label else (line, None))
        return videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict:
        """Clips of video ``index``."""
        name, label = self.videos[index]
        codes = self.cache.open(name)[:, :: self.frame_interval]  # (views, frames, rows, columns)
        clips = [self._cut(codes[view], start) for view, start in self._choose(codes.shape[1])]
        sample = BaseDataElement(metainfo=dict(filename=name))
        if label is not None:
            sample.gt_label = torch.tensor([label])
        return dict(inputs=torch.from_numpy(np.stack(clips)), data_samples=sample)

    def _choose(self, length: int) -> Sequence[tuple[int, int]]:
        """View and beginning of each clip."""
        if self.test_mode:
            last = max(length - self.num_frames, 0)
            starts = np.linspace(0, last, self.num_clips).round().astype(int)
            return [(view, int(start)) for start in starts for view in self.views]
        starts = draw_starts(length, self.num_frames, self.num_clips, self.max_distance)
        picks = torch.randint(len(self.views), (self.num_clips,)).tolist()
        return [(self.views[pick], start) for pick, start in zip(picks, starts, strict=True)]

    def _cut(self, codes: np.ndarray, start: int) -> np.ndarray:
        clip = np.asarray(codes[start : start + self.num_frames], dtype=np.int64)
        missing = self.num_frames - len(clip)
        return np.pad(clip, ((0, missing), (0, 0), (0, 0)), constant_values=self.pad_code)
