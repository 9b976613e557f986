"""What the tools have in common: from a command line to a config, and on to a runner."""

import argparse
import logging
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from .config_check import ConfigError, check_options, find_config

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
CPU_STRATEGIES = ('SingleDeviceStrategy', 'DDPStrategy', 'SharedBlocksFSDPStrategy')
CONFIGS = Path(__file__).parents[2] / 'configs'


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


def merge_config(config: str, options: dict) -> Config:
    """A config file with overrides, ``{'train_dataloader.batch_size': 4, ...}``, merged into it.

    Raises:
        ConfigError: there is no such file, it imports a package that is not installed, or an
            override reaches nothing.
    """
    path = find_config(config, CONFIGS)
    try:
        cfg = Config.fromfile(path)
    except ImportError as error:
        cause = error
        while cause.__context__ is not None:  # mmengine's own two hide what is missing
            cause = cause.__context__
        raise ConfigError(f'{config}: custom_imports cannot be imported: {cause}') from error
    check_options(cfg, options)
    cfg.merge_from_dict(options)
    return cfg


def read_config(config: str, options: dict, launcher: str, work_dir: str | None) -> Config:
    """A config file with what every run is told merged into it.

    Args:
        config: path of the file.
        options: overrides, as of :func:`merge_config`.
        launcher: one of ``LAUNCHERS``.
        work_dir: for logs and checkpoints; None for the config's, else ``work_dirs/<its name>``.

    Raises:
        ConfigError: there is no such file, or an override reaches nothing.
    """
    cfg = merge_config(config, options)
    cfg.launcher = launcher
    default = str(Path('work_dirs') / Path(cfg.filename).stem)
    cfg.work_dir = work_dir or cfg.get('work_dir') or default
    cfg.env_cfg = cfg.get('env_cfg') or dict(dist_cfg=dict(backend='nccl'))
    return cfg


def check_strategy(cfg: Config) -> None:
    """Raise ConfigError where the config's strategy cannot work as the run was started."""
    kind = (cfg.get('strategy') or {}).get('type', 'SingleDeviceStrategy')
    if kind != 'SingleDeviceStrategy' and cfg.launcher == 'none':
        raise ConfigError(f'strategy.type={kind!r} needs a launcher: start it by dist_train.sh')
    if kind not in CPU_STRATEGIES and get_device() == 'cpu':
        hint = '; SharedBlocksFSDPStrategy does not' if kind == 'FSDPStrategy' else ''
        raise ConfigError(f'strategy.type={kind!r} needs an accelerator; none was found{hint}')
    if kind == 'DeepSpeedStrategy' and find_spec('deepspeed') is None:
        raise ConfigError("strategy.type='DeepSpeedStrategy': deepspeed is not installed")


def build_runner(cfg: Config) -> Runner | FlexibleRunner:
    """The runner that the config names, a FlexibleRunner for a strategy, else a Runner."""
    if cfg.get('runner_type'):
        return RUNNERS.build(cfg)
    return (FlexibleRunner if cfg.get('strategy') else Runner).from_cfg(cfg)


def fail(error: Exception) -> NoReturn:
    """End the process with the error's message, and without a traceback."""
    if int(os.environ.get('LOCAL_RANK', 0)) > 0:
        time.sleep(10)  # the launcher ends all processes with the first: let rank 0 speak
        sys.exit(1)
    sys.exit(str(error))


def leave(code: int = 0) -> None:
    """End this process with an exit code, where it is one of several; else raise it if not 0.

    To be called by all processes of a run. Those on CPUs are joined by gloo, whose threads now and
    then abort a process that ends as others do ("terminate called without an active exception").
    """
    if is_distributed():
        if torch.distributed.get_backend() == 'gloo':
            torch.distributed.barrier()
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        torch.distributed.destroy_process_group()
    if code:
        raise SystemExit(code)
