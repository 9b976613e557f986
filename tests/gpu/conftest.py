"""What tests on an accelerator have in common.

They are skipped where there is none. ``BIMM_GPU_TESTS=cpu`` runs them on the CPU in tiny sizes: a
rehearsal, so that a mistake in them is not found on a lent machine.
"""

import os

import pytest
import torch

REHEARSAL = os.environ.get('BIMM_GPU_TESTS') == 'cpu'


@pytest.fixture(autouse=True)
def on_gpu() -> None:
    """Skip where there is no GPU."""
    if not (torch.cuda.is_available() or REHEARSAL):
        pytest.skip('needs a GPU (BIMM_GPU_TESTS=cpu rehearses on the CPU, in tiny sizes)')


@pytest.fixture
def device() -> torch.device:
    return torch.device('cpu' if REHEARSAL else 'cuda')


@pytest.fixture
def rehearsal() -> bool:
    return REHEARSAL
