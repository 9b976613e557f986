"""What a method needs beside its config: a guide or a codebook, made of the same clips."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from ..config.check import ConfigError
from ..config.loading import merge_config
from ..config.paths import CONFIGS
from ..utils.files import locked, write_text

TOOLS = CONFIGS.parent / 'tools'
FIELDS = ('tool', 'config', 'options', 'makes', 'arguments')


@dataclass(frozen=True)
class Need:
    """Something that a tool makes before a run, at a cost of its own.

    Attributes:
        tool: Below the folder of tools; it takes a config and what to write.
        cfg: Whose data it is made of.
        makes: File or folder.
        arguments: More of them, for the tool.
    """

    tool: str
    cfg: Config
    makes: Path
    arguments: tuple[str, ...] = ()

    @classmethod
    def read(cls, need: Mapping, find: Callable[[str], Path]) -> 'Need':
        """Read an entry of ``needs`` of a run.

        Args:
            need: With ``tool``, ``config``, ``makes`` and, where needed, ``options`` of the config
                and ``arguments`` of the tool.
            find: From a config's name to its path.

        Raises:
            ConfigError: A field is missing or unknown, or there is no such tool.
        """
        missing = {'tool', 'config', 'makes'} - set(need)
        if missing or set(need) - set(FIELDS):
            raise ConfigError(f'needs has {", ".join(sorted(need))}; it takes {", ".join(FIELDS)}')
        if not (TOOLS / need['tool']).is_file():
            raise ConfigError(f'needs names a tool that is not there: {need["tool"]}')
        cfg = merge_config(str(find(need['config'])), need.get('options', {}))
        return cls(need['tool'], cfg, Path(need['makes']), tuple(need.get('arguments', ())))

    @property
    def record(self) -> Path:
        """The file that says what was made, and what it cost."""
        return self.makes.with_name(f'{self.makes.name}.made.json')

    def description(self) -> str:
        """What it is made of, as text that can be compared."""
        data = self.cfg.train_dataloader.dataset
        return json.dumps([self.tool, data, self.arguments], sort_keys=True, default=str)

    def seconds(self) -> float | None:
        """What it cost; None where it has to be made."""
        if not self.makes.exists() or not self.record.is_file():
            return None
        record = json.loads(self.record.read_text())
        return record['seconds'] if record['of'] == self.description() else None

    def make(self, say: Callable[[str], None]) -> None:
        """Run the tool where it has to be made.

        Raises:
            ConfigError: The tool failed.
        """
        with locked(self.makes, lambda: say(f'waiting for {self.makes}, which another makes')):
            if self.seconds() is None:
                say(f'making {self.makes}')
                self._make()

    def _make(self) -> None:
        config = self.makes.with_name(f'{self.makes.name}.py')
        self.cfg.dump(config)
        started = _clock()
        command = [sys.executable, TOOLS / self.tool, config, self.makes, *self.arguments]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise ConfigError(f'{self.tool} ended with {done.returncode}; its message is above')
        write_text(self.record, json.dumps(dict(seconds=_clock() - started, of=self.description())))


def _clock() -> float:
    """Seconds of computing of finished child processes; on a GPU, those on the wall."""
    if get_device() != 'cpu':
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
