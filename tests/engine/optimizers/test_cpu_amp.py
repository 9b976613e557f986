import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

from bimm_mm.engine.optimizers import cpu_amp


class Model(BaseModel):
    """Remembers the dtype of what its layer gives."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs, mode='tensor'):
        output = self.linear(inputs)
        self.dtype = output.dtype
        return dict(loss=output.float().square().mean())


def test_the_forward_pass_is_in_bfloat16_and_the_weights_in_float32():
    torch.manual_seed(0)
    model = Model()
    before = model.linear.weight.clone()
    wrapper = build_optim_wrapper(
        model, dict(type='CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    )
    model.train_step(dict(inputs=torch.ones(2, 4)), wrapper)
    assert model.dtype == torch.bfloat16
    assert model.linear.weight.dtype == torch.float32
    assert not torch.equal(model.linear.weight, before)


def test_float16_is_refused():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="dtype='float16' must be bfloat16"):
        cpu_amp.CpuAmpOptimWrapper(dtype='float16', optimizer=optimizer)


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('model name : x\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n', True),
        ('Features\t: fp asimd bf16\n', True),
        ('flags\t\t: fpu avx2\n', False),
        (None, False),
    ],
)
def test_the_cpu_says_whether_it_has_bfloat16(tmp_path, monkeypatch, text, found):
    monkeypatch.setattr(cpu_amp, 'CPUINFO', tmp_path / 'cpuinfo')
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    assert cpu_amp.cpu_has_bfloat16() == found
