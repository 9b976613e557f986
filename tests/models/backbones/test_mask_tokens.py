"""Encoders that keep mask tokens, and that read codes."""

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.models import BimmViT, LinearDecoder, PickDecoder, TransformerDecoder
from bimm_mm.models.checkpoints import find_encoder, find_encoders

ARCH = dict(embed_dims=24, depth=2, num_heads=2)


def encoder(**settings):
    torch.manual_seed(0)
    return BimmViT(ARCH, 16, 4, num_frames=4, out_type='raw', **settings)


IDS = torch.tensor([[0, 3, 30], [1, 2, 31]])


def test_mask_tokens_hide_what_is_there_and_have_positions():
    model, x = encoder(masked='token'), torch.randn(2, 3, 4, 16, 16)
    result = model(x, ids_mask=IDS)[-1]
    assert result.shape == (2, 33, 24)
    hidden = torch.zeros(2, 32).scatter(1, IDS, 1.0).view(2, 1, 2, 4, 4)
    hidden = hidden.repeat_interleave(2, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    other = torch.where(hidden.bool(), torch.randn_like(x), x)
    assert torch.equal(model(other, ids_mask=IDS)[-1], result)
    embedded, _ = model.embed(x, ids_mask=IDS)
    positions = model.pos_embed.flatten(1, 3)[0, IDS]
    picked = embedded[:, 1:].gather(1, IDS[..., None].expand(-1, -1, 24))
    torch.testing.assert_close(picked, model.mask_token + positions)


def test_tokens_can_be_masked_and_dropped_at_once():
    """In the order tokens, mask tokens, positions, keep."""
    model, x = encoder(masked='token'), torch.randn(2, 3, 4, 16, 16)
    keep = torch.tensor([[0, 5, 30], [2, 6, 7]])
    whole, _ = model.embed(x, ids_mask=IDS)
    some, _ = model.embed(x, keep, IDS)
    assert torch.equal(some[:, 1:], whole[:, 1:].gather(1, keep[..., None].expand(-1, -1, 24)))


def test_an_encoder_that_drops_tokens_has_no_mask_token_and_takes_none():
    model = encoder()
    assert 'mask_token' not in model.state_dict()
    with pytest.raises(ValueError, match="ids_mask needs masked='token', not 'dropped'"):
        model(torch.randn(1, 3, 4, 16, 16), ids_mask=IDS[:1])
    model.load_state_dict(encoder(masked='token').state_dict())  # what it has no use for, goes
    with pytest.raises(ValueError, match='mask_token is not in it'):
        encoder(masked='token').load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="masked='kept' must be 'dropped' or 'token'"):
        encoder(masked='kept')


def test_gradients_lie_in_memory_as_ddp_wants_them():
    """For a batch of one, too, where the class token is not copied."""
    for size in (1, 2):
        model = encoder(masked='token')
        model(torch.randn(size, 3, 4, 16, 16), ids_mask=IDS[:size])[-1].square().sum().backward()
        for name, p in model.named_parameters():
            assert p.grad.stride() == p.stride(), name


@pytest.mark.parametrize('kind', [LinearDecoder, TransformerDecoder])
def test_decoders_of_visible_tokens_refuse_all_tokens(kind):
    decoder = kind(24, 5, (2, 4, 4), video=True, embed_dims=12)
    keep, mask = torch.arange(4).repeat(2, 1), torch.arange(4, 32).repeat(2, 1)
    for count in (4, 5):
        decoder(torch.randn(2, count, 24), keep, mask)
    for count in (3, 6, 33):
        message = f'{kind.__name__} got {count} tokens, but needs 4 and at most a class token'
        with pytest.raises(ValueError, match=message):
            decoder(torch.randn(2, count, 24), keep, mask)


def test_a_pick_decoder_maps_the_tokens_at_masked_places():
    decoder, x = PickDecoder(24, 5, (2, 4, 4)), torch.randn(2, 33, 24)
    picked = x[:, 1:].gather(1, IDS[..., None].expand(-1, -1, 24))
    torch.testing.assert_close(decoder(x, None, IDS), decoder.head(picked))
    with pytest.raises(ValueError, match="got 8 tokens, but needs all 32 .* masked='token'"):
        decoder(x[:, :8], None, IDS)


# codes -------------------------------------------------------------------------------------------


def code_encoder(**settings):
    embedding = dict(type='CodeEmbed', num_codes=10)
    return encoder(embedding=embedding, masked='token', **settings)


def test_codes_are_looked_up_and_those_of_a_cube_are_added():
    embed = code_encoder().patch_embed
    codes = torch.randint(10, (2, 4, 4, 4))
    tokens = embed(codes)
    table = embed.codes.weight
    wanted = table[codes[:, 0::2]] + table[10 + codes[:, 1::2]]  # (B, T', H', W', C)
    torch.testing.assert_close(tokens, wanted.flatten(1, 3))
    torch.testing.assert_close(embed(codes, IDS), tokens[torch.arange(2)[:, None], IDS])


def test_an_encoder_of_codes_in_a_pretrainer():
    """The side input 'codes' is what it sees, and what it predicts."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MaskedPretrainer',
            backbone=dict(
                type='BimmViT',
                arch=ARCH,
                img_size=16,
                patch_size=4,
                num_frames=4,
                stage_ends=(2,),
                masked='token',
                embedding=dict(type='CodeEmbed', num_codes=10),
            ),
            masking=dict(type='TubeMasking', ratio=0.5),
            neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
            targets=[dict(type='CodeTarget', num_codes=10)],
        )
    )
    x, codes = torch.randn(2, 3, 4, 16, 16), torch.randint(10, (2, 4, 4, 4))
    losses = model(x, mode='loss', codes=codes)
    assert set(losses) == {'loss_codes', 'accuracy_codes'}
    step = model.eval()(x, mode='predict', codes=codes)['masked']
    assert step.targets['codes'].shape == (2, 16, 2)
    with pytest.raises(ValueError, match="needs the side input 'codes'"):
        model(x, mode='loss')
    state = model.state_dict()
    assert find_encoders(state) == {'backbone.': 'code'} and find_encoder(state) == 'backbone.'
