"""Schedules of a run that goes on for longer than it was meant to."""

import warnings
from collections.abc import Sequence

from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

LOW = 0.02  # of the full learning rate
PROGRESS = {'last_step', '_global_step', '_last_value', 'verbose'}


def schedule_changes(saved: Sequence[dict], built: Sequence[_ParamScheduler]) -> list[str]:
    """What a config's schedulers do otherwise than those of a checkpoint, a line for each.

    Args:
        saved: The states of the checkpoint's schedulers.
        built: Those of this run, as they were built.
    """
    if len(saved) != len(built):
        return [f'{len(saved)} schedulers, now {len(built)}']
    changes = []
    for before, scheduler in zip(saved, built, strict=True):
        now, kind = scheduler.state_dict(), type(scheduler).__name__
        for key in sorted((before.keys() | now.keys()) - PROGRESS):
            if before.get(key) != now.get(key):
                changes.append(f'{key} of {kind} was {before.get(key)}, now {now.get(key)}')
    return changes


def schedule_has_ended(runner: Runner) -> bool:
    """Whether all schedulers have come to their end, and the learning rate with them to nearly 0.

    One that ends at the full rate, as a warm-up alone, is as it should be.
    """
    schedulers = runner.param_schedulers
    if not schedulers or not isinstance(schedulers, list):
        return False
    groups = runner.optim_wrapper.optimizer.param_groups
    return all(s.end <= (runner.epoch if s.by_epoch else runner.iter) for s in schedulers) and all(
        group['lr'] < LOW * group.get('initial_lr', group['lr']) for group in groups
    )


def without_short_warm_ups(schedulers: Sequence[dict], steps: int | None) -> list[dict]:
    """Leave out warm-ups of a single step: mmengine's would keep the rate where it begins.

    Args:
        schedulers: Of a config.
        steps: Of an epoch; None where that is not known.
    """
    return [scheduler for scheduler in schedulers if not _is_one_step(scheduler, steps)]


def _is_one_step(scheduler: dict, steps: int | None) -> bool:
    length = scheduler.get('end', float('inf')) - scheduler.get('begin', 0)
    if scheduler.get('by_epoch', True) and scheduler.get('convert_to_iter_based'):
        length *= steps or 2
    return str(scheduler.get('type')).startswith('Linear') and length == 1


class NewSchedule:
    """Puts the schedulers of a run where they would be had it had them from the beginning.

    mmengine's schedulers compute a value from the one before: with another length, a learning rate
    that has come down to 0 would stay there.

    Args:
        schedulers: As they were built, before the optimizer loads the checkpoint.
    """

    def __init__(self, schedulers: Sequence[_ParamScheduler]) -> None:
        self.schedulers = schedulers
        self.states = [scheduler.state_dict() for scheduler in schedulers]
        names = {scheduler.param_name for scheduler in schedulers}
        self.values = [
            {key: value for key, value in group.items() if key.removeprefix('initial_') in names}
            for group in _groups(schedulers)
        ]

    def go_to(self, iterations: int, per_epoch: int | None) -> None:
        """Take the steps of all iterations that were done.

        Args:
            iterations: Of the run.
            per_epoch: Iterations of an epoch; None in a run by iterations.
        """
        for group, values in zip(_groups(self.schedulers), self.values, strict=True):
            group.update(values)
        for scheduler, state in zip(self.schedulers, self.states, strict=True):
            scheduler.load_state_dict(state)
        by_epoch = [scheduler for scheduler in self.schedulers if scheduler.by_epoch]
        by_iteration = [scheduler for scheduler in self.schedulers if not scheduler.by_epoch]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # "scheduler.step() before optimizer.step()"
            for done in range(1, iterations + 1):
                for scheduler in by_iteration:
                    scheduler.step()
                if per_epoch and done % per_epoch == 0:
                    for scheduler in by_epoch:
                        scheduler.step()


class ScheduleState:
    """Where the schedules of a run are at a moment, with the values that they have set.

    Args:
        runner: While it trains.
    """

    def __init__(self, runner: Runner) -> None:
        schedulers = runner.param_schedulers or []
        if isinstance(schedulers, dict):  # of several optimizers
            schedulers = [scheduler for several in schedulers.values() for scheduler in several]
        self._schedulers = [(scheduler, scheduler.state_dict()) for scheduler in schedulers]
        names = {scheduler.param_name for scheduler in schedulers}
        # the wrapper's: with several groups it has one more, of the rate that the log shows
        groups = runner.optim_wrapper.param_groups if names else []
        self._groups = [(g, {key: g[key] for key in names if key in g}) for g in groups]

    def restore(self) -> None:
        """Put all back."""
        for scheduler, state in self._schedulers:
            scheduler.load_state_dict(state)
        for group, values in self._groups:
            group.update(values)


def _groups(schedulers: Sequence[_ParamScheduler]) -> list[dict]:
    return schedulers[0].optimizer.param_groups if schedulers else []
