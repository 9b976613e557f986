"""The samples of a list, made when they are asked for."""

import os
from collections.abc import Callable, Sequence

import numpy as np

from ..utils.lists import Entry, EntryList


class LazySamples(Sequence):
    """Dicts of ``filename`` and ``label``, made from the text of a list.

    Ten million videos take as much memory as their list and some 40 bytes each, and worker
    processes share it, since nothing in it counts references.

    Args:
        entries: The lines of the list.
        folder: The folder that paths are relative to; '' for none.
        label: The label of a line; its errors come when the list is loaded, not in training.
        add: Given a path and a sample, adds to it.
    """

    def __init__(
        self,
        entries: EntryList,
        folder: str,
        label: Callable[[Entry], object] = Entry.label,
        add: Callable[[str, dict], None] | None = None,
    ) -> None:
        self.entries, self.folder, self.label, self.add = entries, folder, label, add

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | slice) -> 'dict | LazySamples':
        if isinstance(index, slice):
            taken = self.entries.take(np.arange(len(self))[index])
            return LazySamples(taken, self.folder, self.label, self.add)
        entry = self.entries[index]
        filename = os.path.join(self.folder, entry.path)
        sample = dict(filename=filename, label=self.label(entry))
        if self.add is not None:
            self.add(entry.path, sample)
        return sample
