"""Captions of videos by BLIP-2, which is frozen and read from a local folder (TGM)."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ..video.reader import VideoError, open_video
from .file import format_line, parse_line

SOURCE = 'download Salesforce/blip2-opt-2.7b from huggingface.co into that folder'


class Blip2Captioner:
    """Writes a caption for each picture.

    Args:
        checkpoint: Folder of transformers with a ``Blip2ForConditionalGeneration`` and its
            ``Blip2Processor``.
        device: Where it runs; in half precision on a GPU.
        max_new_tokens: Longest caption in tokens.
        num_beams: Of the search; 1 takes the likeliest token each time.

    Raises:
        FileNotFoundError: There is no such folder.
        ImportError: transformers is missing.
        ValueError: The folder holds no BLIP-2.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        device: str = 'cpu',
        max_new_tokens: int = 30,
        num_beams: int = 1,
    ) -> None:
        if not (Path(checkpoint) / 'config.json').is_file():
            raise FileNotFoundError(
                f'--checkpoint {os.fspath(checkpoint)}: no BLIP-2 there, no config.json; {SOURCE}'
            )
        try:
            from transformers import Blip2ForConditionalGeneration, Blip2Processor
        except ImportError as error:
            raise ImportError('BLIP-2 needs transformers: pip install "bimm_mm[text]"') from error
        dtype = torch.float16 if torch.device(device).type == 'cuda' else torch.float32
        settings = dict(local_files_only=True)
        try:
            self.processor = Blip2Processor.from_pretrained(checkpoint, **settings)
            network, report = Blip2ForConditionalGeneration.from_pretrained(
                checkpoint, torch_dtype=dtype, output_loading_info=True, **settings
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise ValueError(
                f'--checkpoint {os.fspath(checkpoint)} cannot be read: {error}'
            ) from error
        if report['missing_keys']:
            raise ValueError(
                f'--checkpoint {os.fspath(checkpoint)} is not a whole BLIP-2: '
                f'{len(report["missing_keys"])} weights are missing; {SOURCE}'
            )
        self.network = network.eval().requires_grad_(False).to(device)
        self.device, self.dtype = device, dtype
        self.settings = dict(max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """Describe pictures, (H, W, 3) uint8 RGB each, together."""
        pixels = self.processor.image_processor(images=list(pictures), return_tensors='pt')
        pixels = pixels.pixel_values.to(self.device, self.dtype)
        tokens = self.network.generate(pixel_values=pixels, **self.settings)
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [' '.join(text.split()) for text in texts]


def sample_frames(path: Path, count: int) -> np.ndarray:
    """Decode the middle frames of ``count`` equal parts of a video: (count, H, W, 3) uint8 RGB.

    Raises:
        OSError, VideoError: As :func:`bimm_mm.video.open_video`.
    """
    reader = open_video(path)
    try:
        times = (np.arange(count) + 0.5) * len(reader) / count
        return reader.get_batch(times.astype(int).tolist())
    finally:
        reader.close()


class CaptionWriter:
    """Adds lines to a file of captions for the videos that it lacks.

    Args:
        folder: The folder of the videos.
        out: The file. A last line that was not finished is made anew.
        describe: From pictures to captions, as :class:`Blip2Captioner`.
        frames: Captions per video, of as many frames (TGM: 3).
        videos_at_once: Whose pictures are described together.

    Attributes:
        broken: Videos that could not be read.
    """

    def __init__(
        self,
        folder: str | Path,
        out: str | Path,
        describe,
        frames: int = 3,
        videos_at_once: int = 8,
    ) -> None:
        self.folder, self.out = Path(folder), Path(out)
        self.describe, self.frames, self.videos_at_once = describe, frames, videos_at_once
        self.broken: list[str] = []

    def run(self, names: Sequence[str], done: set[str] | None = None) -> Iterator[int]:
        """Describe the videos that have no line yet.

        Args:
            names: Paths below the folder.
            done: Those that are not to be made; what the file has by default.

        Yields:
            How many videos are done since the last time, those that were there included.
        """
        done = read_done(self.out) if done is None else done
        left = [name for name in names if name not in done]
        yield len(names) - len(left)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with open(self.out, 'a', encoding='utf-8') as file:
            for start in range(0, len(left), self.videos_at_once):
                part = left[start : start + self.videos_at_once]
                for name, captions in self.make(part).items():
                    file.write(format_line(name, captions))
                file.flush()
                yield len(part)

    def make(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Captions of some videos; of videos that cannot be read there are none."""
        pictures, owners = [], []
        for name in names:
            try:
                found = sample_frames(self.folder / name, self.frames)
            except (VideoError, OSError) as error:
                print(f'cannot read {self.folder / name}: {str(error)[:200]}', file=sys.stderr)
                self.broken.append(name)
                continue
            pictures += list(found)
            owners += [name] * len(found)
        captions: dict[str, list[str]] = {}
        for name, text in zip(owners, self.describe(pictures) if pictures else [], strict=True):
            if text:
                captions.setdefault(name, []).append(text)
        return captions

    def estimate(self, names: Sequence[str]) -> float:
        """Seconds that a video takes, measured on ``names`` after a first one for warming up."""
        self.make(names[:1])
        start = time.perf_counter()
        for begin in range(0, len(names), self.videos_at_once):
            self.make(names[begin : begin + self.videos_at_once])
        return (time.perf_counter() - start) / len(names)


def read_done(out: Path) -> set[str]:
    """Paths that a file of captions has; cuts off a last line that was not finished.

    Raises:
        CaptionError: Another line is none.
    """
    if not out.is_file():
        return set()
    data = out.read_bytes()
    whole = data[: data.rfind(b'\n') + 1]
    if len(whole) < len(data):
        with open(out, 'r+b') as file:
            file.truncate(len(whole))
    lines = enumerate(whole.splitlines(), start=1)
    return {parse_line(line, f'{out}, line {n}')['path'] for n, line in lines if line.strip()}
