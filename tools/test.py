"""Test a checkpoint with a config's test settings, on one or many devices.

    python tools/test.py work_dirs/finetune_own_vitb/epoch_50.pth

Of a classifier it prints accuracy and classes, and writes predictions.csv and confusion.png.
"""

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import Dataset

from bimm_mm.cli.arguments import (
    add_config_and_checkpoint,
    add_config_options,
    fail,
    without_traceback,
)
from bimm_mm.config.agreement import tests_on_validation
from bimm_mm.config.check import ConfigError, check_config
from bimm_mm.config.loading import read_config
from bimm_mm.datasets.broken import BrokenSampleError
from bimm_mm.engine.runner import LAUNCHERS, build_runner, init_cpu_launcher, leave
from bimm_mm.evaluation import ClassificationResults
from bimm_mm.evaluation.functional.classification import ClassificationReport
from bimm_mm.models.checkpoints import check_fit, forget_initialization, read_checkpoint
from bimm_mm.utils.files import write_text
from bimm_mm.visualization import draw_confusion, save_figure

NEEDED = ('test_dataloader', 'test_cfg', 'test_evaluator')
NEEDED_FOR_TTA = ('tta_model', 'tta_pipeline')
CHOSEN = (
    'This checkpoint was chosen by these samples, as the best of the validations: expect less of '
    'others. The last checkpoint was not chosen'
)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_and_checkpoint(parser, 'config file', 'checkpoint file, or a URL')
    parser.add_argument('--work-dir', help='logs and metrics; default: that of the config')
    parser.add_argument(
        '--out-dir',
        type=Path,
        help='for predictions.csv and confusion.png; default: test/<checkpoint> in the work dir',
    )
    parser.add_argument('--classes', help='file with the names of the classes, one per line')
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
    args = parser.parse_intermixed_args()
    if args.dump and not args.dump.endswith(('.pkl', '.pickle')):
        parser.error(f'--dump {args.dump}: must end in .pkl or .pickle')
    return args


def load_config(args: argparse.Namespace) -> Config:
    """The config with all that the command line says merged into it, checked.

    Raises:
        ConfigError: For whatever would fail later; the message lists every reason.
    """
    cfg = read_config(args.config, args.cfg_options, args.launcher, args.work_dir, args.checkpoint)
    needed = NEEDED + (NEEDED_FOR_TTA if args.tta else ())
    missing = [key for key in needed if not cfg.get(key)]
    if missing:
        name = cfg.filename or f'the config of {args.checkpoint}'
        raise ConfigError(f'{name} cannot be tested: it has no {", ".join(missing)}')
    forget_initialization(cfg.model)
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)
    cfg.pop('strategy', None)  # of training; many devices are joined by DistributedDataParallel
    cfg.resume, cfg.load_from = False, args.checkpoint
    added = [dict(type='DumpResults', out_file_path=args.dump)] if args.dump else []
    added += [dict(type='ClassificationResults')] if is_classifier(cfg) else []
    if added:
        evaluator = cfg.test_evaluator
        metrics = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
        cfg.test_evaluator = [*metrics, *added]
    check_config(cfg, loops=['test'])
    return cfg


def is_classifier(cfg: Config) -> bool:
    """Whether the model gives each sample one score per class, as those of two libraries do."""
    model = cfg.model.get('module', cfg.model)  # with --tta
    head = model.get('cls_head') or model.get('head') or {}
    return 'num_classes' in head and 'roi_head' not in model


def write_report(runner: Runner, args: argparse.Namespace) -> None:
    """Print accuracy and classes, and write predictions.csv and confusion.png.

    Raises:
        ValueError: ``--classes`` has another number of names than the model has classes.
    """
    metrics = runner.test_loop.evaluator.metrics
    found = next((m for m in metrics if isinstance(m, ClassificationResults)), None)
    if found is None or found.labels is None or not is_main_process():
        return
    dataset, number = runner.test_dataloader.dataset, found.scores.shape[1]
    report = ClassificationReport(
        found.labels.numpy(),
        found.scores.numpy(),
        class_names(args.classes, dataset, number),
        [file_of(dataset, index) for index in range(len(found.labels))],
    )
    folder = args.out_dir or Path(runner.work_dir) / 'test' / Path(args.checkpoint).stem
    figure = draw_confusion(report.confusion, report.names, Path(args.checkpoint).name)
    save_figure(figure, folder / 'confusion.png')
    write_text(folder / 'predictions.csv', report.csv())
    runner.logger.info(report.text())
    if Path(args.checkpoint).name.startswith('best_') and tests_on_validation(runner.cfg):
        runner.logger.warning(CHOSEN)
    runner.logger.info(f'Written to {folder}: predictions.csv, confusion.png')


def class_names(path: str | None, dataset: Dataset, number: int) -> list[str]:
    """Names from a file or the data set, or the numbers from 0 on."""
    if path is not None:
        names = Path(path).read_text().splitlines()
        if len(names) != number:
            raise ValueError(f'--classes {path} has {len(names)} lines, the model {number} classes')
        return names
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    return list(names) if len(names) == number else [str(label) for label in range(number)]


def file_of(dataset: Dataset, index: int) -> str:
    """The file of a sample; its number where the data set does not know it."""
    info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
    keys = ('filename', 'img_path', 'frame_dir')
    return str(next((info[key] for key in keys if key in info), index))


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
    try:
        runner.test()
    except BrokenSampleError as error:
        fail(without_traceback(error))
    try:
        write_report(runner, args)
    except (ValueError, OSError) as error:
        fail(error)
    leave()


if __name__ == '__main__':
    main()
