"""Contours that come with the input, and those that Segment Anything finds online."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bimm_mm.contours.generator import ContourGenerator
from bimm_mm.contours.sam import load_sam, segment_contours
from bimm_mm.contours.segmenters import SamSegmenter
from bimm_mm.models import CachedContourTarget, Step


def step_with(**side):
    return Step(torch.rand(2, 3, 4, 16, 16), grid=(2, 2, 2), side=side)


def test_values_are_those_of_the_contours():
    contours = torch.rand(2, 1, 4, 16, 16)
    target, step = CachedContourTarget(patch_size=(2, 8, 8)), step_with(contours=contours)
    wanted = contours[:, 0].view(2, 2, 2, 2, 8, 2, 8).permute(0, 1, 3, 5, 2, 4, 6)
    wanted = wanted.reshape(2, 8, 128)
    assert torch.equal(target.from_step(step, None), wanted) and target.out_dims == 128
    ids = torch.tensor([[1, 7], [0, 3]])
    assert torch.equal(
        target.from_step(step, ids), wanted.gather(1, ids[..., None].expand(-1, -1, 128))
    )


def test_without_contours_the_way_out_is_named():
    with pytest.raises(ValueError, match='fourth channel .*contour_cache=.*EdgeContourTarget'):
        CachedContourTarget().from_step(step_with(), None)


class Segments:
    """A generator of two masks side by side, the left and the right half."""

    def generate(self, image):
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        return [dict(segmentation=left), dict(segmentation=~left)]


@pytest.mark.parametrize('short_side, width', [(None, 80), (64, 80), (32, 40)])
def test_masks_side_by_side_share_a_line_one_pixel_wide(short_side, width):
    contour = segment_contours(Segments(), np.zeros((64, 80, 3), np.uint8), short_side)
    assert contour.shape == (64 * width // 80, width)
    assert contour[:, width // 2 - 1].all() and contour.sum() == len(contour)


def test_sam_online_is_sam_as_extracted(monkeypatch, tmp_path):
    segment_anything = pytest.importorskip('segment_anything', reason='makes the contours')
    from bimm_mm.models.targets import sam

    build = runpy.run_path(str(Path(__file__).parents[2] / 'small_sam.py'))['build']
    monkeypatch.setitem(segment_anything.sam_model_registry, 'small', build)
    torch.save(build().state_dict(), tmp_path / 'small.pth')
    checkpoint = str(tmp_path / 'small.pth')
    settings = dict(points_per_side=2, pred_iou_thresh=-100.0, stability_score_thresh=0.0)
    target = sam.SamContourTarget(
        checkpoint, 'small', settings, patch_size=(1, 32, 32), mean=(100.0,) * 3, std=(50.0,) * 3
    )
    assert not list(target.parameters()) and not target.state_dict()

    image = np.random.default_rng(0).integers(256, size=(4, 4, 3), dtype=np.uint8)
    image = cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC)
    x = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 100) / 50
    segmenter = SamSegmenter(load_sam(checkpoint, 'small', 'cpu'))
    wanted = ContourGenerator(segmenter, short_side=None, **settings)([image])[0]
    assert np.array_equal(target(x)[0, 0].view(32, 32).numpy(), wanted) and wanted.any()
    with pytest.raises(ValueError, match=r"generator has \['crop_n_layers'\]: it may have box_nms"):
        sam.SamContourTarget(checkpoint, 'small', dict(crop_n_layers=1), patch_size=(1, 32, 32))
