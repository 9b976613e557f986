"""Say what a run found and how long it is, and at its end what was written and what comes next."""

import os
import time
from datetime import timedelta
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ...config.agreement import tests_on_validation
from ...utils.commands import command, quoted
from ...utils.media import find_parts, list_classes
from ...utils.wrappers import unwrap_model


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """Log what a training found, how long it is and where it writes; at the end, what to do next.

    At the start: samples and classes of each data set, the model's parameters, steps per epoch and
    of the whole run, and the folder with what will lie in it. At the end: the files that are there,
    and the commands that use them, ready to be pasted.
    """

    priority = 'LOWEST'  # the last checkpoint is written before

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Log what was found."""
        self._start = time.monotonic()
        runner.logger.info('\n'.join([*found(runner), *plan(runner), *places(runner)]))
        remark = nothing_left(runner) or another_run(runner)
        if remark:
            runner.logger.warning(remark)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Log what was written and what comes next."""
        taken = timedelta(seconds=round(time.monotonic() - self._start))
        lines = [f'Done in {taken}. In {quoted(runner.work_dir)}:', *written(runner)]
        following = next_commands(runner)
        if following:
            lines += ['Next:', *(f'  {line}' for line in following)]
        runner.logger.info('\n'.join(lines))


def found(runner: Runner) -> list[str]:
    """Data sets with their numbers of samples and classes, and the model."""
    lines = [describe('Training', runner.train_dataloader)]
    if runner.val_loop is not None:
        lines.append(describe('Validation', runner.val_dataloader))
    model = unwrap_model(runner.model)
    parameters = sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    more = f', {frozen / 1e6:.4g} M of them frozen' if frozen else ''
    lines.append(f'Model: {type(model).__name__}, {parameters / 1e6:.4g} M parameters{more}')
    return lines


def describe(what: str, loader: DataLoader) -> str:
    """``Training: 25 videos of 5 classes in data/own``."""
    dataset = loader.dataset
    while hasattr(dataset, 'dataset'):  # a wrapper's, as that of ExactResumeHook
        dataset = dataset.dataset
    kind = what_samples_are(dataset)
    try:
        number = f'{len(dataset):,} {kind}'
    except TypeError:  # a stream
        number = kind
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    of = f' of {len(classes)} classes' if classes else ''
    place = getattr(dataset, 'ann_file', '') or getattr(dataset, 'data_root', '')
    where = f' in {place}' if isinstance(place, str | os.PathLike) and place else ''
    return f'{what}: {number}{of}{where}'


def what_samples_are(dataset: object) -> str:
    """'videos', 'images', or 'samples' where neither is known, by the name of the data set."""
    names = ' '.join(c.__name__ for c in type(dataset).__mro__)
    return next((f'{k.lower()}s' for k in ('Video', 'Image') if k in names), 'samples')


def plan(runner: Runner) -> list[str]:
    """Steps per epoch and of the run, and how many samples a step has."""
    loop, processes = runner.train_loop, get_world_size()
    batch = samples_of_a_step(runner.train_dataloader, processes)
    step = f'{batch} samples a step' if processes == 1 else f'{processes} x {batch} samples a step'
    epochs = getattr(loop, 'max_epochs', None)
    if getattr(loop, '_by_epoch', None) is False or epochs is None or epochs <= 1:
        length = f'{loop.max_iters:,} steps'
    else:
        per_epoch = loop.max_iters // epochs
        steps = '1 step' if per_epoch == 1 else f'{per_epoch:,} steps'
        length = f'{epochs} epochs of {steps}, {loop.max_iters:,} in all'
    done = f', {runner.iter:,} of them done' if runner.iter else ''
    device = next(unwrap_model(runner.model).parameters()).device.type
    settings = runner.cfg.get('optim_wrapper') or {}
    mixed = 'Amp' in f'{settings.get("type", "")}'
    precision = f', mixed precision with {settings.get("dtype", "float16")}' if mixed else ''
    return [f'Plan: {length}{done}; {step} on {device}{precision}']


def samples_of_a_step(loader: DataLoader, processes: int) -> int:
    """Samples that each of several processes gets in a step: fewer than a batch of few."""
    batch = getattr(loader.batch_sampler, 'batch_size', 1)
    if fills_batches(loader) or not hasattr(loader.dataset, '__len__'):
        return batch
    return min(batch, -(-len(loader.dataset) // processes))


def fills_batches(loader: DataLoader) -> bool:
    """Whether batches are filled with the samples of the next round.

    A loader that was built anew for its workers, or to be resumed, has no other sampler itself.
    """
    return isinstance(getattr(loader.batch_sampler, 'sampler', None), InfiniteSampler)


def nothing_left(runner: Runner) -> str:
    """A remark where a resumed run is as long already; else ''."""
    length = runner.train_loop.max_iters
    if runner.iter < length:
        return ''
    return f'Nothing is left to do: {runner.iter:,} steps are done, and the run has {length:,}'


def another_run(runner: Runner) -> str:
    """A remark where a run begins in a folder with the checkpoints of another one; else ''."""
    there = sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))
    if runner.iter or not there:
        return ''
    names = ', '.join(there[:3]) + (', ...' if len(there) > 3 else '')
    return (
        f'{quoted(runner.work_dir)} has checkpoints of another run ({names}): those of the same '
        'names will be replaced. Another folder: --work-dir FOLDER; to go on instead: --resume'
    )


def places(runner: Runner) -> list[str]:
    """Where things are written, and how often a checkpoint is."""
    hook = next((h for h in runner.hooks if hasattr(h, 'max_keep_ckpts')), None)
    often = ''
    if hook is not None and hook.interval > 0:
        unit = 'epochs' if hook.by_epoch else 'steps'
        every = unit[:-1] if hook.interval == 1 else f'{hook.interval} {unit}'
        loop, kept = runner.train_loop, hook.max_keep_ckpts
        number = (loop.max_epochs if hook.by_epoch else loop.max_iters) // hook.interval
        last = ' and at the end' if hook.save_last else ''
        often = f'; a checkpoint every {every}{last}' if number else f'; a checkpoint{last[4:]}'
        if 0 < kept < number + hook.save_last:
            often += ', of which the last ' + ('stays' if kept == 1 else f'{kept} stay')
    log = f'{runner.timestamp}/'
    return [f'Writing to {quoted(runner.work_dir)}: log and curves in {log}{often}']


def written(runner: Runner) -> list[str]:
    """The files of a run that somebody will want, with what they are."""
    folder, last = Path(runner.work_dir), last_checkpoint(runner)
    found_files: list[tuple[str, str]] = []
    if last is not None:
        found_files.append((os.path.relpath(last, folder), 'the last checkpoint'))
        best = best_checkpoint(last.parent)
        if best is not None:
            found_files.append((os.path.relpath(best, folder), 'the best one in validation'))
    config = config_file(runner)
    if config is not None:
        found_files.append((config.name, 'the config, with all that was set'))
    found_files.append((f'{runner.timestamp}/{runner.timestamp}.log', 'the log'))
    if (folder / runner.timestamp / 'vis_data/scalars.json').is_file():
        found_files.append((f'{runner.timestamp}/vis_data/', 'all numbers, and pictures if asked'))
    width = max(len(name) for name, _ in found_files)
    return [f'  {name:{width}}  {what}' for name, what in found_files]


def next_commands(runner: Runner) -> list[str]:
    """Commands that look at the run and go on with it, ready to be pasted."""
    last, model = last_checkpoint(runner), runner.cfg.get('model') or {}
    if last is None:
        return []
    lines = [f'{command("curves", "analysis_tools/plot_logs.py")} {quoted(runner.work_dir)}']
    if hasattr(unwrap_model(runner.model), 'branch_names'):
        place = data_root(runner.cfg) or 'VIDEO'
        draw = command('reconstruct', 'visualization/reconstruct.py')
        lines.append(f'{draw} {quoted(last)} {quoted(place)}')
        if 'dorsal' in unwrap_model(runner.model).branch_names:
            backbone = (model.get('dorsal') or model).get('backbone') or {}
            if backbone.get('type') == 'BimmViT':
                lines.append(_finetune(runner, last, backbone, 'dorsal' in model))
    elif runner.cfg.get('test_dataloader') and runner.cfg.get('test_evaluator'):
        best = best_checkpoint(last.parent) or last
        # its accuracy on the samples that it was chosen by would be that of the luckiest epoch
        tested = last if tests_on_validation(runner.cfg) else best
        lines.append(f'{command("test", "test.py")} {quoted(tested)}')
        if 'cls_head' in model:
            lines.append(f'{command("inference", "inference.py")} {quoted(tested)} VIDEOS')
    return lines


def _finetune(runner: Runner, last: Path, backbone: dict, has_branches: bool) -> str:
    """The command that finetunes the dorsal encoder on one's own classes."""
    root = data_root(runner.cfg)
    options = [f'data_root={quoted(root or "VIDEOS")}', f'num_classes={count_classes(root)}']
    options.append(f'start={quoted(last)}')
    if not has_branches:
        options.append('prefix=backbone.')
    if not backbone.get('with_cls_token', True):
        options.append('with_cls_token=False')
    defaults = dict(arch='base', num_frames=16, img_size=224)
    options += [
        f'{key}={backbone[key]}'
        for key, default in defaults.items()
        if isinstance(backbone.get(key, default), str | int)
        and backbone.get(key, default) != default
    ]
    if isinstance(backbone.get('arch'), dict):
        sizes = repr(dict(backbone['arch'])).replace(' ', '')
        options.append(f'arch="{sizes}"')
    return f'{command("train", "train.py")} finetune_own_vitb --cfg-options {" ".join(options)}'


def count_classes(root: str) -> int | str:
    """How many classes :class:`ClassFolderDataset` finds in a folder; 'N' where it is not known."""
    try:
        return len({n for folder in find_parts(root).values() for n in list_classes(folder)})
    except OSError:
        return 'N'


def data_root(cfg: Config) -> str:
    """The folder of the training's videos; '' if it is not known."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    root = dataset.get('data_root')
    return root if isinstance(root, str) else ''


def last_checkpoint(runner: Runner) -> Path | None:
    """The checkpoint that the run wrote last."""
    for hook in runner.hooks:
        path = getattr(hook, 'last_ckpt', None)
        if path and Path(path).is_file():
            return Path(path)
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """The newest of the best checkpoints in a folder."""
    return max(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime, default=None)


def config_file(runner: Runner) -> Path | None:
    """The config in the work folder."""
    name = runner.cfg.filename and Path(runner.cfg.filename).name
    path = Path(runner.work_dir) / (name or f'{runner.timestamp}.py')
    return path if path.is_file() else None
