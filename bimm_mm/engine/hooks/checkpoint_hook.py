"""Write checkpoints atomically, and find the newest complete one."""

import os
import re
import shutil
from functools import wraps
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.checkpoint import read_checkpoint
from ...utils.files import UNFINISHED, explain, finish, remove_unfinished, write_text

LAST = 'last_checkpoint'  # mmengine's file with the path of the checkpoint to resume from
STOPPED = 'stopped_iter_{}.pth'


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """CheckpointHook with atomic writes, for machines that may fail at any moment.

    - A checkpoint gets its name when all of it lies on the disk, and so does ``last_checkpoint``.
    - Outdated checkpoints are removed after the new one is complete, and named in
      ``last_checkpoint``; so for a moment there is one more than ``max_keep_ckpts``.
    - A run that resumes from its work dir finds the newest complete checkpoint, also where it was
      killed before ``last_checkpoint`` was written; what was left unfinished is removed.

    Before each checkpoint, the ``settle`` method of hooks that have one is called, in all
    processes: for what must not be lost when a run goes on from there.

    :meth:`save_now` saves at any iteration, as ``stopped_iter_<iteration>.pth``, which is removed
    when the next regular checkpoint is there.

    Takes the arguments of mmengine's CheckpointHook; ``out_dir`` must be a local folder.
    """

    def before_run(self, runner: Runner) -> None:
        """Make all checkpoints of the run atomic, and find the newest one if it resumes."""
        if 'save_checkpoint' not in vars(runner):  # else it has been done
            runner.save_checkpoint = _save_whole(runner.save_checkpoint)
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
        super().before_train(runner)

    def save_now(self, runner: Runner, iteration: int) -> str:
        """Save a checkpoint to resume from, of the state after ``iteration`` iterations.

        Args:
            runner: With the weights and the optimizer of that moment.
            iteration: Iterations that are done.

        Returns:
            The path of the checkpoint.
        """
        loop, meta = runner.train_loop, dict(epoch=runner.epoch, iter=iteration)
        now = loop._iter
        loop._iter = iteration - 1  # a FlexibleRunner takes the next one, whatever meta says
        try:
            self._save_and_point(runner, STOPPED.format(iteration), meta, by_epoch=False)
        finally:
            loop._iter = now
        return self.last_ckpt

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self._save_and_point(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        outdated += [path.name for path in Path(self.out_dir).glob(STOPPED.format('*'))]
        for name in outdated:
            _remove(Path(self.out_dir) / name)

    def _save_and_point(self, runner: Runner, name: str, meta: dict, by_epoch: bool) -> None:
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
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir) / LAST, self.last_ckpt)

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
        parts = [_iterations_of(part) for part in path.glob('rank*.pth')]  # FSDP's
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


def _save_whole(save):
    """Replace ``runner.save_checkpoint``: the file gets its name only when it is complete."""

    @wraps(save)
    def save_whole(out_dir: str, filename: str, *args, **kwargs) -> None:
        temporary = f'.{filename}{UNFINISHED}'
        path = Path(out_dir) / filename
        try:
            save(out_dir, temporary, *args, **kwargs)
            barrier()  # in a sharded checkpoint each process writes a part
            if is_main_process():
                finish(Path(out_dir) / temporary, path)
        except OSError as error:
            if is_main_process():
                _remove(Path(out_dir) / temporary)
            raise explain(error, path) from error

    return save_whole


@master_only
def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
