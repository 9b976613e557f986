"""One short line per log interval on the screen, with the numbers that count."""

import datetime
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner

WAITING = 0.2  # share of a step that waits for data, from which it is shown


class LogLine(str):
    """A line for the log file, and ``short``, what the screen shows in its place."""

    short: str


@LOG_PROCESSORS.register_module()
class ShortLogProcessor(LogProcessor):
    """mmengine's LogProcessor, whose lines have a short form for the screen.

    The line in the log file and the scalars are mmengine's, but for averages: in a training by
    epochs they begin with the epoch, so that epochs shorter than the window show how it goes on.
    The short line of a training has epoch or iteration, the time left and that of a step, the
    learning rate, the loss, and of the others what tells how well it goes: explained variances and
    accuracies in percent, the gradient norm, and the share of a step that waits for data where that
    is much. Losses of single stages are shown where nothing says how much they explain.

    Args:
        **kwargs: As mmengine's LogProcessor.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """The scalars, and the line."""
        in_epoch = batch_idx + 1 if mode == 'train' and self.by_epoch else self.window_size
        with self._window_of(min(self.window_size, in_epoch)):
            tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        line = LogLine(text)
        if mode == 'train':
            line.short = self._short(runner, batch_idx, tag)
        else:
            size = self._get_dataloader_size(runner, mode)
            line.short = f'{mode} {batch_idx + 1}/{size}'
        return tag, line

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict, str]:
        """The metrics, and the line."""
        with self._window_of(1):  # metrics are those of this validation, not of all until now
            tag, text = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        line = LogLine(text)
        shown = [
            f'{name} {100 * value:.4g} %' if name.startswith('acc/') else f'{name} {value:.4g}'
            for name, value in tag.items()  # of these, only mmaction2's accuracies are shares
            if isinstance(value, int | float) and name.split('/')[-1] not in ('time', 'data_time')
        ]
        line.short = '  '.join([mode, *shown])
        return tag, line

    @contextmanager
    def _window_of(self, size: int) -> Iterator[None]:
        before, self.window_size = self.window_size, size
        try:
            yield
        finally:
            self.window_size = before

    def _short(self, runner: Runner, batch_idx: int, tag: dict) -> str:
        tag = {name.removeprefix('train/'): value for name, value in tag.items()}
        if self.by_epoch:
            size = self._get_dataloader_size(runner, 'train')
            where = f'epoch {runner.epoch + 1}/{runner.max_epochs} step {batch_idx + 1}/{size}'
        else:
            where = f'step {runner.iter + 1}/{runner.max_iters}'
        words = [where]
        if 'time' in tag:
            left = runner.message_hub.runtime_info.get('eta')
            if left is not None:
                words.append(f'left {datetime.timedelta(seconds=int(left))}')
            waiting = tag.get('data_time', 0) / max(tag['time'], 1e-9)
            waits = f' (waits for data {waiting:.0%})' if waiting > WAITING else ''
            words.append(f'{tag["time"]:.3g} s/step{waits}')
        rate = tag.get('base_lr', tag.get('lr'))
        if rate is not None:
            words.append(f'lr {rate:.2g}')
        return '  '.join([*words, *numbers(tag)])


def numbers(tag: dict) -> list[str]:
    """What a short line says of losses and scores.

    Args:
        tag: Scalars by name, as ``dict(loss=1.2, loss_dorsal_motion=0.9,
            explained_dorsal_motion=0.1)``.
    """
    words = [f'loss {tag["loss"]:.4g}'] if 'loss' in tag else []
    explained = {
        name.removeprefix('explained_'): value
        for name, value in tag.items()
        if name.startswith('explained_')
    }
    parts = [n for n in tag if n.startswith('loss_') and n.removeprefix('loss_') not in explained]
    if len(parts) > 1:
        words += [f'{name.removeprefix("loss_")} {tag[name]:.3g}' for name in parts]
    words += [
        f'{name.replace("_acc", "").replace("accuracy_", "")} {value:.0%}'
        for name, value in tag.items()
        if re.search(r'_acc$|^accuracy', name)
    ]
    if explained:
        words.append('explained ' + _by_branch(explained))
    if 'grad_norm' in tag:
        words.append(f'gradient {tag["grad_norm"]:.3g}')
    if 'memory' in tag:
        words.append(f'{tag["memory"] / 1024:.1f} GB')
    return words


def _by_branch(explained: dict[str, float]) -> str:
    """``ventral gabor 80 contour 25 % dorsal gabor 80 %``."""
    branches: dict[str, list[str]] = {}
    for name, value in explained.items():
        branch, _, stage = name.rpartition('_')
        branches.setdefault(branch, []).append(f'{stage} {value * 100:.0f}')
    return ', '.join(f'{b} {" ".join(s)} %'.strip() for b, s in branches.items())
