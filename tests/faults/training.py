"""A program that starts, kills and resumes small trainings; test_kills.py drives it.

It imports everything once and forks a process for each training, so that a start costs little.
Orders come as lines of JSON on stdin, answers go out the same way. An order::

    {"loop": "epoch", "work_dir": ..., "kill_after": null}
    {"loop": "iter", "work_dir": ..., "kill_after": [iterations, seconds, while_writing]}
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.utils import files

CONFIG = Path(__file__).parents[2] / 'configs' / 'bimm' / 'demo' / 'joint_shapes.py'
SAMPLES, BATCH = 40, 4
ITERATIONS = 30  # three epochs
EVERY = 3  # iterations between two checkpoints: not a divisor of an epoch's
SLOW = 0.03  # seconds that each step of writing a file takes


@DATASETS.register_module()
class NoisyShapes(MovingShapesDataset):
    """Clips with an augmentation from each of the generators that a pipeline may use."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        noise = torch.randint(20, sample['inputs'].shape, dtype=torch.uint8)
        sample['inputs'] = sample['inputs'] // 2 + noise + random.randint(0, 40)
        if np.random.random() < 0.5:
            sample['inputs'] = sample['inputs'].flip(-1)
        return sample


@HOOKS.register_module()
class NoteLosses(Hook):
    """Append the loss of each iteration, all its bits, to a file: it outlives the process."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs['loss'].item().hex()
        with open(Path(runner.work_dir) / 'losses.txt', 'a') as file:
            file.write(f'{runner.iter} {loss}\n')


def build_config(loop: str, work_dir: str) -> Config:
    """The demo's joint stage, with a tenth of its width, and augmentation in two workers."""
    cfg = Config.fromfile(CONFIG)
    for branch in (cfg.model.ventral, cfg.model.dorsal):
        branch.backbone.update(arch=dict(embed_dims=24, depth=4, num_heads=2), stage_ends=(1, 2, 4))
        branch.backbone.drop_path_rate = 0.2
        for decoder in branch.neck.decoders:
            decoder.embed_dims = 16
    cfg.train_dataloader.update(batch_size=BATCH, num_workers=2, persistent_workers=True)
    cfg.train_dataloader.dataset.update(type='NoisyShapes', length=SAMPLES)
    if loop == 'epoch':
        cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
        epochs = ITERATIONS * BATCH // SAMPLES
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
        cfg.log_processor.by_epoch = True
    else:
        cfg.train_cfg.max_iters = ITERATIONS
    cfg.merge_from_dict(
        {
            'default_hooks.checkpoint.interval': EVERY,
            'default_hooks.checkpoint.max_keep_ckpts': 2,
            'default_hooks.logger.interval': 10,
            'param_scheduler': [
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=12),
                dict(type='CosineAnnealingLR', T_max=18, by_epoch=False, begin=12, end=30),
            ],
        }
    )
    cfg.custom_hooks.append(dict(type='NoteLosses'))
    cfg.work_dir, cfg.resume, cfg.log_level = work_dir, True, 'WARNING'
    return cfg


def slowly(function):
    """So that many kills fall between two steps of writing a checkpoint."""

    def slow(*args, **kwargs):
        time.sleep(SLOW)
        result = function(*args, **kwargs)
        time.sleep(SLOW)
        return result

    return slow


def train(loop: str, work_dir: str, slow: bool) -> None:
    """In a process of its own."""
    with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 1)
    torch.set_num_threads(1)
    Runner._log_env = lambda *args: None  # it asks compilers for their versions, which takes time
    if slow:
        files.os.fsync, files.os.replace = slowly(os.fsync), slowly(os.replace)
        Path.unlink = slowly(Path.unlink)
    Runner.from_cfg(build_config(loop, work_dir)).train()


def run(order: dict) -> int:
    """Fork a training, kill it when it is time to, and return its exit code (-9 if killed)."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train(order['loop'], order['work_dir'], slow=order['kill_after'] is not None)
            code = 0
        except BaseException as error:
            print(f'{type(error).__name__}: {error}', file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    if order['kill_after'] is not None:
        iterations, seconds, while_writing = order['kill_after']
        folder = Path(order['work_dir'])
        wait_for_losses(folder / 'losses.txt', iterations, process)
        while while_writing and not list(folder.glob('.*.tmp')) and not has_ended(process):
            time.sleep(0.002)
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def wait_for_losses(path: Path, count: int, process: int) -> None:
    """Until so many have come to those that are in the file, or the process has ended."""

    def noted() -> int:
        return path.read_text().count('\n') if path.is_file() else 0

    wanted = noted() + count
    while noted() < wanted and not has_ended(process):
        time.sleep(0.005)


def has_ended(process: int) -> bool:
    """Whether a child has ended, which is still to be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == '__main__':
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
