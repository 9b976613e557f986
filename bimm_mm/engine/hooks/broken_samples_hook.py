"""Report samples that were replaced because their file is broken, and stop if they are too many."""

import json
from collections import Counter
from pathlib import Path

from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from ...datasets.broken import KEY

REPORT = 'broken_samples.jsonl'


class TooManyBrokenSamples(RuntimeError):
    """Too many samples are broken: something else than single files must be wrong."""


@HOOKS.register_module()
class BrokenSamplesHook(Hook):
    """Report each broken sample once, and stop the run if there are too many.

    Datasets replace broken samples (:class:`bimm_mm.datasets.broken.ReplaceBroken`). This hook
    writes each of them once into ``broken_samples.jsonl`` in the work dir, as ``{"path", "reason",
    "iteration"}`` with the first iteration (from 1) that got another sample in its place, and into
    the log. A run that is resumed does not repeat what is in the file.

    The share of broken samples is the number of different ones among the samples that were asked
    for, by all processes, since the run was started or resumed; no more are counted than the data
    set has, so that a late loss shows as well as an early one.

    Args:
        max_share: Share above which the run stops, in (0, 1]; 1 never stops it.
        min_count: Different broken samples below which it never stops: a few broken files
            are a large share of a small data set, or of the first iterations, and mean nothing.
        interval: Iterations after which the processes of a distributed run exchange what
            they found.

    Raises:
        ValueError: An argument is out of its range.
        TooManyBrokenSamples: While training, in all processes at the same iteration.
        RuntimeError: In evaluation, if a sample was replaced.
    """

    def __init__(self, max_share: float = 0.01, min_count: int = 20, interval: int = 50) -> None:
        if not 0 < max_share <= 1:
            raise ValueError(f'max_share={max_share} must be above 0 and at most 1')
        if min_count < 1 or interval < 1:
            raise ValueError(f'min_count={min_count} and interval={interval} must be at least 1')
        self.max_share, self.min_count, self.interval = max_share, min_count, interval

    def before_train(self, runner: Runner) -> None:
        """Start counting; a resumed run reads what was reported before."""
        self._report = Path(runner.work_dir) / REPORT
        self._reported = set()
        if runner._resume and self._report.is_file():
            lines = self._report.read_text().splitlines(keepends=True)
            self._reported = {path for line in lines if (path := _path_in(line))}
            if lines and not lines[-1].endswith('\n'):  # a killed run did not finish it
                self._append(runner, '\n')
        self._broken: dict[str, str] = {}
        self._asked = 0
        self._new: list[tuple[str, str, int]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Collect the replaced samples of the batch."""
        replaced = _replaced_in(data_batch)
        self._new += [(path, reason, runner.iter + 1) for path, reason in replaced]
        # not the length of the batch, which holds several clips of each sample at times
        self._asked += runner.train_loop.dataloader.batch_sampler.batch_size + len(replaced)
        alone = get_dist_info()[1] == 1
        if (alone and self._new) or (not alone and self.every_n_train_iters(runner, self.interval)):
            self._collect(runner)
            self._check(runner)

    def settle(self, runner: Runner) -> None:
        """Report what was found so far: a run that resumes does not meet these samples again."""
        self._collect(runner)

    after_train = settle

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Refuse replaced samples in evaluation, as a data set without ``test_mode`` makes them."""
        for path, reason in _replaced_in(data_batch):
            raise RuntimeError(
                f'{path} is broken ({reason}), and another sample was evaluated in its place: set '
                'test_mode=True in that data set, and mend the file or take it out of the list'
            )

    after_test_iter = after_val_iter

    def _collect(self, runner: Runner) -> None:
        """Gather the replaced samples of all processes, and report them."""
        news = all_gather_object((self._asked, self._new))
        self._new = []
        self._asked_by_all = sum(asked for asked, _ in news)
        for path, reason, iteration in sorted(new for _, more in news for new in more):
            self._broken.setdefault(path, reason)
            if path not in self._reported:
                self._reported.add(path)
                self._write(runner, path, reason, iteration)

    def _write(self, runner: Runner, path: str, reason: str, iteration: int) -> None:
        runner.logger.warning(
            f'Broken sample, replaced by another: {path}: {reason} '
            f'({len(self._broken)} of {self._distinct(runner)} samples so far)'
        )
        entry = dict(path=path, reason=reason, iteration=iteration)
        self._append(runner, json.dumps(entry, ensure_ascii=False) + '\n')

    def _append(self, runner: Runner, text: str) -> None:
        if not is_main_process():
            return
        try:
            with open(self._report, 'a') as file:
                file.write(text)
        except OSError as error:  # what matters is in the log, too
            runner.logger.warning(f'cannot write {self._report}: {error.strerror}')

    def _distinct(self, runner: Runner) -> int:
        """Return an upper bound of the number of different samples that were drawn."""
        return min(self._asked_by_all, len(runner.train_loop.dataloader.dataset))

    def _check(self, runner: Runner) -> None:
        count, asked = len(self._broken), self._distinct(runner)
        if count < self.min_count or count <= self.max_share * asked:
            return
        reasons = Counter(self._broken.values()).most_common(3)
        often = ''.join(f'\n  {number} times: {reason}' for reason, number in reasons)
        first = ''.join(f'\n  {path}: {why}' for path, why in list(self._broken.items())[:3])
        raise TooManyBrokenSamples(
            f'iteration {runner.iter + 1}: {count} of {asked} samples are broken, '
            f'{count / asked:.1%}, more than max_share={self.max_share:.1%}. So many broken files '
            'have another reason: a lost mount, a copy that was not finished, contours of other '
            f'videos.\nMost frequent:{often}\nThe first:{first}\nAll: {self._report}\n'
            'Mend that and go on with --resume, or allow more by --cfg-options '
            'default_hooks.broken_samples.max_share=...'
        )


def _replaced_in(data_batch: dict | None) -> list[tuple[str, str]]:
    """Return path and reason of each sample of a batch that was replaced."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    elements = [sample for sample in samples or [] if isinstance(sample, BaseDataElement)]
    return [pair for element in elements for pair in element.get(KEY, [])]


def _path_in(line: str) -> str | None:
    """Return the path in a line of a report; None for a line that was cut off."""
    try:
        return json.loads(line)['path']
    except ValueError:
        return None
