import math
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from bimm_mm.models.conversion.vimpac import from_vimpac
from bimm_mm.models.masking import RandomMasking, VimpacMasking
from bimm_mm.models.selfsup import VIMPAC

OFFICIAL = runpy.run_path(str(Path(__file__).parents[2] / 'vimpac_official.py'))


def build(**kwargs):
    torch.manual_seed(0)
    backbone = dict(
        type='VimpacViT',
        arch=dict(embed_dims=32, depth=2, num_heads=4),
        grid_size=(3, 6, 6),
        num_codes=20,
        drop_rate=0.0,
        attn_drop_rate=0.0,
    )
    config = dict(
        backbone=backbone | kwargs.pop('backbone', {}),
        masking=dict(type='VimpacMasking', num_blocks=3),
        projector=dict(hidden_dims=16, out_dims=8),
    )
    return VIMPAC(**config | kwargs)


def random_codes(count=8, seed=0):
    return torch.randint(20, (count, 3, 6, 6), generator=torch.Generator().manual_seed(seed))


TABLE_2 = [
    ((5, 16, 16), (11.9, 14.5, 17.0, 19.4, 21.7)),
    ((5, 32, 32), (10.6, 13.1, 15.2, 17.5, 19.5)),
    ((10, 16, 16), (10.4, 12.8, 15.0, 17.1, 19.2)),
    ((10, 32, 32), (9.3, 11.4, 13.4, 15.4, 17.2)),
]


@pytest.mark.parametrize('grid, percents', TABLE_2)
def test_mean_masking_ratios_are_those_of_the_paper_s_table_2(grid, percents):
    generator = torch.Generator().manual_seed(0)
    for num_blocks, percent in zip(range(4, 9), percents, strict=True):
        mask = VimpacMasking(num_blocks).draw_mask(2000, grid, generator=generator)
        assert abs(100 * mask.float().mean() - percent) < 0.4
        assert mask.flatten(1).float().mean(1).std() > 0.02  # the ratio varies by clip


def test_a_block_is_a_box_no_longer_than_allowed_and_lies_anywhere():
    blocks = VimpacMasking(4).draw_blocks(500, (5, 8, 6)).flatten(0, 1)
    for axis, most in ((1, 3), (2, 4), (3, 3)):
        others = [a for a in (1, 2, 3) if a != axis]
        used = blocks.any(dim=others[1]).any(dim=others[0])  # (2000, length)
        assert sorted(used.sum(1).unique().tolist()) == list(range(1, most + 1))
        assert used.any(0).all()
        assert ((used[:, 1:] != used[:, :-1]).sum(1) <= 2).all()  # in one piece
    sizes = [blocks.any(3).any(2).sum(1), blocks.any(3).any(1).sum(1), blocks.any(2).any(1).sum(1)]
    assert torch.equal(blocks.flatten(1).sum(1), math.prod(sizes[1:], start=sizes[0]))


def test_single_tokens_are_masked_with_the_given_probability():
    mask = VimpacMasking(ratio=0.15).draw_mask(500, (5, 8, 8))
    assert abs(mask.float().mean() - 0.15) < 0.005
    with pytest.raises(ValueError, match='give one of num_blocks=3 and ratio=0.1'):
        VimpacMasking(3, 0.1)
    with pytest.raises(ValueError, match='no block fits into a grid of'):
        VimpacMasking(3).draw_mask(1, (1, 8, 8))


def test_index_pairs_say_the_same_as_the_map():
    masking, grid = VimpacMasking(3), (5, 6, 6)
    mask = masking.draw_mask(6, grid, generator=torch.Generator().manual_seed(0)).flatten(1)
    masks = masking(6, grid, generator=torch.Generator().manual_seed(0))
    rows = zip(mask, masks.ids_keep, masks.ids_mask, masks.weight, strict=True)
    for row, keep, ids, weight in rows:
        own = ids[weight > 0].tolist()
        assert own == row.nonzero()[:, 0].tolist() and set(ids.tolist()) == set(own)
        assert sorted(set(keep.tolist())) == (~row).nonzero()[:, 0].tolist()


def test_only_masked_codes_that_are_not_padding_are_predicted():
    model, codes = build(), random_codes()
    pad = model.backbone.pad_code
    codes[:2, 1:] = pad
    corrupted, mask = model.corrupt(codes)
    assert torch.equal(corrupted == model.backbone.mask_code, mask)
    assert torch.equal(corrupted[~mask], codes[~mask])
    assert mask[:2, :1].any() and not mask[:2, 1:].any()
    result = model(codes, mode='predict')
    assert torch.equal(result.predicted[~result.mask], codes[~result.mask])
    assert result.predicted.max() <= pad and result.features.shape == (8, 32)


def test_the_loss_of_codes_is_the_mean_over_all_masked_codes():
    model, codes = build(contrast_weight=0.0).eval(), random_codes()
    torch.manual_seed(1)
    mask = model.draw_mask(codes)
    torch.manual_seed(1)
    losses = model(codes, mode='loss')
    assert set(losses) == {'loss_code', 'accuracy_code'}
    _, tokens, _ = model.backbone.encode(codes, mask)
    total = hits = 0
    places = mask.flatten(1).nonzero().tolist()
    for sample, token in places:
        logits = model.predict_codes(tokens[sample, token][None])[0]
        right = codes.flatten(1)[sample, token]
        total -= logits.log_softmax(0)[right]
        hits += logits.argmax() == right
    torch.testing.assert_close(losses['loss_code'], total / len(places))
    torch.testing.assert_close(losses['accuracy_code'], hits / len(places))


def contrast_by_hand(first, second, temperature=0.2):
    """SimCLR's form, pair by pair; the sum of the two directions' means."""
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    total = 0
    for own, others in ((first, second), (second, first)):
        for i in range(len(own)):
            right = math.e ** (own[i] @ others[i] / temperature)
            wrong = sum(math.e ** (own[i] @ o / temperature) for o in others) - right
            same = (own[i] @ o for k, o in enumerate(own) if k != i)
            wrong = wrong + sum(math.e ** (similarity / temperature) for similarity in same)
            total = total - (right / (right + wrong)).log() / len(own)
    return total


def test_the_contrast_is_the_hand_computed_one_with_gradients_through_both_clips():
    model, codes = build(contrast_weight=1.5).eval(), random_codes()
    torch.manual_seed(1)
    mask = model.draw_mask(codes)
    torch.manual_seed(1)
    losses = model(codes, mode='loss')
    projected = model.contrast.projector(model.backbone.encode(codes, mask)[0]).detach()
    first, second = (projected[i::2].clone().requires_grad_() for i in range(2))
    wanted = 1.5 * 0.2 * contrast_by_hand(first, second)
    torch.testing.assert_close(losses['loss_contrast'], wanted)

    gradient = []

    def watch(module, inputs, output):
        output.register_hook(gradient.append)

    model.contrast.projector.register_forward_hook(watch)
    torch.manual_seed(1)
    model(codes, mode='loss')['loss_contrast'].backward()
    wanted.backward()
    torch.testing.assert_close(gradient[0][0::2], first.grad)
    torch.testing.assert_close(gradient[0][1::2], second.grad)
    assert first.grad.norm() > 0 and second.grad.norm() > 0


def test_clips_without_a_partner_are_refused():
    with pytest.raises(ValueError, match='two clips of each video, but the batch has 3 clips'):
        build()(random_codes(3), mode='loss')
    assert 'loss_contrast' not in build(contrast_weight=0)(random_codes(3), mode='loss')


def test_the_code_embedding_learns_from_the_input_and_from_the_output():
    model = build(contrast_weight=0)
    model(random_codes(), mode='loss')['loss_code'].backward()
    names = dict(model.named_parameters())
    gradient = names['backbone.embedding.weight'].grad
    assert gradient[model.backbone.mask_code].norm() > 0  # only in the input
    assert gradient[model.backbone.pad_code].norm() > 0  # only in the output
    assert not any('code_head' in name and value.shape == gradient.shape
                   for name, value in names.items())  # fmt: skip
    assert [name for name, value in names.items() if value.grad is None] == []


def test_noise_is_thrown_for_whole_blocks():
    model = build(noise=True, masking=dict(type='VimpacMasking', num_blocks=1))
    codes = random_codes(4000)
    codes[:, 2, 5] = model.backbone.pad_code
    corrupted, mask = model.corrupt(codes)
    assert torch.equal(corrupted[~mask], codes[~mask])
    mask_code = model.backbone.mask_code
    share = [
        (corrupted[i][mask[i]] == mask_code).float().mean().item()
        for i in range(len(codes))
        if mask[i].any()
    ]
    assert set(share) == {0.0, 1.0} and abs(sum(share) / len(share) - 0.8) < 0.03
    large = [i for i in range(len(codes)) if mask[i].sum() > 3]
    same = [torch.equal(corrupted[i], codes[i]) for i in large]
    assert abs(sum(same) / len(same) - 0.1) < 0.03
    with pytest.raises(ValueError, match='noise=True needs masking'):
        build(noise=True, masking=dict(type='RandomMasking', ratio=0.2))


def test_other_maskings_fit_as_well():
    model = build(masking=dict(type='RandomMasking', ratio=0.25))
    assert isinstance(model.masking, RandomMasking)
    assert model.draw_mask(random_codes()).flatten(1).sum(1).tolist() == [27] * 8


def test_published_heads_give_the_scores_of_the_equations():
    state = OFFICIAL['random_state']('T,H|W', grid=(3, 6, 6))
    converted, backbone, left = from_vimpac(state)
    model = VIMPAC(backbone, dict(type='VimpacMasking', num_blocks=2),
                   dict(hidden_dims=24, out_dims=16)).eval()  # fmt: skip
    missing, unexpected = model.load_state_dict(converted, strict=False)
    assert not (missing or unexpected or left)
    codes = torch.randint(8192, (2, 3, 6, 6), generator=torch.Generator().manual_seed(1))
    cls, tokens = OFFICIAL['encode'](state, codes, 'T,H|W')
    with torch.no_grad():
        own_cls, own_tokens, _ = model.backbone.encode(codes)
        logits = model.predict_codes(own_tokens.flatten(0, 1))
        projected = model.contrast.projector(own_cls)
    wanted = OFFICIAL['code_logits'](state, tokens.flatten(0, 3))
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(projected, OFFICIAL['projection'](state, cls), atol=1e-3, rtol=1e-4)


def test_pixels_become_codes_and_short_clips_end_with_padding(tmp_path):
    centers = torch.rand(20, 48, generator=torch.Generator().manual_seed(0))
    torch.save(dict(state_dict=dict(centers=centers)), tmp_path / 'codebook.pth')
    tokenizer = dict(type='PatchTokenizer', checkpoint=str(tmp_path / 'codebook.pth'))
    processor = dict(
        type='ClipDataPreprocessor',
        mean=[100] * 3,
        std=[50] * 3,
        side_inputs=('num_valid_frames',),
    )
    model = build(backbone=dict(tokenizer=tokenizer), data_preprocessor=processor)
    clips = torch.randint(256, (2, 2, 3, 3, 24, 24), dtype=torch.uint8)
    samples = [BaseDataElement(num_valid_frames=1), BaseDataElement(num_valid_frames=3)]
    data = model.data_preprocessor(dict(inputs=list(clips), data_samples=samples), training=True)
    codes = model.read_codes(data['inputs'], data['num_valid_frames'])
    wanted = MODELS.build(tokenizer | dict(mean=[0] * 3, std=[1] * 3))(clips.flatten(0, 1).float())
    wanted[:2, 1:] = model.backbone.pad_code
    assert torch.equal(codes, wanted)
    losses = model(**data, mode='loss')
    assert all(value.isfinite() for value in losses.values())
    (features,) = model(**data)
    assert features.shape == (4, 32)


def test_codes_are_stacked_clip_by_clip():
    model = build()
    samples = [random_codes(2, seed) for seed in range(3)]
    data = model.data_preprocessor(dict(inputs=[s.to(torch.int32) for s in samples]))
    assert torch.equal(data['inputs'], torch.cat(samples))
    with pytest.raises(ValueError, match='must be codes, integers'):
        model.data_preprocessor(dict(inputs=torch.zeros(2, 3, 6, 6)))
    with pytest.raises(ValueError, match='different shapes'):
        model.data_preprocessor(dict(inputs=[samples[0], samples[1][:1]]))
