"""The batched generator finds what SamAutomaticMaskGenerator finds, on a small Sam."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('segment_anything', reason='has the modules')

from bimm_mm.contours import sam_modules
from bimm_mm.contours.boundaries import boxes_of_masks, merge_masks, reduced_size
from bimm_mm.contours.generator import Batches, ContourGenerator, find_batch, resize_logits
from bimm_mm.contours.sam import OriginalGenerator
from bimm_mm.contours.sam_modules import PromptDecoder, with_fast_attention
from bimm_mm.contours.segmenters import SamSegmenter

EVERYTHING = dict(points_per_side=3, pred_iou_thresh=-100.0, stability_score_thresh=0.0)


@pytest.fixture(scope='module')
def image():
    image = np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8)
    return cv2.resize(image, (96, 72), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def sam(image):
    """The benchmark's, with random biases, too."""
    tests = Path(__file__).parents[1]
    build = runpy.run_path(str(tests / 'small_sam.py'))['build']
    registry = pytest.importorskip('segment_anything').sam_model_registry
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry, 'small', build)
        benchmark = runpy.run_path(str(tests.parent / 'benchmarks/contours.py'))
        return benchmark['random_sam']('small', 'cpu', image)


@torch.inference_mode()
@pytest.mark.parametrize('entries', [1 << 22, 100, 1])
def test_the_image_encoder_computes_the_same(sam, monkeypatch, entries):
    monkeypatch.setitem(sam_modules.BIAS_ENTRIES, 'cpu', entries)  # heads, and lines, at a time
    x = torch.randn(2, 3, 64, 64)
    wanted = sam.image_encoder(x)
    assert torch.allclose(with_fast_attention(sam.image_encoder)(x), wanted, atol=1e-5)
    assert torch.equal(sam.image_encoder(x), wanted)  # which stays as it was


def test_weights_of_the_encoder_are_shared(sam):
    shared = {id(weight) for weight in with_fast_attention(sam.image_encoder).parameters()}
    assert shared == {id(weight) for weight in sam.image_encoder.parameters()}


@torch.inference_mode()
def test_the_mask_decoder_computes_the_same(sam):
    embedding = torch.randn(1, 16, 4, 4)
    points = (torch.rand(5, 1, 2) * 64, torch.ones(5, 1, dtype=torch.int))
    prompts, dense = sam.prompt_encoder(points=points, boxes=None, masks=None)
    positions = sam.prompt_encoder.get_dense_pe()
    masks, scores = sam.mask_decoder(embedding, positions, prompts, dense, True)
    decoder = PromptDecoder(sam.mask_decoder)
    image = decoder.embed_image(embedding[0], dense[:1], positions)
    queries, keys = decoder.attend(image, prompts)
    assert torch.allclose(decoder.scores(queries), scores, atol=1e-5)
    whole = decoder.masks(queries, keys, image.size, image.size)
    assert torch.allclose(whole, masks, atol=1e-3) and masks.std() > 1
    part = decoder.masks(queries, keys, image.size, (3, 2))
    assert torch.allclose(part, masks[..., :12, :8], atol=1e-3)


def agreement(contour, wanted):
    near, near_wanted = (
        cv2.dilate(x.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for x in (contour, wanted)
    )
    precision = (contour & near_wanted).sum() / max(contour.sum(), 1)
    recall = (wanted & near).sum() / max(wanted.sum(), 1)
    return 2 * precision * recall / max(precision + recall, 1e-9)


@pytest.mark.parametrize(
    # few pixels have contours at 32 lines, and in bfloat16 a filter may decide otherwise
    'dtype, least',
    [(torch.float32, 0.98), (torch.bfloat16, 0.9), (torch.float16, 0.95)],
)
@pytest.mark.parametrize(
    'more',
    [{}, dict(pred_iou_thresh=0.7), dict(stability_score_thresh=0.9), dict(box_nms_thresh=0.3)],
    ids=str,
)
def test_contours_are_those_of_the_original(sam, image, dtype, least, more):
    settings = EVERYTHING | more
    wanted = OriginalGenerator(sam, short_side=32, **settings)([image])[0]
    generator = ContourGenerator(SamSegmenter(sam, dtype), short_side=32, **settings)
    contour = generator([image])[0]
    assert contour.shape == wanted.shape == (32, 43) and contour.dtype == bool
    assert 0 < wanted.mean() < 0.5
    assert agreement(contour, wanted) > least
    assert agreement(contour[:, ::-1], wanted) < least - 0.1  # the measure tells others apart


def test_points_at_a_time_and_pictures_at_a_time_change_nothing(sam, image):
    segmenter = SamSegmenter(sam)
    other = image[:60, ::-1].copy()
    wanted = [ContourGenerator(segmenter, **EVERYTHING)([x])[0] for x in (image, other)]
    for points in (1, 7, 64):
        generator = ContourGenerator(segmenter, points_per_batch=points, **EVERYTHING)
        for contour, one in zip(generator([image, other]), wanted, strict=True):
            assert contour.shape == one.shape and (contour != one).mean() < 1e-3


def test_nothing_passes_the_filters(sam, image):
    segmenter = SamSegmenter(sam)
    for strict in (dict(pred_iou_thresh=99.0), dict(stability_score_thresh=1.1)):
        contour = ContourGenerator(segmenter, **(EVERYTHING | strict))([image])[0]
        assert contour.shape == (72, 96) and not contour.any()


def test_out_of_memory_halves_the_batches_from_then_on(sam, image):
    class Small(SamSegmenter):
        calls = []

        def encode(self, images):
            self.calls.append(len(images))
            if len(images) > 1:
                raise torch.OutOfMemoryError('CUDA out of memory')
            return super().encode(images)

        def decode(self, features, points, min_score):
            self.calls.append(len(points))
            if len(points) > 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().decode(features, points, min_score)

    generator = ContourGenerator(Small(sam), points_per_batch=32, **EVERYTHING)
    wanted = ContourGenerator(SamSegmenter(sam), points_per_batch=2, **EVERYTHING)([image])[0]
    contours = generator([image, image])
    assert Small.calls == [2, 1, 1, 9, 4, 2, 2, 2, 2, 1, 2, 2, 2, 2, 1]
    assert all((contour != wanted).mean() < 1e-3 for contour in contours)


def test_what_is_not_lack_of_memory_is_raised_and_so_is_lack_for_a_single_one():
    def fail(error):
        raise error

    with pytest.raises(RuntimeError, match='shapes'):
        list(Batches(4)(lambda part: fail(RuntimeError('shapes do not match')), [1, 2, 3]))
    with pytest.raises(MemoryError):
        list(Batches(4)(lambda part: fail(MemoryError()), [1, 2, 3]))


def test_the_batch_that_fits_the_memory(monkeypatch):
    cpu = torch.device('cpu')
    assert find_batch(cpu, 1000, memory=17e-6) == 16
    assert find_batch(cpu, 10**12, memory=1) == 1
    assert find_batch(cpu, 50 << 20) == 4
    gpu = type('Properties', (), dict(total_memory=80e9))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: gpu)
    assert find_batch(torch.device('cuda'), 50 << 20) == 512


@pytest.mark.parametrize('extent', [(12.0, 16.0), (10.4, 16.0), (16.0, 9.3)])
@pytest.mark.parametrize('size', [(12, 16), (31, 40), (7, 9)])
def test_logits_are_resized_where_they_are(extent, size):
    """A ramp stays a ramp of the picture's own coordinates."""
    x = (torch.arange(16) + 0.5)[None] / extent[1]
    y = (torch.arange(16) + 0.5)[:, None] / extent[0]
    out = resize_logits(torch.stack([x + 0 * y, y + 0 * x]), extent, size)
    assert out.shape == (2, *size)
    for ramp, length in ((out[0, 0], size[1]), (out[1, :, 0], size[0])):
        wanted = (torch.arange(length) + 0.5) / length
        inner = slice(length // 6, length - length // 6)  # at the border there is no neighbor
        assert torch.allclose(ramp[inner], wanted[inner], atol=1e-3)


def test_masks_side_by_side_share_a_line_and_numbers_follow_the_area():
    masks = torch.zeros(3, 8, 10, dtype=torch.bool)
    masks[0, :, :4], masks[1, :, 4:], masks[2, 2:4, 6:8] = True, True, True
    outline = merge_masks(masks)
    assert outline[:, 3].all() and outline[:, :3].sum() == 0
    labels = merge_masks(masks, 'masks')
    assert labels.dtype == torch.uint8
    assert (labels[:, 0] == 2).all() and (labels[:, 4] == 1).all() and (labels[2, 6:8] == 3).all()
    assert not merge_masks(masks[:0], 'masks').any()
    many = torch.eye(300, dtype=torch.bool).view(300, 20, 15)
    assert merge_masks(many, 'masks').min() == 1  # after 255 comes 1
    with pytest.raises(ValueError, match="what='edges' must be one of outline, masks"):
        merge_masks(masks, 'edges')


def test_boxes():
    masks = torch.zeros(3, 8, 10, dtype=torch.bool)
    masks[0, 2:5, 3:10], masks[1, 7, 0] = True, True
    assert boxes_of_masks(masks).tolist() == [[3, 2, 9, 4], [0, 7, 0, 7], [0, 0, -1, -1]]


def test_sizes():
    assert reduced_size((480, 640), 256) == (256, 341)
    assert reduced_size((200, 640), 256) == reduced_size((200, 640), None) == (200, 640)
