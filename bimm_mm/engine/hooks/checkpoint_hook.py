"""Write checkpoints atomically, and find the newest complete one."""

import os
import re
import shutil
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import barrier, broadcast, is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.optim import Optimizer

from ...utils.checkpoint import OTHERS, read_checkpoint
from ...utils.files import (
    UNFINISHED,
    explain,
    finish,
    remove_unfinished,
    write_text,
    write_whole,
)
from ..background import BackgroundWriter, HostCopy, caught_checkpoint

LAST = 'last_checkpoint'  # mmengine's file with the path of the checkpoint to resume from
# between two regular checkpoints: on a signal or an error, and by the clock
STOPPED, LATEST = 'stopped_iter_{}.pth', 'latest_iter_{}.pth'


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """CheckpointHook with atomic writes, for machines that may fail at any moment.

    - A checkpoint gets its name when all of it lies on the disk, and so does ``last_checkpoint``.
    - It is copied in memory and written by a thread. The training goes on with its next iteration,
      whose step of the optimizer waits until the copy is made. At most one is being written: the
      next waits for it, and so do the end of the run and :meth:`save_now`. If the writing fails,
      the run ends after the iteration it is in. Best checkpoints, and those of which each process
      writes a part, are written at once.
    - With ``minutes``, a checkpoint is saved every so many minutes as well, as
      ``latest_iter_<iteration>.pth``, of which there is one.
    - Outdated checkpoints are removed after the new one is complete, and named in
      ``last_checkpoint``; so for a moment there is one more than ``max_keep_ckpts``.
    - A run that resumes from its work dir finds the newest complete checkpoint, also where it was
      killed before ``last_checkpoint`` was written; what was left unfinished is removed.

    Before each checkpoint, the ``settle`` method of hooks that have one is called, in all
    processes: for what must not be lost when a run goes on from there.

    :meth:`save_now` saves at any iteration, as ``stopped_iter_<iteration>.pth``, which is removed
    when the next checkpoint is there.

    Args:
        minutes: Time between two checkpoints, by the clock of the first process, beside those of
            ``interval``; none are saved by the clock when left out.
        **kwargs: As mmengine's CheckpointHook; ``out_dir`` must be a local folder.
    """

    def __init__(self, minutes: float | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if minutes is not None and minutes <= 0:
            raise ValueError(f'minutes={minutes} must be positive, or None')
        self.minutes = minutes
        self.writer, self._copy = BackgroundWriter(), HostCopy()

    def before_run(self, runner: Runner) -> None:
        """Make all checkpoints of the run atomic, and find the newest one if it resumes."""
        if 'save_checkpoint' not in vars(runner):  # else it has been done
            runner.save_checkpoint = self._save_whole(runner.save_checkpoint)
        if runner._resume and runner._load_from is None:
            if is_main_process():
                newest = newest_checkpoint(self.out_dir_of(runner), runner.work_dir)
                if newest is not None:
                    write_text(Path(runner.work_dir) / LAST, str(newest))
            barrier()

    def out_dir_of(self, runner: Runner) -> Path:
        """Return the folder of a run's checkpoints."""
        return _out_dir(runner.work_dir, self.out_dir)

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run left unfinished."""
        if is_main_process():
            for folder in {Path(runner.work_dir), self.out_dir_of(runner)}:
                removed = remove_unfinished(folder)
                if removed:
                    runner.logger.info(f'Removed unfinished files: {", ".join(removed)}')
        self._saved, self._saved_at, self._look_at = time.monotonic(), runner.iter, runner.iter
        self._copy.watch(_optimizers_of(runner.optim_wrapper))
        super().before_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Save where it is time to; raise the error of a checkpoint that could not be written."""
        self.writer.check()
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._is_time(runner):
            self._save_between(runner, LATEST, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Finish the copy: a hook may validate other weights than those that are trained."""
        self._copy.finish()

    def after_train(self, runner: Runner) -> None:
        """Wait until the last checkpoint is there, then publish it where that is asked for."""
        self.writer.wait()
        super().after_train(runner)

    def _is_time(self, runner: Runner) -> bool:
        """Whether ``minutes`` have passed since the last checkpoint, in the first process.

        The others are told, but not in each iteration: only after half of those that the time
        which is left will take.
        """
        iteration = runner.iter + 1
        if self.minutes is None or iteration < self._look_at:
            return False
        if iteration % getattr(runner.optim_wrapper, '_accumulative_counts', 1):
            return False
        passed = time.monotonic() - self._saved
        pace = passed / max(iteration - self._saved_at, 1)  # seconds per iteration
        left = 60 * self.minutes - passed
        further = torch.tensor(0 if left <= 0 else max(int(left / pace / 2), 1))
        broadcast(further)
        self._look_at = iteration + int(further)
        return not further

    def save_now(self, runner: Runner, iteration: int) -> str:
        """Save a checkpoint to resume from, of the state after ``iteration`` iterations.

        Args:
            runner: With the weights and the optimizer of that moment.
            iteration: Iterations that are done.

        Returns:
            The path of the checkpoint.
        """
        self._save_between(runner, STOPPED, iteration)
        self.writer.wait()
        return self.last_ckpt

    def _save_between(self, runner: Runner, name: str, iteration: int) -> None:
        loop, meta = runner.train_loop, dict(epoch=runner.epoch, iter=iteration)
        now = loop._iter
        loop._iter = iteration - 1  # a FlexibleRunner takes the next one, whatever meta says
        try:
            self._save_and_point(runner, name.format(iteration), meta, False, [], name != STOPPED)
        finally:
            loop._iter = now

    def _between(self) -> list[str]:
        """Names of the checkpoints that are there until the next one."""
        patterns = [name.format('*') for name in (STOPPED, LATEST)]
        return [path.name for pattern in patterns for path in Path(self.out_dir).glob(pattern)]

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self._save_and_point(runner, name, meta, self.by_epoch, outdated)

    def _save_and_point(
        self,
        runner: Runner,
        name: str,
        meta: dict,
        by_epoch: bool,
        outdated: list[str],
        replaces: bool = True,
    ) -> None:
        """Save, then name the checkpoint in ``last_checkpoint``, then remove the outdated ones.

        Args:
            outdated: Names of regular checkpoints.
            replaces: Whether those between regular ones are outdated, too.
        """
        for hook in runner.hooks:
            if hasattr(hook, 'settle'):
                hook.settle(runner)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            then=partial(
                self._point, Path(runner.work_dir) / LAST, self.last_ckpt, outdated, replaces
            ),
            **self.args,
        )
        self._saved, self._saved_at = time.monotonic(), runner.iter + 1
        self._look_at = runner.iter + 1

    def _point(self, last: Path, path: str, outdated: list[str], replaces: bool) -> None:
        write_text(last, path)
        for name in outdated + (self._between() if replaces else []):
            if name != Path(path).name:
                _remove(Path(self.out_dir) / name)

    def _save_whole(self, save: Callable) -> Callable:
        """Replace ``runner.save_checkpoint``: the file gets its name only when it is complete."""

        @wraps(save)
        def save_whole(
            out_dir: str, filename: str, *args, then: Callable | None = None, **kwargs
        ) -> None:
            """``then`` is called in the first process when the file is there; without, it waits."""
            self.writer.wait()
            temporary, path = f'.{filename}{UNFINISHED}', Path(out_dir) / filename
            with caught_checkpoint(str(Path(out_dir) / temporary)) as caught:
                _save_in_parts(save, path, temporary, *args, **kwargs)
            if caught:
                copied = self._copy.take(caught.pop())
                self.writer.start(partial(self._write, path, copied, then))
                if then is None:
                    self.writer.wait()
            elif then is not None and is_main_process():
                then()

        return save_whole

    def _write(self, path: Path, checkpoint: dict, then: Callable | None) -> None:
        """In a thread."""
        self._copy.finish()
        write_whole(path, partial(torch.save, checkpoint))
        if then is not None:
            then()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # mmengine removes the best checkpoint before it writes the new one, unless it knows none
        single = len(self.key_indicators) == 1
        before = {'': self.best_ckpt_path} if single else dict(self.best_ckpt_path_dict)
        if single:
            self.best_ckpt_path = None
        else:
            self.best_ckpt_path_dict = dict.fromkeys(before)
        super()._save_best_checkpoint(runner, metrics)
        after = {'': self.best_ckpt_path} if single else self.best_ckpt_path_dict
        for key, old in before.items():
            if after[key] is None:
                after[key] = old
            elif old is not None and old != after[key]:
                _remove(Path(old))
        if single:
            self.best_ckpt_path = after['']


def checkpoint_to_resume(cfg: Config) -> Path | None:
    """Return the checkpoint that a run of this config resumes from; None if it starts anew."""
    if not cfg.get('resume'):
        return None
    if cfg.get('load_from'):
        return Path(cfg.load_from)
    out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    return newest_checkpoint(_out_dir(cfg.work_dir, out_dir), cfg.work_dir)


def newest_checkpoint(*folders: str | os.PathLike) -> Path | None:
    """Return the complete checkpoint with the most iterations in some folders, except best ones.

    Files that were copied have any time of modification, so the iterations that a checkpoint says
    it has seen decide; of several with as many, the one that ``last_checkpoint`` names, then the
    latest file.

    Args:
        *folders: Where to look; what cannot be read as a checkpoint is passed over.
    """
    found = {p for folder in folders for p in Path(folder).glob('*.pth')}
    found = [p for p in found if not p.name.startswith(('best_', '.'))]
    named = {_name_in(Path(folder) / LAST) for folder in folders}
    ranked = [
        (iterations, path.name in named, path.stat().st_mtime_ns, path)
        for path in found
        if (iterations := _iterations_of(path)) is not None
    ]
    return max(ranked)[-1] if ranked else None


def _out_dir(work_dir: str, out_dir: str | None) -> Path:
    """Return the folder of a run's checkpoints, below ``out_dir`` where that is set."""
    return Path(work_dir) if out_dir in (None, work_dir) else Path(out_dir) / Path(work_dir).name


def _name_in(last: Path) -> str:
    """Return the file that ``last_checkpoint`` names, in the folder where it is now."""
    return Path(last.read_text().strip()).name if last.is_file() else ''


def _iterations_of(path: Path) -> int | None:
    """Return the iterations of a checkpoint; None for a file that cannot be resumed from."""
    if path.is_dir():  # sharded, and complete since it has its name
        found = [*path.glob('rank*.pth'), *path.glob(OTHERS)]  # FSDP's
        parts = [_iterations_of(part) for part in found]
        if parts and None not in parts:
            return min(parts)
        return int((re.findall(r'\d+', path.stem) or [0])[-1])  # DeepSpeed's tell nothing
    try:
        checkpoint = read_checkpoint(path)
    except (ValueError, OSError):  # truncated, or of another kind
        return None
    if not {'meta', 'message_hub'} <= set(checkpoint):
        return None
    return int(checkpoint['meta'].get('iter', 0))


def _save_in_parts(save: Callable, path: Path, temporary: str, *args, **kwargs) -> None:
    """Save; where processes write parts of a folder, rename it when all of them are done."""
    unfinished = path.parent / temporary
    try:
        save(str(path.parent), temporary, *args, **kwargs)
        if not unfinished.exists():
            return  # one file, which is yet to be written
        barrier()
        if is_main_process():
            finish(unfinished, path)
    except OSError as error:
        if is_main_process():
            _remove(unfinished)
        raise explain(error, path) from error


def _optimizers_of(wrapper: BaseOptimWrapper | OptimWrapperDict) -> list[Optimizer]:
    """Return torch's optimizers, whose steps can be waited for; others, as DeepSpeed's, cannot."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [one.optimizer for one in wrappers if isinstance(one.optimizer, Optimizer)]


@master_only
def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
