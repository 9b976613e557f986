"""Arguments that several commands take, and how a command ends."""

import argparse
import os
import sys
import time
from typing import NoReturn

from mmengine.config import DictAction

CHECKPOINTS = ('.pth', '.pt', '.safetensors')


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


def add_config_and_checkpoint(
    parser: argparse.ArgumentParser, config: str, checkpoint: str
) -> None:
    """Add ``[CONFIG] CHECKPOINT`` to a command line that ``parse_intermixed_args`` reads.

    Args:
        parser: Of the command.
        config: What kind of config, for the help.
        checkpoint: What kind of checkpoint.
    """
    parser.add_argument(
        'config', nargs='?', help=f'{config}; default: the one that the checkpoint was trained with'
    )
    parser.add_argument('checkpoint', help=checkpoint)


def take_config_from_checkpoint(args: argparse.Namespace, rest: str | None = None) -> None:
    """Let ``CONFIG [CHECKPOINT] [FILES]`` be called without a config, in place.

    Where the first word is the name of a checkpoint, it is meant as one, and ``config`` is None.

    Args:
        args: With ``config``, ``checkpoint`` and, if there is one, a list of what follows.
        rest: The name of that list.
    """
    if not args.config.endswith(CHECKPOINTS):
        return
    if args.checkpoint is not None and rest is not None:
        setattr(args, rest, [args.checkpoint, *getattr(args, rest)])
    args.config, args.checkpoint = None, args.config


def fail(error: Exception) -> NoReturn:
    """End the process with the error's message, and without a traceback."""
    if int(os.environ.get('LOCAL_RANK', 0)) > 0:
        time.sleep(10)  # the launcher ends all processes with the first: let rank 0 speak
        sys.exit(1)
    sys.exit(str(error))
