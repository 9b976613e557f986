"""Arguments that several commands take, and how a command ends."""

import argparse
import os
import sys
import time
from typing import NoReturn

from mmengine.config import DictAction


def add_config_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--cfg-options`` to a command line; ``example`` is shown in its help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help=f'override settings, e.g. {example}',
    )


def fail(error: Exception) -> NoReturn:
    """End the process with the error's message, and without a traceback."""
    if int(os.environ.get('LOCAL_RANK', 0)) > 0:
        time.sleep(10)  # the launcher ends all processes with the first: let rank 0 speak
        sys.exit(1)
    sys.exit(str(error))
