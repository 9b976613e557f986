"""What a device can compute per second at most: of the data sheet, or measured."""

import platform
import re
import time
from pathlib import Path

import torch

# Dense tensor-core TFLOP/s by the makers' data sheets, without sparsity, with sums in float32:
# bfloat16 and float16, TF32, float32. The first that is a word, or words, of a name counts.
DATA_SHEETS: tuple[tuple[str, float, float, float], ...] = (
    ('B200', 2250, 1125, 75),
    ('H200 NVL', 835, 418, 60),
    ('H200', 989, 495, 67),
    ('GH200', 989, 495, 67),
    ('H100 NVL', 835, 418, 60),
    ('H100 PCIe', 756, 378, 51),
    ('H100', 989, 495, 67),
    ('H800', 989, 495, 67),
    ('H20', 148, 74, 44),
    ('A100', 312, 156, 19.5),
    ('A800', 312, 156, 19.5),
    ('L40S', 362, 183, 91.6),
    ('L40', 181, 90.5, 90.5),
    ('L4', 121, 60, 30.3),
    ('A40', 149.7, 74.8, 37.4),
    ('A30', 165, 82, 10.3),
    ('A10G', 70, 35, 31.2),
    ('A10', 125, 62.5, 31.2),
    ('RTX 6000 Ada', 364, 182, 91.1),
    ('RTX A6000', 154.8, 77.4, 38.7),
    ('RTX A5000', 111.1, 55.6, 27.8),
    ('RTX 5090', 209.5, 104.8, 104.8),
    ('RTX 4090', 165.2, 82.6, 82.6),
    ('RTX 3090', 71, 35.6, 35.6),
    ('V100', 125, 15.7, 15.7),
    ('T4', 65, 8.1, 8.1),
    ('MI300X', 1307, 653, 163),
)


def sheet_peak(name: str, precision: str) -> float | None:
    """FLOP per second of a device by its data sheet; None where the device is not known.

    Args:
        name: As ``torch.cuda.get_device_name`` gives it.
        precision: 'bfloat16', 'float16', 'tf32' or 'float32'.

    Raises:
        KeyError: For another precision.
    """
    column = dict(bfloat16=1, float16=1, tf32=2, float32=3)[precision]
    for row in DATA_SHEETS:
        if re.search(rf'\b{row[0]}\b', name):  # A40 is not in A4000
            return row[column] * 1e12
    return None


def measured_peak(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """FLOP per second of a large matrix product on a device: the best of ten.

    Args:
        device: Where.
        dtype: Of the matrices.
        size: Of their sides; by default 8192 on an accelerator, 2048 on a CPU.
    """
    size = size or (2048 if device.type == 'cpu' else 8192)
    a = torch.randn(size, size, device=device).to(dtype)
    best = float('inf')
    for _ in range(10):
        synchronize(device)
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was told; a CPU always has."""
    if device.type != 'cpu':
        torch.accelerator.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or device.type
