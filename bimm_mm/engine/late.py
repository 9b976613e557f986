"""Values of the device that the host looks at one step later, when they have long arrived."""

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor


class LateValues:
    """Small tensors on their way to the host, in the order in which they were sent.

    The copy is made by the device when it comes by; the host goes on. Looked at one step later, it
    has arrived, unless the host is more than a step ahead: then it waits for that step.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, object, object]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, values: Tensor, note: object = None) -> None:
        """Send values, with whatever is to be remembered with them."""
        if values.device.type == 'cpu':
            self._waiting.append((values.clone(), None, note))
            return
        # on other accelerators than CUDA, to() without pinned memory waits where it must
        pinned = values.device.type == 'cuda'
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=pinned)
        host.copy_(values, non_blocking=pinned)
        event = None
        if pinned:
            event = torch.cuda.Event()
            event.record()
        self._waiting.append((host, event, note))

    def arrived(self) -> Iterator[tuple[Tensor, object]]:
        """Take all that was sent, with its notes."""
        while self._waiting:
            host, event, note = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            yield host, note

    def clear(self) -> None:
        """Forget what was sent."""
        self._waiting.clear()
