"""Published files of VIMPAC (airsplay/vimpac) to this toolkit's, and back.

A file is the state dict of an encoder with the heads of pretraining, or with a linear classifier.
Tensors are paired by name; queries, keys and values are one tensor here and three there.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from ..backbones.vimpac_vit import ATTENTIONS, EXTRA_CODES, VIMPAC_ARCHS, read_vimpac_arch
from .importing import Imported

PREFIX = 'backbone.'
PROJECTOR = 'contrast.projector'
EMBEDDING = 'embedding.weight'
# what is stored a second time
TIED = ('mlm_head.decoder.weight', 'mlm_head.decoder.bias')
Pair = tuple[str, tuple[str, ...]]


def encoder_pairs(depth: int, attention: str) -> Iterator[Pair]:
    """Our tensors of an encoder and theirs: one, or query, key and value, which are one in ours."""
    yield 'cls_token', ('cls_param',)
    yield EMBEDDING, (EMBEDDING,)
    for ours, theirs in (('cls', 'cls'), ('time', 'temporal'), ('rows', 'height'),
                         ('columns', 'width')):  # fmt: skip
        yield f'pos_embed.{ours}', (f'positional_embedding.{theirs}_pos_embedding',)
    for leaf in ('weight', 'bias'):
        yield f'norm.{leaf}', (f'ln_pre.{leaf}',)
        for index in range(depth):
            ours, theirs = f'blocks.{index}', f'transformer.resblocks.{index}'
            for step, axes in enumerate(ATTENTIONS[attention]):
                block = f'{theirs}.attention_blocks.{step}'
                for part, axis in enumerate(axes):
                    name = f'{block}.attentions.{part}.attention'
                    yield (
                        f'{ours}.steps.{step}.qkv.{axis}.{leaf}',
                        tuple(f'{name}.{kind}.{leaf}' for kind in ('query', 'key', 'value')),
                    )
                yield f'{ours}.steps.{step}.proj.{leaf}', (f'{block}.output.dense.{leaf}',)
                yield f'{ours}.steps.{step}.norm.{leaf}', (f'{block}.output.LayerNorm.{leaf}',)
            yield f'{ours}.mlp.fc1.{leaf}', (f'{theirs}.mlp.c_fc.{leaf}',)
            yield f'{ours}.mlp.fc2.{leaf}', (f'{theirs}.mlp.c_proj.{leaf}',)
            yield f'{ours}.norm.{leaf}', (f'{theirs}.ln.{leaf}',)


def head_pairs(num_layers: int) -> Iterator[Pair]:
    """Our tensors of the heads of a :class:`VIMPAC` or a classifier, and theirs."""
    for leaf in ('weight', 'bias'):
        yield f'code_head.dense.{leaf}', (f'mlm_head.transform.0.{leaf}',)
        yield f'code_head.norm.{leaf}', (f'mlm_head.transform.2.{leaf}',)
        yield f'cls_head.fc_cls.{leaf}', (f'cls_fc.{leaf}',)
    yield 'code_head.bias', ('mlm_head.bias',)
    for index in range(num_layers):
        for leaf in ('weight', 'bias'):
            yield (
                f'{PROJECTOR}.layers.{index}.{leaf}',
                (f'cls_head.mlp.linear_{index}.{leaf}',),
            )
        for leaf in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'):
            yield f'{PROJECTOR}.norms.{index}.{leaf}', (f'cls_head.mlp.bn_{index}.{leaf}',)


def from_vimpac(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict, list[str]]:
    """Convert a published state dict.

    Args:
        state: With keys ``backbone.*``, and those of heads where they are there.

    Returns:
        The weights with keys ``backbone.*``, ``code_head.*``, ``contrast.*`` and
        ``cls_head.fc_cls.*``, as :class:`VIMPAC` and mmaction2's recognizers have them; the
        config of the encoder; and the keys that were not taken over.

    Raises:
        ValueError: If weights of the encoder are missing or unknown.
    """
    if PREFIX + EMBEDDING not in state:
        raise ValueError(
            f"--kind vimpac: no '{PREFIX}{EMBEDDING}'; the first keys are "
            f'{", ".join(list(state)[:4])}'
        )
    config = _read_config(state)
    pairs = [
        (PREFIX + ours, tuple(PREFIX + key for key in theirs))
        for ours, theirs in encoder_pairs(read_vimpac_arch(config['arch'])['depth'],
                                          config['attention'])
    ]  # fmt: skip
    missing = [key for _, theirs in pairs for key in theirs if key not in state]
    if missing:
        raise ValueError(f'--kind vimpac: the encoder is not complete, it lacks {missing[:3]}')
    heads = sum(bool(re.fullmatch(r'cls_head\.mlp\.linear_\d+\.weight', key)) for key in state)
    pairs += [pair for pair in head_pairs(heads) if pair[1][0] in state]
    result, taken = {}, set(TIED)
    for ours, theirs in pairs:
        values = [state[key] for key in theirs]
        value = torch.cat(values) if len(values) > 1 else values[0]
        result[ours] = value[0] if ours.endswith('pos_embed.cls') and value.dim() == 2 else value
        taken.update(theirs)
    left = [key for key in state if key not in taken]
    unknown = [key for key in left if key.startswith(PREFIX)]
    if unknown:
        raise ValueError(
            f'--kind vimpac: the encoder has parts that a VimpacViT does not have, as '
            f'{", ".join(unknown[:3])}; models with pre-norm blocks (pre_activation) are not '
            'supported'
        )
    return result, config, left


class ImportedVimpac(Imported):
    """What became of a published file; ``decoder`` is the config of the contrast head."""

    def model(self) -> dict:
        """The config which the state fits: of a pretrainer, a recognizer, or the encoder."""
        if self.decoder is not None:
            return dict(
                type='VIMPAC',
                backbone=self.backbone,
                masking=dict(type='VimpacMasking', num_blocks=5),
                projector=self.decoder,
            )
        classifier = self.state.get('cls_head.fc_cls.weight')
        if classifier is None:
            return self.backbone
        classes, width = classifier.shape
        head = dict(type='BimmClsHead', num_classes=classes, in_channels=width)
        return dict(
            type='mmaction.Recognizer3D',
            backbone=self.backbone,
            cls_head=dict(head, dropout_ratio=0.0, average_clips='prob'),
            data_preprocessor=dict(type='CodeDataPreprocessor'),
        )


def convert_vimpac(state: dict[str, Tensor]) -> ImportedVimpac:
    """Convert a published state dict, with what it is and where it fits.

    Raises:
        ValueError: As of :func:`from_vimpac`.
    """
    converted, backbone, left = from_vimpac(state)
    layers = [value for key, value in converted.items() if re.fullmatch(
        re.escape(PROJECTOR) + r'\.layers\.\d+\.weight', key)]  # fmt: skip
    projector = None
    if layers:
        projector = dict(hidden_dims=len(layers[0]), out_dims=len(layers[-1]),
                         num_layers=len(layers))  # fmt: skip
    if not any(not key.startswith(PREFIX) for key in converted):
        converted = {key.removeprefix(PREFIX): value for key, value in converted.items()}
    dropped = dict.fromkeys(left, 'of no use here')
    return ImportedVimpac('vimpac', 'dorsal', converted, backbone, projector, dropped=dropped)


def to_vimpac(state: dict[str, Tensor], backbone: dict) -> dict[str, Tensor]:
    """Convert weights back to the published layout.

    Args:
        state: As :func:`from_vimpac` returns, or of an encoder alone, without ``backbone.``.
        backbone: Config of the encoder, :class:`VimpacViT`.

    Raises:
        ValueError: If weights of the encoder are missing.
    """
    if EMBEDDING in state:
        state = {PREFIX + key: value for key, value in state.items()}
    depth = read_vimpac_arch(backbone.get('arch', 'small'))['depth']
    attention = backbone.get('attention', 'T,H|W')
    result = {}
    for ours, theirs in encoder_pairs(depth, attention):
        if PREFIX + ours not in state:
            raise ValueError(f'the encoder is not complete: it lacks {PREFIX}{ours}')
        value = state[PREFIX + ours]
        value = value[None] if ours == 'pos_embed.cls' else value
        for key, part in zip(theirs, value.chunk(len(theirs)), strict=True):
            result[PREFIX + key] = part
    layers = sum(
        bool(re.fullmatch(re.escape(PROJECTOR) + r'\.layers\.\d+\.weight', key)) for key in state
    )
    for ours, (theirs,) in head_pairs(layers):
        if ours in state:
            result[theirs] = state[ours]
    if 'mlm_head.bias' in result:
        result[TIED[0]], result[TIED[1]] = result[PREFIX + EMBEDDING], result['mlm_head.bias']
    return result


def _read_config(state: dict[str, Tensor]) -> dict:
    """The config of the encoder that has such weights."""
    block = f'{PREFIX}transformer.resblocks'
    depth = 1 + max((int(k.split('.')[3]) for k in state if k.startswith(block)), default=-1)
    layout = {}  # step: number of parallel parts
    for key in state:
        match = re.match(re.escape(block) + r'\.0\.attention_blocks\.(\d+)\.attentions\.(\d+)', key)
        if match:
            step, part = map(int, match.groups())
            layout[step] = max(layout.get(step, 0), part + 1)
    shape = tuple(layout[step] for step in sorted(layout))
    names = [name for name, steps in ATTENTIONS.items() if tuple(map(len, steps)) == shape]
    if not names:
        raise ValueError(
            f'--kind vimpac: its {depth} blocks have {list(shape)} parallel attentions in each '
            f'step, which is none of {", ".join(ATTENTIONS)}'
        )
    rows, width = state[PREFIX + EMBEDDING].shape
    heads = width // 64
    per_part = len(state[f'{block}.0.attention_blocks.0.attentions.0.attention.query.weight'])
    arch = dict(
        embed_dims=width,
        depth=depth,
        num_heads=heads,
        head_dims=per_part * shape[0] // heads,
        mlp_dims=len(state[f'{block}.0.mlp.c_fc.weight']),
    )
    known = {name: read_vimpac_arch(name) for name in VIMPAC_ARCHS}
    arch = next((name for name, sizes in known.items() if sizes == arch), arch)
    axes = ('temporal', 'height', 'width')
    grid = tuple(len(state[f'{PREFIX}positional_embedding.{a}_pos_embedding']) for a in axes)
    config = dict(type='VimpacViT', arch=arch, grid_size=grid, attention=names[0])
    if rows - EXTRA_CODES != 8192:
        config['num_codes'] = rows - EXTRA_CODES
    return config
