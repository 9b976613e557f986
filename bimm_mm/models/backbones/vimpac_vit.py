"""The encoder of VIMPAC (Tan et al., 2021): a post-norm Transformer on grids of codes."""

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...utils import draws
from ..hub import HubMixin
from ..layers.axial import AxisPositions, PostNormBlock
from ..layers.dropout import Dropout

VIMPAC_ARCHS = {
    'small': dict(embed_dims=512, depth=6, num_heads=8),
    'base': dict(embed_dims=768, depth=12, num_heads=12),
    # half of the attention's and of the MLP's usual width
    'large_half': dict(embed_dims=1024, depth=24, num_heads=16, head_dims=32, mlp_dims=2048),
}
# axes of attention: one tuple for each residual step, in it one string for each parallel part
ATTENTIONS = {
    'joint': (('THW',),),
    'T,HxW': (('T',), ('HW',)),
    'T,H,W': (('T',), ('H',), ('W',)),
    'T,H|W': (('T',), ('H', 'W')),
}
NUM_CODES = 8192
EXTRA_CODES = 5  # rows after the codes; the second is PAD, the last one MASK
OUT_TYPES = ('cls_token', 'avg_featmap', 'featmap', 'raw')


@MODELS.register_module()
class VimpacViT(HubMixin, BaseModule):
    """Transformer on the codes of a clip, in which masked codes stay as mask tokens.

    Each code is embedded; learned vectors of its time, row and column are added, then comes a
    LayerNorm and dropout. A class token with a position of its own goes along. Blocks are
    post-norm (appendix A.1): attention, in one or more residual steps, and an MLP.

    ``attention`` says along which axes tokens attend to each other. Before each step the class
    token is copied to every line; it attends with the line, and its copies are averaged (equation
    15). Parallel parts, as ``H|W``, have half of the heads each. PAD codes are no keys.

    Parameters with (5, 16, 16) codes: 29.4 M (small), 119.7 M (base), 210.1 M (large_half), as the
    paper's table 3 has them.

    Args:
        arch: 'small', 'base', 'large_half', or a dict with ``embed_dims``, ``depth``,
            ``num_heads`` and optionally ``head_dims`` (``embed_dims`` over heads) and
            ``mlp_dims`` (4 times ``embed_dims``).
        grid_size: (T, H', W') codes of a clip, for which position vectors are made. Inputs may be
            shorter in time. A checkpoint of another grid is interpolated linearly.
        num_codes: V of the tokenizer. Code V + 1 is PAD and V + 4 is MASK.
        attention: 'T,H|W' (paper), 'T,HxW', 'T,H,W' or 'joint'. The paper's own 'T,HxW' has
            2.3 M fewer parameters than this one (table 13), for a reason that it does not give.
        drop_rate: Dropout after the embedding, each attention and each MLP (paper: 0.1).
        attn_drop_rate: Dropout of attention weights (paper: 0.1).
        tokenizer: Config of a tokenizer, which lets the encoder take normalized clips
            (B, 3, T, H, W) and images (B, 3, H, W) instead of codes.
        out_type: 'cls_token' (B, C); 'avg_featmap' (B, C), the mean of the tokens that are not
            PAD; 'featmap' (B, C, T, H', W'); 'raw' (B, 1 + L, C), class token first.
        with_cp: Recompute the activations of blocks in the backward pass, to save memory.

    Raises:
        ValueError: If an argument is out of range; the message says what would be right.
    """

    is_video = True
    with_cls_token = True

    def __init__(
        self,
        arch: str | dict = 'small',
        grid_size: tuple[int, int, int] = (5, 16, 16),
        num_codes: int = NUM_CODES,
        attention: str = 'T,H|W',
        drop_rate: float = 0.1,
        attn_drop_rate: float = 0.1,
        tokenizer: dict | None = None,
        out_type: str = 'cls_token',
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        arch = read_vimpac_arch(arch)
        if attention not in ATTENTIONS:
            raise ValueError(f'attention={attention!r} must be one of {", ".join(ATTENTIONS)}')
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} must be one of {", ".join(OUT_TYPES)}')
        self.embed_dims, self.depth = arch['embed_dims'], arch['depth']
        self.grid_size = tuple(grid_size)
        self.attention, self.out_type, self.with_cp = attention, out_type, with_cp
        self.num_codes = num_codes
        self.pad_code, self.mask_code = num_codes + 1, num_codes + EXTRA_CODES - 1
        self.tokenizer = None if tokenizer is None else MODELS.build(tokenizer)
        if self.tokenizer is not None and self.tokenizer.num_codes != num_codes:
            raise ValueError(
                f'num_codes={num_codes}, but the tokenizer has {self.tokenizer.num_codes}'
            )
        self.embedding = nn.Embedding(num_codes + EXTRA_CODES, self.embed_dims)
        self.cls_token = nn.Parameter(torch.empty(self.embed_dims))
        self.pos_embed = AxisPositions(self.embed_dims, self.grid_size)
        self.norm = nn.LayerNorm(self.embed_dims, eps=1e-12)
        self.drop = Dropout(drop_rate)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                **{key: value for key, value in arch.items() if key != 'depth'},
                steps=ATTENTIONS[attention],
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
            )
            for _ in range(self.depth)
        )
        self._reset_parameters()
        self.register_load_state_dict_pre_hook(_refuse_other_weights)

    def _reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.cls_token, std=0.02)

    @property
    def num_stages(self) -> int:
        """Encoders of a branch have stages; this one has a single one."""
        return 1

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode codes, or with a ``tokenizer`` clips and images.

        Args:
            x: (B, T, H', W') codes, long; PAD where a clip has ended. Or (B, 3, T, H, W) or
                (B, 3, H, W), normalized.
            mask: (B, T, H', W') bool, True where the code is replaced by MASK.

        Returns:
            One feature, shaped by ``out_type``.
        """
        codes = self.read_codes(x)
        cls, tokens, inside = self.encode(codes, mask)
        return (self._shape_output(cls, tokens, inside, tuple(codes.shape[1:])),)

    def encode(self, codes: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, H', W') codes to (B, C), (B, L, C) and (B, L) bool: where codes are not PAD."""
        inside = codes != self.pad_code  # (B, T, H', W')
        if mask is not None:
            codes = codes.masked_fill(mask & inside, self.mask_code)
        grid = tuple(codes.shape[1:])
        x = self.embedding(codes) + self.pos_embed(grid)  # (B, T, H', W', C)
        cls = self.cls_token + self.pos_embed.cls
        x = torch.cat([cls.expand(len(x), 1, -1), x.flatten(1, 3)], dim=1)  # (B, 1 + L, C)
        x = self.drop(self.norm(x))
        # without PAD no mask is needed; on a GPU, finding out would cost more than the mask does
        keys = None if inside.device.type == 'cpu' and bool(inside.all()) else inside
        for block in self.blocks:
            if self.with_cp and x.requires_grad:
                x = checkpoint(block, x, grid, keys, **draws.checkpoint_settings())
            else:
                x = block(x, grid, keys)
        return x[:, 0], x[:, 1:], inside.flatten(1)

    def read_codes(self, x: Tensor) -> Tensor:
        """Codes as they are, or those that the tokenizer gives to a clip or an image."""
        if not x.is_floating_point():
            if x.dim() != 4:
                raise ValueError(f"codes of shape {tuple(x.shape)} must be (B, T, H', W')")
            codes = x
        elif self.tokenizer is None:
            raise ValueError(
                'this encoder takes codes (B, T, H, W), integers; set tokenizer= to give it pixels'
            )
        else:
            codes = self.tokenizer(x, self.grid_size[1:])
            codes = codes[:, None] if codes.dim() == 3 else codes
        grid, made = tuple(codes.shape[1:]), self.grid_size
        if grid[0] > made[0] or grid[1:] != made[1:]:
            raise ValueError(
                f'the codes have a grid of {grid}, but the encoder is made for grid_size={made}'
            )
        return codes.long()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and number of layers, for layer-wise learning rate decay.

        Layer 0 embeds and block b is layer b + 1; heads belong to a layer after the last block.
        """
        kind, *rest = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix):
            return self.depth + 1, self.depth + 2
        return (int(rest[0]) + 1 if kind == 'blocks' else 0), self.depth + 2

    def _shape_output(
        self, cls: Tensor, tokens: Tensor, inside: Tensor, grid: tuple[int, int, int]
    ) -> Tensor:
        if self.out_type == 'cls_token':
            return cls
        if self.out_type == 'raw':
            return torch.cat([cls[:, None], tokens], dim=1)
        if self.out_type == 'featmap':
            return tokens.mT.unflatten(2, grid).contiguous()
        weight = inside[..., None].to(tokens.dtype)
        return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


def _refuse_other_weights(encoder: VimpacViT, state: dict, prefix: str, *args: object) -> None:
    """Raise a ValueError for weights of another encoder, which mmengine would only log."""
    if any(key.endswith('flat_param') for key in state):
        return  # FSDP's own shards: torch compares them
    problems = []
    for name, parameter in encoder.named_parameters():
        value = state.get(prefix + name)
        if value is None:
            problems.append(f'{name} is not in it')
        elif not name.startswith('pos_embed.') and value.shape != parameter.shape:
            shapes = tuple(value.shape), tuple(parameter.shape)
            problems.append(f'{name} has shape {shapes[0]}, the encoder needs {shapes[1]}')
    if problems:
        more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise ValueError(
            f'the checkpoint does not fit the encoder: {"; ".join(problems[:3])}{more}'
        )


def read_vimpac_arch(arch: str | dict) -> dict:
    """A name, or a dict of sizes, to all five sizes.

    Raises:
        ValueError: If the name is unknown, or the dict lacks a size or has an unknown one.
    """
    if isinstance(arch, str):
        if arch not in VIMPAC_ARCHS:
            raise ValueError(f'arch={arch!r} must be one of {", ".join(VIMPAC_ARCHS)}, or a dict')
        arch = VIMPAC_ARCHS[arch]
    wanted = {'embed_dims', 'depth', 'num_heads'}
    if not wanted <= set(arch) <= wanted | {'head_dims', 'mlp_dims'}:
        raise ValueError(
            f'arch={dict(arch)} must have embed_dims, depth and num_heads, and may have head_dims '
            'and mlp_dims'
        )
    width, heads = arch['embed_dims'], arch['num_heads']
    return dict(head_dims=width // heads, mlp_dims=4 * width) | dict(arch)
