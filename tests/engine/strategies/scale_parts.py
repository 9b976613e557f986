"""What test_scale.py's runs use, so that the batch alone decides what a step computes."""

import json
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS

from bimm_mm.models import DualBranchPretrainer

FIRST_FRAMES = dict(pixels=None)  # (B, H * W), of the clips of this step


@MODELS.register_module()
class MaskBySample:
    """Half of the patches, the same in every frame, by the pixels of the sample alone."""

    def __call__(self, batch_size, grid, device='cpu', generator=None):
        area = grid[1] * grid[2]
        pixels = FIRST_FRAMES['pixels']
        if pixels is None:  # while the model is built
            pixels = torch.arange(float(area)).repeat(batch_size, 1)
        order = pixels[:, :area].argsort(dim=1)
        ids = order[:, area // 2 :].sort().values, order[:, : area // 2].sort().values
        frames = torch.arange(grid[0])[:, None] * area
        return tuple((i[:, None] + frames).flatten(1) for i in ids)


def draw_first_frames(self, clips: torch.Tensor) -> torch.Tensor:
    """Instead of a random frame of each clip."""
    pixels = clips[:, 0, 0].flatten(1)
    FIRST_FRAMES['pixels'] = pixels + torch.linspace(0, 1e-3, pixels.shape[1])  # no ties
    return torch.zeros(len(clips), dtype=torch.long, device=clips.device)


DualBranchPretrainer.draw_frames = draw_first_frames


@HOOKS.register_module()
class WriteLosses(Hook):
    """The loss of each iteration, of all processes' samples together, into ``losses.json``."""

    def before_train(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, 'mean')
        self.losses.append(loss.item())

    def after_train(self, runner):
        if get_rank() == 0:
            Path(runner.work_dir, 'losses.json').write_text(json.dumps(self.losses))
