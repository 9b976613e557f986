"""VQ models of diffusers."""

import os
from pathlib import Path

from mmengine.registry import MODELS
from torch import Tensor, nn

from .base import BaseTokenizer


@MODELS.register_module()
class DiffusersTokenizer(BaseTokenizer):
    """Codes of diffusers' ``VQModel``, of latent diffusion for instance.

    Args:
        checkpoint: A folder that diffusers saved: ``config.json`` and safetensors.
        **kwargs: As of :class:`BaseTokenizer`; ``sha256`` is that of the safetensors.

    Raises:
        FileNotFoundError, ValueError: As :class:`BaseTokenizer`.
        ImportError: If diffusers is not installed.
    """

    source = 'VQModel.save_pretrained of diffusers writes such a folder'

    def load(self, checkpoint: str | os.PathLike) -> tuple[nn.Module, int, int]:
        """As :meth:`BaseTokenizer.load`."""
        try:
            from diffusers import VQModel
        except ImportError as error:
            raise ImportError(
                'DiffusersTokenizer needs diffusers: pip install diffusers'
            ) from error
        if not (Path(checkpoint) / 'config.json').is_file():
            raise ValueError(f'DiffusersTokenizer: {checkpoint} has no config.json; {self.source}')
        try:
            # safetensors only: a pickle could run code
            network = VQModel.from_pretrained(
                checkpoint, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f'DiffusersTokenizer: {checkpoint}: {error}') from error
        factor = 2 ** (len(network.config.block_out_channels) - 1)
        return network, network.config.num_vq_embeddings, factor

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, H / factor, W / factor) codes."""
        latents = self.network.encode(2 * pixels - 1).latents
        codes = self.network.quantize(latents)[2][2]
        return codes.view(len(latents), *latents.shape[2:])
