"""A heartbeat of the processes of a run, which ends all of them when one hangs or is gone."""

import faulthandler
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from mmengine.dist import broadcast_object_list, get_dist_info
from torch.distributed import TCPStore

EXIT_HUNG = 76  # no other end of a run has it
VERDICT = 'verdict'
REPORT = 'hangs.jsonl'  # in the work dir: when the watch ended a run, and why
# in the last lines of a stack: it waits for the others
WAITING = (
    'torch/distributed/',
    'torch/nn/parallel/distributed',  # whose second iteration agrees on the order of gradients
    'mmengine/dist/',
    '_engine_run_backward',
)
SHOWN = 4  # stacks in the error of a run


def open_store(seconds: float) -> TCPStore:
    """Open a store that all processes reach; the first one serves it, in a thread of its own."""
    rank, _ = get_dist_info()
    limit = timedelta(seconds=seconds)
    place = [None, None]
    if rank == 0:
        host = os.environ.get('MASTER_ADDR') or socket.gethostname()
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=limit)
        place = [host, store.port]
    broadcast_object_list(place)
    if rank:
        store = TCPStore(*place, is_master=False, wait_for_workers=False, timeout=limit)
    return store


class Watch(threading.Thread):
    """Thread that tells the others that this process lives, and how far it is.

    The first process judges: one that does not tell anything for ``timeout`` seconds is gone; and
    one that is the farthest behind, and stays where it is for longer than it may, hangs. Then all
    end with exit code 76, with the reason and the stacks of those that are behind.

    Args:
        store: Shared by the processes.
        rank: Of this process.
        processes: How many there are.
        timeout: Seconds without a sign of life.
        every: Seconds between two signs of life.
        folder: Where the stack goes of a process that holds Python's lock while it hangs.
        end: Called with the reason; ends the process.
    """

    def __init__(
        self,
        store: TCPStore,
        rank: int,
        processes: int,
        timeout: float,
        every: float,
        folder: Path,
        end: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(name='watch', daemon=True)
        self.store, self.rank, self.processes = store, rank, processes
        self.timeout, self.every = timeout, every
        self._end = end or end_process
        self._main = threading.main_thread().ident
        self._stopped = threading.Event()
        self._mark = (0, 0, '', timeout, time.monotonic())
        self._beats = 0
        self._heard = {r: (None, time.monotonic()) for r in range(processes)}
        self._answered = time.monotonic()
        self._path = folder / f'stack_of_process_{rank}.txt'
        self._folder = folder

    def mark(self, iteration: int, phase: int, doing: str, limit: float) -> None:
        """Note how far this process is.

        Args:
            iteration: That it works on.
            phase: Of the iteration, ascending.
            doing: The same in words.
            limit: Seconds that it may take.
        """
        self._mark = (iteration, phase, doing, limit, time.monotonic())

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if threading.current_thread() is not self:
            self.join(2 * self.every)
        self._path.unlink(missing_ok=True)

    def run(self) -> None:
        """Tell and look every few seconds."""
        with open(self._path, 'w') as file:
            while not self._stopped.wait(self.every):
                # written by a thread of C if this one does not come back, as it needs Python's lock
                faulthandler.dump_traceback_later(self.timeout, file=file)
                try:
                    self._tell()
                    self._look()
                    self._answered = time.monotonic()
                except Exception as error:  # of a store that does not answer
                    if time.monotonic() - self._answered > self.timeout:
                        self._end(
                            f'process 0, or its machine, has not answered for {self.timeout:g} s '
                            f'({str(error).splitlines()[0]})'
                        )
            faulthandler.cancel_dump_traceback_later()

    def _tell(self) -> None:
        iteration, phase, doing, limit, since = self._mark
        stuck = time.monotonic() - since
        self._beats += 1
        beat = dict(
            beat=self._beats, place=(iteration, phase), doing=doing, stuck=stuck, limit=limit
        )
        if stuck > min(limit, self.timeout) / 2:
            beat['stack'] = stack_of(self._main)
        self.store.set(f'process {self.rank}', json.dumps(beat))

    def _look(self) -> None:
        if self.rank == 0 and not self.store.check([VERDICT]):
            reason = self._judge()
            if reason:
                self.store.set(VERDICT, reason)
                entry = dict(time=time.time(), reason=reason.splitlines()[0])
                with open(self._folder / REPORT, 'a') as file:
                    file.write(json.dumps(entry) + '\n')
        if self.store.check([VERDICT]):
            reason = self.store.get(VERDICT).decode()
            if self.rank == 0:
                time.sleep(2 * self.every)  # the others read it here
            self._end(reason)

    def _judge(self) -> str | None:
        """Return why the run must end; None if all is well."""
        keys = [f'process {r}' for r in range(self.processes)]
        beats = [json.loads(self.store.get(key)) if self.store.check([key]) else {} for key in keys]
        now = time.monotonic()
        for rank, beat in enumerate(beats):
            if beat.get('beat') != self._heard[rank][0]:
                self._heard[rank] = (beat.get('beat'), now)
        gone = [r for r, (_, at) in self._heard.items() if now - at > self.timeout]
        if gone:
            return self._tell_gone(gone)
        if not all(beats):
            return None
        least = min(beat['place'] for beat in beats)
        behind = {r: beat for r, beat in enumerate(beats) if beat['place'] == least}
        if any(beat['stuck'] <= beat['limit'] for beat in behind.values()):
            return None
        # of those that are equally far, the ones that wait for others are not to blame
        to_blame = {r: b for r, b in behind.items() if not waits(b.get('stack', ''))} or behind
        return tell_hanging(to_blame)

    def _tell_gone(self, gone: list[int]) -> str:
        text = (
            f'process {", ".join(map(str, gone))} has not given a sign of life for '
            f'{self.timeout:g} s: it was killed or stopped, its machine is lost, or it holds '
            "Python's lock"
        )
        for rank in gone[:SHOWN]:  # where the folder is shared
            path = self._folder / f'stack_of_process_{rank}.txt'
            if path.is_file() and path.stat().st_size:
                text += f'\nStack of process {rank}:\n{path.read_text(errors="replace")}'
        return text


def tell_hanging(behind: dict[int, dict]) -> str:
    """Say which processes hang, where, and since when."""
    first = next(iter(behind.values()))
    names = ', '.join(map(str, list(behind)[:16])) + (', ...' if len(behind) > 16 else '')
    text = (
        f'process {names} hangs in iteration {first["place"][0] + 1}, {first["doing"]}, for '
        f'{first["stuck"]:.0f} s (limit {first["limit"]:.0f} s)'
    )
    for rank, beat in list(behind.items())[:SHOWN]:
        text += f'\nStack of process {rank}:\n{beat.get("stack", "")}'
    return text


def waits(stack: str) -> bool:
    """Whether a stack ends in a call that waits for other processes."""
    return any(word in line for line in stack.splitlines()[-4:] for word in WAITING)


def stack_of(thread: int) -> str:
    """Format the stack of a thread, the innermost call last."""
    frame = sys._current_frames().get(thread)
    return ''.join(traceback.format_stack(frame)) if frame else ''


def end_process(reason: str) -> None:
    """Say why, and end the process with exit code 76, whatever its main thread waits for."""
    rank, _ = get_dist_info()
    print(f'process {rank} ends: {reason}', file=sys.stderr, flush=True)
    os._exit(EXIT_HUNG)
