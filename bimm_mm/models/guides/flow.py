"""Optical flow between neighboring frames, for maskings that follow motion."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

PRESETS = ('ultrafast', 'fast', 'medium')
PAIRS_AT_ONCE = 32
SOURCE = (
    'torchvision has it as raft_small_C_T_V2-01064c6d.pth and raft_large_C_T_SKHT_V2-ff5fadd5.pth '
    'at download.pytorch.org/models'
)


@MODELS.register_module()
class RaftFlow(BaseModule):
    """Optical flow by torchvision's RAFT, frozen (MGMAE: the small one, 6 iterations).

    The network is not a submodule: optimizers, wrappers and checkpoints do not see it.

    Args:
        checkpoint: Local file with a state dict of ``raft_small`` or ``raft_large``.
        arch: 'small' or 'large'.
        iterations: Updates of the flow.

    Raises:
        ValueError: An argument is none of these, or, when it is needed, the file does not fit.
        FileNotFoundError: When it is needed, the file is missing.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        arch: str = 'small',
        iterations: int = 6,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ('small', 'large') or iterations < 1:
            raise ValueError(
                f"arch='{arch}' must be 'small' or 'large', and iterations={iterations} at least 1"
            )
        self.checkpoint, self.arch, self.iterations = checkpoint, arch, iterations
        self._frozen: tuple[nn.Module, ...] = ()

    def init_weights(self) -> None:
        """Read the weights."""
        if self._frozen:
            return
        from torchvision.models.optical_flow import raft_large, raft_small

        if not Path(self.checkpoint).is_file():
            raise FileNotFoundError(f'checkpoint={os.fspath(self.checkpoint)!r}: no file; {SOURCE}')
        network = (raft_small if self.arch == 'small' else raft_large)(weights=None)
        try:
            state = torch.load(self.checkpoint, map_location='cpu', weights_only=True)
            network.load_state_dict(state)
        except Exception as error:  # whatever an unpickler does with bytes that are no pickle
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f'checkpoint={os.fspath(self.checkpoint)!r} is not a state dict of '
                f'raft_{self.arch}: {reason[0]}; {SOURCE}'
            ) from error
        self._frozen = (network.eval().requires_grad_(False),)

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Where the pixels of ``first`` are in ``second``, relative to their place.

        Args:
            first, second: (N, 3, H, W) RGB in [0, 1], H and W multiples of 8, at least 128.

        Returns:
            (N, 2, H, W) in pixels, to the right and down.

        Raises:
            ValueError: The frames have another size.
        """
        if any(side % 8 or side < 128 for side in first.shape[2:]):
            raise ValueError(
                f'RAFT needs frames of at least 128 pixels and a multiple of 8, and these have '
                f'{tuple(first.shape[2:])}; DisFlow takes any'
            )
        self.init_weights()
        network = self._frozen[0].to(first.device)
        pairs = zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True)
        return torch.cat(
            [
                network(2 * a - 1, 2 * b - 1, num_flow_updates=self.iterations)[-1].float()
                for a, b in pairs
            ]
        )


@MODELS.register_module()
class DisFlow(BaseModule):
    """Optical flow by OpenCV's DIS, without weights, on the CPU (our choice).

    On a GPU, frames go to the host and the flow comes back: fit for trials and for small runs.

    Args:
        preset: 'ultrafast', 'fast' or 'medium'.

    Raises:
        ValueError: There is no such preset.
    """

    def __init__(self, preset: str = 'ultrafast', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if preset not in PRESETS:
            raise ValueError(f"preset='{preset}' must be one of {', '.join(PRESETS)}")
        self.preset = preset

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """As :meth:`RaftFlow.forward`, of frames of at least 12 x 12 pixels."""
        dis = cv2.DISOpticalFlow_create(PRESETS.index(self.preset))
        gray = [
            [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in _to_bytes(frames)]
            for frames in (first, second)
        ]
        flows = [dis.calc(a, b, None) for a, b in zip(*gray, strict=True)]
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(first.device)


def _to_bytes(frames: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] to (N, H, W, 3) uint8."""
    return (frames * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
