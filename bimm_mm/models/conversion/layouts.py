"""How other libraries name the parts of a Vision Transformer: one table per library.

A table renames keys, by regular expressions of which the first that matches counts, to the names
below; a key that none matches is not taken over. ``N`` is the number of a block.

``patch_embed.projection.*``
    the patch embedding
``cls_token``
    the class token
``pos_embed``
    positions of all tokens, that of the class token first, if there is one; or in parts that are
    added, ``pos_embed_spatial``, ``pos_embed_temporal`` and ``pos_embed_class``
``blocks.N.*``
    as a :class:`~bimm_mm.models.layers.TransformerBlock`'s, but ``attn.qkv`` may be in parts:
    ``attn.q.*``, ``attn.k.*``, ``attn.v.*``, or biases ``attn.q_bias``, ``attn.v_bias``
``norm.*``, ``fc_norm.*``
    the last norm, of every token or of their mean
``decoder.*``
    the same of the decoder, with ``embed``, ``mask_token`` and ``head``
"""

import re
from dataclasses import dataclass

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

# facebookresearch/mae and mae_st, timm
MAE: Rules = (
    (r'patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'mask_token$', 'decoder.mask_token'),
    (r'decoder_pred\.', 'decoder.head.'),
    (r'decoder_', 'decoder.'),
    (r'(cls_token|pos_embed|blocks\.|norm\.|fc_norm\.)', r'\1'),
)
# MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2; in a pretraining checkpoint the encoder has a prefix
VIDEOMAE: Rules = (
    (r'(?:encoder\.)?patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'encoder_to_decoder\.', 'decoder.embed.'),
    (r'mask_token$', 'decoder.mask_token'),
    (r'(decoder\.)', r'\1'),
    (r'(?:encoder\.)?(pos_embed|blocks\.|norm\.|fc_norm\.)', r'\1'),
)
# the blocks of mmpretrain's and mmaction2's encoders
_OPENMMLAB_BLOCKS: Rules = (
    (
        r'(?:backbone\.)?(?:layers|blocks)\.(\d+)\.(?:mlp|ffn)\.layers\.0\.0\.',
        r'blocks.\1.mlp.fc1.',
    ),
    (r'(?:backbone\.)?(?:layers|blocks)\.(\d+)\.(?:mlp|ffn)\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'(?:backbone\.)?(?:layers|blocks)\.(\d+)\.ln([12])\.', r'blocks.\1.norm\2.'),
    (r'(?:backbone\.)?(?:layers|blocks)\.(\d+)\.', r'blocks.\1.'),
)
MMPRETRAIN: Rules = (
    *_OPENMMLAB_BLOCKS,
    (r'neck\.decoder_blocks\.(\d+)\.ffn\.layers\.0\.0\.', r'decoder.blocks.\1.mlp.fc1.'),
    (r'neck\.decoder_blocks\.(\d+)\.ffn\.layers\.1\.', r'decoder.blocks.\1.mlp.fc2.'),
    (r'neck\.decoder_blocks\.(\d+)\.ln([12])\.', r'decoder.blocks.\1.norm\2.'),
    (r'neck\.(?:ln1|decoder_norm)\.', 'decoder.norm.'),
    (r'neck\.decoder_pred\.', 'decoder.head.'),
    (r'neck\.decoder_', 'decoder.'),
    (r'neck\.mask_token', 'decoder.mask_token'),
    (r'(?:backbone\.)?ln1\.', 'norm.'),
    (r'(?:backbone\.)?ln2\.', 'fc_norm.'),  # of out_type='avg_featmap'
    (r'(?:backbone\.)?(patch_embed\.|cls_token|pos_embed)', r'\1'),
)
MMACTION: Rules = (
    *_OPENMMLAB_BLOCKS,
    (r'(?:backbone\.)?(patch_embed\.|pos_embed|norm\.|fc_norm\.)', r'\1'),
)
# transformers 4 and 5: vit_mae and videomae. 5 has other names for the blocks of vit_mae, others
# again in what save_pretrained writes of its decoder.
HUGGINGFACE: Rules = tuple(
    (rf'{theirs}{part}', rf'{ours}{renamed}')
    for theirs, ours in (
        (r'(?:vit\.|videomae\.)?(?:encoder\.layer|layers)\.(\d+)\.', r'blocks.\1.'),
        (r'decoder\.decoder_(?:layers|encoder\.layer)\.(\d+)\.', r'decoder.blocks.\1.'),
    )
    for part, renamed in (
        (r'layernorm_before\.', 'norm1.'),
        (r'layernorm_after\.', 'norm2.'),
        (r'attention\.attention\.([qkv])(?:uery|ey|alue)\.', r'attn.\2.'),
        (r'attention\.attention\.([qv]_bias)$', r'attn.\2'),
        (r'attention\.([qkv])_proj\.', r'attn.\1.'),
        (r'attention\.(?:output\.dense|o_proj)\.', 'attn.proj.'),
        (r'intermediate\.dense\.', 'mlp.fc1.'),
        (r'output\.dense\.', 'mlp.fc2.'),
        (r'', ''),  # anything else in a block
    )
) + (
    (r'(?:vit\.|videomae\.)?embeddings\.patch_embeddings\.', 'patch_embed.'),
    (r'(?:vit\.)?embeddings\.cls_token', 'cls_token'),
    (r'(?:vit\.)?embeddings\.position_embeddings', 'pos_embed'),
    (r'(?:vit\.|videomae\.)?layernorm\.', 'norm.'),
    (r'fc_norm\.', 'fc_norm.'),
    (r'encoder_to_decoder\.', 'decoder.embed.'),
    (r'mask_token$', 'decoder.mask_token'),
    (r'decoder\.decoder_pred\.', 'decoder.head.'),
    (r'decoder\.decoder_', 'decoder.'),
    (r'(decoder\.(?:norm|head|mask_token))', r'\1'),
    # what an export to videomae has besides
    (r'bimm_mm\.', ''),
)


@dataclass(frozen=True)
class Layout:
    """One kind of checkpoint.

    Attributes:
        source: Whose it is, in words.
        rules: The table.
        sign: Regular expression that one of its keys matches.
        video: Whether it is of clips, with a patch embedding of five dimensions.
        decoder_heads: Attention heads of a decoder by its width; a checkpoint does not tell them.
        norm_pixels: How its pretraining normalizes the pixels of a patch, ``PixelTarget``'s
            ``normalize``.
        norm_eps: Epsilon of its encoder's LayerNorms, unless a config.json says another.
        codes: Whether it embeds codes and not patches; :mod:`.vimpac` converts such.
    """

    source: str
    rules: Rules
    sign: str
    video: bool
    decoder_heads: dict[int, int]
    norm_pixels: str = 'patch'
    norm_eps: float = 1e-6
    codes: bool = False

    def rename(self, key: str) -> str | None:
        """A key's name by the table, None where it has none."""
        for pattern, name in self.rules:
            match = re.match(pattern, key)
            if match:
                return match.expand(name) + key[match.end() :]
        return None

    def matches(self, state: dict[str, Tensor]) -> bool:
        """Whether the keys are this layout's, and the patch embedding has its dimensions."""
        dims = [
            value.dim()
            for key, value in state.items()
            if self.rename(key) == 'patch_embed.projection.weight'
        ]
        wanted = [] if self.codes else [5 if self.video else 4]
        return dims == wanted and any(re.match(self.sign, key) for key in state)


_MAE_HEADS = {512: 16}
_VIDEOMAE_HEADS = {192: 3, 384: 6, 512: 8, 640: 8}

KINDS = {
    'mae': Layout(
        'MAE (facebookresearch/mae) and vit_* of timm',
        MAE,
        r'blocks\.0\.attn\.qkv\.',
        False,
        _MAE_HEADS,
    ),
    'mae_mmpretrain': Layout(
        'MAE of mmpretrain',
        MMPRETRAIN,
        r'(backbone\.)?layers\.0\.ln1\.',
        False,
        _MAE_HEADS,
    ),
    'mae_hf': Layout(
        'vit_mae of transformers',
        HUGGINGFACE,
        r'(vit\.)?embeddings\.cls_token',
        False,
        _MAE_HEADS,
        norm_eps=1e-12,
    ),
    'mae_st': Layout(
        'MAE-ST (facebookresearch/mae_st)',
        MAE,
        r'blocks\.0\.attn\.q\.',
        True,
        _MAE_HEADS,
    ),
    'videomae': Layout(
        'VideoMAE (MCG-NJU/VideoMAE) and VideoMAE V2 (OpenGVLab/VideoMAEv2)',
        VIDEOMAE,
        r'(encoder\.)?blocks\.0\.attn\.qkv\.',
        True,
        _VIDEOMAE_HEADS,
        'channel',
    ),
    'videomae_mmaction': Layout(
        'VideoMAE of mmaction2',
        MMACTION,
        r'(backbone\.)?blocks\.0\.mlp\.layers\.0\.0\.',
        True,
        _VIDEOMAE_HEADS,
        'channel',
    ),
    'videomae_hf': Layout(
        'videomae of transformers',
        HUGGINGFACE,
        r'(videomae\.)?encoder\.layer\.0\.',
        True,
        _VIDEOMAE_HEADS,
        'channel',
        norm_eps=1e-12,
    ),
    'vimpac': Layout(
        'VIMPAC (airsplay/vimpac)',
        (),
        r'backbone\.transformer\.resblocks\.0\.attention_blocks\.',
        True,
        {},
        codes=True,
    ),
}
