"""Other models than SAM itself, small and random, in the layouts they are published in."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from bimm_mm.contours.loading import load_generator

SETTINGS = dict(
    points_per_side=3,
    pred_iou_thresh=-100.0,
    stability_score_thresh=0.0,
    short_side=32,
    what='outline',
)
IMAGES = [
    np.random.default_rng(i).integers(256, size=size, dtype=np.uint8)
    for i, size in enumerate([(48, 64, 3), (40, 30, 3)])
]


def check(contours):
    assert [contour.shape for contour in contours] == [(32, 43), (40, 30)]
    assert all(contour.dtype == bool and 0 < contour.mean() < 1 for contour in contours)


def save_sam2(folder):
    """A folder as on Hugging Face."""
    transformers = pytest.importorskip('transformers', reason='has SAM 2.1')
    if not hasattr(transformers, 'Sam2Model'):
        pytest.skip(f'transformers {transformers.__version__} has no SAM 2 (4.56 or newer)')
    backbone = dict(
        hidden_size=8,
        blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[],
        image_size=[64, 64],
    )
    config = transformers.Sam2Config(
        vision_config=dict(
            backbone_config=dict(model_type='sam2_hiera_det_model', **backbone),
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=16,
        ),
        prompt_encoder_config=dict(hidden_size=16, image_size=64, mask_input_channels=4),
        mask_decoder_config=dict(
            hidden_size=16,
            mlp_dim=16,
            num_attention_heads=2,
            iou_head_hidden_dim=16,
        ),
    )
    torch.manual_seed(0)
    model = transformers.Sam2Model(config)
    with torch.no_grad():  # random masks are of one sign: these are not
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_sam2_from_a_folder_of_transformers(tmp_path, dtype):
    save_sam2(tmp_path)
    generator, made_by = load_generator(str(tmp_path), 'sam2', 'cpu', dtype=dtype, **SETTINGS)
    contours = generator(IMAGES)
    check(contours)
    assert made_by['model_type'] == 'sam2' and len(made_by['checkpoint_sha256']) == 64
    for image, contour in zip(IMAGES, contours, strict=True):
        assert (generator([image])[0] != contour).mean() < 0.02  # each for itself


def test_sam2_finds_what_its_own_processor_and_forward_find(tmp_path):
    save_sam2(tmp_path)
    transformers = pytest.importorskip('transformers')
    generator, _ = load_generator(str(tmp_path), 'sam2', 'cpu', **SETTINGS)
    segmenter = generator.segmenter
    features = segmenter.encode(IMAGES[:1])[0]
    found = segmenter.decode(features, generator.points, 0.0)
    # 5.0 has it under the other name alone
    name = 'Sam2ImageProcessor'
    kind = getattr(transformers, name, None) or getattr(transformers, f'{name}Fast')
    processor = kind(size=dict(height=64, width=64))
    height, width = IMAGES[0].shape[:2]
    pixels = processor(images=IMAGES[0], return_tensors='pt')['pixel_values']
    points = (generator.points * 64)[None, :, None]
    with torch.inference_mode():
        output = segmenter.model(pixel_values=pixels, input_points=points, multimask_output=True)
    assert torch.allclose(found.scores.view(-1, 3), output.iou_scores[0], atol=1e-2)
    wanted = output.pred_masks[0].flatten(0, 1)
    assert ((found.logits > 0) != (wanted > 0)).float().mean() < 0.02


def test_a_folder_without_a_model_is_named(tmp_path):
    transformers = pytest.importorskip('transformers', reason='has SAM 2.1')
    if not hasattr(transformers, 'Sam2Model'):
        with pytest.raises(ImportError, match='transformers 4.56'):
            load_generator(str(tmp_path), 'sam2', 'cpu', **SETTINGS)
        return
    with pytest.raises(FileNotFoundError, match='config.json: download all files of https'):
        load_generator(str(tmp_path), 'sam2', 'cpu', **SETTINGS)
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='sam2')))
    with pytest.raises(ValueError, match='does not hold a SAM 2'):
        load_generator(str(tmp_path), 'sam2', 'cpu', **SETTINGS)


def test_mobile_sam(tmp_path, monkeypatch):
    mobile_sam = pytest.importorskip('mobile_sam', reason='has vit_t')
    torch.manual_seed(0)
    sam = mobile_sam.sam_model_registry['vit_t']()
    torch.save(sam.state_dict(), tmp_path / 'mobile_sam.pt')
    settings = SETTINGS | dict(points_per_side=2)
    generator, _ = load_generator(str(tmp_path / 'mobile_sam.pt'), 'vit_t', 'cpu', **settings)
    contour = generator(IMAGES[:1])[0]
    assert contour.shape == (32, 43)
    # and it is what MobileSAM's own modules give
    segmenter = generator.segmenter
    with torch.inference_mode():
        image, size = segmenter.encode(IMAGES[:1])[0]
        found = segmenter.decode((image, size), generator.points, 0.0)
        x = sam.eval().preprocess(
            torch.as_tensor(segmenter.resize.apply_image(IMAGES[0])).permute(2, 0, 1)
        )
        coordinates = generator.points * torch.tensor(size[::-1])
        points = (coordinates[:, None], torch.ones(4, 1, dtype=torch.int))
        prompts, dense = sam.prompt_encoder(points=points, boxes=None, masks=None)
        masks, scores = sam.mask_decoder(
            sam.image_encoder(x[None]), sam.prompt_encoder.get_dense_pe(), prompts, dense, True
        )
    assert torch.allclose(found.scores, scores.flatten(), atol=1e-4)
    rows = found.logits.shape[1]
    assert torch.allclose(found.logits, masks.flatten(0, 1)[:, :rows], atol=1e-3)


def test_without_mobile_sam_what_to_install_is_said(tmp_path):
    try:
        import mobile_sam  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match='pip install git.*MobileSAM'):
            load_generator('mobile_sam.pt', 'vit_t', 'cpu', **SETTINGS)
    else:
        pytest.skip('it is installed')


@pytest.mark.parametrize(
    'arguments, text',
    [
        (dict(generator='fast'), "generator='fast' must be one of batched, original"),
        (dict(generator='original', dtype='bfloat16'), "dtype='bfloat16'.*take the batched one"),
    ],
)
def test_settings_that_do_not_go_together(arguments, text):
    with pytest.raises(ValueError, match=text):
        load_generator('sam.pth', 'vit_b', 'cpu', **arguments, **SETTINGS)


def test_which_generator_made_a_cache_is_said(tmp_path, monkeypatch):
    segment_anything = pytest.importorskip('segment_anything')
    build = runpy.run_path(str(Path(__file__).parents[1] / 'small_sam.py'))['build']
    monkeypatch.setitem(segment_anything.sam_model_registry, 'small', build)
    torch.save(build().state_dict(), tmp_path / 'sam.pth')
    for generator in ('batched', 'original'):
        built, made_by = load_generator(
            str(tmp_path / 'sam.pth'), 'small', 'cpu', generator=generator, **SETTINGS
        )
        assert made_by['generator'] == built.name == generator
        assert made_by.items() >= (SETTINGS | dict(model_type='small')).items()
