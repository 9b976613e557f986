"""What a training step computes, and how much of what the device can."""

import torch
from torch import nn

from bimm_mm.evaluation.analysis.flops import step_flops
from bimm_mm.evaluation.analysis.peaks import measured_peak, sheet_peak


def test_attention_is_counted_as_the_matrix_products_that_it_is():
    attention = nn.functional.scaled_dot_product_attention

    def products(q, k, v):
        return (q @ k.transpose(2, 3)).softmax(dim=-1) @ v

    counts = []
    for function in (attention, products):
        q, k, v = (torch.randn(2, 3, 20, 8, requires_grad=True) for _ in range(3))
        results = []
        counts.append(step_flops(lambda: results.append(function(q, k, v))))  # noqa: B023
        counts.append(step_flops(lambda: results[0].sum().backward()))  # noqa: B023
    assert counts[0] == counts[2] == 2 * 2 * (2 * 3 * 20 * 20 * 8)
    assert counts[1] == 5 / 4 * counts[3]  # the fused one computes the weights again


def test_a_step_is_counted_forward_and_backward():
    linear, x = nn.Linear(8, 4), torch.randn(16, 8)
    assert step_flops(lambda: linear(x).sum().backward()) == 2 * 2 * 16 * 8 * 4


def test_a_device_is_known_by_its_name_and_no_other_is_taken_for_it():
    assert sheet_peak('NVIDIA H100 80GB HBM3', 'bfloat16') == 989e12
    assert sheet_peak('NVIDIA H100 PCIe', 'bfloat16') == 756e12
    assert sheet_peak('NVIDIA A100-SXM4-80GB', 'tf32') == 156e12
    assert sheet_peak('NVIDIA A10', 'float32') == 31.2e12
    assert sheet_peak('NVIDIA GH200 480GB', 'bfloat16') == 989e12
    assert sheet_peak('NVIDIA RTX A4000', 'bfloat16') is None  # which is no A40
    assert sheet_peak('Intel(R) Xeon(R) Processor', 'float32') is None


def test_the_rate_of_a_matrix_product_is_measured_where_no_sheet_says_it():
    rates = [measured_peak(torch.device('cpu'), torch.float32, size) for size in (32, 512)]
    assert 1e6 < rates[0] < rates[1] < 1e14
