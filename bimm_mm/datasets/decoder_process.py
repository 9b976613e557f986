"""The process that decodes videos for another one; started by ``decoding.py``, by its path.

It imports no more than decord and NumPy, and keeps one video open at a time.
"""

import ctypes
import io
import os
import re
import signal
import sys
from multiprocessing.connection import Connection

if __name__ == '__main__':
    del sys.path[0]  # the folder of this file, whose modules are no top-level ones

import decord  # noqa: E402

PR_SET_PDEATHSIG = 1


class NoVideo(Exception):
    """There is nothing that could be decoded."""


def open_video(path: str, num_threads: int):
    """A decord reader of a file, which has at least one frame."""
    with open(path, 'rb') as file:
        data = file.read()
    if not data:
        raise NoVideo('empty file')
    reader = decord.VideoReader(io.BytesIO(data), num_threads=num_threads)
    if not len(reader):
        raise NoVideo('no frame')
    return reader


def reason_of(error: Exception, method: str) -> str:
    """What failed, on one line; decord puts the time and a place in its source code before it."""
    if isinstance(error, OSError | NoVideo):
        return getattr(error, 'strerror', None) or str(error)
    first = re.sub(r'\[\d\d:\d\d:\d\d\] \S+: ', '', str(error)).strip().partition('\n')[0]
    what = 'opened' if method == 'open' else 'decoded'
    return f'cannot be {what} ({first or type(error).__name__})'


def serve(connection: Connection) -> None:
    """Answer requests ``(method of the reader, *arguments)`` until an EOFError ends it.

    Answers are ``('error', reason)``, ``('value', value)`` or ``('array', shape)``, which the bytes
    of a uint8 array follow.
    """
    reader = None
    connection.send('ready')
    while True:
        method, *arguments = connection.recv()
        try:
            if method == 'open':
                reader = None  # the one before is closed first
                reader = open_video(*arguments)
                answer = len(reader), float(reader.get_avg_fps())
            else:
                answer = getattr(reader, method)(*arguments)
        except Exception as error:
            connection.send(('error', reason_of(error, method)))
            continue
        if hasattr(answer, 'asnumpy'):
            frames = answer.asnumpy()
            connection.send(('array', frames.shape))
            rest = memoryview(frames.reshape(-1))  # Connection.send_bytes would copy it
            while rest:
                rest = rest[os.write(connection.fileno(), rest) :]
        else:
            connection.send(('value', answer))


if __name__ == '__main__':
    # What is sent to the whole group of processes is the training's concern: this one ends with it,
    # be it by the closed connection, or while decoding by the kernel.
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGHUP'):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(sys.argv[2]):  # else the parent was gone before that call
        try:
            serve(Connection(int(sys.argv[1])))
        except (EOFError, ConnectionError):
            pass  # the other side is gone
