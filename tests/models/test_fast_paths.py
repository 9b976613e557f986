"""What was made fast gives what the plain way gives, to 1e-5 in float32."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.models.layers import TransformerBlock
from bimm_mm.models.necks import TransformerDecoder
from bimm_mm.models.targets import EdgeContourTarget, GaborTarget, PixelTarget, base


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_attention_is_what_the_formula_says_and_so_are_its_gradients():
    torch.manual_seed(0)
    attention = TransformerBlock(24, 3).attn
    x = torch.randn(2, 7, 24, requires_grad=True)
    query, key, value = (
        part.view(2, 7, 3, 8).transpose(1, 2) for part in attention.qkv(x).split(24, dim=2)
    )
    weights = (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=-1)
    plain = attention.proj((weights @ value).transpose(1, 2).reshape(2, 7, 24))
    close(attention(x), plain)
    close(
        torch.autograd.grad(attention(x).square().sum(), x)[0],
        torch.autograd.grad(plain.square().sum(), x)[0],
    )


@pytest.mark.parametrize('last', [1, 5, 9])
def test_a_block_asked_for_its_last_tokens_gives_them_and_their_gradients(last):
    torch.manual_seed(0)
    block = TransformerBlock(24, 3)
    x = torch.randn(2, 9, 24, requires_grad=True)
    plain, fast = block(x)[:, -last:], block(x, last=last)
    close(fast, plain)
    parameters = [x, *block.parameters()]
    for a, b in zip(
        torch.autograd.grad(fast.square().sum(), parameters),
        torch.autograd.grad(plain.square().sum(), parameters),
        strict=True,
    ):
        close(a, b)


def test_a_decoder_predicts_what_it_would_with_all_tokens_up_to_the_end():
    torch.manual_seed(0)
    decoder = TransformerDecoder(
        16, 12, (1, 4, 4), video=False, embed_dims=24, depth=2, num_heads=3
    )
    order = torch.rand(2, 16).argsort(dim=1)
    keep, masked = order[:, :4].sort(dim=1).values, order[:, 4:].sort(dim=1).values
    features = torch.randn(2, 5, 16)
    x, positions = decoder.embed(features), decoder.positions()[0]
    plain = torch.cat(
        [x[:, :1], x[:, 1:] + positions[keep], decoder.mask_token + positions[masked]], dim=1
    )
    for block in decoder.blocks:
        plain = block(plain)
    close(decoder(features, keep, masked), decoder.head(decoder.norm(plain))[:, 5:])


@pytest.mark.parametrize('normalize', ['patch', 'channel'])
def test_normalized_pixels_have_torchs_mean_and_variance_taken_out(normalize):
    torch.manual_seed(0)
    target = PixelTarget(normalize, patch_size=(2, 8, 8))
    x = 3 * torch.randn(2, 3, 4, 16, 16) + 5
    parts = target.take(x, None).unflatten(2, (3 if normalize == 'channel' else 1, -1))
    variance, mean = torch.var_mean(parts, dim=-1, keepdim=True)
    close(target(x), ((parts - mean) / (variance + target.eps).sqrt()).flatten(2))


@pytest.mark.parametrize('kind, calls', [(GaborTarget, 10), (EdgeContourTarget, 7)])
def test_frames_taken_a_few_at_a_time_are_those_taken_all_at_once(kind, calls, monkeypatch):
    """Three at a time, of 20; but never torn out of a cube of two."""
    torch.manual_seed(0)
    target = kind(patch_size=(2, 16, 16))
    x = torch.randn(2, 3, 10, 32, 32)
    whole = target(x)
    side = 32 + 2 * getattr(target, 'margin', 0)
    monkeypatch.setattr(base, 'FEW_PIXELS', 3 * side**2)
    name = 'energy' if kind is GaborTarget else 'contours'
    function = Mock(side_effect=getattr(target, name))
    monkeypatch.setattr(target, name, function)
    close(target(x), whole)
    assert function.call_count == calls


def test_gabor_magnitudes_are_those_of_plain_convolutions():
    torch.manual_seed(0)
    target = GaborTarget(patch_size=(1, 16, 16))
    image = torch.rand(2, 1, 32, 32)
    given = F.pad(image, (target.margin,) * 4, mode='replicate')
    for index, stride in enumerate(target.strides):
        bank = getattr(target, f'bank{index}')
        margin = (bank.shape[-1] - stride) // 2
        padded = F.pad(image.double(), (margin,) * 4, mode='replicate')
        windows = padded.unfold(2, bank.shape[-1], stride).unfold(3, bank.shape[-1], stride)
        response = torch.einsum('nchwij,ocij->nohw', windows, bank.double())
        even, odd = response.chunk(2, dim=1)
        plain = (even.square() + odd.square()).sqrt().float()
        close(target.magnitude(given, index), plain)


@pytest.mark.parametrize(
    'frames, patch_size', [(1, (1, 16, 16)), (4, (2, 16, 16)), (4, (2, 8, 12))]
)
def test_gabor_features_of_a_few_tokens_are_those_of_whole_frames(frames, patch_size, monkeypatch):
    torch.manual_seed(0)
    target = GaborTarget(patch_size=patch_size)
    x = torch.randn(2, 3, frames, 48, 48)
    whole = target(x)
    count = whole.shape[1] // 3
    ids = torch.rand(2, whole.shape[1]).argsort(dim=1)[:, :count]
    ids[0, :2] = torch.tensor([0, whole.shape[1] - 1])  # corners, where frames are padded
    monkeypatch.setattr(target, 'windows', Mock(side_effect=target.windows))
    monkeypatch.setattr(base, 'FEW_PIXELS', 5 * 50**2)  # in parts
    few = target(x, ids)
    target.windows.assert_called_once()
    close(few, whole[torch.arange(2)[:, None], ids])
    target(x, torch.arange(whole.shape[1]).expand(2, -1))  # all of them: whole frames cost less
    target.windows.assert_called_once()


def test_gabor_features_of_no_tokens():
    target = GaborTarget()
    assert target(torch.randn(2, 3, 32, 32), torch.zeros(2, 0).long()).shape == (2, 0, 512)


def small_pretrainer(**branch):
    return MODELS.build(
        dict(
            type='SingleBranchPretrainer',
            ventral=dict(
                backbone=dict(
                    type='BimmViT',
                    arch=dict(embed_dims=24, depth=2, num_heads=3),
                    img_size=32,
                    patch_size=8,
                    stage_ends=(1, 2),
                ),
                masking=dict(type='RandomMasking', ratio=0.75),
                neck=dict(
                    type='MultiStageDecoder',
                    decoders=[
                        dict(type='LinearDecoder', embed_dims=16, predict='visible'),
                        dict(type='TransformerDecoder', embed_dims=24, depth=1, num_heads=3),
                    ],
                ),
                targets=[dict(type='EdgeContourTarget'), dict(type='PixelTarget')],
                **branch,
            ),
        )
    )


def test_half_of_the_masked_tokens_are_decoded_in_training_all_of_them_for_pictures():
    torch.manual_seed(0)
    model = small_pretrainer(decode_ratio=0.5).train()
    x = torch.randn(3, 3, 32, 32)
    result = model.ventral(x)
    ids = result.ids['pixel']
    assert ids.shape == (3, 6) and result.ids_mask.shape == (3, 12)
    assert result.predictions['pixel'].shape == result.targets['pixel'].shape == (3, 6, 192)
    assert (ids.diff(dim=1) > 0).all()
    assert torch.isin(
        ids + 16 * torch.arange(3)[:, None], result.ids_mask + 16 * torch.arange(3)[:, None]
    ).all()
    assert result.ids['contour'].shape == (3, 4)  # predicted where it is visible: not concerned
    assert (model.ventral(x).ids['pixel'][:, :1] != ids[:, :1]).any()  # drawn anew
    model.eval()
    result = model.ventral(x)
    assert torch.equal(result.ids['pixel'], result.ids_mask)


@pytest.mark.parametrize('ratio', [0, -0.5, 1.5])
def test_a_share_to_decode_that_is_none_is_refused(ratio):
    with pytest.raises(ValueError, match=f'decode_ratio={ratio} must be more than 0'):
        small_pretrainer(decode_ratio=ratio)
