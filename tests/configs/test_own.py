"""Recipes for one's own videos: one place for each setting, and the whole way on a few clips."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.runner import Runner

from bimm_mm.config.agreement import remarks
from bimm_mm.config.loading import merge_config
from bimm_mm.config.schedule import schedule_problems
from bimm_mm.datasets import MovingShapesDataset

pytest.importorskip('mmaction', reason='reads videos')
pytest.importorskip('mmpretrain', reason='RandAugment is mmpretrains')
pytest.importorskip('decord', reason='decodes the videos')

CONFIGS = Path(__file__).parents[2] / 'configs' / 'bimm'
SIZES = dict(arch='tiny', img_size=32, num_frames=4, frame_interval=2)


@pytest.fixture(scope='module')
def videos(tmp_path_factory) -> Path:
    """Five videos of each of three classes, in folders whose names have blanks."""
    root = tmp_path_factory.mktemp('own')
    shapes = MovingShapesDataset(length=15, size=64, num_frames=12)
    for index in range(15):
        folder = root / f'class {index % 3}'
        folder.mkdir(exist_ok=True)
        frames = shapes[index]['inputs'].numpy().transpose(1, 2, 3, 0)
        code = cv2.VideoWriter_fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(folder / f'a clip {index}.mp4'), code, 12, (64, 64))
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
    return root


def load(name, **variables):
    return merge_config(str(CONFIGS / f'{name}.py'), SIZES | variables)


def samplers(cfg):
    loaders = [cfg[key] for key in cfg if key.endswith('_dataloader')]
    steps = [step for loader in loaders for step in loader.dataset.pipeline]
    return [step for step in steps if step.type.endswith('SampleFrames')]


@pytest.mark.parametrize('name', ['finetune_own_vitb', 'few_shot_own_vitb'])
def test_every_setting_of_finetuning_is_read_everywhere(name):
    cfg = load(name, num_classes=7, max_epochs=30, batch_size=3, flip_ratio=0.0, data_root='videos')
    assert cfg.model.cls_head.num_classes == 7 and cfg.model.cls_head.in_channels == 192
    blending = cfg.model.data_preprocessor.blending
    assert [augment.num_classes for augment in (blending or {}).get('augments', [])] in ([7, 7], [])
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    assert {loader.dataset.num_classes for loader in loaders} == {7}
    assert {loader.dataset.data_root for loader in loaders} == {'videos'}
    assert {(step.clip_len, step.frame_interval) for step in samplers(cfg)} == {(4, 2)}
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.img_size, backbone.num_frames) == ('tiny', 32, 4)
    assert cfg.train_dataloader.batch_size == 3
    assert cfg.model.cls_head.topk == (1, 5)
    assert load(name, num_classes=5).model.cls_head.topk == (1,)
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 3
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step.flip_ratio for step in steps if step.type == 'Flip'] == [0.0]
    for loader in loaders:
        sizes = [step[key] for step in loader.dataset.pipeline for key in step if 'size' in key]
        scales = [step.scale for step in loader.dataset.pipeline if step.type == 'Resize']
        assert {32} >= set(sizes) and set(scales) <= {(-1, 36), (-1, 32), (32, 32)}


def test_every_setting_of_pretraining_is_read_everywhere():
    cfg = load(
        'joint_own_vitb_edge', max_epochs=60, batch_size=4, start='a.pth', data_root='v', lr=1e-3
    )
    for branch in (cfg.model.ventral, cfg.model.dorsal):
        assert (branch.backbone.arch, branch.backbone.img_size) == ('tiny', 32)
    assert cfg.model.dorsal.backbone.num_frames == 4
    assert cfg.model.init_dorsal_from == 'a.pth'
    assert {(step.clip_len, step.frame_interval) for step in samplers(cfg)} == {(4, 2)}
    assert cfg.train_dataloader.batch_size == 4 and cfg.train_dataloader.dataset.data_root == 'v'
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 3


def test_videomaes_pretraining_goes_on_with_every_setting_of_own_videos():
    cfg = load('../videomae/continue_own_vitb', start='v.pth', data_root='v', lr=1e-3)
    backbone = cfg.model.dorsal.backbone
    assert (backbone.arch, backbone.img_size, backbone.num_frames) == ('tiny', 32, 4)
    assert 'ventral' not in cfg.model and not backbone.with_cls_token
    assert cfg.load_from == 'v.pth'
    assert {(step.clip_len, step.frame_interval) for step in samplers(cfg)} == {(4, 2)}
    assert cfg.train_dataloader.dataset.data_root == 'v'
    assert cfg.optim_wrapper.optimizer.lr == 1e-3


@pytest.mark.parametrize(
    'name',
    [
        'joint_own_vitb_edge',
        '../videomae/continue_own_vitb',
        'finetune_own_vitb',
        'few_shot_own_vitb',
    ],
)
def test_on_one_gpu_the_learning_rate_is_meant_for_the_batch(name):
    assert remarks(load(name), processes=1) == []
    (remark,) = remarks(load(name), processes=2)
    assert 'is meant for 8 samples a step, and there are 16' in remark


@pytest.mark.parametrize('name', ['finetune_own_vitb', 'few_shot_own_vitb'])
def test_an_encoder_of_any_size_is_finetuned(name):
    cfg = load(name, arch=dict(embed_dims=96, depth=4, num_heads=3))
    assert cfg.model.backbone.arch == dict(embed_dims=96, depth=4, num_heads=3)
    assert cfg.model.cls_head.in_channels == 96


def test_videomae_of_any_size_goes_on():
    options = SIZES | dict(arch=dict(embed_dims=96, depth=4, num_heads=3))
    cfg = merge_config(str(CONFIGS.parent / 'videomae/continue_own_vitb.py'), options)
    assert cfg.model.dorsal.backbone.stage_ends == (4,)


@pytest.mark.parametrize('name', ['joint_own_vitb_edge', 'finetune_own_vitb', 'few_shot_own_vitb'])
def test_one_epoch_is_enough_for_a_trial(name):
    cfg = load(name, max_epochs=1, start=None)
    assert not schedule_problems(cfg)
    assert [scheduler.type for scheduler in cfg.param_scheduler] == ['CosineAnnealingLR']


def test_lists_and_other_weights():
    cfg = load('finetune_own_vitb', train_list='a.txt')
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.75
    cfg = load('finetune_own_vitb', train_list='a.txt', start=None)
    assert cfg.model.backbone.init_cfg is None
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0
    both = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset]
    assert [(d.ann_file, d.split) for d in both] == [('a.txt', 'train'), ('a.txt', 'val')]
    cfg = load('finetune_own_vitb', train_list='a.txt', val_list='b.txt', with_cls_token=False)
    both = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset]
    assert [(d.ann_file, d.split) for d in both] == [('a.txt', 'all'), ('b.txt', 'all')]
    assert cfg.model.backbone.out_type == 'avg_featmap'


def run(cfg, folder, name):
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(folder), name, 'WARNING'
    for key in cfg:
        if key.endswith('_dataloader'):
            cfg[key].update(pin_memory=False)
    return Runner.from_cfg(cfg)


def test_the_whole_way_from_a_folder_to_a_test(videos, tmp_path):
    data = dict(data_root=str(videos), batch_size=6, img_size=64)
    cfg = load('joint_own_vitb_edge', start=None, max_epochs=2, **data)
    run(cfg, tmp_path / 'joint', 'joint').train()

    start = str(tmp_path / 'joint' / 'epoch_2.pth')
    cfg = load('few_shot_own_vitb', start=start, num_classes=3, max_epochs=2, **data)
    runner = run(cfg, tmp_path / 'few', 'few')
    runner.train()
    assert runner.iter == 4  # 12 of 15 videos
    metrics = runner.test()
    assert 0 <= metrics['acc/top1'] <= 1 and 'acc/top5' not in metrics  # of three classes
    assert runner.train_dataloader.dataset.metainfo['classes'] == ('class 0', 'class 1', 'class 2')
    assert list((tmp_path / 'few').glob('best_acc_top1_*.pth'))
