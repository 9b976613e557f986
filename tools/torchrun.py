"""torchrun for runs that may be stopped: ``python tools/torchrun.py [arguments of torchrun]``.

torchrun itself kills its processes 30 seconds after a SIGTERM, which may be too early for a
checkpoint, dies of a SIGUSR1, exits with 1 whatever its processes say, and ends with a traceback
of its own after an error of theirs. Here these signals and Ctrl-C are passed on, the processes
take the time they need, the exit code is theirs (75 when they stop because of a signal, see
:class:`StopOnSignalHook`), and what they said is the last thing on the screen. With
``--max-restarts``, a run that was told to stop is not started again, nor is one with a mistake in
its command line.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

# as in bimm_mm.engine.hooks.stop_on_signal_hook, which takes longer to import than all of this
EXIT_STOPPED = 75
FINAL = {EXIT_STOPPED, 2}  # exit codes after which nothing is started again; 2 is argparse's
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to the processes that this one has started."""
    for children in Path('/proc/self/task').glob('*/children'):
        for child in children.read_text().split():
            try:
                os.kill(int(child), number)
            except ProcessLookupError:  # it has ended already
                pass


def handle_signals() -> None:
    """Pass the signals on, and keep torchrun from handling them itself.

    torch 2.11 can be told which signals to handle, 2.6 cannot: it takes SIGTERM in any case.
    """
    register = signal.signal
    for number in SIGNALS:
        register(number, pass_on)

    def register_others(number: int, handler: object) -> object:
        return signal.getsignal(number) if number in SIGNALS else register(number, handler)

    signal.signal = register_others


def end_with_final_codes() -> None:
    """Keep torchrun from restarting processes that ended as they were told to."""
    monitor = LocalElasticAgent._monitor_workers

    def monitor_workers(self: LocalElasticAgent, group: WorkerGroup) -> RunResult:
        result = monitor(self, group)
        failures = result.failures if result.is_failed() else {}
        if any(failure.exitcode in FINAL for failure in failures.values()):
            self._remaining_restarts = 0
        elif failures and self._remaining_restarts:
            told = ', '.join(f'process {rank}: {f.exitcode}' for rank, f in failures.items())
            print(f'Failed ({told}); restarts left: {self._remaining_restarts}', file=sys.stderr)
        return result

    LocalElasticAgent._monitor_workers = monitor_workers


def main() -> None:
    """Run torchrun with other signal handlers."""
    # else processes that are started again find the addresses of those that are gone (torch 2.11)
    os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    handle_signals()
    end_with_final_codes()
    # which says in its own words that a process failed, after what the process itself said
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            sys.exit(f'process {rank} was killed by {name}; the others were ended')
        sys.exit(failure.exitcode)


if __name__ == '__main__':
    main()
