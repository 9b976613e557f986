"""Pretrain a small BIMM in both stages on generated clips, and show what it learned.

Needs no data, no GPU and no mmaction2. ``make demo`` runs it.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bimm_mm.engine import ReconstructionHook
from bimm_mm.evaluation.functional.accuracy import Accuracy
from bimm_mm.evaluation.functional.features import mean_token_features
from bimm_mm.evaluation.functional.linear_probe import fit_linear_probe
from bimm_mm.utils.files import write_text, write_whole
from bimm_mm.utils.progress import Progress
from bimm_mm.visualization import draw_reconstruction, save_figure

CONFIGS = Path(__file__).parents[1] / 'configs' / 'bimm' / 'demo'
LABELS = ('motion', 'shape', 'texture')


class ProgressHook(Hook):
    """Show how far a training is, how long it will take, and what its stages explain.

    Args:
        name: Of the stage.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def before_train(self, runner: Runner) -> None:
        """Start the bar."""
        self.bar = Progress(self.name, runner.max_iters).__enter__()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Count the iteration."""
        explained = {
            key.removeprefix('train/explained_'): history.mean(50)
            for key, history in runner.message_hub.log_scalars.items()
            if key.startswith('train/explained_')
        }
        texts = (f'{key} {value:.0%}' for key, value in explained.items())
        self.bar.advance(note='explained: ' + '  '.join(texts))

    def after_train(self, runner: Runner) -> None:
        """End the bar."""
        self.bar.__exit__(None, None, None)


class PictureHook(ReconstructionHook):
    """Renew a picture while a stage trains: two samples of its first batch, with the same masks.

    Args:
        path: A PNG file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(interval=400, samples=2)
        self.path = path

    def show(self, runner: Runner, image: np.ndarray) -> None:
        """Write the picture whole, for viewers that follow the file."""
        data = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
        write_whole(self.path, lambda file: file.write(data))


def main() -> None:
    """Run both stages, the probes and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--work-dir', type=Path, default='work_dirs/demo', help='default: %(default)s'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of weights, masks and samples; default: %(default)s'
    )
    args = parser.parse_args()
    folder = args.work_dir
    picture = folder / 'reconstruction.png'
    start = time.monotonic()
    print(f'What each stage sees and predicts, renewed every 400 steps: {picture}')

    print('Stage 1: the ventral branch, on single frames.')
    ventral = load('ventral_shapes', folder, args.seed)
    train(ventral, 'stage 1', picture)
    print('Stage 2: both branches jointly, on clips, from the ventral encoder of stage 1.')
    joint = load('joint_shapes', folder, args.seed)
    joint.model.init_dorsal_from = str(Path(ventral.work_dir) / 'last.pth')
    model = train(joint, 'stage 2', picture)

    print('Probes: logistic regression on frozen features of the dorsal encoder.')
    loaders = {
        split: Runner.build_dataloader(joint[f'probe_{split}']) for split in ('train', 'test')
    }
    torch.manual_seed(args.seed)
    untrained = MODELS.build(joint.model)
    trained_scores, random_scores = (probe(m, loaders) for m in (model, untrained))

    batch = model.data_preprocessor(next(iter(loaders['test'])))
    model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        results = model(**batch, mode='predict')
    save_figure(draw_reconstruction(model, results, samples=(0, 1)), picture)

    explained = explained_variance(model, loaders['test'])
    scores = {
        label: dict(trained=trained_scores[label].value, random=random_scores[label].value)
        for label in LABELS
    }
    figures = dict(seed=args.seed, explained=explained, accuracy=scores)
    write_text(folder / 'figures.json', json.dumps(figures, indent=2) + '\n')

    print(f'\nExplained variance of the targets on {len(loaders["test"].dataset)} new clips')
    for name, value in explained.items():
        print(f'  {name:16s} {value:6.1%}{"" if value > 0.05 else "   not clearly positive"}')
    print(f'\n{"probe accuracy":16s}   trained        random encoder  chance')
    for label in LABELS:
        trained, random = trained_scores[label], random_scores[label]
        error = (trained.error**2 + random.error**2) ** 0.5
        verdict = '' if trained.value - random.value > error else '   not above the random encoder'
        print(
            f'  {label:16s} {trained.value:6.1%} ± {trained.error:.1%}  '
            f'{random.value:6.1%} ± {random.error:.1%}  {trained.chance:6.1%}{verdict}'
        )
    print(f'\nOriginals, masks, targets and predictions: {picture}')
    print(f'Checkpoint: {Path(joint.work_dir) / "last.pth"}')
    print(f'Took {clock(time.monotonic() - start)}.')


def load(name: str, folder: Path, seed: int) -> Config:
    """A config of the demo."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.work_dir = str(folder / name)
    cfg.experiment_name = name
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    cfg.log_level = 'WARNING'  # the progress is enough to read; all scalars are in the work dir
    return cfg


def train(cfg: Config, name: str, picture: Path) -> nn.Module:
    """Train a config to the end; its weights are in ``last.pth`` of the work dir afterwards."""
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ProgressHook(name))
    runner.register_hook(PictureHook(picture))
    model = runner.train()
    runner.save_checkpoint(cfg.work_dir, 'last.pth', save_optimizer=False)
    return model


def probe(model: nn.Module, loaders: dict[str, DataLoader]) -> dict[str, Accuracy]:
    """Accuracy of a linear probe for each label on the dorsal encoder."""
    features = {
        split: mean_token_features(model.dorsal.backbone, model.data_preprocessor, loader)
        for split, loader in loaders.items()
    }
    labels = {split: loader.dataset.labels for split, loader in loaders.items()}

    def pair(split: str, label: str) -> tuple[Tensor, Tensor]:
        return features[split], torch.from_numpy(labels[split][label])

    return {label: fit_linear_probe(pair('train', label), pair('test', label)) for label in LABELS}


@torch.no_grad()
def explained_variance(model: nn.Module, loader: DataLoader) -> dict[str, float]:
    """Explained variance of every stage, averaged over the batches of a loader."""
    model.eval()
    batches = [model(**model.data_preprocessor(batch), mode='loss') for batch in loader]
    names = [key for key in batches[0] if key.startswith('explained_')]
    return {
        name.removeprefix('explained_'): torch.stack([b[name] for b in batches]).mean().item()
        for name in names
    }


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


if __name__ == '__main__':
    main()
