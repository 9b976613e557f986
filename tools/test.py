"""Test a checkpoint with a config's test settings, on one or many devices; see --help."""

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.model import BaseTTAModel, is_model_wrapper

from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import read_config
from bimm_mm.engine.runner import LAUNCHERS, build_runner, init_cpu_launcher, leave
from bimm_mm.models.checkpoints import check_fit, forget_initialization, read_checkpoint

NEEDED = ('test_dataloader', 'test_cfg', 'test_evaluator')
NEEDED_FOR_TTA = ('tta_model', 'tta_pipeline')


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Test a checkpoint with a config's test settings.")
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a URL')
    parser.add_argument('--work-dir', help='logs and metrics; default: work_dirs/<config name>')
    parser.add_argument(
        '--dump', metavar='OUT.pkl', help='write the predictions of all samples to this file'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="average over the views of the config's tta_pipeline, e.g. scales and mirror images",
    )
    add_config_options(parser, 'test_dataloader.batch_size=4')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    args = parser.parse_args()
    if args.dump and not args.dump.endswith(('.pkl', '.pickle')):
        parser.error(f'--dump {args.dump}: must end in .pkl or .pickle')
    return args


def load_config(args: argparse.Namespace) -> Config:
    """The config with all that the command line says merged into it, checked.

    Raises:
        ConfigError: For whatever would fail later; the message lists every reason.
    """
    cfg = read_config(args.config, args.cfg_options, args.launcher, args.work_dir)
    needed = NEEDED + (NEEDED_FOR_TTA if args.tta else ())
    missing = [key for key in needed if not cfg.get(key)]
    if missing:
        raise ConfigError(f'{cfg.filename} cannot be tested: it has no {", ".join(missing)}')
    forget_initialization(cfg.model)
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)
    cfg.pop('strategy', None)  # of training; many devices are joined by DistributedDataParallel
    cfg.resume, cfg.load_from = False, args.checkpoint
    if args.dump:
        evaluator = cfg.test_evaluator
        metrics = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
        cfg.test_evaluator = [*metrics, dict(type='DumpResults', out_file_path=args.dump)]
    check_config(cfg, loops=['test'])
    return cfg


def main() -> None:
    """Check, then build, then test."""
    args = parse_args()
    is_local = '://' not in args.checkpoint
    try:
        state = read_checkpoint(args.checkpoint)['state_dict'] if is_local else None
        cfg = load_config(args)
    except (ConfigError, OSError, ValueError) as error:
        fail(error)
    init_cpu_launcher(cfg)
    runner = build_runner(cfg)
    if is_local:
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        try:
            check_fit(model, state, args.checkpoint)
        except ValueError as error:
            fail(error)
    if args.dump:
        Path(args.dump).parent.mkdir(parents=True, exist_ok=True)
    runner.test()
    leave()


if __name__ == '__main__':
    main()
