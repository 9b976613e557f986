"""Nearest neighbors and rank are measured while a model trains, and change nothing in it."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from bimm_mm.engine.hooks import RepresentationHook
from bimm_mm.evaluation.functional.features import encode_labeled
from bimm_mm.evaluation.functional.knn import knn_accuracy
from bimm_mm.evaluation.functional.rank import effective_rank
from bimm_mm.models import BimmViT

BACKBONE = dict(
    type='BimmViT',
    arch=dict(embed_dims=24, depth=2, num_heads=3),
    img_size=16,
    patch_size=8,
    num_frames=4,
    stage_ends=(1, 2),
    out_type='raw',
)


def loader(length: int, seed: int, shuffle: bool = False) -> dict:
    shapes = dict(type='MovingShapesDataset', length=length, size=16, num_frames=4, seed=seed)
    return dict(
        batch_size=8,
        dataset=shapes,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        collate_fn=dict(type='pseudo_collate'),
    )


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs['loss'].item())


def train(folder, hooks, by_epoch=False, **more):
    loop = dict(type='EpochBasedTrainLoop', max_epochs=3)
    if not by_epoch:
        loop = dict(type='IterBasedTrainLoop', max_iters=5)
    losses = Losses()
    branch = dict(
        backbone=BACKBONE,
        masking=dict(type='TubeMasking', ratio=0.5),
        neck=dict(type='MultiStageDecoder', decoders=[dict(type='LinearDecoder')] * 2),
        targets=[dict(type='PixelTarget'), dict(type='MotionTarget')],
    )
    runner = Runner(
        model=dict(type='SingleBranchPretrainer', dorsal=branch),
        work_dir=str(folder),
        train_dataloader=loader(16, seed=0, shuffle=True),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        randomness=dict(seed=0),
        log_level='WARNING',
        default_scope='mmengine',
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        custom_hooks=[*hooks, losses],
        cfg=dict(probe_train=loader(48, seed=1), probe_test=loader(24, seed=2), **more),
        experiment_name=folder.name,
    )
    runner.train()
    return runner, losses.values


def scalars(folder):
    (file,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if 'rank' in line]


def test_accuracy_and_rank_are_logged_and_the_training_stays_as_it_was(tmp_path):
    hook = dict(type='RepresentationHook', interval=2, by_epoch=False, k=5, labels=['shape'])
    _, plain = train(tmp_path / 'plain', [])
    runner, losses = train(tmp_path / 'measured', [hook])
    assert losses == plain and len(losses) == 5
    found = scalars(tmp_path / 'measured')
    assert [line['step'] for line in found] == [2, 4, 5]
    assert runner.model.training

    encoder = BimmViT(**{k: v for k, v in BACKBONE.items() if k != 'type'} | dict(out_type='raw'))
    encoder.load_state_dict(runner.model.dorsal.backbone.state_dict())

    def mean(x):
        return [encoder(x)[-1][:, 1:].mean(1)]

    wrapped = torch.nn.Module()
    wrapped.forward = mean
    preprocessor = runner.model.data_preprocessor
    features = [
        encode_labeled(wrapped, preprocessor, Runner.build_dataloader(data), 'shape')
        for data in (loader(48, seed=1), loader(24, seed=2))
    ]
    assert found[-1]['knn/shape'] == pytest.approx(knn_accuracy(*features, k=5).value)
    assert found[-1]['rank'] == pytest.approx(effective_rank(features[1][0]), rel=1e-4)


def test_processes_share_the_samples_and_put_them_together_in_order(tmp_path, monkeypatch):
    runner, _ = train(tmp_path / 'plain', [])
    hook, model = RepresentationHook(labels=['shape']), runner.model.eval()
    data = loader(11, seed=1)  # not a multiple of the processes
    whole = hook.encode(model, model.dorsal.backbone, Runner.build_dataloader(data))
    shares = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        share = Runner.build_dataloader(data)
        shares.append((hook.encode(model, model.dorsal.backbone, share)[0], share))
    module = 'bimm_mm.engine.hooks.representation_hook'
    monkeypatch.setattr(f'{module}.get_world_size', lambda: 2)
    monkeypatch.setattr(
        f'{module}.all_gather',
        lambda x: [f for f, _ in shares] if x.is_floating_point() else [x, x],
    )
    features, _ = hook.encode(model, model.dorsal.backbone, shares[0][1])
    assert len(shares[0][0]) == 6 and torch.allclose(features, whole[0], atol=1e-5)


def test_by_epoch_with_loaders_of_its_own(tmp_path):
    hook = dict(
        type='RepresentationHook',
        interval=2,
        labels=['shape', 'texture'],
        train=loader(8, seed=1),
        test=loader(8, seed=2),
    )
    train(tmp_path / 'epochs', [hook], by_epoch=True)
    found = scalars(tmp_path / 'epochs')
    assert len(found) == 2 and {'knn/shape', 'knn/texture', 'rank'} < found[0].keys()


def test_what_is_missing_is_told_before_the_training(tmp_path):
    hook = dict(type='RepresentationHook', interval=2, branch='ventral')
    with pytest.raises(ValueError, match="branch='ventral': SingleBranchPretrainer has no such"):
        train(tmp_path / 'branch', [hook])
    with pytest.raises(ValueError, match='train and test must be given together'):
        RepresentationHook(train=loader(8, seed=1))
    with pytest.raises(ValueError, match='interval=0 and k=20 must be at least 1'):
        RepresentationHook(interval=0)


def test_effective_rank():
    torch.manual_seed(0)
    x = torch.randn(400, 8)
    assert effective_rank(x) == pytest.approx(8, abs=0.1)
    assert effective_rank(x[:, :2] @ torch.randn(2, 8)) < 2.01
    assert effective_rank(torch.ones(20, 8)) == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match='must be'):
        effective_rank(torch.ones(3))
