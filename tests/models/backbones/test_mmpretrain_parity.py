"""mmpretrain's MAEViT and BimmViT with the same weights give the same features."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.models import BimmViT
from bimm_mm.models.conversion import Settings, convert

pytest.importorskip('mmpretrain', reason='compares with mmpretrain')


def make_pair(random_positions: bool = False):
    from mmpretrain.models import MAEViT

    torch.manual_seed(0)
    arch = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96)
    theirs = MAEViT(arch=arch, img_size=32, patch_size=8, out_type='raw')
    theirs.eval()  # returns nothing
    theirs.init_weights()
    for name, parameter in theirs.named_parameters():
        if name != 'pos_embed' or random_positions:
            nn.init.normal_(parameter, std=0.2)
    converted = convert(theirs.state_dict(), 'mae_mmpretrain', Settings(num_heads=4))
    ours = MODELS.build(converted.backbone | dict(out_type='raw')).eval()
    missing, unexpected = ours.load_state_dict(converted.state)
    assert not missing and not unexpected
    return theirs, ours


@torch.no_grad()
@pytest.mark.parametrize('random_positions', [False, True])
@pytest.mark.parametrize('size', [32, 48])
def test_same_weights_same_features(size, random_positions):
    theirs, ours = make_pair(random_positions)
    x = torch.randn(2, 3, size, size)
    (wanted,) = theirs(x, mask=None)
    assert wanted.std() > 0.1
    torch.testing.assert_close(ours(x)[0], wanted, rtol=0, atol=1e-4)


@torch.no_grad()
def test_same_masks_same_features():
    theirs, ours = make_pair()
    x = torch.randn(2, 3, 32, 32)
    wanted, _, ids_restore = theirs(x)
    ids_keep = ids_restore.argsort(dim=1)[:, :4]
    torch.testing.assert_close(ours(x, ids_keep)[0], wanted, rtol=0, atol=1e-4)


def test_positions_of_mmpretrain_are_those_of_mae_with_rows_and_columns_exchanged():
    """Why they have to be taken from the checkpoint."""
    loaded = make_pair()[1].pos_embed
    made = BimmViT(dict(embed_dims=48, depth=3, num_heads=4), img_size=32, patch_size=8).pos_embed
    torch.testing.assert_close(loaded, made.transpose(2, 3), rtol=0, atol=1e-5)
    assert not torch.allclose(loaded, made, atol=0.1)
