"""Keep the history of logged values short, and read values from the device once for many."""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

KEPT = 1000  # values of a scalar


class Tally:
    """Count, sum, minimum and maximum of values that are not kept.

    Args:
        values: Those that there are already.
        counts: How many each stands for.
    """

    def __init__(self, values: np.ndarray = (), counts: np.ndarray = ()) -> None:
        self.number = len(values)
        self.total, self.count = float(np.sum(values)), float(np.sum(counts))
        self.low = float(np.min(values)) if self.number else float('inf')
        self.high = float(np.max(values)) if self.number else float('-inf')

    def add(self, value: float, count: float) -> None:
        """Take one more value in; NaN stays NaN, as in NumPy."""
        self.number += 1
        self.total += value
        self.count += count
        if value < self.low or value != value:
            self.low = value
        if value > self.high or value != value:
            self.high = value


class RecentHistory(HistoryBuffer):
    """mmengine's HistoryBuffer that keeps the last values only, and tallies of the others.

    Adding a value takes the same time whatever there is. Statistics are those of HistoryBuffer for
    windows of up to ``kept`` values, for all values (``window_size='global'`` of a log processor)
    and for those since :meth:`begin_epoch` (``'epoch'``); any other window is cut to the kept
    values. In a checkpoint it is a HistoryBuffer, with which a Runner without this hook can go on.

    Args:
        history: The values until now; those of a longer one are tallied.
        kept: Values to keep.
    """

    def __init__(self, history: HistoryBuffer | None = None, kept: int = KEPT) -> None:
        history = HistoryBuffer() if history is None else history
        values, counts = history.data
        self.kept = self.max_length = kept
        self._set_default_statistics()
        self._integers = [not len(x) or x.dtype.kind in 'iu' for x in (values, counts)]
        self._store = np.zeros((2, 2 * kept))
        self._end = min(len(values), kept)
        self._store[0, : self._end] = values[len(values) - self._end :]
        self._store[1, : self._end] = counts[len(values) - self._end :]
        self.all, self.epoch = Tally(values, counts), Tally()
        self.epoch_number = None
        saved = getattr(history, 'recent', None)
        if saved is not None:  # of a checkpoint
            self.all.__dict__.update(saved['all'])
            self.epoch.__dict__.update(saved['epoch'])
            self.epoch_number = saved['epoch_number']

    def update(self, log_val: int | float, count: int = 1) -> None:
        """Add a value; raises TypeError where it is not a number, as HistoryBuffer."""
        if not isinstance(log_val, int | float) or not isinstance(count, int | float):
            raise TypeError(f'log_val={log_val!r} and count={count!r} must be numbers')
        if self._end == self._store.shape[1]:
            self._store[:, : self.kept] = self._store[:, -self.kept :]
            self._end = self.kept
        self._store[0, self._end], self._store[1, self._end] = log_val, count
        self._end += 1
        self._integers[0] &= isinstance(log_val, int)
        self._integers[1] &= isinstance(count, int)
        self.all.add(log_val, count)
        self.epoch.add(log_val, count)

    def begin_epoch(self, number: int | None) -> None:
        """Begin to tally an epoch, unless it is the one that a resumed run is in the middle of."""
        if number is None or number != self.epoch_number:
            self.epoch, self.epoch_number = Tally(), number

    @property
    def _log_history(self) -> np.ndarray:
        return self._row(0)

    @property
    def _count_history(self) -> np.ndarray:
        return self._row(1)

    def _row(self, row: int) -> np.ndarray:
        values = self._store[row, max(0, self._end - self.kept) : self._end]
        return values.astype(np.int64) if self._integers[row] and len(values) else values

    def _tally(self, window_size: int | None) -> Tally | None:
        """Where the values of a window are not all kept: what is known of them."""
        if self.all.number <= self.kept or (window_size or self.kept + 1) <= self.kept:
            return None
        if window_size is None or window_size >= self.all.number:
            return self.all
        return self.epoch if window_size == self.epoch.number else None

    def mean(self, window_size: int | None = None) -> np.ndarray:
        """The mean of the last ``window_size`` values, or of all."""
        tally = self._tally(window_size)
        if tally is None:
            return super().mean(window_size)
        return np.float64(tally.total) / np.float64(tally.count)

    def min(self, window_size: int | None = None) -> np.ndarray:
        """The least of the last ``window_size`` values, or of all."""
        tally = self._tally(window_size)
        return super().min(window_size) if tally is None else np.float64(tally.low)

    def max(self, window_size: int | None = None) -> np.ndarray:
        """The largest of the last ``window_size`` values, or of all."""
        tally = self._tally(window_size)
        return super().max(window_size) if tally is None else np.float64(tally.high)

    def statistics(self, method_name: str, *args, **kwargs) -> object:
        """A statistic by name; mmengine's would take that of HistoryBuffer."""
        if method_name in ('mean', 'min', 'max'):
            return getattr(self, method_name)(*args, **kwargs)
        return super().statistics(method_name, *args, **kwargs)

    def __reduce__(self) -> tuple:
        state = dict(
            max_length=HistoryBuffer().max_length,
            _log_history=self._log_history.copy(),
            _count_history=self._count_history.copy(),
            recent=dict(
                all=dict(vars(self.all)),
                epoch=dict(vars(self.epoch)),
                epoch_number=self.epoch_number,
            ),
        )
        return HistoryBuffer, (), state

    def __deepcopy__(self, memo: dict) -> HistoryBuffer:
        kind, arguments, state = self.__reduce__()
        copied = kind(*arguments)
        copied.__setstate__(state)
        return copied


class LoggedScalars(OrderedDict):
    """What a message hub keeps its scalars in: short histories, and values still on the device.

    Whoever reads it sees all values: those on the device are read first, in one transfer.

    Args:
        scalars: Histories until now, by name.
        kept: Values that each history keeps.
    """

    def __init__(self, scalars: dict[str, HistoryBuffer], kept: int = KEPT) -> None:
        super().__init__()
        self.kept = kept
        self._epochs: dict[str, int | None] = {}
        self._now: list[tuple[str, Tensor | float, int]] = []
        self._waiting: list[tuple[list[tuple[str, int]], Tensor]] = []
        for name, history in scalars.items():
            self[name] = history

    def add(self, name: str, value: float, count: int) -> None:
        """Add a value that is on the host."""
        history = super().get(name)
        if history is None:
            history = RecentHistory(kept=self.kept)
            history.begin_epoch(self._epochs.get(name.partition('/')[0]))
            super().__setitem__(name, history)
        history.update(value, count)

    def begin_epoch(self, mode: str, number: int | None) -> None:
        """Begin to tally an epoch of 'train', 'val' or 'test'."""
        self._epochs[mode] = number
        for name, history in self.items():
            if name.partition('/')[0] == mode:
                history.begin_epoch(number)

    def add_later(self, name: str, value: Tensor, count: int) -> None:
        """Add a value that is on the device, and leave it there until somebody asks."""
        self._now.append((name, value.detach().reshape(()), count))

    def gather(self) -> None:
        """Put the values of this iteration into one tensor for each dtype and device.

        So that nothing is lost where the memory they are in is used again, as by CUDA graphs.
        """
        kinds: dict[tuple, list] = {}
        for name, value, count in self._now:
            kinds.setdefault((value.dtype, value.device), []).append((name, value, count))
        self._now = []
        for entries in kinds.values():
            names = [(name, count) for name, _, count in entries]
            self._waiting.append((names, torch.stack([value for _, value, _ in entries])))

    def read(self) -> None:
        """Bring what is on the device to the host."""
        if self._now:
            self.gather()
        waiting, self._waiting = self._waiting, []
        kinds: dict[tuple, list] = {}
        for position, (names, values) in enumerate(waiting):
            kinds.setdefault((values.dtype, values.device), []).append((position, names, values))
        read: dict[int, list] = {}
        for entries in kinds.values():
            numbers = iter(torch.cat([values for _, _, values in entries]).tolist())
            for position, names, _ in entries:
                read[position] = [(name, next(numbers), count) for name, count in names]
        for position in sorted(read):
            for name, number, count in read[position]:
                self.add(name, number, count)

    def __setitem__(self, name: str, history: HistoryBuffer) -> None:
        if not isinstance(history, RecentHistory):
            history = RecentHistory(history, self.kept)
        super().__setitem__(name, history)

    def __getitem__(self, name: str) -> RecentHistory:
        self.read()
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read()
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.read()
        return super().__iter__()

    def __len__(self) -> int:
        self.read()
        return super().__len__()

    def items(self) -> object:
        """As OrderedDict's."""
        self.read()
        return super().items()

    def values(self) -> object:
        """As OrderedDict's."""
        self.read()
        return super().values()

    def keys(self) -> object:
        """As OrderedDict's."""
        self.read()
        return super().keys()

    def get(self, name: str, default: object = None) -> object:
        """As OrderedDict's."""
        self.read()
        return super().get(name, default)
