"""Arguments that several commands take, and how a command ends."""

import argparse
import ast
import os
import sys
import time
from typing import NoReturn

from mmengine.config import Config, DictAction

from ..config.check import ConfigError
from ..engine.screen import silence_upstream

CHECKPOINTS = ('.pth', '.pt', '.safetensors')


class _Options(DictAction):
    """mmengine's DictAction that leaves blanks in texts, and says in a sentence what is wrong."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            key, sign, text = value.partition('=')
            if not sign or not key:
                parser.error(
                    f'{option_string} {" ".join(values)}: {value!r} must be KEY=VALUE, without '
                    'blanks around the ='
                )
            if text.endswith(','):
                parser.error(f'{option_string} {value}: ends with a comma; a list is KEY=[1,2]')
        options = dict(getattr(namespace, self.dest, None) or {})
        for value in values:
            key, _, text = value.partition('=')
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {value}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """Return what the text behind ``KEY=`` stands for.

    ``1``, ``0.5``, ``true``, ``None``, texts, lists and tuples of them: ``1,2``, ``[a,(1,2)]``, and
    dicts as Python writes them: ``{'depth':4}``. Quotes around it are dropped. As mmengine's
    DictAction, but blanks within a text stay, and what is a path that exists is never a list:
    folders may be called ``my videos`` or ``a, b``.

    Raises:
        ValueError: A bracket is missing, or a dict is none.
    """
    text = text.strip('\'"').strip()
    if set(text) & set(' ,()[]') and os.path.exists(text):
        return text
    if text.startswith('{') and text.endswith('}'):
        return _read_dict(text)
    parts = _split(text)
    for (begin, end), kind in {('[', ']'): list, ('(', ')'): tuple}.items():
        if len(parts) == 1 and text.startswith(begin) and text.endswith(end):
            return kind(parse_value(part) for part in _split(text[1:-1]) if part.strip())
    if len(parts) > 1:
        return [parse_value(part) for part in parts]
    return DictAction._parse_int_float_bool(text)


def _read_dict(text: str) -> dict:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{text} is no dict, as {{'depth':4}}; put it in double quotes")
    return value


def _split(text: str) -> list[str]:
    """The parts of a text between the commas that stand in no brackets."""
    parts, depth = [''], 0
    for char in text:
        depth += (char in '([') - (char in ')]')
        if depth < 0:
            break
        if char == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += char
    if depth:
        raise ValueError(f'imbalanced brackets in {text!r}')
    return parts


def add_config_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--cfg-options`` to a command line; ``example`` is shown in its help.

    A command that reads configs imports what they name, so that from here on warnings of other
    packages that nobody can act on are silenced.
    """
    silence_upstream()
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        default={},
        metavar='KEY=VALUE',
        help=f'override settings, e.g. {example}',
    )


def add_hook_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--tensorboard``, ``--pictures N`` and ``--hook`` to the command line of a training."""
    parser.add_argument(
        '--tensorboard', action='store_true', help='write curves and pictures for TensorBoard, too'
    )
    parser.add_argument(
        '--pictures',
        type=int,
        metavar='N',
        help='draw a reconstruction every N iterations, into vis_data/vis_image of the log',
    )
    parser.add_argument(
        '--hook',
        nargs='+',
        action='append',
        default=[],
        metavar=('TYPE', 'KEY=VALUE'),
        help='add a hook, e.g. --hook EMAHook momentum=0.001; may be given several times',
    )


def merge_hook_options(cfg: Config, args: argparse.Namespace) -> None:
    """Merge what :func:`add_hook_options` read into a config, in place.

    Raises:
        ConfigError: A setting of ``--hook`` is not of the form KEY=VALUE, or ``--pictures`` is less
            than 1.
    """
    hooks = []
    for kind, *settings in args.hook:
        values = {}
        for setting in settings:
            key, sign, text = setting.partition('=')
            if not sign or not key or not text:
                raise ConfigError(f'--hook {kind} {setting}: {setting!r} must be KEY=VALUE')
            values[key] = parse_value(text)
        hooks.append(dict(type=kind, **values))
    if args.pictures is not None:
        if args.pictures < 1:
            raise ConfigError(f'--pictures {args.pictures} must be at least 1')
        hooks.append(dict(type='ReconstructionHook', interval=args.pictures))
    if hooks:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *hooks]
    if args.tensorboard:
        visualizer = dict(cfg.get('visualizer') or dict(type='Visualizer'))
        backends = list(visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
        if not any(f'{b.get("type")}'.endswith('TensorboardVisBackend') for b in backends):
            backends.append(dict(type='TensorboardVisBackend'))
        cfg.visualizer = visualizer | dict(vis_backends=backends)


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


def without_traceback(error: Exception) -> str:
    """The message of an error; of one that a DataLoader's worker raised, what stands at its end."""
    return str(error).rpartition(f'{type(error).__name__}: ')[2].strip()


def fail(error: Exception) -> NoReturn:
    """End the process with the error's message, and without a traceback."""
    if int(os.environ.get('LOCAL_RANK', 0)) > 0:
        time.sleep(10)  # the launcher ends all processes with the first: let rank 0 speak
        sys.exit(1)
    sys.exit(str(error))
