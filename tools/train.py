"""Train a model from a config, on one or many devices; see --help."""

import argparse
import os

from mmengine.config import Config
from mmengine.dist import get_world_size

from bimm_mm.cli.arguments import (
    add_config_options,
    add_hook_options,
    fail,
    merge_hook_options,
    without_traceback,
)
from bimm_mm.config.agreement import remarks
from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import read_config
from bimm_mm.datasets.broken import BrokenSampleError
from bimm_mm.engine.hooks.broken_samples_hook import TooManyBrokenSamples
from bimm_mm.engine.hooks.checkpoint_hook import checkpoint_to_resume
from bimm_mm.engine.hooks.stop_on_signal_hook import EXIT_STOPPED
from bimm_mm.engine.optimizers.amp import set_amp
from bimm_mm.engine.runner import (
    LAUNCHERS,
    build_runner,
    check_strategy,
    init_cpu_launcher,
    leave,
    set_global_batch_size,
    without_initialization,
)
from bimm_mm.utils.files import DISK_ERRORS, WriteError, check_writable, explain
from bimm_mm.utils.limits import LoaderLimitError


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Train a model from a config.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='logs and checkpoints; default: work_dirs/<config name>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without a value from the latest one in the work dir',
    )
    parser.add_argument(
        '--global-batch-size',
        type=int,
        metavar='SAMPLES',
        help='of all processes together; replaces train_dataloader.batch_size, the part of one',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--amp-dtype',
        choices=('bfloat16', 'float16'),
        help='default: bfloat16 where the device has it, else float16 with loss scaling',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch over auto_scale_lr.base_batch_size',
    )
    add_hook_options(parser)
    add_config_options(parser, 'train_dataloader.batch_size=4 model.dorsal_weight=0.5')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    args = parser.parse_args()
    if args.amp_dtype and not args.amp:
        parser.error('--amp-dtype has no effect without --amp')
    return args


def load_config(args: argparse.Namespace) -> tuple[Config, bool]:
    """The config with all that the command line says, checked; and whether it resumes.

    Raises:
        ConfigError: For whatever would fail later; the message lists every reason.
    """
    cfg = read_config(args.config, args.cfg_options, args.launcher, args.work_dir)
    if args.global_batch_size is not None:
        set_global_batch_size(cfg, args.global_batch_size)
    if args.resume and os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') != '0':
        args.resume = 'auto'  # what has been done since the start is not lost
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    merge_hook_options(cfg, args)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    # what the model once started from is in the checkpoint that it goes on from
    resumed = checkpoint_to_resume(cfg) is not None
    check_config(without_initialization(cfg) if resumed else cfg)
    check_strategy(cfg)
    if args.amp:
        set_amp(cfg, args.amp_dtype)
    return cfg, resumed


def main() -> None:
    """Check, then build, then train; exit code 75 after a signal to stop, 1 after an error."""
    args = parse_args()
    try:
        cfg, resumed = load_config(args)
        check_writable(cfg.work_dir)
    except (ConfigError, WriteError) as error:
        fail(error)
    init_cpu_launcher(cfg)
    code = 0
    try:
        runner = build_runner(cfg)
        for remark in remarks(cfg, get_world_size(), args.auto_scale_lr, resumed):
            runner.logger.warning(remark)
        runner.train()
    except SystemExit as stop:
        if stop.code != EXIT_STOPPED:  # which all processes do together
            raise
        code = EXIT_STOPPED
    except (ConfigError, WriteError, FloatingPointError, TooManyBrokenSamples) as error:
        fail(error)
    except (LoaderLimitError, BrokenSampleError) as error:
        fail(without_traceback(error))
    except OSError as error:  # the log's files are on the same disk
        if error.errno not in DISK_ERRORS:
            raise
        fail(explain(error, error.filename or cfg.work_dir))
    leave(code)


if __name__ == '__main__':
    main()
