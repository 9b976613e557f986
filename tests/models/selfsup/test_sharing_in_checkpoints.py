"""A checkpoint of another sharing is refused, whoever loads it."""

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint, load_state_dict

from bimm_mm.models import DualBranchPretrainer


@pytest.fixture
def make(make_branch):
    def make(share):
        torch.manual_seed(share)
        return DualBranchPretrainer(make_branch(False), make_branch(True), share=share)

    return make


def init_cfg(model, path):
    model.init_cfg = dict(type='Pretrained', checkpoint=path)
    model.init_weights()


ROUTES = dict(
    load_state_dict=lambda model, path: model.load_state_dict(torch.load(path)),
    load_from_and_resume=lambda model, path: load_checkpoint(model, path),
    runner=lambda model, path: load_state_dict(model, torch.load(path)),
    init_cfg=init_cfg,
)


@pytest.mark.parametrize('route', ROUTES)
def test_blocks_that_differ_cannot_become_one(make, tmp_path, route):
    path = str(tmp_path / 'apart.pth')
    torch.save(make(1).state_dict(), path)
    message = r'another sharing: num_shared=2 .* blocks \[1\] differ .* shares 1. Set share=1'
    with pytest.raises(ValueError, match=message):
        ROUTES[route](make(2), path)


@pytest.mark.parametrize('share', [1, 2, 3])
def test_the_same_sharing_loads_exactly(make, tmp_path, share):
    source, path = make(share), str(tmp_path / 'same.pth')
    torch.save(source.state_dict(), path)
    model = make(share)
    load_checkpoint(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


def test_blocks_that_were_shared_may_go_apart_which_the_log_says(make, monkeypatch):
    said = []
    monkeypatch.setattr(
        'bimm_mm.models.selfsup.bimm.print_log', lambda text, *args, **kwargs: said.append(text)
    )
    make(1).load_state_dict(make(2).state_dict())
    assert len(said) == 1 and said[0].startswith('1 blocks that both branches share')


def test_under_a_wrapper_too(make, tmp_path):
    wrapped = torch.nn.ModuleDict(dict(module=make(2)))
    state = {f'module.{key}': value for key, value in make(0).state_dict().items()}
    with pytest.raises(ValueError, match=r'blocks \[0, 1\] differ .* Set share=0'):
        wrapped.load_state_dict(state)
