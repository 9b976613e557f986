"""torchrun for runs that may be stopped: ``python tools/torchrun.py [arguments of torchrun]``.

torchrun itself kills its processes 30 seconds after a SIGTERM, which may be too early for a
checkpoint, dies of a SIGUSR1, and exits with 1 whatever its processes say. Here both signals are
passed on and the processes take the time they need; when they stop because of it, the exit code is
theirs (75, see :class:`StopOnSignalHook`).
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

# as in bimm_mm.engine.hooks.stop_on_signal_hook, which takes longer to import than all of this
EXIT_STOPPED = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to the processes that this one has started."""
    for children in Path('/proc/self/task').glob('*/children'):
        for child in children.read_text().split():
            try:
                os.kill(int(child), number)
            except ProcessLookupError:  # it has ended already
                pass


def handle_signals() -> None:
    """Pass both signals on, and keep torchrun from handling them itself.

    torch 2.11 can be told which signals to handle, 2.6 cannot: it takes SIGTERM in any case.
    """
    register = signal.signal
    for number in SIGNALS:
        register(number, pass_on)

    def register_others(number: int, handler: object) -> object:
        return signal.getsignal(number) if number in SIGNALS else register(number, handler)

    signal.signal = register_others


def main() -> None:
    """Run torchrun with other signal handlers."""
    handle_signals()
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        if error.get_first_failure()[1].exitcode == EXIT_STOPPED:
            sys.exit(EXIT_STOPPED)
        raise


if __name__ == '__main__':
    main()
