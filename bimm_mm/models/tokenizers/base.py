"""What tokenizers have in common: frozen models that turn pixels into a grid of codes."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..targets.base import IMAGENET_MEAN, IMAGENET_STD
from .files import check_file


class BaseTokenizer(BaseModule):
    """A frozen model that gives a code to each square of ``factor`` pixels, frame by frame.

    A subclass defines :meth:`load` and :meth:`encode`, and says in ``source`` where weights are.

    The network is not a submodule: optimizers, wrappers (DDP, FSDP) and checkpoints do not see it.
    It follows the input to its device, stays in evaluation mode and gets no gradient. It always
    runs in float32, without autocast, so that codes made online equal codes made beforehand.

    Args:
        checkpoint: A local file or folder with the weights. Where it is missing and both
            ``num_codes`` and ``factor`` are known, the model can still be built, looked at and
            loaded from a checkpoint; training (``init_weights``) and encoding need it.
        sha256: Checksum of that file; compared where it is given.
        num_codes: V; read from the weights when left out, else held against them.
        factor: Pixels per code, along rows and columns; read from the weights when left out, else
            held against them.
        mean: What the preprocessor subtracted from R, G, B, on the scale 0 to 255. Models that
            have a tokenizer fill it in.
        std: What it divided them by.
        frames_at_once: Frames that are encoded together, to bound the memory.

    Raises:
        FileNotFoundError: If the weights are needed and missing.
        ValueError: If they are those of another model, broken, have another checksum, or another
            argument is out of range.
    """

    source = ''

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        sha256: str | None = None,
        num_codes: int | None = None,
        factor: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        frames_at_once: int = 64,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f'mean={mean} and std={std} must be three numbers each, std positive')
        if frames_at_once < 1:
            raise ValueError(f'frames_at_once={frames_at_once} must be at least 1')
        self.checkpoint, self.sha256 = checkpoint, sha256
        self.num_codes, self.factor = num_codes, factor
        self.frames_at_once = frames_at_once
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1) / 255, persistent=False)
        self._frozen: tuple[nn.Module, ...] = ()  # in a tuple, so that torch does not register it
        if num_codes is None or factor is None or (checkpoint and Path(checkpoint).exists()):
            self._load()

    def load(self, checkpoint: str | os.PathLike) -> tuple[nn.Module, int, int]:
        """Read the weights: the network, the number of codes, and pixels per code."""
        raise NotImplementedError

    def _load(self) -> None:
        name = type(self).__name__
        check_file(self.checkpoint, self.sha256, name, self.source)
        network, *found = self.load(self.checkpoint)
        for key, value in zip(('num_codes', 'factor'), found, strict=True):
            known = getattr(self, key)
            if known not in (None, value):
                raise ValueError(f'{name}: {key}={known}, but {self.checkpoint} has {value}')
            setattr(self, key, value)
        self._frozen = (network.eval().requires_grad_(False),)

    def init_weights(self) -> None:
        """Read the weights, if they were not there when the model was built."""
        if not self._frozen:
            self._load()

    @property
    def network(self) -> nn.Module:
        """The frozen model."""
        self.init_weights()
        return self._frozen[0]

    @torch.no_grad()
    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Encode images or clips.

        Args:
            x: (B, 3, H, W) or (B, 3, T, H, W), normalized with ``mean`` and ``std``.
            grid: Rows and columns of codes that are wanted, such as a ViT's patch grid. Frames
                are reduced to ``factor`` times as many pixels (bicubic, antialiased), as BEiT and
                CAE do: 112 pixels for 14 x 14 codes of a tokenizer with factor 8.

        Returns:
            (B, H', W') or (B, T, H', W'), long, 0 to ``num_codes`` - 1.

        Raises:
            ValueError: If the input has another shape, is not a multiple of ``factor``, has
                another aspect ratio than ``grid``, or would have to be enlarged.
        """
        if x.dim() not in (4, 5) or x.shape[1] != 3:
            raise ValueError(
                f'the input of a tokenizer must be (B, 3, H, W) or (B, 3, T, H, W), and has shape '
                f'{tuple(x.shape)}'
            )
        size = self.input_size(tuple(x.shape[-2:]), grid)
        frames = x if x.dim() == 4 else x.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
        network = self.network
        if next(network.parameters()).device != x.device:
            network.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            codes = [
                self.encode(self.to_pixels(part, size))
                for part in frames.split(self.frames_at_once)
            ]
        codes = torch.cat(codes)
        return codes if x.dim() == 4 else codes.unflatten(0, (x.shape[0], x.shape[2]))

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) float32 RGB in [0, 1] to codes (N, H / factor, W / factor), long."""
        raise NotImplementedError

    def to_pixels(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) normalized frames to RGB in [0, 1], resized to ``size``.

        Values are rounded to the 8 bits that they come from: codes do not depend on ``mean`` and
        ``std``, not even by rounding errors.
        """
        pixels = (frames.float() * self.std + self.mean).mul_(255).round_().clamp_(0, 255).div_(255)
        if tuple(frames.shape[-2:]) == size:
            return pixels
        pixels = F.interpolate(pixels, size, mode='bicubic', align_corners=False, antialias=True)
        return pixels.clamp_(0, 1)  # bicubic interpolation overshoots

    def input_size(
        self, size: tuple[int, int], grid: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """Height and width, in pixels, at which frames of ``size`` are encoded; see `forward`."""
        name = type(self).__name__
        if grid is None:
            if size[0] % self.factor or size[1] % self.factor:
                near = [max(round(side / self.factor), 1) * self.factor for side in size]
                raise ValueError(
                    f'{name}: frames of {size[0]}x{size[1]} pixels do not consist of whole codes '
                    f'of {self.factor} pixels; {near[0]}x{near[1]} would'
                )
            return size
        wanted = (grid[0] * self.factor, grid[1] * self.factor)
        if size[0] * wanted[1] != size[1] * wanted[0]:
            raise ValueError(
                f'{name}: frames of {size[0]}x{size[1]} pixels have another aspect ratio than the '
                f'grid of {grid[0]}x{grid[1]} codes'
            )
        if wanted[0] > size[0]:
            raise ValueError(
                f'{name}: {grid[0]}x{grid[1]} codes of {self.factor} pixels need frames of at '
                f'least {wanted[0]}x{wanted[1]} pixels, and these have {size[0]}x{size[1]}; take '
                'larger frames, larger patches or a tokenizer with fewer pixels per code'
            )
        return wanted
