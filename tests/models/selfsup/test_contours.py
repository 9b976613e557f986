"""Contours, from the fourth channel of the samples to the losses."""

import torch

from bimm_mm.models import ClipDataPreprocessor, DualBranchPretrainer, SingleBranchPretrainer


def test_the_preprocessor_splits_contours_off_and_brings_them_to_0_to_1():
    batch = torch.randint(256, (2, 4, 3, 8, 8)).to(torch.uint8)
    for bgr_to_rgb in (False, True):
        preprocessor = ClipDataPreprocessor(bgr_to_rgb=bgr_to_rgb)
        result = preprocessor(dict(inputs=list(batch)))
        colors = preprocessor(dict(inputs=list(batch[:, :3])))
        assert torch.equal(result['inputs'], colors['inputs'])
        assert torch.equal(result['contours'], batch[:, 3:].float() / 255)
        assert 'contours' not in colors


def test_contours_change_nothing_where_no_target_reads_them(make_branch, clips):
    model = DualBranchPretrainer(ventral=make_branch(False), dorsal=make_branch(True))
    contours = torch.rand(2, 1, 4, 16, 16)
    torch.manual_seed(0)
    with_contours = model(clips, mode='loss', contours=contours)
    torch.manual_seed(0)
    without = model(clips, mode='loss')
    assert with_contours.keys() == without.keys()
    assert all(torch.equal(with_contours[key], without[key]) for key in without)


def test_ventral_frame_takes_its_own_contour(make_branch):
    """The value of each frame's contours is the number of the frame, as is that of its colors."""
    branch = make_branch(video=False)
    branch['targets'][1] = dict(type='CachedContourTarget')
    model = SingleBranchPretrainer(ventral=branch)
    clips = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(8, 4, 4, 16, 16).clone()
    clips[:, 3] /= 4
    result = model(clips[:, :3], mode='predict', contours=clips[:, 3:])['ventral']
    assert torch.equal(result.targets['contour'][:, 0, 0], result.x[:, 0, 0, 0] / 4)
    assert len(result.x[:, 0, 0, 0].unique()) > 1
    losses = model(clips[:, :3], mode='loss', contours=clips[:, 3:])
    assert torch.isfinite(losses['loss_ventral_contour'])
