"""Videos are decoded in a process of their own, so that a broken one can do no harm.

decord is C++ code. Among files with flipped bytes there are some that crash it, and with it the
process it runs in; and C++ code that hangs cannot be interrupted from Python. So every process that
reads videos, as each worker of a DataLoader, starts another one that holds decord. If that one
crashes or does not answer in time, the next video gets a new one. All of this is our choice.
"""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
from mmaction.datasets.transforms import DecordDecode, DecordInit
from mmengine.dataset import Compose

from .broken import ReplaceBroken

SCRIPT = Path(__file__).with_name('decoder_process.py')


class VideoError(RuntimeError):
    """A video cannot be read; the message is the reason, without the path."""


class VideoTimeout(VideoError):
    """The decoder did not answer in time."""


class DecoderProcess:
    """The other process. It is started by the first request, and ends with the one that did so.

    Attributes:
        video (RemoteVideo, optional): the one that is open over there.
        hanging (dict): by path, why a video is not tried again: waiting for the time limit in each
            epoch would cost hours.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = self.connection = None
        self.video: RemoteVideo | None = None
        self.hanging: dict[str, str] = {}

    def request(self, timeout: float, method: str, *arguments) -> object:
        """Run a method of the open video over there.

        Args:
            timeout (float): seconds to wait for the answer.
            method (str): 'open', or a method of decord's VideoReader.
            *arguments: those of the method.

        Returns:
            What the method returned; frames as a uint8 array.

        Raises:
            VideoError: the method failed, crashed, or took too long (a VideoTimeout).
            ImportError: decord is not installed, or cannot be imported.
        """
        if self.owner != os.getpid():  # after a fork: the other process is the parent's
            self.__init__()
        if method == 'open' and self.process is not None and self.process.poll() is not None:
            self._end()  # it died between two videos: neither of them is to blame
        if self.process is None:
            self._start()
        try:
            self.connection.send((method, *arguments))
            if not self.connection.poll(timeout):
                self._end(kill=True)
                raise VideoTimeout(f'the decoder took longer than {timeout:g} s')
            kind, answer = self.connection.recv()
            if kind == 'array':
                return self._receive(answer)
        except (EOFError, ConnectionError) as error:
            raise VideoError(f'the decoder crashed ({self._end()})') from error
        if kind == 'error':
            raise VideoError(answer)
        return answer

    def _receive(self, shape: tuple[int, ...]) -> np.ndarray:
        frames = np.empty(shape, np.uint8)
        rest = memoryview(frames.reshape(-1))
        while rest:
            count = os.readv(self.connection.fileno(), [rest])
            if not count:
                raise EOFError
            rest = rest[count:]
        return frames

    def _start(self) -> None:
        if find_spec('decord') is None:
            raise ImportError('videos are decoded by decord, which is missing: pip install decord')
        self.video = None
        self.connection, theirs = Pipe()
        with theirs:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(number), str(os.getpid())],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            )
        try:
            self.connection.recv()  # it has imported decord: that is no video's time
        except EOFError as error:
            raise ImportError(f'the process for decord does not start ({self._end()})') from error

    def _end(self, kill: bool = False) -> str:
        """Give the process up, and say how it ended."""
        self.connection.close()
        process, self.process, self.video = self.process, None, None
        if kill:
            process.kill()  # not waited for: what hangs on a lost disk does not end
            return 'killed'
        code = process.wait()
        return signal.Signals(-code).name if code < 0 else f'exit code {code}'


DECODER = DecoderProcess()


class RemoteVideo:
    """A video in the other process, with those methods of decord's VideoReader that are used.

    Args:
        path (str): a local file.
        num_threads (int): decord's threads.
        timeout (float): seconds that each request may take.

    Raises:
        VideoError: as :meth:`DecoderProcess.request`, here and by ``get_batch``.
    """

    def __init__(self, path: str, num_threads: int, timeout: float) -> None:
        self.path, self.num_threads, self.timeout = path, num_threads, timeout
        self.length, self.fps = self._open()

    def _open(self) -> tuple[int, float]:
        opened = self._request('open', self.path, self.num_threads)
        DECODER.video = self
        return opened

    def _request(self, method: str, *arguments) -> object:
        if self.path in DECODER.hanging:
            raise VideoTimeout(DECODER.hanging[self.path])
        try:
            return DECODER.request(self.timeout, method, *arguments)
        except VideoTimeout as error:
            DECODER.hanging[self.path] = str(error)
            raise

    def __len__(self) -> int:
        return self.length

    def get_avg_fps(self) -> float:
        """Frames per second."""
        return self.fps

    def get_batch(self, indices: np.ndarray) -> 'Frames':
        """Frames by their indices."""
        if DECODER.video is not self:
            self._open()
        return Frames(self._request('get_batch', np.asarray(indices)))


class Frames:
    """(N, H, W, 3) uint8, to be taken out as from decord's arrays."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def asnumpy(self) -> np.ndarray:
        """The array."""
        return self.frames


class RemoteDecordInit(DecordInit):
    """mmaction2's DecordInit, whose ``video_reader`` is a :class:`RemoteVideo`.

    Args:
        num_threads (int): decord's threads.
        timeout (float): see :func:`decode_elsewhere`.
    """

    def __init__(self, num_threads: int, timeout: float) -> None:
        super().__init__(num_threads=num_threads)
        self.timeout = timeout

    def _get_video_reader(self, filename: str) -> RemoteVideo:
        if not os.path.splitext(filename)[1]:
            filename += '.mp4'  # as mmaction2's
        return RemoteVideo(filename, self.num_threads, self.timeout)


def decode_elsewhere(pipeline: Compose, timeout: float) -> None:
    """Let a pipeline decode its videos in another process.

    Changed are pipelines with mmaction2's DecordInit of local files and DecordDecode in its default
    mode 'accurate'. Others decode as they did, without a time limit.

    Args:
        pipeline (Compose): changed in place.
        timeout (float): seconds after which a video is given up; opening it and decoding its
            frames may each take as long.

    Raises:
        ValueError: ``timeout`` is not positive.
    """
    if not timeout > 0:
        raise ValueError(f'decode_timeout={timeout} must be a positive number of seconds')
    transforms = pipeline.transforms
    if any(isinstance(t, DecordDecode) and t.mode != 'accurate' for t in transforms):
        return
    for number, transform in enumerate(transforms):
        if type(transform) is DecordInit and transform.io_backend == 'disk':
            transforms[number] = RemoteDecordInit(transform.num_threads, timeout)


class ReplaceBrokenVideos(ReplaceBroken):
    """For mmaction2's datasets of videos: decoded in another process, and broken ones replaced.

    Args:
        *args: of the dataset.
        decode_timeout (float): see :func:`decode_elsewhere`.
        **kwargs: of the dataset.
    """

    def __init__(self, *args, decode_timeout: float = 60.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        decode_elsewhere(self.pipeline, decode_timeout)
