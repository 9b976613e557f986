"""AdaMAE's sampler."""

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.models import AdaptiveMasking, Step
from bimm_mm.models.layers import ids_to_mask

GRID = (8, 14, 14)


def step_of(tokens, grid=GRID):
    return Step(torch.zeros(len(tokens), 3, 2, 4, 4), grid=grid, embed=lambda: tokens)


def test_78_of_1568_tokens_are_visible():
    torch.manual_seed(0)
    masking = AdaptiveMasking(16, GRID, num_heads=2).eval()
    masks = masking.draw(step_of(torch.randn(2, 1568, 16)))
    assert masks.ids_keep.shape == (2, 78) and masks.ids_mask.shape == (2, 1490)
    together = torch.cat(list(masks), dim=1).sort().values
    assert torch.equal(together, torch.arange(1568).repeat(2, 1))
    torch.testing.assert_close(masks.log_prob.exp().sum(dim=1), torch.ones(2))


def test_tokens_are_drawn_as_likely_as_the_sampler_says():
    torch.manual_seed(0)
    grid = (1, 2, 4)
    masking = AdaptiveMasking(8, grid, ratio=0.8, num_heads=2).eval()  # one of eight is visible
    torch.nn.init.normal_(masking.pos_embed, std=2)
    masks = masking.draw(step_of(torch.zeros(4000, 8, 8), grid))
    found = ids_to_mask(masks.ids_keep, grid).flatten(1).float().mean(dim=0)
    torch.testing.assert_close(found, masks.log_prob[0].exp(), atol=0.03, rtol=0)
    assert found.max() > 2 * found.min()


def pretrainer(**masking):
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=16, depth=1, num_heads=2),
        img_size=16,
        patch_size=4,
        num_frames=4,
        stage_ends=(1,),
    )
    decoder = dict(type='TransformerDecoder', embed_dims=8, depth=1, num_heads=2)
    return MODELS.build(
        dict(
            type='MaskedPretrainer',
            backbone=backbone,
            masking=dict(type='AdaptiveMasking', num_heads=2, ratio=0.75) | masking,
            neck=dict(type='MultiStageDecoder', decoders=[decoder]),
            targets=[dict(type='PixelTarget')],
        )
    )


def test_the_sampler_learns_from_its_own_loss_alone():
    torch.manual_seed(0)
    model = pretrainer()
    losses = model(torch.randn(2, 3, 4, 16, 16), mode='loss')
    assert set(losses) == {'loss_pixel', 'explained_pixel', 'loss_sampling'}
    sampler = list(model.masking.parameters())
    assert len(sampler) > 10
    alone = torch.autograd.grad(losses['loss_pixel'], sampler, allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in alone)
    others = [*model.backbone.blocks.parameters(), *model.neck.parameters()]
    alone = torch.autograd.grad(
        losses['loss_sampling'], others, allow_unused=True, retain_graph=True
    )
    assert all(gradient is None for gradient in alone)
    losses['loss_sampling'].backward()
    assert all(parameter.grad is not None for parameter in sampler)


def test_its_loss_is_that_of_the_definition():
    torch.manual_seed(0)
    model = pretrainer(weight=0.5)
    step = model.steps(torch.randn(2, 3, 4, 16, 16))['masked']
    error = (step.predictions['pixel'] - step.targets['pixel']).square().mean(dim=2)
    wanted = 0.0
    for sample in range(2):
        for place, token in enumerate(step.ids_mask[sample]):
            wanted -= step.log_prob[sample, token] * error[sample, place]
    found = model.masking.losses(step)['loss_sampling']
    torch.testing.assert_close(found, 0.5 * wanted / step.ids_mask.numel())


def test_tokens_of_large_error_become_likelier_to_be_seen():
    torch.manual_seed(0)
    grid = (1, 4, 4)
    masking = AdaptiveMasking(8, grid, ratio=0.75, num_heads=2, dropout=0.0, weight=1.0)
    optimizer = torch.optim.Adam(masking.parameters(), 1e-2)
    tokens = torch.zeros(32, 16, 8)
    large = torch.arange(16) < 4
    for _ in range(60):
        step = step_of(tokens, grid)
        masks = masking.draw(step)
        step.ids['x'], step.log_prob = masks.ids_mask, masks.log_prob
        step.targets['x'] = large[masks.ids_mask].float()[..., None]
        step.predictions['x'] = torch.zeros_like(step.targets['x'])
        optimizer.zero_grad()
        masking.losses(step)['loss_sampling'].backward()
        optimizer.step()
    probability = masks.log_prob[0].exp()
    assert probability[large].sum() > 0.6 > 2 * 0.25


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match='ratio=0.95 leaves none of 16'):
        AdaptiveMasking(8, (1, 4, 4))
    with pytest.raises(ValueError, match='needs the encoder of a branch'):
        AdaptiveMasking(8, GRID).draw(Step(torch.zeros(1, 3, 2, 4, 4), grid=GRID))
