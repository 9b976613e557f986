"""Contours as the fourth channel of the input, from the preprocessor to the losses."""

import torch

from bimm_mm.models import ClipDataPreprocessor, DualBranchPretrainer, SingleBranchPretrainer


def test_preprocessor_brings_contours_to_0_to_1():
    batch = torch.randint(256, (2, 4, 3, 8, 8)).to(torch.uint8)
    for bgr_to_rgb in (False, True):
        preprocessor = ClipDataPreprocessor(bgr_to_rgb=bgr_to_rgb)
        result = preprocessor(dict(inputs=list(batch)))['inputs']
        colors = preprocessor(dict(inputs=list(batch[:, :3])))['inputs']
        assert torch.equal(result[:, :3], colors)
        assert torch.equal(result[:, 3], batch[:, 3].float() / 255)


def test_the_encoders_do_not_see_contours(make_branch, clips):
    model = DualBranchPretrainer(ventral=make_branch(False), dorsal=make_branch(True))
    torch.manual_seed(0)
    with_contours = model(torch.cat([clips, torch.rand(2, 1, 4, 16, 16)], dim=1), mode='loss')
    torch.manual_seed(0)
    torch.rand(2, 1, 4, 16, 16)
    without = model(clips, mode='loss')
    assert with_contours.keys() == without.keys()
    assert all(torch.equal(with_contours[key], without[key]) for key in without)
    tensors = model(torch.cat([clips, clips[:, :1]], dim=1))['dorsal']
    assert all(torch.equal(*pair) for pair in zip(tensors, model(clips)['dorsal'], strict=True))


def test_ventral_frame_takes_its_own_contour(make_branch):
    """The value of each frame's contours is the number of the frame, as is that of its colours."""
    branch = make_branch(video=False)
    branch['targets'][1] = dict(type='CachedContourTarget')
    model = SingleBranchPretrainer(ventral=branch)
    clips = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(8, 4, 4, 16, 16).clone()
    clips[:, 3] /= 4
    result = model.predict(model.split_inputs(clips))['ventral']
    assert torch.equal(result.targets['contour'][:, 0, 0], result.x[:, 0, 0, 0] / 4)
    assert len(result.x[:, 0, 0, 0].unique()) > 1
    colors = model.ventral.backbone(result.x[:, :3], result.ids_keep)
    assert all(torch.isfinite(stage).all() for stage in colors)
    losses = model(clips, mode='loss')
    assert torch.isfinite(losses['loss_ventral_contour'])
