"""How the official repositories name and pack the weights of MAE, VideoMAE and MAE-ST.

None of them is a package that could be installed. MAE and VideoMAE are in transformers, so its
models, with their weights under the official names, stand in for them; the names are those which
transformers' own converters read. MAE-ST is nowhere else: :class:`SpaceTimeMAE` is written from its
paper, with the names of its repository.
"""

import re
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

State = dict[str, Tensor]

BLOCK = {
    'norm1': 'layernorm_before',
    'attn.proj': 'attention.output.dense',
    'norm2': 'layernorm_after',
    'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense',
}


# from the names of transformers 5 to those of 4
OLD_NAMES = (
    (r'^vit\.layers\.', 'vit.encoder.layer.'),
    (r'\.attention\.([qkv])_proj\.', r'.attention.attention.\1.'),
    (r'\.attention\.o_proj\.', '.attention.output.dense.'),
    (r'\.mlp\.fc1\.', '.intermediate.dense.'),
    (r'\.mlp\.fc2\.', '.output.dense.'),
    (r'(\.attention\.attention)\.q\.', r'\1.query.'),
    (r'(\.attention\.attention)\.k\.', r'\1.key.'),
    (r'(\.attention\.attention)\.v\.', r'\1.value.'),
    (r'^((?:videomae|decoder)\..*\.attention\.attention)\.query\.bias$', r'\1.q_bias'),
    (r'^((?:videomae|decoder)\..*\.attention\.attention)\.value\.bias$', r'\1.v_bias'),
)


def as_in_4(state: State, videomae: bool) -> State:
    """A state dict of transformers 4 or 5 under the names of 4."""
    result = {}
    for key, value in state.items():
        for pattern, name in OLD_NAMES if videomae else OLD_NAMES[:-2]:
            key = re.sub(pattern, name, key)
        if not (videomae and key.endswith('.key.bias')):  # without effect
            result[key] = value
    return result


def mae(state: State) -> State:
    """facebookresearch/mae: ``model`` of a pretraining checkpoint, from ViTMAEForPreTraining."""
    state = as_in_4(state, videomae=False)
    names = {
        'vit.embeddings.cls_token': 'cls_token',
        'vit.embeddings.position_embeddings': 'pos_embed',
        'vit.embeddings.patch_embeddings.projection': 'patch_embed.proj',
        'vit.layernorm': 'norm',
        'decoder.mask_token': 'mask_token',
        **{f'decoder.decoder_{n}': f'decoder_{n}' for n in ('embed', 'pos_embed', 'norm', 'pred')},
    }
    encoder = blocks(state, 'vit.encoder.layer', 'blocks')
    decoder = blocks(state, 'decoder.decoder_layers', 'decoder_blocks')
    return rest(state, names) | encoder | decoder


def videomae(state: State) -> State:
    """MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2: a pretraining checkpoint's ``model``, from
    VideoMAEForPreTraining. Positions are computed, and not in it.
    """
    state = as_in_4(state, videomae=True)
    names = {
        'videomae.embeddings.patch_embeddings.projection': 'encoder.patch_embed.proj',
        'videomae.layernorm': 'encoder.norm',
        **{name: name for name in ('encoder_to_decoder', 'mask_token', 'decoder.norm')},
        'decoder.head': 'decoder.head',
    }
    encoder = blocks(state, 'videomae.encoder.layer', 'encoder.blocks')
    decoder = blocks(state, 'decoder.decoder_layers', 'decoder.blocks')
    return rest(state, names) | encoder | decoder


def videomae_finetuned(state: State) -> State:
    """The same repositories' classifier, from VideoMAEForVideoClassification."""
    state = as_in_4(state, videomae=True)
    names = {
        'videomae.embeddings.patch_embeddings.projection': 'patch_embed.proj',
        'fc_norm': 'fc_norm',
        'classifier': 'head',
    }
    return rest(state, names) | blocks(state, 'videomae.encoder.layer', 'blocks')


def rest(state: State, names: dict[str, str]) -> State:
    """What is not in a block, by the beginnings of the keys."""
    return {
        official + key.removeprefix(name): value
        for name, official in names.items()
        for key, value in state.items()
        if key == name or key.startswith(f'{name}.')
    }


def blocks(state: State, theirs: str, official: str) -> State:
    """Blocks of transformers as those of timm, with queries, keys and values in one layer."""
    result = {}
    for number in {k.removeprefix(f'{theirs}.').split('.')[0] for k in state if theirs in k}:
        block, name = f'{theirs}.{number}', f'{official}.{number}'
        for part, their_part in BLOCK.items():
            for leaf in ('weight', 'bias'):
                result[f'{name}.{part}.{leaf}'] = state[f'{block}.{their_part}.{leaf}']
        attention = f'{block}.attention.attention'
        for leaf in ('weight', 'bias'):
            keys = [f'{attention}.{part}.{leaf}' for part in ('query', 'key', 'value')]
            if keys[0] in state:
                result[f'{name}.attn.qkv.{leaf}'] = torch.cat([state[key] for key in keys])
        for leaf in ('q_bias', 'v_bias'):  # of VideoMAE
            if f'{attention}.{leaf}' in state:
                result[f'{name}.attn.{leaf}'] = state[f'{attention}.{leaf}']
    return result


norm = partial(nn.LayerNorm, eps=1e-6)


class SpaceTimeMAE(nn.Module):
    """MAE-ST (Feichtenhofer et al., 2022): learned positions, and no tubes in its masks.

    Args:
        separate (bool): positions for space and time, which are added, or joint ones.
        cls (bool): a class token; the decoder has one of its own.
        predicted_frames (int): of a cube, that the decoder predicts.
    """

    def __init__(self, separate: bool, cls: bool, predicted_frames: int) -> None:
        super().__init__()
        self.grid, self.separate, self.cls = (2, 4, 4), separate, cls
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, 48, (2, 8, 8), stride=(2, 8, 8))
        self.norm, self.decoder_norm = norm(48), norm(24)
        self.blocks = nn.ModuleList(Block(48, 4, qkv_bias=True, norm_layer=norm) for _ in range(2))
        self.decoder_blocks = nn.ModuleList([Block(24, 2, qkv_bias=True, norm_layer=norm)])
        self.decoder_embed = nn.Linear(48, 24)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 24))
        self.decoder_pred = nn.Linear(24, 3 * predicted_frames * 64)
        for prefix, width in (('', 48), ('decoder_', 24)):
            lengths = dict(pos_embed=32 + cls)
            if separate:
                lengths = dict(pos_embed_spatial=16, pos_embed_temporal=2)
                lengths |= dict(pos_embed_class=1) if cls else {}
            lengths |= dict(cls_token=1) if cls else {}
            for name, length in lengths.items():
                self.register_parameter(prefix + name, nn.Parameter(torch.zeros(1, length, width)))

    def positions(self, prefix: str = '') -> Tensor:
        """(1, [1 +] 32, C)."""
        if not self.separate:
            return getattr(self, f'{prefix}pos_embed')
        space, time = (getattr(self, f'{prefix}pos_embed_{n}') for n in ('spatial', 'temporal'))
        joint = (time[:, :, None] + space[:, None]).flatten(1, 2)
        cls = [getattr(self, f'{prefix}pos_embed_class')] if self.cls else []
        return torch.cat([*cls, joint], dim=1)

    def tokens(self, x: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """(B, 3, T, H, W) to (B, [1 +] K, C), before the last norm."""
        positions = self.positions()
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + positions[:, -32:]
        if ids_keep is not None:
            x = x[torch.arange(len(x))[:, None], ids_keep]
        if self.cls:
            x = torch.cat([(self.cls_token + positions[:, :1]).expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return x

    def predict(self, x: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """(B, M, t * p * p * 3), without a class token."""
        positions = self.positions('decoder_')[0]
        x = self.decoder_embed(self.norm(self.tokens(x, ids_keep)))
        x = torch.cat([x + positions[ids_keep], self.mask_token + positions[ids_mask]], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x[:, -ids_mask.shape[1] :]))

    def state_dict(self) -> State:
        """With queries, keys and values apart."""
        result = {}
        for key, value in super().state_dict().items():
            parts = dict(zip('qkv', value.chunk(3), strict=True)) if '.qkv.' in key else {'': value}
            result |= {key.replace('.qkv.', f'.{part}.'): tensor for part, tensor in parts.items()}
        return result
