import pytest
import torch

from bimm_mm.models import PixelTarget


def test_patches_are_normalized_as_in_mae():
    """MAE's forward_loss, but for the order of the values and the epsilon."""
    x = torch.randn(2, 3, 16, 24)
    result = PixelTarget(patch_size=(1, 8, 8), eps=1e-6)(x)
    patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1)
    mean, var = patches.mean(dim=-1, keepdim=True), patches.var(dim=-1, keepdim=True)
    torch.testing.assert_close(result, (patches - mean) / (var + 1e-6) ** 0.5)


def test_channels_are_normalized_each_as_in_videomae():
    x = torch.randn(2, 3, 4, 8, 8) * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1, 1) + 2
    parts = PixelTarget(patch_size=(2, 8, 8), normalize='channel')(x).view(2, 2, 3, -1)
    torch.testing.assert_close(parts.mean(dim=-1), torch.zeros(2, 2, 3), rtol=0, atol=1e-4)
    torch.testing.assert_close(parts.var(dim=-1), torch.ones(2, 2, 3), rtol=0.02, atol=0)


def test_without_normalization_the_pixels_themselves():
    x = torch.randn(1, 3, 8, 16)
    result = PixelTarget(patch_size=(1, 8, 8), normalize='none')(x)
    assert torch.equal(result[0, 1], x[0, :, :, 8:].flatten())


@pytest.mark.parametrize('normalize', ['patch', 'channel'])
def test_rounding_in_a_flat_patch_is_not_blown_up(normalize):
    step = 1 / 58  # of an 8-bit value, in units of the normalized input
    x = torch.zeros(1, 3, 8, 8)
    x[..., 0, 0] = step / 2
    assert PixelTarget(patch_size=(1, 8, 8), normalize=normalize)(x).abs().max() < 1


@pytest.mark.parametrize('normalize', ['patch', 'channel', 'none'])
def test_restore_undoes_the_normalization(normalize):
    x, ids = torch.randn(2, 3, 4, 16, 16) * 3 + 1, torch.tensor([[0, 5], [7, 2]])
    target = PixelTarget(patch_size=(2, 8, 8), normalize=normalize)
    pixels = PixelTarget(patch_size=(2, 8, 8), normalize='none')(x, ids)
    torch.testing.assert_close(target.restore(target(x, ids), x, ids), pixels)


def test_unknown_normalization():
    with pytest.raises(ValueError, match="normalize='image' must be 'patch', 'channel' or 'none'"):
        PixelTarget(normalize='image')
