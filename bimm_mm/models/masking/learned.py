"""A masking that learns which tokens to show (AdaMAE)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers.dropout import Dropout
from ..layers.transformer import init_transformer
from ..step import Step
from .base import BaseMasking, Masks, check_ratio, split_mask
from .guided import gumbel_like


@MODELS.register_module()
class AdaptiveMasking(BaseMasking, BaseModule):
    """Draw the visible tokens from a distribution that is learned (AdaMAE; source: the authors'
    code, wgcban/adamae).

    A sampler, one Transformer block on the embeddings of all tokens with positions of its own,
    gives each token a probability; so many visible ones are drawn without replacement. The sampler
    is trained by a loss of its own: masked tokens of large error should have been likelier to be
    seen. As in the authors' code, its gradient goes on into the embedding of patches, but not into
    the rest of the model.

    The branch fills in ``embed_dims`` and ``grid_size``.

    Args:
        embed_dims: Width C of the encoder.
        grid_size: Token grid (T', H', W').
        ratio: Share of the tokens that is masked (AdaMAE: 0.95). The number of visible ones is
            rounded down: 78 of 1568.
        num_heads: Of the sampler (AdaMAE: 8).
        dropout: In the sampler, behind its attention and its MLP (AdaMAE: 0.1).
        weight: Of the sampler's loss (AdaMAE: 1e-4).
        target: Name of the target whose error counts; the last one by default.

    Raises:
        ValueError: ``ratio`` is not between 0 and 1, or leaves no token visible.
    """

    guided = learned = True

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int, int],
        ratio: float = 0.95,
        num_heads: int = 8,
        dropout: float = 0.1,
        weight: float = 1e-4,
        target: str | None = None,
    ) -> None:
        BaseModule.__init__(self)
        self.ratio, self.weight, self.target = check_ratio(ratio), weight, target
        count = grid_size[0] * grid_size[1] * grid_size[2]
        self.num_visible = int(count * (1 - ratio))
        if self.num_visible < 1:
            raise ValueError(f'ratio={ratio} leaves none of {count} tokens visible')
        self.pos_embed = nn.Parameter(torch.zeros(1, count, embed_dims))
        self.block = nn.TransformerEncoderLayer(
            embed_dims,
            num_heads,
            4 * embed_dims,
            dropout,
            activation='gelu',
            batch_first=True,
            norm_first=True,
        )
        self.block.self_attn.dropout = 0.0  # none among the attention's weights
        for name in ('dropout', 'dropout1', 'dropout2'):
            setattr(self.block, name, Dropout(dropout))
        self.head = nn.Linear(embed_dims, 1, bias=False)  # softmax would not notice a bias
        self.apply(init_transformer)

    def draw(self, step: Step, generator: torch.Generator | None = None) -> Masks:
        """Draw masks; see :class:`BaseMasking`. Their ``log_prob`` has a gradient.

        Raises:
            ValueError: The step cannot embed: the masking needs a branch around it.
        """
        if step.embed is None:
            raise ValueError('AdaptiveMasking needs the encoder of a branch')
        logits = self.head(self.block(step.embed() + self.pos_embed))[..., 0]  # (B, N)
        log_prob = logits.float().log_softmax(dim=1)
        with torch.no_grad():
            # the largest of log p plus Gumbel noise: draws without replacement
            order = (log_prob + gumbel_like(log_prob, generator)).argsort(dim=1, descending=True)
            mask = torch.ones(log_prob.shape, dtype=torch.bool, device=log_prob.device)
            mask.scatter_(1, order[:, : self.num_visible], False)
            masks = split_mask(mask, mask.shape[1] - self.num_visible)
        masks.log_prob = log_prob
        return masks

    def losses(self, step: Step) -> dict[str, Tensor]:
        """``loss_sampling``: - mean of log p times the error over masked tokens, weighted.

        Args:
            step: After the branch has run, with predictions and targets of masked tokens.

        Raises:
            ValueError: The target's predictions are not of values.
        """
        name = self.target or next(reversed(step.predictions))
        prediction, target = step.predictions[name].detach(), step.targets[name]
        if prediction.shape != target.shape:
            raise ValueError(
                f"target='{name}' has predictions of shape {tuple(prediction.shape)} for targets "
                f'of shape {tuple(target.shape)}: the error must be that of values'
            )
        error = F.mse_loss(prediction.float(), target, reduction='none').mean(dim=2)  # (B, P)
        log_prob = step.log_prob.gather(1, step.ids[name])
        return dict(loss_sampling=-self.weight * (log_prob * error).mean())

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratio={self.ratio})'
