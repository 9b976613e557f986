"""The attentive probe on tokens."""

import pytest
import torch

pytest.importorskip('mmaction', reason='the attentive head is a part of its models')
from bimm_mm.evaluation.functional.attentive_probe import fit_attentive_probe  # noqa: E402
from bimm_mm.evaluation.functional.linear_probe import fit_linear_probe  # noqa: E402


def tokens(count, seed):
    """One of 8 tokens is marked, and has the class; the others have some of no meaning."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    x = torch.zeros(count, 8, 16)
    other = torch.randint(4, (count, 8), generator=generator)
    place = torch.randint(8, (count,), generator=generator)
    other[torch.arange(count), place] = labels
    x.scatter_(2, other[..., None], 1.0)
    x[torch.arange(count), place, 8] = 2.0
    return x + 0.1 * torch.randn(x.shape, generator=generator), labels


def test_it_finds_what_the_mean_hides():
    train, test = tokens(512, 0), tokens(256, 1)
    found = fit_attentive_probe(train, test, steps=150, batch_size=64, lr=3e-3)
    means = [(x.mean(1), y) for x, y in (train, test)]
    assert found.value > 0.9 > 0.6 > fit_linear_probe(*means).value
    assert (found.count, found.chance) == (256, 0.25)


def test_a_seed_gives_the_same_figure_and_leaves_the_generator_alone():
    train, test = tokens(64, 0), tokens(64, 1)
    before = torch.get_rng_state()
    first, second = (fit_attentive_probe(train, test, steps=3, seed=4).value for _ in range(2))
    assert first == second and torch.equal(torch.get_rng_state(), before)
