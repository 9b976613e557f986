"""Codes as classes, and latents of the encoder as targets."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from bimm_mm.models import CodeTarget, Step


def step_with(codes, grid=(2, 4, 4)):
    return Step(torch.zeros(len(codes), 3, 4, 16, 16), grid=grid, side=dict(codes=codes))


@pytest.mark.parametrize('frames, count', [('both', 2), ('first', 1)])
def test_codes_of_a_cube_are_those_of_its_frames(frames, count):
    codes = torch.arange(2 * 4 * 16).view(2, 4, 4, 4)
    target = CodeTarget(num_codes=128, frames=frames, patch_size=(2, 4, 4))
    ids = torch.tensor([[0, 17], [5, 31]])
    wanted = [
        [[s * 64 + 32 * (i // 16) + 16 * f + i % 16 for f in range(count)] for i in row]
        for s, row in enumerate(ids.tolist())
    ]
    assert target.from_step(step_with(codes), ids).tolist() == wanted
    assert target.from_step(step_with(codes), None).shape == (2, 32, count)
    assert target.out_dims == 128 * count


def test_loss_and_score_are_cross_entropy_and_accuracy_over_all_codes():
    torch.manual_seed(0)
    target = CodeTarget(num_codes=5, patch_size=(2, 4, 4))
    logits, codes = torch.randn(3, 6, 10), torch.randint(5, (3, 6, 2))
    parts = [F.cross_entropy(logits[..., 5 * f : 5 * f + 5].mT, codes[..., f]) for f in (0, 1)]
    torch.testing.assert_close(target.loss(logits, codes), sum(parts) / 2)
    best = torch.stack([logits[..., :5].argmax(-1), logits[..., 5:].argmax(-1)], -1)
    assert torch.equal(target.decode(logits), best)
    torch.testing.assert_close(target.score(logits, codes), (best == codes).float().mean())
    perfect = F.one_hot(codes, 5).flatten(2).float() * 100
    assert target.score(perfect, codes) == 1 and target.loss(perfect, codes) < 1e-6


def test_codes_must_be_there_and_lie_on_the_grid():
    target = CodeTarget(num_codes=5, patch_size=(2, 4, 4))
    with pytest.raises(ValueError, match=r'grid of \(4, 8, 8\) .* need \(4, 4, 4\)'):
        target.from_step(step_with(torch.zeros(1, 4, 8, 8).long()), None)
    with pytest.raises(ValueError, match='give the branch a tokenizer'):
        target.from_step(Step(torch.zeros(1, 3, 4, 16, 16), grid=(2, 4, 4)), None)
    with pytest.raises(ValueError, match="frames='last' must be 'both' or 'first'"):
        CodeTarget(num_codes=5, frames='last')


def model(**changes):
    torch.manual_seed(0)
    decoder = dict(type='LatentDecoder', depth=1, num_heads=2)
    config = dict(
        type='MaskedPretrainer',
        backbone=dict(
            type='BimmViT',
            arch=dict(embed_dims=24, depth=2, num_heads=2),
            img_size=16,
            patch_size=4,
            num_frames=4,
            stage_ends=(2,),
        ),
        masking=dict(type='TubeMasking', ratio=0.75),
        neck=dict(
            type='RegressorDecoder',
            embed_dims=12,
            depth=1,
            num_heads=2,
            decoders=[decoder, dict(type='IdentityDecoder')],
        ),
        targets=[dict(type='PixelTarget'), dict(type='LatentTarget', out_dims=12)],
    )
    return MODELS.build(config | changes)


def test_latents_are_the_encoders_of_the_masked_tokens_alone_without_gradient():
    m = model()
    step = m.steps(torch.randn(2, 3, 4, 16, 16))['masked']
    target = step.targets['latent']
    tokens = m.backbone(step.x, step.ids_mask)[-1][:, 1:]
    torch.testing.assert_close(target, m.neck.project(tokens))
    assert not target.requires_grad and step.predictions['latent'].requires_grad
    m.losses(step)['loss_latent'].backward()
    assert m.neck.blocks[0].attn.query.weight.grad is not None


def test_with_weight_0_the_masked_tokens_are_not_even_encoded():
    m = model(loss_weights=(1.0, 0.0)).train()
    step = m.steps(torch.randn(2, 3, 4, 16, 16))['masked']
    assert 'latent' not in step.targets
    assert set(m.losses(step)) == {'loss_pixel', 'explained_pixel'}
    assert not [n for n, p in m.named_parameters() if not p.requires_grad]
