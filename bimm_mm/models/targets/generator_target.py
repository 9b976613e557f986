"""Target generators of mmpretrain as targets of a branch."""

from mmengine.registry import MODELS
from torch import Tensor

from .base import BaseTarget


@MODELS.register_module()
class GeneratorTarget(BaseTarget):
    """What a target generator of mmpretrain makes of the image, or of each frame of a clip.

    The generator is called with normalized images (N, 3, H, W) and gives D values for each token,
    (N, L, D), as HOGGenerator does, or for a class token first, (N, 1 + L, D), which is dropped; of
    a tuple, as CLIPGenerator gives, the first. In clips, the values are averaged over the frames of
    a tubelet. The generator is not trained. Those that give classes (VQKD, DALLEEncoder) are no
    targets of a mean squared error.

    HOGGenerator always makes 14 x 14 tokens: it fits a branch with that grid, 224² at patch 16.

    Args:
        generator: Its config, as ``dict(type='mmpretrain.HOGGenerator')``.
        out_dims: Values per token, which a generator does not tell beforehand; 108 for
            HOGGenerator's defaults on 224².
        name: Under which the loss is logged.
    """

    def __init__(self, generator: dict, out_dims: int, name: str = 'generated', **kwargs) -> None:
        super().__init__(**kwargs)
        self.generator = MODELS.build(generator).requires_grad_(False)
        self.generator.eval()
        self.out_dims = out_dims
        self.name = name

    def train(self, mode: bool = True) -> 'GeneratorTarget':
        """Set the training mode, but leave the generator in evaluation mode."""
        super().train(mode)
        self.generator.eval()
        return self

    def compute(self, x: Tensor, ids: Tensor | None) -> Tensor:
        """Values in the generator's order.

        Raises:
            ValueError: The generator makes another number of tokens or of values.
        """
        batch, _, frames, *size = x.shape
        tubelet, *patch = self.patch_size
        grid = tuple(length // p for length, p in zip(size, patch, strict=True))
        values = self.generator(x.transpose(1, 2).flatten(0, 1))
        values = values[0] if isinstance(values, tuple) else values
        tokens = grid[0] * grid[1]
        if values.dim() == 3 and values.shape[1] == tokens + 1:
            values = values[:, 1:]
        wanted = (batch * frames, tokens, self.out_dims)
        if tuple(values.shape) != wanted:
            raise ValueError(
                f'target {self.name!r}: the generator gives values of shape {tuple(values.shape)}, '
                f'but {grid[0]} x {grid[1]} tokens and out_dims={self.out_dims} need {wanted}'
            )
        values = values.float().unflatten(0, (batch, frames // tubelet, tubelet))
        values = values.mean(dim=2).flatten(1, 2)
        if ids is None:
            return values
        return values.gather(1, ids[..., None].expand(-1, -1, self.out_dims))
