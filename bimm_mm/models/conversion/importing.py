"""From a checkpoint of another library to one of this toolkit's."""

import math
import re
from dataclasses import dataclass, field

from torch import Tensor

from ..backbones.arch import ARCHS
from ..layers import sequence_position_embedding
from .blocks import convert_blocks, reorder, take
from .layouts import KINDS, Layout
from .positions import Settings, convert_positions, patch_of

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}  # by width, of the known ViTs
HEAD = 'the head of a task'


@dataclass
class Imported:
    """What became of a checkpoint.

    Attributes:
        kind: One of ``KINDS``.
        branch: 'ventral' for images, 'dorsal' for clips.
        state: Of a :class:`SingleBranchPretrainer` where the decoder could be
            taken over, else of a :class:`BimmViT`.
        backbone: Config of the encoder.
        decoder: Config of the decoder.
        target: Config of what it was trained to predict.
        dropped: Every key that was not taken over, and why.
        notes: What a user must know besides.
    """

    kind: str
    branch: str
    state: dict[str, Tensor]
    backbone: dict
    decoder: dict | None = None
    target: dict | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def model(self) -> dict:
        """The config which the state fits: of a pretrainer, or of the encoder alone."""
        if self.decoder is None:
            return self.backbone
        masking = dict(type='RandomMasking', ratio=0.75)
        if self.branch == 'dorsal':
            masking = dict(type='TubeMasking', ratio=0.9)
        branch = dict(
            backbone=self.backbone,
            masking=masking,
            neck=dict(type='MultiStageDecoder', decoders=[self.decoder]),
            targets=[self.target],
        )
        return {'type': 'SingleBranchPretrainer', self.branch: branch}


def recognize(state: dict[str, Tensor], name: str) -> str:
    """The one of ``KINDS`` that a state dict is of, by its keys.

    Raises:
        ValueError: It is of none of them, or of this toolkit; names its first keys.
    """
    if any(re.match(r'(ventral\.|dorsal\.)?backbone\.blocks\.0\.mlp\.fc1', k) for k in state) or {
        'patch_embed.projection.weight',
        'blocks.0.mlp.fc1.weight',
    } <= set(state):
        raise ValueError(f'{name} is a checkpoint of this toolkit already; it needs no import')
    kinds = [kind for kind, layout in KINDS.items() if layout.matches(state)]
    if len(kinds) != 1:
        known = '\n  '.join(f'{kind}: {layout.source}' for kind, layout in KINDS.items())
        found = f'could be {" or ".join(kinds)}' if kinds else 'is of no known kind'
        raise ValueError(
            f'{name} {found}. Its first keys are {", ".join(list(state)[:5])}. '
            f'--kind may name one of\n  {known}'
        )
    return kinds[0]


def convert(state: dict[str, Tensor], kind: str, settings: Settings | None = None) -> Imported:
    """Convert the weights of another library's model.

    Args:
        state: Its ``state_dict``.
        kind: One of ``KINDS``.
        settings: What the weights do not tell, where it is known.

    Raises:
        ValueError: Weights that the encoder needs are missing, have an unknown part in a block,
            or do not fit the settings.
    """
    layout = KINDS[kind]
    dropped, parts, original = {}, {}, {}
    for key, value in state.items():
        name = layout.rename(key)
        if name is None:
            is_head = re.match(r'(head|cls_head|classifier|fc_cls|fc|pooler)\b', key)
            dropped[key] = HEAD if is_head else 'of no use here'
        elif name in parts:
            raise ValueError(f'--kind {kind}: {original[name]} and {key} are both {name}')
        else:
            parts[name], original[name] = value, key
    encoder = {key: v for key, v in parts.items() if not key.startswith('decoder.')}
    decoder = {k.removeprefix('decoder.'): v for k, v in parts.items() if k not in encoder}
    result = _convert_encoder(
        encoder, layout, kind, settings or Settings(), HEAD in dropped.values()
    )
    result.dropped = dropped
    if decoder:
        reason = _convert_decoder(decoder, result, layout, settings or Settings())
        if reason:
            dropped.update({original[f'decoder.{key}']: reason for key in decoder})
        else:
            prefixed = {f'{result.branch}.{key}': value for key, value in result.state.items()}
            result.state = prefixed
    return result


def _convert_encoder(
    parts: dict[str, Tensor], layout: Layout, kind: str, settings: Settings, finetuned: bool
) -> Imported:
    weight = take(parts, 'patch_embed.projection.weight', kind)
    if weight.dim() != (5 if layout.video else 4):
        raise ValueError(
            f'--kind {kind}: {layout.source} has a patch embedding of '
            f'{5 if layout.video else 4} dimensions, but this one has shape {tuple(weight.shape)}'
        )
    state = {
        'patch_embed.projection.weight': weight,
        'patch_embed.projection.bias': take(parts, 'patch_embed.projection.bias', kind),
    }
    blocks, arch = convert_blocks(parts, kind, 'blocks of the encoder')
    state |= blocks
    notes = []
    state |= _take_embeddings(parts, weight, settings, notes)
    # MAE-ST keeps the name when it finetunes, but takes the mean before the norm
    norm = 'fc_norm' if 'fc_norm.weight' in parts else 'norm'
    pooled = norm == 'fc_norm' or (kind == 'mae_st' and finetuned)
    last = f'norm{arch["depth"] - 1}'
    if f'{norm}.weight' in parts:
        for leaf in ('weight', 'bias'):
            state[f'{last}.{leaf}'] = take(parts, f'{norm}.{leaf}', kind)
    else:
        notes.append(f'it has no norm after its last block; {last} starts anew')
    for key in list(parts):  # of an export of this toolkit: norms of further stages
        if re.fullmatch(r'norm\d+\.(weight|bias)', key):
            state[key] = parts.pop(key)
    if parts:
        raise ValueError(
            f'--kind {kind}: the encoder has parts which a BimmViT has not, and without which its '
            f'features would change: {", ".join(list(parts)[:5])}'
        )
    if pooled:
        notes.append(
            'it was finetuned with its last norm after the mean over the tokens, which '
            "out_type='avg_featmap' with norm_after_mean=True does; with another out_type that "
            'norm is applied to tokens, for which it was not trained'
        )
    if kind == 'mae_st':
        notes.append(
            'MAE-ST normalizes clips with mean 0.45 and deviation 0.225 of the range 0 to 1: '
            'data_preprocessor needs mean=[114.75] * 3 and std=[57.375] * 3'
        )
    backbone = _backbone_config(state, arch, settings, pooled)
    eps = settings.norm_eps or layout.norm_eps
    if eps != 1e-6:
        backbone['norm_eps'] = eps
    return Imported(kind, 'dorsal' if layout.video else 'ventral', state, backbone, notes=notes)


def _take_embeddings(
    parts: dict[str, Tensor], weight: Tensor, settings: Settings, notes: list[str]
) -> dict[str, Tensor]:
    """Positions and, where there is one, the class token."""
    token = parts.pop('cls_token', None)
    if 'pos_embed' in parts and parts['pos_embed'].dim() == 5:  # of an export of this toolkit
        positions, added = parts.pop('pos_embed'), None
    else:
        positions, added = convert_positions(parts, weight, settings, notes, token is not None)
    state = dict(pos_embed=positions)
    if token is not None:  # it has no position of its own here
        state['cls_token'] = token if added is None or not added.any() else token + added
    return state


def _backbone_config(
    state: dict[str, Tensor], arch: dict, settings: Settings, pooled: bool
) -> dict:
    """The config of a :class:`BimmViT` which has this state."""
    heads = settings.num_heads or HEADS.get(arch['embed_dims'])
    if heads is None:
        raise ValueError(
            f'the encoder is {arch["embed_dims"]} wide, like no known ViT, and its weights do not '
            'tell the number of attention heads: give --num-heads'
        )
    weight = state['patch_embed.projection.weight']
    patch = patch_of(weight)
    if patch[1] != patch[2]:
        raise ValueError(f'the patches are {patch[1]}x{patch[2]} pixels; a BimmViT has square ones')
    frames, height, width = (
        n * p for n, p in zip(state['pos_embed'].shape[1:4], patch, strict=True)
    )
    backbone = dict(
        type='BimmViT',
        arch=_name_arch(dict(arch, num_heads=heads)),
        img_size=height if height == width else (height, width),
        patch_size=patch[1],
    )
    if weight.shape[1] != 3:
        backbone['in_channels'] = weight.shape[1]
    if weight.dim() == 5:
        backbone |= dict(num_frames=frames, tubelet_size=patch[0])
    has_token = 'cls_token' in state
    backbone |= dict(stage_ends=(arch['depth'],), with_cls_token=has_token)
    if pooled:
        backbone |= dict(out_type='avg_featmap', norm_after_mean=True)
    elif not has_token:
        backbone['out_type'] = 'avg_featmap'
    return backbone


def _convert_decoder(
    parts: dict[str, Tensor], result: Imported, layout: Layout, settings: Settings
) -> str | None:
    """Add a decoder to ``result``, or say why it has no counterpart here."""
    if 'cls_token' in parts:
        return "the decoder has a class token of its own, TransformerDecoder takes the encoder's"
    if not any(re.match(r'norm\d+\.', key) for key in result.state):
        return (
            'the decoder was trained on tokens without a norm; one of transformers that is to come '
            'along needs VideoMAEConfig(use_mean_pooling=False)'
        )
    if 'head.weight' not in parts or 'embed.weight' not in parts:
        return 'the decoder is not complete'
    grid = tuple(result.state['pos_embed'].shape[1:4])
    weight = result.state['patch_embed.projection.weight']
    patch, channels = patch_of(weight), weight.shape[1]
    values = channels * math.prod(patch)
    parts = dict(parts)
    head = parts.pop('head.weight')
    if len(head) != values:
        return (
            f'the decoder predicts {len(head)} values per token, TransformerDecoder all {values} '
            'of a patch or cube'
        )
    width = head.shape[1]
    heads = settings.decoder_num_heads or layout.decoder_heads.get(width)
    if heads is None:
        raise ValueError(
            f'the decoder is {width} wide, like none that is known, and its weights do not tell '
            'the number of attention heads: give --decoder-num-heads'
        )
    if 'pos_embed' in parts or 'pos_embed_spatial' in parts:
        size = Settings(grid[0] * patch[0], (grid[1] * patch[1], grid[2] * patch[2]))
        has_token = 'cls_token' in result.state
        positions, added = convert_positions(parts, weight, size, [], has_token)
        if added is not None and added.any():
            return 'the decoder has a position for the class token, TransformerDecoder has none'
    else:
        positions = sequence_position_embedding(width, grid)
    state, arch = convert_blocks(parts, result.kind, 'blocks of the decoder')
    state |= {
        'embed.weight': parts.pop('embed.weight'),
        'embed.bias': parts.pop('embed.bias', head.new_zeros(width)),
        'mask_token': take(parts, 'mask_token', result.kind),
        'pos_embed': positions,
        'norm.weight': take(parts, 'norm.weight', result.kind),
        'norm.bias': take(parts, 'norm.bias', result.kind),
        'head.0.weight': reorder(head, channels),
        'head.0.bias': reorder(take(parts, 'head.bias', result.kind), channels),
    }
    if parts:
        return f'the decoder has parts which TransformerDecoder has not: {", ".join(parts)}'
    result.state = {f'backbone.{key}': value for key, value in result.state.items()}
    result.state |= {f'neck.decoders.0.{key}': value for key, value in state.items()}
    result.backbone.pop('out_type', None)  # pretraining has its own
    result.decoder = dict(type='TransformerDecoder', embed_dims=width, depth=arch['depth'])
    result.decoder |= dict(num_heads=heads, mlp_head=False)
    if arch['mlp_ratio'] != 4:
        result.decoder['mlp_ratio'] = arch['mlp_ratio']
    normalize = 'none' if settings.norm_pixels is False else layout.norm_pixels
    result.target = dict(type='PixelTarget', normalize=normalize, eps=1e-6)
    return None


def _name_arch(arch: dict) -> str | dict:
    """The name of an architecture, where it has one."""
    for name, known in ARCHS.items():
        if arch == dict(known, mlp_ratio=4.0):
            return name
    return arch
