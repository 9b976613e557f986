"""From an encoder of this toolkit to the names of timm and of transformers."""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..backbones.arch import ARCHS
from ..layers import sequence_position_embedding
from ..targets.base import IMAGENET_MEAN, IMAGENET_STD
from .blocks import mlp_ratio_of
from .importing import HEADS

EXTRA = 'bimm_mm.'  # of the names of what another library has no place for


@dataclass
class Exported:
    """An encoder as another library has it.

    Attributes:
        tensors: Its ``state_dict``.
        config: Its ``config.json``.
        preprocessor: Its ``preprocessor_config.json``.
        dropped: Names in the encoder of what was left out, and why.
        differences: In what its features differ from the encoder's.
    """

    tensors: dict[str, Tensor]
    config: dict
    preprocessor: dict | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


@dataclass
class Encoder:
    """An encoder's weights, and what they say about it."""

    state: dict[str, Tensor]
    num_heads: int
    norm_after_mean: bool = False
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        self.weight = self.state['patch_embed.projection.weight']
        self.is_video = self.weight.dim() == 5
        self.depth = 1 + max(
            int(m.group(1)) for m in (re.match(r'blocks\.(\d+)\.', key) for key in self.state) if m
        )
        self.embed_dims = len(self.weight)
        self.hidden = len(self.state['blocks.0.mlp.fc1.weight'])
        self.patch = (self.weight.shape[2] if self.is_video else 1, *self.weight.shape[-2:])
        grid = self.state['pos_embed'].shape[1:4]
        self.size = tuple(g * p for g, p in zip(grid, self.patch, strict=True))
        self.last_norm = f'norm{self.depth - 1}'
        if f'{self.last_norm}.weight' not in self.state:
            raise ValueError(f'the encoder has no norm after its last block ({self.last_norm})')
        self.other_norms = [
            key
            for key in self.state
            if re.match(r'norm\d+\.', key) and not key.startswith(f'{self.last_norm}.')
        ]

    @property
    def img_size(self) -> int | tuple[int, int]:
        """Height and width in pixels; one number where they are the same."""
        return self.size[1] if self.size[1] == self.size[2] else self.size[1:]


def describe(
    state: dict[str, Tensor], backbone: dict | None = None, num_heads: int | None = None
) -> Encoder:
    """What is needed to write an encoder for another library.

    Args:
        state: The ``state_dict`` of a :class:`BimmViT`.
        backbone: Its config, where it is known; ``arch``, ``norm_after_mean`` and ``norm_eps`` are
            read.
        num_heads: Attention heads, where they are in no config. Known widths need none.

    Raises:
        ValueError: Nothing tells the attention heads, or the last norm is missing.
    """
    backbone = backbone or {}
    arch = backbone.get('arch')
    arch = ARCHS.get(arch, {}) if isinstance(arch, str) else arch or {}
    width = len(state['patch_embed.projection.weight'])
    heads = num_heads or arch.get('num_heads') or HEADS.get(width)
    if heads is None or width % heads:
        raise ValueError(
            f'num_heads={heads}: the encoder is {width} wide, and its weights do not tell the '
            'number of attention heads: give --num-heads'
        )
    return Encoder(
        state, heads, backbone.get('norm_after_mean', False), backbone.get('norm_eps', 1e-6)
    )


def to_timm(encoder: Encoder) -> Exported:
    """An image encoder as timm's ``vit_*_patch16_224``: the same features, if norm_eps is 1e-6.

    ``timm.create_model('local-dir:FOLDER', pretrained=True)`` builds and loads it.

    Raises:
        ValueError: It is an encoder of clips.
    """
    if encoder.is_video:
        raise ValueError('timm has no encoder of clips: export the ventral branch')
    state = encoder.state
    has_token = 'cls_token' in state
    positions = state['pos_embed'].flatten(1, 3)
    tensors = {}
    if has_token:
        tensors['cls_token'] = state['cls_token']
        positions = torch.cat([torch.zeros_like(state['cls_token']), positions], dim=1)
    tensors['pos_embed'] = positions
    norm = 'fc_norm' if encoder.norm_after_mean else 'norm'
    for key, value in state.items():
        if key.startswith('patch_embed.projection.'):
            tensors[key.replace('projection', 'proj')] = value
        elif key.startswith('blocks.'):
            tensors[key] = value
        elif key.startswith(f'{encoder.last_norm}.'):
            tensors[key.replace(encoder.last_norm, norm)] = value
    pool = 'token' if has_token and not encoder.norm_after_mean else 'avg'
    arch = dict(embed_dims=encoder.embed_dims, depth=encoder.depth, num_heads=encoder.num_heads)
    name = next((name for name, known in ARCHS.items() if known == arch), 'base')
    config = dict(
        architecture=f'vit_{name}_patch16_224',
        num_classes=0,
        num_features=encoder.embed_dims,
        global_pool=pool,
        model_args=dict(
            img_size=encoder.img_size,
            patch_size=encoder.patch[1],
            in_chans=encoder.weight.shape[1],
            embed_dim=encoder.embed_dims,
            depth=encoder.depth,
            num_heads=encoder.num_heads,
            mlp_ratio=mlp_ratio_of(encoder.hidden, encoder.embed_dims),
            class_token=has_token,
            global_pool=pool,
            fc_norm=encoder.norm_after_mean,
        ),
        pretrained_cfg=dict(
            num_classes=0,
            input_size=[encoder.weight.shape[1], *encoder.size[1:]],
            fixed_input_size=True,
            first_conv='patch_embed.proj',
            classifier='head',
            mean=[value / 255 for value in IMAGENET_MEAN],
            std=[value / 255 for value in IMAGENET_STD],
        ),
    )
    dropped = dict.fromkeys(encoder.other_norms, 'serves the decoder of a stage in pretraining')
    differences = []
    if encoder.norm_eps != 1e-6:
        differences.append(f"timm's LayerNorms have an epsilon of 1e-6, not {encoder.norm_eps}")
    return Exported(tensors, config, dropped=dropped, differences=differences)


BLOCK_PARTS = {
    'norm1.': 'layernorm_before.',
    'attn.proj.': 'attention.output.dense.',
    'norm2.': 'layernorm_after.',
    'mlp.fc1.': 'intermediate.dense.',
    'mlp.fc2.': 'output.dense.',
}


def to_huggingface(encoder: Encoder) -> Exported:
    """A video encoder as transformers' VideoMAE.

    ``VideoMAEModel.from_pretrained(FOLDER)`` loads it. VideoMAE has no class token, and computes
    its positions instead of storing them: where the encoder has other ones, its features differ,
    which ``differences`` says and :func:`complete_videomae` mends. What VideoMAE has no place for
    is in the file all the same, under names that start with 'bimm_mm.'.

    Raises:
        ValueError: It is an encoder of images.
    """
    if not encoder.is_video:
        raise ValueError('VideoMAE is an encoder of clips: export the dorsal branch')
    state = encoder.state
    # the mean before the norm, is what VideoMAEForVideoClassification does
    prefix, norm = ('videomae.', 'fc_norm') if encoder.norm_after_mean else ('', 'layernorm')
    tensors, differences = {}, []
    for key, value in state.items():
        part, _, leaf = key.rpartition('.')
        if key.startswith('patch_embed.projection.'):
            tensors[f'{prefix}embeddings.patch_embeddings.projection.{leaf}'] = value
        elif part == encoder.last_norm:
            tensors[f'{norm}.{leaf}'] = value
        elif key in encoder.other_norms or key == 'cls_token':
            tensors[f'{EXTRA}{key}'] = value
        elif key.startswith('blocks.'):
            _, index, name = key.split('.', 2)
            tensors |= _block_tensors(name, value, f'{prefix}encoder.layer.{index}.')
    if 'cls_token' in state:
        differences.append('VideoMAE has no class token')
    positions = state['pos_embed']
    videomae = sequence_position_embedding(encoder.embed_dims, positions.shape[1:4])
    if not torch.equal(positions, videomae):
        tensors[f'{EXTRA}pos_embed'] = positions
        differences.append('VideoMAE adds positions of its own')
    config = dict(
        architectures=['VideoMAEForVideoClassification' if prefix else 'VideoMAEModel'],
        model_type='videomae',
        hidden_size=encoder.embed_dims,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.num_heads,
        intermediate_size=encoder.hidden,
        hidden_act='gelu',
        layer_norm_eps=encoder.norm_eps,
        image_size=encoder.img_size,
        patch_size=encoder.patch[1],
        num_channels=encoder.weight.shape[1],
        num_frames=encoder.size[0],
        tubelet_size=encoder.patch[0],
        qkv_bias=True,
        use_mean_pooling=encoder.norm_after_mean,
        bimm_mm=dict(differences=differences),
    )
    height, width = encoder.size[1:]
    preprocessor = dict(
        image_processor_type='VideoMAEImageProcessor',
        size=dict(shortest_edge=min(height, width)),
        crop_size=dict(height=height, width=width),
        image_mean=[value / 255 for value in IMAGENET_MEAN],
        image_std=[value / 255 for value in IMAGENET_STD],
    )
    return Exported(tensors, config, preprocessor, differences=differences)


def _block_tensors(name: str, value: Tensor, prefix: str) -> dict[str, Tensor]:
    """One tensor of a block under VideoMAE's names."""
    for ours, theirs in BLOCK_PARTS.items():
        if name.startswith(ours):
            return {prefix + theirs + name.removeprefix(ours): value}
    query, key, content = (part.clone() for part in value.chunk(3))
    attention = f'{prefix}attention.attention.'
    parts = dict(query=query, key=key, value=content)
    leaf = name.rpartition('.')[2]
    tensors = {f'{attention}{part}.{leaf}': tensor for part, tensor in parts.items()}
    if leaf == 'weight':
        return tensors
    # transformers 4 and 5.0 read q_bias and v_bias, 5.17 the other three, 5.24 either; each says
    # that it did not expect the rest. A bias of the keys adds the same to all scores of a query:
    # it has no effect.
    return tensors | {f'{attention}q_bias': query.clone(), f'{attention}v_bias': content.clone()}


def complete_videomae(model: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Give a VideoMAEModel the positions and the class token which its class has no place for.

    Its features are the encoder's then; where there is a class token, it is the first token of
    ``last_hidden_state``.

    Args:
        model: Of ``VideoMAEModel.from_pretrained(FOLDER)``.
        tensors: Of ``safetensors.torch.load_file(FOLDER/model.safetensors)``.

    Returns:
        ``model``, changed in place.
    """
    embeddings = model.embeddings
    positions, token = tensors.get(f'{EXTRA}pos_embed'), tensors.get(f'{EXTRA}cls_token')
    if positions is not None:
        embeddings.position_embeddings = positions.flatten(1, 3)
    if token is not None:
        embeddings.cls_token = nn.Parameter(token)

        def prepend(module: nn.Module, args: tuple, tokens: Tensor) -> Tensor:
            return torch.cat([module.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)

        embeddings.register_forward_hook(prepend)
    return model
