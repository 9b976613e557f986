"""Endings of video and image files, and listing of folders."""

import os
from collections.abc import Sequence
from pathlib import PurePath

from mmengine.fileio import list_dir_or_file

VIDEOS = ('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.3gp')
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')


def list_media(folder: str | os.PathLike, endings: Sequence[str] = VIDEOS + IMAGES) -> list[str]:
    """List videos and images below a folder, sorted.

    Links are followed; hidden files, and what is in hidden folders, are left out.

    Args:
        folder: On the local disk, or of a backend that mmengine reads.
        endings: Endings of the names, in lower case; names may have them in any case.

    Returns:
        Paths relative to the folder.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    folder = os.fspath(folder)
    if '://' not in folder and not os.path.isdir(folder):
        raise FileNotFoundError(f'no such folder: {folder}')
    names = list_dir_or_file(folder, list_dir=False, recursive=True)
    found = sorted(
        name
        for name in names
        if name.lower().endswith(tuple(endings))
        and not any(part.startswith('.') for part in PurePath(name).parts)
    )
    if not found:
        raise FileNotFoundError(f'the folder {folder} holds no file ending in {", ".join(endings)}')
    return found
