import torch

from bimm_mm.models import Step


def test_some_samples_of_a_step():
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    ids = torch.arange(6).view(3, 2)
    other = Step(x)
    step = Step(
        x,
        ids_keep=ids,
        ids=dict(pixel=ids),
        grid=(1, 2, 2),
        side=dict(captions=['a', 'b', 'c'], views=1),
        others=dict(first=other),
        features=(x, x),
    )
    some = step.select(torch.tensor([2, 0]))
    assert some.x[:, 0, 0, 0].tolist() == [2, 0]
    assert some.ids['pixel'].tolist() == some.ids_keep.tolist() == [[4, 5], [0, 1]]
    assert some.side == dict(captions=['c', 'a'], views=1) and some.grid == (1, 2, 2)
    assert [len(part) for part in some.features] == [2, 2]
    assert some.others['first'] is other and len(step.x) == 3
