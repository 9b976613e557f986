"""Two gloo processes with half of the videos each give what one process gives with all."""

import os
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bimm_mm.models.masking import VimpacMasking
from bimm_mm.models.selfsup import VIMPAC


class FixedMasking(VimpacMasking):
    """The same mask for every clip."""

    def draw_mask(self, batch_size, grid, device='cpu', generator=None):
        mask = torch.zeros(batch_size, *grid, dtype=torch.bool, device=device)
        mask[:, 0, 1:3] = True
        return mask


def train_step(codes):
    """Losses and averaged gradients of one step."""
    torch.manual_seed(0)
    backbone = dict(
        type='VimpacViT',
        arch=dict(embed_dims=16, depth=1, num_heads=2),
        grid_size=(2, 4, 4),
        num_codes=12,
        drop_rate=0.0,
        attn_drop_rate=0.0,
    )
    model = VIMPAC(backbone, dict(type='VimpacMasking', num_blocks=1), dict(hidden_dims=8))
    model.masking = FixedMasking(1)
    for parameter in model.backbone.parameters():  # or else all clips look nearly the same
        torch.nn.init.normal_(parameter, std=0.5)
    losses = model(codes, mode='loss')
    (losses['loss_code'] + losses['loss_contrast']).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    results = {name: value.detach() for name, value in losses.items()} | gradients
    results['running_mean'] = model.contrast.projector.norms[0].running_mean
    results['running_var'] = model.contrast.projector.norms[0].running_var
    if dist.is_initialized():  # as DistributedDataParallel does
        for value in results.values():
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return results


def worker(rank, port, codes, path):
    os.environ |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=2)
    results = train_step(codes.chunk(2)[rank])
    if rank == 0:
        torch.save(results, path)
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform != 'linux', reason='processes are forked')
def test_losses_and_gradients_are_those_of_one_process(tmp_path):
    codes = torch.randint(12, (8, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    port = 29500 + os.getpid() % 1000
    arguments = (port, codes, tmp_path / 'two.pth')
    mp.start_processes(worker, arguments, nprocs=2, start_method='fork')
    two, one = torch.load(tmp_path / 'two.pth'), train_step(codes)
    assert two.keys() == one.keys()
    one.pop('contrast.projector.layers.0.bias')  # 0 but for rounding, before a batch norm
    for name, value in one.items():
        difference = (two[name] - value).norm()
        assert difference < 1e-4 + 1e-4 * value.norm(), f'{name}: {difference} of {value.norm()}'
    # without the gather, the contrast would be among half of the videos
    alone = train_step(codes[:4])
    assert abs(alone['loss_contrast'] - one['loss_contrast']) > 0.05
