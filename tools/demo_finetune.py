"""Finetune the encoder that the demo pretrained, and the same encoder from scratch, on few labels.

Both get the same labeled clips, the same steps and the same schedule; both are tested on the same
new clips. Needs the checkpoint that tools/demo.py writes, no data, no GPU and no mmaction2.

Shape and texture gain from pretraining. Motion does not, at this size: 100 steps teach all of it
from scratch, and less to the pretrained encoder.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn

import bimm_mm  # noqa: F401
from bimm_mm.evaluation.functional.accuracy import Accuracy

CLASSES = dict(motion=16, shape=6, texture=4)
WARMUP = 30  # steps


def build_config(label: str, clips: int, iters: int, work_dir: Path) -> Config:
    """What is trained: the demo's dorsal encoder and a linear layer, on ``clips`` clips."""
    dataset = dict(type='MovingShapesDataset', num_frames=8, directions=8)
    loader = dict(num_workers=0, collate_fn=dict(type='pseudo_collate'))
    model = dict(
        type='ShapesClassifier',
        label=label,
        num_classes=CLASSES[label],
        backbone=dict(
            type='BimmViT',
            arch=dict(embed_dims=96, depth=6, num_heads=4),
            img_size=32,
            patch_size=8,
            num_frames=8,
            tubelet_size=2,
            stage_ends=(2, 4, 6),
            out_type='avg_featmap',
        ),
        data_preprocessor=dict(type='ClipDataPreprocessor'),
    )
    schedule = dict(by_epoch=False, begin=WARMUP, end=iters, T_max=iters - WARMUP)
    return Config(
        dict(
            model=model,
            work_dir=str(work_dir),
            log_level='WARNING',
            # other clips than in pretraining and its probes
            train_dataloader=dict(
                loader,
                batch_size=32,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(dataset, length=clips, seed=100),
            ),
            held_out=dict(
                loader,
                batch_size=192,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(dataset, length=5 * 384, seed=4),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
            # a high rate for all layers: with 1e-3 and 0.75 per layer both learned less
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.999), weight_decay=0.05),
                clip_grad=dict(max_norm=1.0),
                constructor='LayerDecayOptimWrapperConstructor',
                paramwise_cfg=dict(layer_decay_rate=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=WARMUP),
                dict(schedule, type='CosineAnnealingLR'),
            ],
            custom_hooks=[dict(type='FiniteLossHook')],
            default_hooks=dict(checkpoint=None),
            log_processor=dict(by_epoch=False),
        )
    )


@MODELS.register_module()
class ShapesClassifier(BaseModel):
    """An encoder and a linear layer on the mean token of a clip.

    Args:
        backbone: :class:`BimmViT` with ``out_type='avg_featmap'``.
        data_preprocessor: Normalizes the clips.
        label: Field of the data samples, as 'shape'.
        num_classes: Its number of classes.
    """

    def __init__(
        self, backbone: dict, data_preprocessor: dict, label: str, num_classes: int
    ) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(self.backbone.embed_dims, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.label = label

    def forward(
        self, inputs: Tensor, data_samples: list, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor]:
        """Clips (B, 3, T, H, W) to scores (B, classes), or with ``mode='loss'`` to the loss."""
        scores = self.head(self.backbone(inputs)[-1])
        if mode != 'loss':
            return scores
        labels = [getattr(sample, self.label) for sample in data_samples]
        return dict(loss=F.cross_entropy(scores, torch.tensor(labels, device=scores.device)))


def finetune(cfg: Config, init_cfg: dict | None, seed: int) -> nn.Module:
    """Train the classifier of the config from ``init_cfg``; None is from scratch."""
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.init_cfg = init_cfg
    cfg.train_dataloader.dataset.seed += seed  # other labeled clips
    cfg.randomness = dict(seed=seed)
    kind = 'scratch' if init_cfg is None else 'pretrained'
    cfg.work_dir = str(Path(cfg.work_dir) / kind)
    cfg.experiment_name = f'{kind}-{cfg.model.label}-{seed}'
    set_random_seed(seed)
    return Runner.from_cfg(cfg).train()


@torch.no_grad()
def evaluate(model: nn.Module, loader: torch.utils.data.DataLoader) -> Accuracy:
    """Accuracy on the clips of a loader."""
    model.eval()
    correct = []
    for batch in loader:
        batch = model.data_preprocessor(batch)
        labels = [getattr(sample, model.label) for sample in batch['data_samples']]
        scores = model(**batch)
        correct.append(scores.argmax(1).cpu() == torch.tensor(labels))
    correct = torch.cat(correct)
    return Accuracy(correct.float().mean().item(), len(correct), 1 / scores.shape[1])


def main() -> None:
    """Finetune both, and print both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--checkpoint',
        type=Path,
        default='work_dirs/demo/joint_shapes/last.pth',
        help='of tools/demo.py; default: %(default)s',
    )
    parser.add_argument(
        '--work-dir', type=Path, default='work_dirs/demo_finetune', help='default: %(default)s'
    )
    parser.add_argument(
        '--label', choices=tuple(CLASSES), default='shape', help='default: %(default)s'
    )
    parser.add_argument(
        '--clips', type=int, default=384, help='labeled clips; default: %(default)s'
    )
    parser.add_argument(
        '--iters', type=int, default=100, help='steps of 32 clips; default: %(default)s'
    )
    parser.add_argument('--seeds', type=int, default=1, help='repetitions, each on other clips')
    args = parser.parse_args()
    if not args.checkpoint.is_file():
        parser.error(f'no checkpoint {args.checkpoint}: run tools/demo.py first, or name another')
    if args.iters <= WARMUP:
        parser.error(f'--iters {args.iters} must be more than the warm-up, {WARMUP}')

    cfg = build_config(args.label, args.clips, args.iters, args.work_dir)
    test = Runner.build_dataloader(cfg.held_out)
    pretrained = dict(type='Pretrained', checkpoint=str(args.checkpoint), prefix='dorsal.backbone.')

    print(
        f'{args.label}: {cfg.model.num_classes} classes, {args.clips} labeled clips, '
        f'{args.iters} steps, tested on {len(test.dataset)} new clips'
    )
    start = time.monotonic()
    gains = []
    for seed in range(args.seeds):
        scores = [evaluate(finetune(cfg, init, seed), test) for init in (pretrained, None)]
        ours, scratch = scores
        gains.append(ours.value - scratch.value)
        print(
            f'seed {seed}: pretrained {ours.value:6.1%} ± {ours.error:.1%}   '
            f'from scratch {scratch.value:6.1%} ± {scratch.error:.1%}   chance {ours.chance:.1%}',
            flush=True,
        )
    verdict = '' if min(gains) > 0 else '   not always above training from scratch'
    print(f'gain: {sum(gains) / len(gains):+.1%} on average{verdict}')
    print(f'Took {time.monotonic() - start:.0f} s.')


if __name__ == '__main__':
    main()
