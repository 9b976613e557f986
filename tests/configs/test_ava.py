"""Detection: table 9, and a training and a test on a small set in AVA's format."""

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from bimm_mm.config.check import ConfigError
from bimm_mm.engine.runner import CalmRunner

pytest.importorskip('mmaction', reason='detection is mmaction2')
pytest.importorskip('mmdet', reason='its detector is mmdet')
pytest.importorskip('mmcv.ops', reason='RoIAlign is compiled')

CONFIGS = Path(__file__).parents[2] / 'configs' / 'bimm'
VIDEOS = ('0f39OWEqJ24', '_-Z6wFjXtGQ')  # AVA's names have eleven characters


@pytest.fixture(scope='module')
def ava(tmp_path_factory) -> Path:
    """Two videos from 900 to 903 s as frames; boxes, labels, exclusions, proposals."""
    folder = tmp_path_factory.mktemp('ava')
    generator = np.random.default_rng(0)
    for video in VIDEOS:
        (folder / video).mkdir()
        for index in range(95):
            frame = generator.integers(0, 255, (8, 11, 3), dtype=np.uint8)
            frame = cv2.resize(frame, (88, 64))
            cv2.imwrite(str(folder / video / f'img_{index + 1:05}.jpg'), frame)
    lines = [
        f'{video},{second:04d},{box},{label},0'
        for video in VIDEOS
        for second in (901, 902)
        for box, label in (
            ('0.031,0.162,0.670,0.995', 12),
            ('0.031,0.162,0.670,0.995', 80),
            ('0.500,0.100,0.900,0.800', 17),
        )
    ]
    (folder / 'boxes.csv').write_text('\n'.join(lines) + '\n')
    (folder / 'excluded.csv').write_text(f'{VIDEOS[1]},0902\n')
    labels = ''.join(f'item {{\n  name: "a{i}"\n  id: {i}\n}}\n' for i in (12, 17, 80))
    (folder / 'labels.pbtxt').write_text(labels)
    detected = [[0.03, 0.16, 0.67, 0.99, 0.97], [0.5, 0.1, 0.9, 0.8, 0.81], [0, 0, 1, 1, 0.79]]
    proposals = {f'{v},{s:04d}': np.array(detected) for v in VIDEOS for s in (901, 902)}
    (folder / 'proposals.pkl').write_bytes(pickle.dumps(proposals))
    return folder


def small(name: str, folder: Path, work_dir: Path) -> Config:
    """The recipe, on the small set and with a small encoder."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    files = dict(
        ann_file=str(folder / 'boxes.csv'),
        exclude_file=str(folder / 'excluded.csv'),
        label_file=str(folder / 'labels.pbtxt'),
    )
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.dataset.update(files, data_prefix=dict(img=str(folder)))
        loader.update(batch_size=2 if split == 'train' else 1, num_workers=0)
        loader.update(persistent_workers=False, pin_memory=False)
        if split != 'train':
            loader.dataset.proposal_file = str(folder / 'proposals.pkl')
            cfg[f'{split}_evaluator'].update(files)
    depth = cfg.model.backbone.stage_ends[-1]
    cfg.model.backbone.update(arch=dict(embed_dims=16, depth=depth, num_heads=2), init_cfg=None)
    cfg.model.backbone.drop_path_rate = 0  # of two clips, a block may get neither
    cfg.model.roi_head.bbox_head.in_channels = 16
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.work_dir = str(work_dir)
    cfg.default_hooks.logger.interval = 1
    cfg.param_scheduler = None  # a step of the warm-up would be too small to be seen
    cfg.optim_wrapper.optimizer.lr = 0.01
    return cfg


@pytest.mark.parametrize('arch', ['vitb', 'vitl'])
def test_trains_and_measures_mean_average_precision(arch, ava, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # mmaction2's metric writes a file where it is started
    cfg = small(f'finetune_ava_{arch}', ava, tmp_path)
    cfg.experiment_name = f'{arch}-{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 1  # three keyframes, one was excluded, two make a batch
    scalars = runner.message_hub.log_scalars
    assert np.isfinite(scalars['train/loss_action_cls'].data[0]).all()
    assert 0 <= scalars['val/mAP/overall'].data[0][-1] <= 1
    same = [key for key, value in runner.model.named_parameters() if value.equal(before[key])]
    # keys have a bias without effect, and class 0, the background, has no loss
    assert not [key for key in same if not key.endswith('bias')]


def test_frames_that_a_validation_would_miss_are_told_before_training(ava, tmp_path):
    """Those that the keyframe's clip reaches into, and only in an evaluation."""
    folder = tmp_path / 'frames'
    shutil.copytree(ava, folder)
    for index in (89, 91, 95):  # the clip around second 902 reads 30, 34, ..., 90
        (folder / VIDEOS[0] / f'img_{index:05}.jpg').unlink()
    cfg = small('finetune_ava_vitb', folder, tmp_path)
    cfg.experiment_name = tmp_path.name
    init_default_scope('mmaction')
    val = Runner.build_dataloader(cfg.val_dataloader).dataset
    assert val.missing() == []
    for index in (86, 90):
        (folder / VIDEOS[0] / f'img_{index:05}.jpg').unlink()
    state = np.random.get_state()[1].copy()
    wanted = f'{VIDEOS[0]},0902: {folder}/{VIDEOS[0]} lacks img_00086.jpg and 1 more'
    assert val.missing() == [wanted]
    assert np.array_equal(np.random.get_state()[1], state)
    runner = CalmRunner.from_cfg(cfg)
    with pytest.raises(ConfigError, match='files of 1 of 3 samples are missing') as raised:
        runner.train()
    assert wanted in str(raised.value) and 'exclude_file' in str(raised.value)
    assert runner.iter == 0
    # as the message says
    (folder / 'excluded.csv').write_text(f'{VIDEOS[1]},0902\n{VIDEOS[0]},0902\n')
    assert Runner.build_dataloader(cfg.val_dataloader).dataset.missing() == []


def test_training_sees_annotated_boxes_and_the_test_detected_ones(ava, tmp_path):
    cfg = small('finetune_ava_vitb', ava, tmp_path)
    init_default_scope('mmaction')
    train = Runner.build_dataloader(cfg.train_dataloader).dataset
    sample = train[0]
    assert sample['inputs'].shape == (3, 16, 224, 224)
    assert len(sample['data_samples'].gt_instances) == 2
    assert len(sample['data_samples'].proposals) == 0
    labels = sample['data_samples'].gt_instances.labels
    assert [row.nonzero().flatten().tolist() for row in labels] == [[12, 80], [17]]

    test = Runner.build_dataloader(cfg.test_dataloader).dataset
    sample = test[0]
    assert sample['inputs'].shape == (3, 16, 256, 352)  # the whole frame
    boxes = sample['data_samples'].proposals.bboxes
    wanted = torch.tensor([[0.03, 0.16, 0.67, 0.99], [0.5, 0.1, 0.9, 0.8]])
    torch.testing.assert_close(
        boxes, wanted * torch.tensor([352, 256, 352, 256.0]), rtol=1e-4, atol=0.1
    )


@pytest.mark.parametrize('name, arch, ends', [('vitb', 'base', 12), ('vitl', 'large', 24)])
def test_recipe_is_that_of_table_9(name, arch, ends):
    cfg = Config.fromfile(CONFIGS / f'finetune_ava_{name}.py')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.betas, optimizer.weight_decay) == (
        'AdamW',
        (0.9, 0.999),
        0.05,
    )
    assert optimizer.lr == pytest.approx(2.5e-4 * 8 * 16 / 256)
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.75
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 5)
    assert (cosine.begin, cfg.train_cfg.max_epochs) == (5, 30)
    assert 'end' not in cosine  # the end of the run
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.stage_ends[-1], backbone.drop_path_rate) == (arch, ends, 0.2)
    assert backbone.init_cfg.prefix == 'dorsal.backbone.'
    sampling = cfg.test_dataloader.dataset.pipeline[0]
    assert (sampling.clip_len, sampling.frame_interval, sampling.test_mode) == (16, 4, True)
    assert cfg.test_dataloader.dataset.person_det_score_thr == 0.8
