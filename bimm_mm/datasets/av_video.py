"""Videos decoded by PyAV instead of decord, with fewer frames decoded in vain. Our choice."""

import os
from bisect import bisect_right
from functools import cached_property

import numpy as np
from mmaction.datasets.transforms import DecordInit
from mmengine.registry import TRANSFORMS

# To seek empties the decoder, and reads and throws away what lies before: about as long as this
# many frames of 340x256 take to decode.
SEEK_FRAMES = 10


class AvVideo:
    """A video file, with those methods of decord's VideoReader that mmaction2's DecordDecode calls.

    Args:
        path (str): a local file.
        num_threads (int): of the decoder; 0 lets FFmpeg choose.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: the file has no frame of video; PyAV's errors pass through.
    """

    def __init__(self, path: str, num_threads: int = 1) -> None:
        try:
            import av
        except ImportError as error:
            raise ImportError('AvInit decodes by PyAV, which is missing: pip install av') from error
        self.path = path
        self.container = av.open(path)
        if not self.container.streams.video:
            raise ValueError('no video stream')
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = num_threads
        if not len(self):
            raise ValueError('no frame')

    @cached_property
    def _times(self) -> tuple[list[int], list[int]]:
        """Presentation times of all frames, and the numbers of those that are key frames."""
        packets = [
            (p.pts, p.is_keyframe) for p in self.container.demux(self.stream) if p.pts is not None
        ]
        packets.sort()
        return [time for time, _ in packets], [i for i, (_, key) in enumerate(packets) if key]

    def __len__(self) -> int:
        return len(self._times[0])

    def get_avg_fps(self) -> float:
        """Frames per second; 0 if unknown."""
        return float(self.stream.average_rate or 0)

    def get_batch(self, indices: np.ndarray) -> 'AvFrames':
        """Frames by their indices, in any order, also several times.

        Raises:
            IndexError: there is no such frame.
            ValueError: a frame cannot be decoded.
        """
        times, keys = self._times
        wanted, places = np.unique(np.asarray(indices), return_inverse=True)
        if not 0 <= wanted[0] <= wanted[-1] < len(times):
            raise IndexError(f'frames {wanted[0]} to {wanted[-1]} of a video of {len(times)}')
        frames, position, stream = [], None, None  # position: the frame that comes next
        for index in wanted.tolist():
            key = keys[max(bisect_right(keys, index) - 1, 0)] if keys else 0
            if position is None or key > position + SEEK_FRAMES:
                self.container.seek(times[key], stream=self.stream)
                stream, position = self.container.decode(self.stream), key
            frame = next((f for f in stream if f.pts is not None and f.pts >= times[index]), None)
            if frame is None or frame.pts != times[index]:
                raise ValueError(f'frame {index} of {len(times)} cannot be decoded')
            frames.append(frame.to_ndarray(format='rgb24'))
            position = index + 1
        return AvFrames([frames[place] for place in places.ravel()])


class AvFrames:
    """Frames, (H, W, 3) uint8 each, to be taken out as from decord's arrays."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames = frames

    def asnumpy(self) -> list[np.ndarray]:
        """The frames; DecordDecode makes a list of them in any case."""
        return self.frames


@TRANSFORMS.register_module()
class AvInit(DecordInit):
    """Takes the place of mmaction2's DecordInit: PyAV decodes, DecordDecode follows all the same.

    It is faster than decord where key frames are close (docs/speed_input.md has figures), and
    gives the same frames. It runs in the worker process itself, without the time limit and the
    protection from crashes that decord gets from ``bimm_mm.datasets.decoding``.

    Args:
        num_threads (int): of the decoder.
    """

    def __init__(self, num_threads: int = 1) -> None:
        super().__init__(num_threads=num_threads)

    def _get_video_reader(self, filename: str) -> AvVideo:
        if not os.path.splitext(filename)[1]:
            filename += '.mp4'  # as mmaction2's
        return AvVideo(filename, self.num_threads)
