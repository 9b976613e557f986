"""Codes of the videos of a data set, made once and read during training.

A cache is a folder with ``codes.json``, which says how it was made, and one NumPy file for each
video, ``<path of the video>.npy``: (views, frames, rows, columns) uint16. The files are mapped, so
that a clip costs the reading of its own frames only.

A view is a way to look at a frame: the size that its shorter side is resized to, a square that is
cut out, or the whole frame, and whether it is flipped. VIMPAC stores one view for pretraining and
twelve for finetuning. Random crops of pixels cut their codes out of those of whole frames
(:class:`bimm_mm.datasets.transforms.LoadCodes`). An image is a video of one frame.

A code takes 2 bytes. That makes, for each view:

=============================== ============== ======================================
frames                          bytes a second 240,000 videos of 10 s (Kinetics-400)
=============================== ============== ======================================
2 fps, 128 px, 16 x 16 codes    1,024          2.5 GB
2 fps, 256 px, 32 x 32 codes    4,096          9.8 GB
all of 25 fps, whole, 16 x 28   22,400         53.8 GB
=============================== ============== ======================================

The last line is of frames of 16:9 with a short side of 256 pixels and 16 pixels a code. A million
such images take 0.9 GB of codes, in files of one block each: 4.1 GB in a file system with blocks
of 4 KiB.

That is without compression: a code of 8192 carries up to 13 of its 16 bits, so that little would
be gained, and frames could not be read one by one.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..utils.commands import command
from ..utils.files import write_text, write_whole

SUFFIX = '.npy'
MANIFEST = 'codes.json'
FORMAT = 1
CROPS = ('top', 'center', 'bottom')
WHOLE = 'whole'


def tool() -> str:
    """The command that makes a cache, as it is called here."""
    return command('extract-codes', 'dataset_converters/extract_codes.py')


class CodeCacheError(ValueError):
    """A cache cannot be used; the message names the file and the command that mends it."""


@dataclass(frozen=True)
class View:
    """How a frame is turned into what is encoded (VIMPAC, appendix C.1; whole frames: our choice).

    Attributes:
        resize: Pixels that the shorter side is resized to.
        crop: 'top' (left), 'center' or 'bottom' (right): where the square is cut out. Or 'whole':
            the frame from its upper left corner on, as far as it consists of whole codes.
        size: Side of the square in pixels; of a whole frame, ``resize``.
        flip: Whether it is flipped from left to right, after it was cut.
        pixels_per_code: Pixels of the view that a code stands for, where they are more than those
            of the tokenizer, which then reduces the view: 16 for patches of 16 x 16 pixels and a
            tokenizer of 8 x 8.
    """

    resize: int = 128
    crop: str = 'center'
    size: int = 128
    flip: bool = False
    pixels_per_code: int | None = None

    def __post_init__(self) -> None:
        if self.crop not in (*CROPS, WHOLE):
            raise ValueError(f'crop={self.crop!r} must be one of {", ".join((*CROPS, WHOLE))}')
        if self.size < 1 or self.resize < self.size:
            raise ValueError(f'resize={self.resize} must be at least size={self.size}, and that 1')
        if self.crop == WHOLE and self.resize != self.size:
            raise ValueError(f"crop='whole' needs size={self.size} to be resize={self.resize}")
        if self.pixels_per_code is not None and (
            self.pixels_per_code < 1 or self.size % self.pixels_per_code
        ):
            raise ValueError(f'pixels_per_code={self.pixels_per_code} must divide {self.size}')


def finetuning_views(size: int, flip: bool = True) -> list[View]:
    """The views that VIMPAC draws from in finetuning: 2 sizes x 3 crops x 2 (or no) flips."""
    return [
        View(resize, crop, size, flipped)
        for resize in (size, round(1.25 * size))
        for crop in CROPS
        for flipped in ((False, True) if flip else (False,))
    ]


class CodeCache:
    """The codes of a data set.

    Args:
        root: The folder of the cache.

    Attributes:
        manifest: How it was made: ``tokenizer`` (type, checksum, number of codes, pixels per
            code), ``fps`` and ``views``.
        views: The views, in the order of the files.

    Raises:
        FileNotFoundError: If there is no cache; names the command that makes one.
        CodeCacheError: If it is damaged or of another version.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        path = self.root / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f'no codes in {str(root)!r}: there is no {path}. Make them with\n'
                f'    {tool()} FOLDER {root} --tokenizer dalle --checkpoint encoder.pkl'
            )
        try:
            self.manifest = json.loads(path.read_text())
        except ValueError as error:
            raise CodeCacheError(
                f'{path} is damaged: delete that file and run {tool()} again as before'
            ) from error
        if self.manifest.get('format') != FORMAT:
            raise CodeCacheError(
                f'{path} is of format {self.manifest.get("format")}, but {FORMAT} is needed: make '
                f'the cache anew in another folder with {tool()}'
            )
        self.views = [View(**view) for view in self.manifest['views']]

    @property
    def num_codes(self) -> int:
        """Number of different codes, V."""
        return self.manifest['tokenizer']['num_codes']

    def pixels_per_code(self, view: View) -> int:
        """Pixels of a view, along each side, that a code stands for."""
        return view.pixels_per_code or self.manifest['tokenizer']['factor']

    def find_views(self, **wanted: object) -> list[int]:
        """Numbers of the views with these attributes, such as ``flip=False``.

        Raises:
            CodeCacheError: If there is none; names those that are there.
        """
        found = [
            number
            for number, view in enumerate(self.views)
            if all(getattr(view, name) == value for name, value in wanted.items())
        ]
        if not found:
            raise CodeCacheError(f'{self.root} has no view with {wanted}, but {self.views}')
        return found

    def check(self, keys: Sequence[str]) -> None:
        """Check that there is a file for every video.

        Args:
            keys: Paths of the videos below the folder of the data set.

        Raises:
            CodeCacheError: The number of videos without codes, and the first of them.
        """
        missing = [key for key in keys if not self.file_of(key).is_file()]
        if missing:
            raise CodeCacheError(
                f'code_cache={str(self.root)!r} has no codes of {len(missing)} of {len(keys)} '
                f'videos, as {missing[0]!r}. Run {tool()} again as before to finish it; videos '
                f'named in {self.root}/broken*.txt must be mended or left out of ann_file'
            )

    def names(self) -> list[str]:
        """Paths of all videos that have codes, sorted."""
        files = self.root.rglob(f'*{SUFFIX}')
        names = (file.relative_to(self.root).as_posix().removesuffix(SUFFIX) for file in files)
        return sorted(name for name in names if not Path(name).name.startswith('.'))

    def file_of(self, key: str) -> Path:
        """The file that holds the codes of a video."""
        return self.root / (key + SUFFIX)

    def open(self, key: str) -> np.ndarray:
        """The codes of a video, mapped into memory: (views, frames, rows, columns) uint16.

        Raises:
            FileNotFoundError: If there are none.
            CodeCacheError: If the file is damaged or does not fit the cache.
        """
        path = self.file_of(key)
        try:
            codes = np.load(path, mmap_mode='r', allow_pickle=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'no codes of {key!r}: there is no {path}; run {tool()} again as before to finish '
                'the cache'
            ) from error
        except (ValueError, EOFError, OSError) as error:
            raise self._damaged(path) from error
        if codes.ndim != 4 or len(codes) != len(self.views) or codes.dtype != np.uint16:
            raise self._damaged(path)
        return codes

    def _damaged(self, path: Path) -> CodeCacheError:
        return CodeCacheError(
            f'{path} is damaged or of another cache: delete that file and run {tool()} again as '
            'before, it makes what is missing'
        )

    def write(self, key: str, codes: np.ndarray) -> None:
        """Write the codes of a video, whole or not at all.

        Args:
            key: Path of the video below the folder of the data set.
            codes: (views, frames, rows, columns) uint16.

        Raises:
            WriteError: If the folder may not be written to, or the disk is full.
        """
        path = self.file_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.save(file, codes, allow_pickle=False))


def write_manifest(
    root: str | Path, tokenizer: dict, fps: float | None, views: Sequence[View]
) -> CodeCache:
    """Begin a cache, or check that the one which is there was made in the same way.

    Args:
        root: The folder, created where needed.
        tokenizer: What the codes depend on: ``type``, ``sha256``, ``num_codes``, ``factor``.
        fps: Frames per second; None for all frames.
        views: How frames are turned into squares.

    Raises:
        CodeCacheError: If the folder holds codes that were made otherwise.
        ValueError: If the views differ in size.
    """
    if len({(view.crop == WHOLE, view.size, view.pixels_per_code) for view in views}) > 1:
        raise ValueError(
            f'views={list(views)} must have codes of one size; make several caches instead'
        )
    manifest = dict(
        format=FORMAT, tokenizer=tokenizer, fps=fps, views=[asdict(view) for view in views]
    )
    path = Path(root) / MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        cache = CodeCache(root)
        # settings that are younger than the cache have their defaults
        known = cache.manifest | dict(views=[asdict(view) for view in cache.views])
        changes = [
            f'{key} was {known.get(key)!r}, now {manifest[key]!r}'
            for key in manifest
            if known.get(key) != manifest[key]
        ]
        if changes:
            raise CodeCacheError(
                f'{path} belongs to a cache that was made otherwise: {"; ".join(changes)}. Use '
                'the same settings to go on, or another folder'
            )
    else:
        # several processes may do this at once: each writes all of it, and the last one stays
        write_text(path, json.dumps(manifest, indent=1) + '\n')
    return CodeCache(root)
