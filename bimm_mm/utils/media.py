"""Endings of video and image files, listing of folders, and reading of images."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np
from mmengine.fileio import list_dir_or_file

VIDEOS = ('.mp4', '.webm', '.mkv', '.avi', '.mov', '.m4v', '.mpg', '.mpeg', '.flv', '.3gp')
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
# folders of a data set that was split by hand, by the name of the split
FOLDERS = dict(train=('train', 'training'), val=('val', 'validation', 'valid', 'test'))


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


def read_image(path: Path) -> np.ndarray:
    """Read an image as training does, turned by its EXIF entry: (H, W, 3) uint8, RGB.

    Raises:
        ValueError: OpenCV cannot read it, or it is too large.
        OSError: The file cannot be read.
    """
    # OpenCV's own reading of files crashes at names that are not UTF-8
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if image is None:
        raise ValueError('OpenCV cannot read it as an image')
    return np.ascontiguousarray(image[..., ::-1])


def find_parts(data_root: str) -> dict[str, str]:
    """The folders that hold those of the classes: of each split, or one for 'all'."""
    if not os.path.isdir(data_root):
        raise FileNotFoundError(f'data_root must be an existing folder, not {data_root!r}')
    found = {
        split: next((f for n in names if _holds_folders(f := os.path.join(data_root, n))), None)
        for split, names in FOLDERS.items()
    }
    return found if all(found.values()) else dict(all=data_root)


def list_classes(folder: str) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones.

    Raises:
        FileNotFoundError: There is none.
    """
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith('.')
    )
    if not names:
        raise FileNotFoundError(f'{folder} holds no folder; a folder for each class is needed')
    return names


def _holds_folders(folder: str) -> bool:
    return os.path.isdir(folder) and any(entry.is_dir() for entry in os.scandir(folder))
