"""mmaction2's VisionTransformer and BimmViT with the same weights give the same output."""

import re

import pytest
import torch
from torch import Tensor, nn

from bimm_mm.models import BimmViT

pytest.importorskip('mmaction', reason='compares with mmaction2')

GRID = (2, 4, 4)  # of 4 frames, 32x32 pixels, in cubes of 2x8x8


def from_mmaction(state: dict[str, Tensor], grid: tuple[int, int, int], depth: int) -> dict:
    """Weights of mmaction2's VisionTransformer under BimmViT's names.

    mmaction2 has no class token, keys without a bias (queries and values have one), and positions
    as one list of tokens, in the order of a BimmViT's grid.
    """
    renamed = {}
    for key, value in state.items():
        key = re.sub(r'mlp\.layers\.0\.0', 'mlp.fc1', key)
        key = re.sub(r'mlp\.layers\.1', 'mlp.fc2', key)
        key = re.sub(r'^(fc_)?norm\.', f'norm{depth - 1}.', key)
        if key == 'pos_embed':
            value = value.view(1, *grid, -1)
        if key.endswith('attn.q_bias'):
            keys = torch.zeros_like(value)
            value = torch.cat([value, keys, state[key.replace('q_bias', 'v_bias')]])
            key = key.replace('q_bias', 'qkv.bias')
        if not key.endswith('attn.v_bias'):
            renamed[key] = value
    return renamed


@pytest.mark.parametrize(
    'size, kwargs, out_type',
    [
        (32, dict(use_mean_pooling=False, return_feat_map=True), 'featmap'),
        (48, dict(use_mean_pooling=False, return_feat_map=True), 'featmap'),
        (32, dict(use_mean_pooling=True), 'avg_featmap'),
    ],
)
def test_same_weights_same_output(size, kwargs, out_type):
    from mmaction.models import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(
        img_size=32, patch_size=8, embed_dims=48, depth=3, num_heads=4, num_frames=4, **kwargs
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = BimmViT(
        arch=dict(embed_dims=48, depth=3, num_heads=4),
        img_size=32,
        patch_size=8,
        num_frames=4,
        with_cls_token=False,
        out_type=out_type,
    ).eval()
    ours.load_state_dict(from_mmaction(theirs.state_dict(), GRID, depth=3))
    if out_type == 'avg_featmap':
        # mmaction2 normalizes the mean of the tokens, BimmViT takes the mean of the normalized
        # ones: without that norm, both are the mean
        theirs.fc_norm = ours.norm2 = nn.Identity()
    x = torch.randn(2, 3, 4, size, size)
    with torch.no_grad():
        wanted, (output,) = theirs(x), ours(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-4)
