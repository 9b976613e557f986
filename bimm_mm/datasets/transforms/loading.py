"""Open and decode the videos of a data set, in a process of its own."""

import os

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.fileio import get
from mmengine.registry import TRANSFORMS

from ...video import UnsupportedVideo, VideoReader, open_video
from ...video.parts import file_of

TIMEOUT = 60.0  # seconds


@TRANSFORMS.register_module()
class VideoInit(BaseTransform):
    """Open a video; ``VideoDecode`` (or mmaction2's ``DecordDecode``) follows in the pipeline.

    docs/videos.md says what a video is. A file that ``backend`` cannot read as the others do is
    read by the default one instead.

    Required keys: ``filename``. A name without an ending gets '.mp4' if there is no such file, as
    in mmaction2.

    Added keys: ``video_reader``, ``total_frames``, ``avg_fps``.

    Args:
        backend: 'pyav' or 'decord'; by default the first that is installed.
        num_threads: Threads of the decoder.
        timeout: Seconds that opening a video, and decoding its frames, may take each. None decodes
            in the worker itself, where a crash of the decoder ends the run.
        backend_args: mmengine's description of the storage, for videos that are not in a local or
            mounted file system: their content is read whole, and decoded from memory. A name with
            a prefix, ``s3://...``, needs none.

    Raises:
        OSError, VideoError, ImportError: As :func:`bimm_mm.video.open_video`.
    """

    def __init__(
        self,
        backend: str | None = None,
        num_threads: int = 1,
        timeout: float | None = TIMEOUT,
        backend_args: dict | None = None,
    ) -> None:
        self.backend, self.num_threads = backend, num_threads
        self.timeout, self.backend_args = timeout, backend_args

    def transform(self, results: dict) -> dict:
        """Open it."""
        reader = self.open(results['filename'])
        results['video_reader'] = DecordLike(reader)
        results['total_frames'] = len(reader)
        results['avg_fps'] = reader.fps
        return results

    def open(self, filename: str) -> VideoReader:
        """The reader of a file."""
        source: str | bytes = filename
        if self.backend_args is not None or '://' in filename:
            source = get(filename, backend_args=self.backend_args)
        elif not os.path.splitext(filename)[1] and not os.path.exists(file_of(filename)):
            source = filename + '.mp4'
        settings = dict(num_threads=self.num_threads, timeout=self.timeout)
        try:
            return open_video(source, self.backend, **settings)
        except UnsupportedVideo:
            return open_video(source, **settings)


@TRANSFORMS.register_module()
class VideoDecode(BaseTransform):
    """Decode the frames that a sampler chose from the video that ``VideoInit`` opened.

    Required keys: ``video_reader``, ``frame_inds``.

    Modified keys: ``video_reader`` is closed and becomes None; ``frame_inds`` (N,).

    Added keys: ``imgs``, a list of N arrays (H, W, 3) uint8 RGB; ``original_shape`` and
    ``img_shape``, (H, W).

    Raises:
        VideoError: As :meth:`bimm_mm.video.VideoReader.get_batch`.
    """

    def transform(self, results: dict) -> dict:
        """Decode them."""
        results['frame_inds'] = np.ravel(results['frame_inds'])
        reader, results['video_reader'] = results['video_reader'].reader, None
        results['imgs'] = list(reader.get_batch(results['frame_inds']))
        reader.close()
        results['original_shape'] = results['img_shape'] = results['imgs'][0].shape[:2]
        return results


class DecordLike:
    """A reader with those methods of decord's VideoReader that mmaction2's DecordDecode calls.

    Args:
        reader: An open video.
    """

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def get_avg_fps(self) -> float:
        """Frames per second."""
        return self.reader.fps

    def get_batch(self, indices: np.ndarray) -> 'Frames':
        """Frames by their indices."""
        return Frames(self.reader.get_batch(indices))


class Frames:
    """Frames, to be taken out as from decord's arrays.

    Args:
        frames: (N, H, W, 3) uint8.
    """

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def asnumpy(self) -> np.ndarray:
        """The array."""
        return self.frames


@TRANSFORMS.register_module()
class AvInit(VideoInit):
    """VideoInit with PyAV, under the name that it had before there was a choice.

    Args:
        num_threads: Threads of the decoder.
    """

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__('pyav', num_threads)


class RemoteDecordInit(VideoInit):
    """What mmaction2's DecordInit becomes in this package's data sets.

    Args:
        num_threads: Decord's threads.
        timeout: Seconds, see :func:`decode_elsewhere`.
    """

    def __init__(self, num_threads: int, timeout: float) -> None:
        super().__init__('decord', num_threads, timeout)


def is_video_init(transform: object) -> bool:
    """Whether a transform opens a video, ours or mmaction2's."""
    return isinstance(transform, VideoInit) or type(transform).__name__ == 'DecordInit'


def decode_elsewhere(pipeline: Compose, timeout: float) -> None:
    """Let a pipeline decode its videos in another process, within a time limit.

    VideoInit does so by itself, and gets the time limit. mmaction2's DecordInit of local files is
    replaced, where DecordDecode is in its default mode 'accurate'. Others decode as they did.

    Args:
        pipeline: Changed in place.
        timeout: Seconds after which a video is given up; opening it and decoding its frames may
            each take as long.

    Raises:
        ValueError: ``timeout`` is not positive.
    """
    if not timeout > 0:
        raise ValueError(f'decode_timeout={timeout} must be a positive number of seconds')
    transforms = pipeline.transforms
    fast = any(getattr(transform, 'mode', '') == 'efficient' for transform in transforms)
    for number, transform in enumerate(transforms):
        if isinstance(transform, VideoInit):
            if transform.timeout is not None:
                transform.timeout = timeout
        elif is_video_init(transform) and transform.io_backend == 'disk' and not fast:
            transforms[number] = RemoteDecordInit(transform.num_threads, timeout)
