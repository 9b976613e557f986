"""Copies of checkpoints that are made beside the next iteration."""

import pytest
import torch
from torch import nn

from bimm_mm.engine.background import HostCopy


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    model.append(model[0])  # shared, under two names
    return model[:3]


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.randn(6, 5)).square().mean().backward()
    optimizer.step()


def state_of(model, optimizer):
    return dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict(), note=['epoch', 3])


def flat(value):
    if isinstance(value, dict):
        return {f'{k}.{name}': x for k, v in value.items() for name, x in flat(v).items()}
    return {'': value.clone() if isinstance(value, torch.Tensor) else value}


def check(found, wanted):
    found = flat(found)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value) if torch.is_tensor(value) else found[name] == value


@pytest.mark.parametrize('kind', [torch.optim.AdamW, torch.optim.SGD])
def test_a_copy_is_of_the_moment_when_it_was_taken_whatever_comes_next(model, kind):
    """The step waits for weights and moments, the forward pass for running statistics."""
    optimizer, copier = kind(model.parameters(), lr=0.1), HostCopy()
    copier.watch([optimizer])
    for _ in range(3):
        step(model, optimizer)
        wanted = flat(state_of(model, optimizer))
        copied = copier.take(state_of(model, optimizer))
        step(model, optimizer)
        assert not torch.equal(model[0].weight, copied['state_dict']['0.weight'])
        check(copied, wanted)


def test_what_only_a_step_changes_is_left_to_whoever_comes_first(model):
    optimizer, copier = torch.optim.AdamW(model.parameters()), HostCopy()
    copier.watch([optimizer])
    step(model, optimizer)
    wanted = flat(state_of(model, optimizer))
    for _ in range(2):  # and the memory serves again
        copied = copier.take(state_of(model, optimizer))
        left = {buffer.data_ptr() for buffer, _ in copier._left}
        places = {name: x.data_ptr() for name, x in copied['state_dict'].items()}
        assert {places[name] for name, _ in model.named_parameters()} <= left
        assert not left & {places[name] for name, _ in model.named_buffers()}
        assert len(left) == 4 * len(list(model.parameters()))  # with two moments and the step
        copier.finish()
        assert not copier._left
        check(copied, wanted)


def test_a_frozen_encoder_that_follows_the_other_one_is_copied_at_once(model):
    """mmengine gives optimizers all parameters, also those that get no gradient."""
    model[2].requires_grad_(False)
    optimizer, copier = torch.optim.AdamW(model.parameters()), HostCopy()
    copier.watch([optimizer])
    step(model, optimizer)
    wanted = flat(state_of(model, optimizer))
    copied = copier.take(state_of(model, optimizer))
    with torch.no_grad():
        model[2].weight.mul_(0.9)  # as in MoCo's forward pass
    step(model, optimizer)
    check(copied, wanted)


def test_without_an_optimizer_whose_steps_can_wait_everything_is_copied_at_once(model):
    optimizer, copier = torch.optim.AdamW(model.parameters()), HostCopy()
    step(model, optimizer)
    wanted = flat(state_of(model, optimizer))
    copied = copier.take(state_of(model, optimizer))
    assert not copier._left
    step(model, optimizer)
    check(copied, wanted)


def test_tensors_that_share_memory_share_it_in_the_copy(model):
    copier = HostCopy()
    weight = model[0].weight
    copied = copier.take(dict(a=weight, b=weight.detach(), c=weight.detach().clone()))
    assert copied['a'].data_ptr() == copied['b'].data_ptr() != copied['c'].data_ptr()


def test_a_step_waits_for_a_device_that_the_writing_thread_waits_for_already(model):
    """Its copy runs on a stream of its own, beside what the step would change."""
    copier, asked = HostCopy(), []

    class Event:
        def synchronize(self):  # as long as it takes, the training goes on
            copier.finish(on_host=False)

        def wait(self):
            asked.append(self)

    copier._events = [Event()]
    copier.finish()
    assert len(asked) == 1
