"""Files that are broken in all ways that files break, made of whole ones. All of it is seeded."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Change = Callable[[bytearray, np.random.Generator], None]


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    """As after a copy that was not finished."""
    del data[int(rng.integers(1, len(data))) :]


def flip_few(data: bytearray, rng: np.random.Generator) -> None:
    """As by a bad disk: one to ten bits."""
    for place in rng.integers(len(data), size=rng.integers(1, 11)):
        data[place] ^= 1 << int(rng.integers(8))


def flip_many(data: bytearray, rng: np.random.Generator) -> None:
    """Up to some thousand bytes, anywhere."""
    for place in rng.integers(len(data), size=int(10 ** rng.uniform(1, 3.5))):
        data[place] = int(rng.integers(256))


def flip_head(data: bytearray, rng: np.random.Generator) -> None:
    """Bytes where most formats have their header."""
    for place in rng.integers(min(1000, len(data)), size=rng.integers(1, 21)):
        data[place] = int(rng.integers(256))


def flip_tail(data: bytearray, rng: np.random.Generator) -> None:
    """Bytes where many videos have their index; this is what crashes decord most."""
    start = max(0, len(data) - 5000)
    for place in rng.integers(start, len(data), size=rng.integers(1, 41)):
        data[place] = int(rng.integers(256))


def zero(data: bytearray, rng: np.random.Generator) -> None:
    """A stretch that was never written, as after a crash of the machine."""
    start = int(rng.integers(len(data)))
    end = min(len(data), start + int(10 ** rng.uniform(2, 5)))
    data[start:end] = bytes(end - start)


def swap(data: bytearray, rng: np.random.Generator) -> None:
    """Two stretches in each other's place."""
    size = int(min(10 ** rng.uniform(2, 4.5), len(data) // 3))
    first, second = int(rng.integers(size)), len(data) - size - int(rng.integers(size))
    a, b = data[first : first + size], data[second : second + size]
    data[first : first + size], data[second : second + size] = b, a


def fill_randomly(data: bytearray, rng: np.random.Generator) -> None:
    """Nothing of the file is left."""
    data[:] = rng.bytes(int(10 ** rng.uniform(0, 5)))


CHANGES: dict[str, Change] = {
    'truncated': truncate,
    'some bits flipped': flip_few,
    'many bytes flipped': flip_many,
    'header damaged': flip_head,
    'end damaged': flip_tail,
    'a stretch of zeros': zero,
    'stretches swapped': swap,
    'random bytes': fill_randomly,
}
OTHERS = ('empty', 'wrong ending', 'text', 'vanished', 'a folder')


def make_broken(folder: Path, sources: list[Path], foreign: list[Path], count: int, seed: int):
    """Write broken files.

    Args:
        folder: where to.
        sources: whole files.
        foreign: whole files of another kind, for those with a wrong ending.
        count: how many; each way to break a file has its turn.
        seed: of all that is random.

    Returns:
        dict: name of each file, and the way it is broken.
    """
    rng = np.random.default_rng(seed)
    ways = [*CHANGES, *CHANGES, *OTHERS]  # damaged ones come twice as often as odd ones
    made = {}
    for number in range(count):
        way = ways[number % len(ways)]
        source = sources[int(rng.integers(len(sources)))]
        path = folder / f'{number:04d}{source.suffix}'
        if way in CHANGES:
            data = bytearray(source.read_bytes())
            CHANGES[way](data, rng)
            path.write_bytes(data)
        elif way == 'empty':
            path.touch()
        elif way == 'wrong ending':
            shutil.copy(foreign[int(rng.integers(len(foreign)))], path)
        elif way == 'text':
            path.write_text('<html>404 Not Found</html>\n' * int(rng.integers(1, 100)))
        elif way == 'a folder':
            path.mkdir()
        made[path.name] = way  # 'vanished': it is in the list only
    return made


def make_clips(folder: Path) -> list[Path]:
    """Clips of 24 frames of 96x64 pixels, in the formats that OpenCV writes."""
    made = []
    for ending, codec in (('.avi', 'MJPG'), ('.mp4', 'mp4v'), ('.webm', 'VP80'), ('.mkv', 'XVID')):
        path = folder / f'made{ending}'
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 12, (96, 64))
        for frame in make_frames(24):
            writer.write(frame)
        writer.release()
        if path.is_file() and path.stat().st_size > 1000:  # OpenCV may lack a codec
            made.append(path)
    return made


def make_images(folder: Path) -> list[Path]:
    """Images of 96x64 pixels in the usual formats."""
    frame = make_frames(1)[0]
    options = {'.jpg': [], '.png': [], '.webp': [], '.bmp': []}
    for ending, option in options.items():
        cv2.imwrite(str(folder / f'made{ending}'), frame, option)
    cv2.imwrite(str(folder / 'progressive.jpg'), frame, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    return sorted(folder.glob('*.*'))


def make_frames(count: int) -> list[np.ndarray]:
    """(64, 96, 3) uint8 each: noise of some pixels' size, moving."""
    noise = np.random.default_rng(0).integers(256, size=(16, 40, 3), dtype=np.uint8)
    wide = cv2.resize(noise, (160, 64), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, 2 * i : 2 * i + 96]) for i in range(count)]


def real_files(*folders: str) -> list[Path]:
    """Files of these folders of the test data; none where it is missing."""
    default = Path(__file__).parents[3] / 'shared' / 'data'
    root = Path(os.environ.get('BIMM_TEST_DATA', default))
    return sorted(path for name in folders for path in (root / name).glob('*.*'))
