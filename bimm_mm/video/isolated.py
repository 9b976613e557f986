"""Any backend in a process of its own, so that a broken video can do no harm.

Decoders are C code. Among files with flipped bytes there are some that crash them, and with them
the process they run in; and C code that hangs cannot be interrupted from Python. So every process
that reads videos, as each worker of a DataLoader, starts another one that decodes. If that one
crashes or does not answer in time, the next video gets a new one. Frames are decoded into memory
that both share: nothing is copied.
"""

import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path

import numpy as np

from .errors import UnsupportedVideo, VideoError, VideoTimeout
from .messages import receive, send

PROGRAM = (str(Path(__file__).with_name('__main__.py')), 'decoder_process')
PAGES = 2**20  # buffers are a multiple of this many bytes, so that the next clip fits, too
SPARE_BUFFERS = 2
LONGEST = 2**31 - 1  # milliseconds that can be waited for
# What the other process may answer; all else comes as a VideoError.
ERRORS = {
    error.__name__: error
    for error in (VideoError, UnsupportedVideo, OSError, ImportError, IndexError, ValueError)
}


class Buffer:
    """Memory for frames that both processes see.

    Args:
        size: Bytes.
    """

    count = 0

    def __init__(self, size: int) -> None:
        Buffer.count += 1
        self.number, self.size = Buffer.count, size
        if hasattr(os, 'memfd_create'):  # not /dev/shm, which is small in many containers
            self.handle = os.memfd_create('frames')
        else:
            with tempfile.TemporaryFile() as file:
                self.handle = os.dup(file.fileno())
        os.ftruncate(self.handle, size)
        self.memory = mmap.mmap(self.handle, size)
        weakref.finalize(self, os.close, self.handle).atexit = False


class DecoderProcess:
    """The other process. It is started by the first request, and ends with the one that did so.

    Attributes:
        video: The :class:`IsolatedReader` that is open over there.
        hanging: By source, why a video is not tried again: waiting for the time limit in each
            epoch would cost hours.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = self.connection = None
        self.video: IsolatedReader | None = None
        self.hanging: dict[object, str] = {}
        self.spare: list[Buffer] = []  # whose frames nobody holds any more
        self.known: set[int] = set()  # numbers of the buffers that the other process has

    def request(self, timeout: float, method: str, *arguments) -> object:
        """Have something done over there.

        Args:
            timeout: Seconds to wait for the answer.
            method: Of :class:`bimm_mm.video.decoder_process.Server`.
            *arguments: Of the method.

        Raises:
            OSError: The file is missing or may not be read.
            VideoError: The method failed, crashed, or took too long (a VideoTimeout).
            IndexError: There is no such frame.
            ImportError: The backend is not installed, or cannot be imported.
        """
        self._check_owner()
        if (
            method in ('open', 'check')
            and self.process is not None
            and self.process.poll() is not None
        ):
            self._end()  # it died between two videos: neither of them is to blame
        if self.process is None:
            self._start()
        try:
            send(self.connection, (method, *arguments))
            if not self.answers.poll(min(1000 * timeout, LONGEST)):
                self._end(kill=True)
                raise VideoTimeout(f'the decoder took longer than {timeout:g} s')
            kind, answer = receive(self.connection)
        except (EOFError, ConnectionError) as error:
            raise VideoError(f'the decoder crashed ({self._end()})') from error
        if kind == 'error':
            name, arguments = answer
            raise ERRORS[name](*arguments)
        return answer

    def read(self, timeout: float, indices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Decode frames of the open video over there.

        Returns:
            An array of ``shape`` in shared memory, which serves again when the array is gone.
        """
        self._check_owner()
        size = int(np.prod(shape))
        buffer = self._take_buffer(size)
        gone = self._drop_buffers()
        if buffer.number not in self.known:
            self.request(timeout, 'buffer', buffer.number, buffer.size)
            send_handle(self.connection, buffer.handle, self.process.pid)
            self.known.add(buffer.number)
        self.request(timeout, 'read', indices.tolist(), buffer.number, shape, gone)
        frames = np.frombuffer(buffer.memory, np.uint8, size)
        weakref.finalize(frames, self._give_back, buffer).atexit = False
        return frames.reshape(shape)

    def _take_buffer(self, size: int) -> Buffer:
        fitting = [buffer for buffer in self.spare if buffer.size >= size]
        if not fitting:
            return Buffer(-(-max(size, 1) // PAGES) * PAGES)
        self.spare.remove(fitting[0])
        return fitting[0]

    def _drop_buffers(self) -> list[int]:
        """Let all but a few that are not used go; their numbers."""
        gone, self.spare = self.spare[:-SPARE_BUFFERS], self.spare[-SPARE_BUFFERS:]
        numbers = [buffer.number for buffer in gone if buffer.number in self.known]
        self.known.difference_update(numbers)
        return numbers

    def _give_back(self, buffer: Buffer) -> None:
        """Called at any moment, by the garbage collector."""
        if self.owner == os.getpid() and buffer.number in self.known:
            self.spare.append(buffer)

    def _check_owner(self) -> None:
        if self.owner != os.getpid():  # after a fork: the other process is the parent's
            self.__init__()

    def _start(self) -> None:
        self.video, self.known, self.spare = None, set(), []
        self.connection, theirs = Pipe()
        self.answers = select.poll()
        self.answers.register(self.connection, select.POLLIN)
        with theirs:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, *PROGRAM, str(number), str(os.getpid())],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            )
        try:
            receive(self.connection)  # it has imported NumPy: that is no video's time
        except EOFError as error:
            reason = f'the process for decoding does not start ({self._end()})'
            raise ImportError(reason) from error

    def _end(self, kill: bool = False) -> str:
        """Give the process up, and say how it ended."""
        self.connection.close()
        process, self.process, self.video = self.process, None, None
        self.known, self.spare = set(), []
        if kill:
            process.kill()  # not waited for: what hangs on a lost disk does not end
            return 'killed'
        code = process.wait()
        return signal.Signals(-code).name if code < 0 else f'exit code {code}'


class _Decoders(threading.local):
    """A process for each thread, started when it is needed."""

    def __init__(self) -> None:
        self.process = DecoderProcess()


DECODERS = _Decoders()


class IsolatedReader:
    """A video in the other process; see :class:`bimm_mm.video.VideoReader`.

    Args:
        source: Path of a local file, or its content as bytes.
        backend: Name of a backend; None for the default.
        num_threads: Threads of the decoder.
        timeout: Seconds that each request may take.

    Raises:
        ValueError: ``timeout`` is not positive.
        OSError, VideoError, ImportError: As :meth:`DecoderProcess.request`, here and by
            ``get_batch``.
    """

    def __init__(self, source, backend: str | None, num_threads: int, timeout: float) -> None:
        if not timeout > 0:
            raise ValueError(f'timeout={timeout} must be a positive number of seconds')
        self.source = source if isinstance(source, bytes) else os.fspath(source)
        self.arguments, self.timeout = (backend, num_threads), timeout
        self.count, self.fps, self.shape, self.backend = self._open()

    def _open(self) -> tuple:
        decoder = DECODERS.process
        opened = self._guarded(decoder.request, 'open', self.source, *self.arguments)
        decoder.video = self
        return opened

    def _guarded(self, function, *arguments) -> object:
        hanging = DECODERS.process.hanging
        if self.source in hanging:
            raise VideoTimeout(hanging[self.source])
        try:
            return function(self.timeout, *arguments)
        except VideoTimeout as error:
            hanging[self.source] = str(error)
            raise

    def __len__(self) -> int:
        return self.count

    def get_batch(self, indices: Sequence[int]) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB, as :meth:`bimm_mm.video.VideoReader.get_batch`."""
        decoder = DECODERS.process
        if decoder.owner != os.getpid() or decoder.video is not self:
            self._open()
        indices = np.asarray(indices, dtype=np.int64)
        return self._guarded(decoder.read, indices, (len(indices), *self.shape, 3))

    def close(self) -> None:
        """Do without the video; over there, the next one takes its place."""
        if DECODERS.process.video is self:
            DECODERS.process.video = None


def check_video(
    source: str | os.PathLike | bytes,
    backend: str | None = None,
    quick: bool = False,
    timeout: float = 600.0,
) -> str | None:
    """Decode a whole video in the other process.

    Args:
        source, backend, quick: As of :func:`bimm_mm.video.check.problem_in`.
        timeout: Seconds that it may take.

    Returns:
        What is wrong with it, or None.

    Raises:
        OSError, VideoError, ImportError: As :meth:`DecoderProcess.request`.
    """
    source = source if isinstance(source, bytes) else os.fspath(source)
    return DECODERS.process.request(timeout, 'check', source, backend, quick)
