"""Check that learning rate schedules fit the length of the run."""

from mmengine.config import Config

from .arguments import show

WARM_UP_SHARE = 10  # a suggested warm-up is one tenth of the run


def schedule_problems(cfg: Config) -> list[str]:
    """Return why the schedules of a config do not fit ``train_cfg``; empty if they do.

    A schedule without ``end`` goes to the end of the run. One that begins after it would never
    begin, and one that ends after it would be cut off: a warm-up of 40 epochs in a run of 15, or a
    cosine over 800. mmengine says nothing of the latter.

    Returns:
        One text with the place of each, and the overrides that make them fit.
    """
    schedulers = cfg.get('param_scheduler')
    if not isinstance(schedulers, list | tuple):
        return []
    length, key = _length(cfg)
    if length is None:
        return []
    found, overrides = [], []
    warm_up = max(length // WARM_UP_SHARE, 1)
    for index, scheduler in enumerate(schedulers):
        by_epoch = scheduler.get('by_epoch', True) if isinstance(scheduler, dict) else None
        if by_epoch is not (key == 'max_epochs'):
            continue
        is_last = index == len(schedulers) - 1
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if isinstance(begin, int | float) and begin >= length:
            found.append(show(('param_scheduler', index, 'begin'), begin))
            overrides.append(f'param_scheduler.{index}.begin={warm_up}')
        if isinstance(end, int | float) and end > length:
            found.append(show(('param_scheduler', index, 'end'), end))
            new = length if is_last else warm_up
            overrides.append(f'param_scheduler.{index}.end={new}')
    if not found:
        return []
    what = f'{", ".join(found)}: the run has train_cfg.{key}={length}'
    if length <= warm_up:
        return [f'{what}. For a constant rate: --cfg-options param_scheduler=None']
    return [f'{what}. Paste: --cfg-options {" ".join(overrides)}']


def _length(cfg: Config) -> tuple[int | None, str]:
    """Return the length of the run, and the key that it stands at."""
    train_cfg = cfg.get('train_cfg') or {}
    for key in ('max_epochs', 'max_iters'):
        if isinstance(train_cfg.get(key), int):
            return train_cfg[key], key
    return None, ''
