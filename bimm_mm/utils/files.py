"""Write files atomically, and explain write errors."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

# A file that is being written; what a killed process leaves behind has this ending, too.
UNFINISHED = '.tmp'

# The errors by which a disk or a network file system fails in the middle of a run.
DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.ETIMEDOUT,
}

# What people ask when a file cannot be written, by the error's number.
REASONS = {
    errno.ENOSPC: 'the disk is full',
    errno.EFBIG: 'the file is larger than allowed',
    errno.EDQUOT: 'the quota is used up',
    errno.EROFS: 'the file system is read-only',
    errno.EACCES: 'no permission',
    errno.EPERM: 'no permission',
    errno.ENOENT: 'the folder does not exist',
    errno.ENOTDIR: 'a part of the path is no folder',
    errno.EIO: 'the device or the network file system fails',
    errno.ESTALE: 'the network file system was lost',
    errno.ENOTCONN: 'the network file system was lost',
    errno.EHOSTDOWN: 'the network file system was lost',
    errno.ETIMEDOUT: 'the network file system does not answer',
}


class WriteError(OSError):
    """Error of a file that could not be written; a previous file is unharmed."""


def explain(error: Exception, path: str | os.PathLike) -> WriteError:
    """Turn an error that came up while ``path`` was written into a WriteError.

    Args:
        error: An OSError, or the RuntimeError that ``torch.save`` makes of one.
        path: The file or folder.
    """
    if isinstance(error, WriteError):
        return error
    if isinstance(error.__context__, OSError):  # what torch met before its own error
        error = error.__context__
    number = getattr(error, 'errno', None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    known = REASONS.get(number)
    detail = getattr(error, 'strerror', None) or (lines or [type(error).__name__])[0]
    result = WriteError(f'cannot write {path}: {f"{known} ({detail})" if known else detail}')
    result.errno = number
    return result


def write_whole(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: next to ``path`` first, then renamed.

    Args:
        path: The file; one that is there is replaced.
        write: Writes the content into the open file that it is given.

    Raises:
        WriteError: The folder is missing, may not be written to, or the disk is full; ``path`` is
            as it was before.
    """
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f'.{path.name}.', suffix=UNFINISHED, delete=False
        ) as file:
            temporary = file.name
            write(file)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # as any other new file, not as a private one
        finish(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise explain(error, path) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file atomically; raises as :func:`write_whole`.

    Names of files that are not UTF-8 become the bytes that they are on the disk.
    """
    write_whole(path, lambda file: file.write(text.encode('utf-8', 'surrogateescape')))


def printable(name: str | os.PathLike) -> str:
    """The name of a file for messages and JSON; bytes that are not UTF-8 are escaped."""
    return os.fspath(name).encode('utf-8', 'backslashreplace').decode()


def finish(temporary: str | os.PathLike, path: str | os.PathLike) -> None:
    """Flush a completely written file or folder to disk, and give it its name.

    Raises:
        OSError: It could not be flushed or renamed.
    """
    temporary, path = Path(temporary), Path(path)
    is_folder = temporary.is_dir()
    for file in sorted(temporary.rglob('*')) if is_folder else [temporary]:
        _sync(file)
    if is_folder and path.is_dir():  # a folder takes the place of an empty one only
        shutil.rmtree(path)
    os.replace(temporary, path)
    _sync(path.parent)


def remove_unfinished(folder: str | os.PathLike) -> list[str]:
    """Remove the temporary files that killed processes left in a folder.

    Returns:
        The names of what was removed.
    """
    left = sorted(Path(folder).glob(f'.*{UNFINISHED}'))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path.name for path in left]


def check_writable(folder: str | os.PathLike) -> None:
    """Check that a folder can be created and written to.

    Raises:
        WriteError: That is not possible.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix='.', suffix=UNFINISHED) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise explain(error, folder) from error


def _sync(path: Path) -> None:
    """fsync a file or directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot do it for folders
            raise
    finally:
        os.close(handle)


@contextmanager
def locked(path: str | os.PathLike, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes of this machine from what is made at ``path``, until the block ends.

    Other threads wait, too; the same one must not ask again. Next to it lies an empty file of its
    name and ``.lock``, which stays.

    Args:
        path: The file or folder; it need not be there.
        waiting: Called once where somebody else has the lock.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f'{path.name}.lock'))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
