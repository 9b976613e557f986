"""The process that decodes videos for another one, which ``isolated.py`` starts.

It keeps one video open at a time.
"""

import ctypes
import mmap
import os
import signal
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import numpy as np

from .check import problem_in
from .errors import VideoError
from .messages import receive, send
from .reader import open_video

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process with the one that started it, also if that is killed."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before that call
        sys.exit('the process that started this one is gone')


class Server:
    """Answers requests ``(method, *arguments)`` until an EOFError ends it.

    Args:
        connection: To the other process.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.reader = connection, None
        self.buffers: dict[int, mmap.mmap] = {}

    def serve(self) -> None:
        """Answers are ``('value', value)`` or ``('error', (class, arguments))``."""
        send(self.connection, 'ready')
        while True:
            method, *arguments = receive(self.connection)
            try:
                answer = 'value', getattr(self, method)(*arguments)
            except Exception as error:
                answer = 'error', portable(error, method)
            send(self.connection, answer)
            if method == 'buffer':
                self.receive(*arguments)

    def open(self, source, backend: str | None, num_threads: int) -> tuple:
        """Open a video; number of frames, frames per second, (H, W), name of the backend."""
        self.close()  # the one before
        self.reader = open_video(source, backend, num_threads=num_threads)
        return len(self.reader), self.reader.fps, self.reader.shape, self.reader.backend

    def buffer(self, number: int, size: int) -> None:
        """Announce shared memory, which :meth:`receive` takes after the answer."""

    def receive(self, number: int, size: int) -> None:
        """Map the shared memory."""
        handle = recv_handle(self.connection)
        self.buffers[number] = mmap.mmap(handle, size)
        os.close(handle)

    def read(self, indices, number: int, shape: tuple[int, ...], gone: list[int]) -> None:
        """Decode frames into shared memory, and let other memory go."""
        for old in gone:
            del self.buffers[old]
        out = np.frombuffer(self.buffers[number], np.uint8, int(np.prod(shape))).reshape(shape)
        self.reader.read_into(indices, out)

    def check(self, source, backend: str | None, quick: bool) -> str | None:
        """What is wrong with a video, or None."""
        return problem_in(source, backend, quick)

    def close(self) -> None:
        """Close the video."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


def portable(error: Exception, method: str) -> tuple[str, tuple]:
    """Class and arguments of the exception to raise over there."""
    text = str(error).strip().partition('\n')[0][:300]
    if isinstance(error, OSError) and error.errno:
        return 'OSError', (error.errno, error.strerror)
    for kind in (ImportError, IndexError):
        if isinstance(error, kind):
            return kind.__name__, (text,)
    if isinstance(error, VideoError) or type(error) is ValueError:
        return type(error).__name__, (text,)
    what = 'opened' if method == 'open' else 'decoded'
    return 'VideoError', (f'cannot be {what} ({type(error).__name__}: {text})',)


def main(arguments: list[str]) -> None:
    """Serve.

    Args:
        arguments: Number of the open connection, and of the process that started this one.
    """
    # What is sent to the whole group of processes is the training's concern: this one ends with it,
    # be it by the closed connection, or while decoding by the kernel.
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGHUP'):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent(int(arguments[1]))
    try:
        Server(Connection(int(arguments[0]))).serve()
    except (EOFError, ConnectionError):
        pass  # the other side is gone
