"""Two processes with half of the batch each compute what one process does with all of it.

This file is also the program of the two processes: ``python test_distributed.py RANK FOLDER KIND``.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch.distributed.fsdp import FullyShardedDataParallel

from bimm_mm.models import BasePretrainer, DualBranchPretrainer
from bimm_mm.models.losses import contrastive_loss
from bimm_mm.models.masking import learned

SHARES = ['none', 'partial', 'all']
METHODS = {'ddp': [*SHARES, 'mam2', 'bevt', 'contrast', 'tgm', 'adamae'], 'fsdp': SHARES}
CONTRAST = dict(type='FrameContrast')


@MODELS.register_module()
class MaskByContent:
    """The same mask in every frame, by the pixels of the sample alone, whatever batch it is in."""

    pixels = None  # (B, pixels) of the batch; set before the step

    def __call__(self, batch_size, grid, device='cpu', generator=None):
        area = grid[1] * grid[2]
        pixels = torch.arange(float(area)).repeat(batch_size, 1)
        if self.pixels is not None:
            pixels = self.pixels[:, :area]
        order = pixels.argsort(dim=1)
        ids = order[:, : area // 4].sort().values, order[:, area // 4 :].sort().values
        frames = torch.arange(grid[0])[:, None] * area
        return tuple((i[:, None] + frames).flatten(1) for i in ids)


@MODELS.register_module()
class FrameContrast(torch.nn.Module):
    """The two halves of a clip's tokens belong together, among the clips of all processes."""

    def forward(self, steps):
        halves = steps['masked'].features[-1].flatten(1).chunk(2, dim=1)
        loss, _ = contrastive_loss(*halves, 0.2, among_queries=True)
        return dict(loss_contrast=100 * loss)


def no_noise(scores, generator=None):
    return torch.zeros_like(scores)


def first_frames(self, clips: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(clips), dtype=torch.long)


def prepare(method: str) -> BasePretrainer:
    """The model, without chance in what it does; a sharing means the joint one."""
    torch.manual_seed(0)
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import branch_config, method_config

    masking = dict(type='MaskByContent')
    if method in SHARES:
        branches = {
            name: branch_config(video) | dict(masking=masking)
            for name, video in (('ventral', False), ('dorsal', True))
        }
        return DualBranchPretrainer(**branches, share=method, dorsal_weight=0.5)
    config = method_config('bevt' if method == 'contrast' else method)
    if method == 'adamae':
        config['masking'] |= dict(dropout=0.0, weight=10.0)
    elif method != 'tgm':  # whose masks are the content's and the caption's, too
        config['masking'] = masking
    if method == 'contrast':
        config['objectives'] = [CONTRAST]
    model = MODELS.build(config)
    if method == 'mam2':  # else its first gradients are too small for float32 to move a norm
        for parameter in model.neck.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def train(model: torch.nn.Module, samples: list[torch.Tensor], lr: float, steps: int) -> None:
    DualBranchPretrainer.draw_frames = first_frames
    learned.gumbel_like = no_noise
    MaskByContent.pixels = torch.stack([x.flatten() for x in samples]).float()
    MaskByContent.pixels += torch.linspace(0, 0.5, MaskByContent.pixels.shape[1])  # no ties
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr))
    texts = [f'a clip of brightness {x.float().mean():.3f}' for x in samples]
    data_samples = [BaseDataElement(metainfo=dict(caption=text)) for text in texts]
    for _ in range(steps):
        optimizer.zero_grad()
        model.train_step(dict(inputs=samples, data_samples=data_samples), optimizer)


def draw_samples() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shape = (3, 4, 16, 16)
    return [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(4)]


def run(rank: int, folder: str, kind: str) -> None:
    """One of the two processes."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    half = draw_samples()[2 * rank : 2 * rank + 2]
    for method in METHODS[kind]:
        model = prepare(method)
        if kind == 'ddp':
            wrapped = MMDistributedDataParallel(model, device_ids=None)
        else:
            wrapped = MMFullyShardedDataParallel(
                model, device_id=torch.device('cpu'), auto_wrap_policy='wrap_unshared_blocks'
            )
            units = [isinstance(b, FullyShardedDataParallel) for b in model.dorsal.backbone.blocks]
            assert units == [i >= model.num_shared for i in range(3)]
        train(wrapped, half, lr=0.05, steps=2)
        state = {key.removeprefix('module.'): v for key, v in wrapped.state_dict().items()}
        if rank == 0:
            torch.save(state, f'{folder}/{method}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module', params=['ddp', 'fsdp'])
def folder(request, tmp_path_factory):
    """Where the two processes have left the weights after two steps."""
    folder = tmp_path_factory.mktemp(request.param)
    environment = os.environ | dict(OMP_NUM_THREADS='1')
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder), request.param],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), '\n'.join(errors)
    return folder


@pytest.mark.parametrize('method', METHODS['ddp'])
def test_two_processes_learn_what_one_does(method, folder, monkeypatch):
    """Weights after two steps of gradient descent are equal, so all gradients are."""
    if not (folder / f'{method}.pth').is_file():
        pytest.skip('the shared blocks are what FSDP wraps in a way of its own')
    monkeypatch.setattr(DualBranchPretrainer, 'draw_frames', first_frames)
    monkeypatch.setattr(MaskByContent, 'pixels', None)
    monkeypatch.setattr(learned, 'gumbel_like', no_noise)
    model = prepare(method)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, draw_samples(), lr=0.05, steps=2)
    state = torch.load(folder / f'{method}.pth')
    assert state.keys() == before.keys()
    for key, value in model.state_dict().items():
        # what all keys have in common changes no attention
        if not key.endswith(('pos_embed', 'norm_key.bias')):
            assert not torch.equal(value, before[key]), f'{key} did not learn'
        torch.testing.assert_close(
            state[key] - before[key], value - before[key], rtol=2e-3, atol=1e-5, msg=key
        )


if __name__ == '__main__':
    run(int(sys.argv[1]), *sys.argv[2:])
