"""Finetuning for action recognition: table 9 of the paper, and every config on encoded videos."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner

import bimm_mm  # noqa: F401
from bimm_mm.datasets import MovingShapesDataset

pytest.importorskip('mmaction', reason='recognizers are mmaction2s')
pytest.importorskip('mmpretrain', reason='RandAugment is mmpretrains')
pytest.importorskip('decord', reason='decodes the videos')

CONFIGS = Path(__file__).parents[2] / 'configs' / 'bimm'
DATA = ('k400', 'ssv2', 'ucf101', 'hmdb51')
RECIPES = [f'finetune_{data}_{arch}' for data in DATA for arch in ('vitb', 'vitl')]
PROBES = ['linear_k400_vitb', 'linear_ssv2_vitb', 'linear_ucf101_vitb', 'attentive_k400_vitb']
RUN = [*RECIPES, *PROBES, 'regression_example_vitb']
SIZES = {224: 32, 256: 40}  # of frames in the pipelines


def load(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def shrink(cfg):
    """Few channels, blocks and pixels; all else as it is."""
    cfg.model.backbone.update(
        arch=dict(embed_dims=24, depth=3, num_heads=2),
        stage_ends=(1, 2, 3),
        img_size=32,
        init_cfg=None,
    )
    cfg.model.cls_head.in_channels = 24
    if cfg.model.cls_head.type == 'AttentiveHead':
        cfg.model.cls_head.num_heads = 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for transform in loader.dataset.pipeline:
            for step in (transform, *transform.get('transforms', [])):
                for key in {'scale', 'crop_size'} & set(step):
                    value = step[key]
                    pair = isinstance(value, tuple | list)
                    step[key] = (
                        tuple(SIZES.get(v, v) for v in value) if pair else SIZES.get(value, value)
                    )
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=2)
    return cfg


def transforms(pipeline):
    return {re.sub(r'.*[./]', '', transform.type): transform for transform in pipeline}


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Four encoded videos of 20 frames, 64x48 pixels, and lists of them."""
    folder = tmp_path_factory.mktemp('videos')
    shapes = MovingShapesDataset(length=4, size=64, num_frames=20)
    for index in range(4):
        frames = shapes[index]['inputs'].numpy().transpose(1, 2, 3, 0)[:, :48]
        writer = cv2.VideoWriter(
            str(folder / f'{index}.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48)
        )
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
    (folder / 'classes.txt').write_text(''.join(f'{i}.mp4 {i % 2}\n' for i in range(4)))
    (folder / 'numbers.txt').write_text(''.join(f'{i}.mp4 {i / 4}\n' for i in range(4)))
    return folder


def read_from(cfg, folder):
    """Let all loaders of a config read the videos of the test."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        regression = loader.dataset.type == 'VideoRegressionDataset'
        loader.dataset.update(
            data_root=str(folder),
            ann_file='numbers.txt' if regression else 'classes.txt',
            data_prefix=dict(video=''),
        )
    return cfg


VIEWS = dict(k400=(5, 3), ssv2=(2, 3), ucf101=(5, 3), hmdb51=(10, 3))  # clips and crops
CLASSES = dict(k400=400, ssv2=174, ucf101=101, hmdb51=51)


@pytest.mark.parametrize('name', RECIPES)
def test_sizes_of_a_recipe_agree(name):
    cfg = load(name)
    _, data, arch = name.split('_')
    large = arch == 'vitl'
    assert cfg.model.backbone.arch == ('large' if large else 'base')
    assert cfg.model.backbone.stage_ends == ((4, 8, 24) if large else (2, 4, 12))
    assert cfg.model.cls_head.in_channels == (1024 if large else 768)
    parts = [cfg.model.cls_head, *cfg.model.data_preprocessor.blending.augments]
    parts += [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset]
    parts += [cfg.test_dataloader.dataset]
    assert {part.num_classes for part in parts} == {CLASSES[data]}
    training = transforms(cfg.train_dataloader.dataset.pipeline)
    assert 'RandomErasing' in training and 'TransformBroadcaster' in training


@pytest.mark.parametrize('name', RECIPES)
def test_starts_from_a_checkpoint_that_a_recipe_writes(name):
    path = Path(load(name).model.backbone.init_cfg.checkpoint)
    recipe = load(path.parent.name)
    assert path.name == f'epoch_{recipe.train_cfg.max_epochs}.pth'
    assert recipe.model.dorsal.backbone.arch == load(name).model.backbone.arch


@pytest.mark.parametrize('name', RUN)
def test_trains_and_tests_on_encoded_videos(name, videos, tmp_path):
    cfg = read_from(shrink(load(name)), videos)
    cfg.work_dir = str(tmp_path)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = cfg.param_scheduler[:1]  # the warm-up alone
    cfg.default_hooks.logger.interval = 1
    cfg.log_level = 'WARNING'
    cfg.experiment_name = f'{name}-{tmp_path.name}'
    cfg.param_scheduler[0].start_factor = 1.0  # steps that can be seen
    runner = Runner.from_cfg(cfg)
    before = {key: p.clone() for key, p in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 2
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 2 and np.isfinite(losses).all()
    changed = {k for k, p in runner.model.named_parameters() if not p.equal(before[k])}
    frozen = name in PROBES
    trained = {k for k in before if k.startswith('cls_head.' if frozen else '')}
    assert changed == trained

    metrics = runner.test()
    if 'regression' in name:
        assert 0 <= metrics['regression/mae'] < 10
    else:
        assert {'acc/top1', 'acc/top5', 'acc/mean1'} <= set(metrics)
        assert 0 <= metrics['acc/top1'] <= 1


@pytest.mark.parametrize('data', DATA)
def test_batches_have_the_views_of_the_protocol(data, videos):
    cfg = read_from(shrink(load(f'finetune_{data}_vitb')), videos)
    train = Runner.build_dataloader(cfg.train_dataloader)
    batch = next(iter(train))
    assert len(batch['inputs']) == len(batch['data_samples']) == 2 * 2  # videos x repeats
    first, second = batch['inputs'][:2]
    assert first.shape == second.shape == (1, 3, 16, 32, 32)
    assert not first.equal(second)
    labels = [int(sample.gt_label) for sample in batch['data_samples']]
    assert labels[0] == labels[1] and labels[2] == labels[3]

    sample = next(iter(Runner.build_dataloader(cfg.test_dataloader)))['inputs'][0]
    clips, crops = VIEWS[data]
    assert sample.shape == (clips * crops, 3, 16, 32, 32)


def test_starts_from_the_dorsal_encoder_of_a_pretraining_checkpoint(tmp_path):
    cfg = shrink(load('finetune_k400_vitb'))
    encoder = MODELS.build(cfg.model.backbone | dict(out_type='raw', out_indices='stages'))
    other = MODELS.build(cfg.model.backbone)
    state = {f'dorsal.backbone.{k}': v for k, v in encoder.state_dict().items()}
    state |= {f'ventral.backbone.{k}': v for k, v in other.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'pretrained.pth')
    cfg.model.backbone.init_cfg = load('finetune_k400_vitb').model.backbone.init_cfg
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'pretrained.pth')
    model = MODELS.build(cfg.model)
    model.init_weights()
    wanted = encoder.state_dict()
    assert all(value.equal(wanted[key]) for key, value in model.backbone.state_dict().items())


@pytest.mark.parametrize('frames, size', [(8, 32), (32, 48)])
def test_other_lengths_and_resolutions_by_the_config_alone(frames, size, tmp_path):
    cfg = shrink(load('finetune_k400_vitb'))
    encoder = MODELS.build(cfg.model.backbone)
    torch.save(encoder.state_dict(), tmp_path / 'encoder.pth')
    cfg.model.backbone.update(
        num_frames=frames,
        img_size=size,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'encoder.pth')),
    )
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert model.backbone.pos_embed.shape[1:4] == (frames // 2, size // 16, size // 16)
    assert model.backbone.blocks[0].attn.qkv.weight.equal(encoder.blocks[0].attn.qkv.weight)
    scores = model.cls_head(model.backbone(torch.randn(2, 3, frames, size, size)))
    assert scores.shape == (2, 400)


def test_frames_of_a_clip_are_augmented_alike():
    cfg = load('finetune_k400_vitb')
    (step,) = [t for t in cfg.train_dataloader.dataset.pipeline if 'transforms' in t]
    broadcaster = TRANSFORMS.build(step)
    frame = np.random.default_rng(0).integers(256, size=(24, 24, 3)).astype(np.uint8)
    np.random.seed(0)
    changed = 0
    for _ in range(10):
        imgs = broadcaster(dict(imgs=[frame.copy() for _ in range(4)]))['imgs']
        assert all(np.array_equal(img, imgs[0]) for img in imgs)
        changed += not np.array_equal(imgs[0], frame)
    assert changed >= 5


def test_gradients_reach_every_parameter():
    """DDP would stop at one that no loss depends on."""
    from mmaction.structures import ActionDataSample

    cfg = shrink(load('finetune_k400_vitb'))
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = pseudo_collate(
        [
            dict(
                inputs=torch.randint(256, (1, 3, 16, 32, 32)).to(torch.uint8),
                data_samples=ActionDataSample().set_gt_label(label),
            )
            for label in (3, 4)
        ]
    )
    with wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        model(**data, mode='loss')['loss_cls'].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def build_dataset(folder, lines, **kwargs):
    load('finetune_k400_vitb')
    (folder / 'list.txt').write_text(lines)
    pipeline = [dict(type='DecordInit'), dict(type='SampleFrames', clip_len=2)]
    pipeline.append(dict(type='DecordDecode'))
    cfg = dict(type='LabeledVideoDataset', num_classes=2, pipeline=pipeline)
    cfg |= dict(data_root=str(folder), ann_file='list.txt') | kwargs
    return DATASETS.build(cfg)


@pytest.mark.parametrize(
    'lines, message',
    [('a.mp4 0\nb.mp4 2\n', r'line 2: .*b\.mp4.* is 2, but must be 0 to 1'), ('', 'is empty')],
)
def test_mistakes_in_a_list_are_named(lines, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        build_dataset(tmp_path, lines)


def test_missing_list_and_broken_video_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.txt'):
        build_dataset(tmp_path, '', ann_file='nowhere.txt')
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(RuntimeError, match=r'broken\.mp4: cannot be opened'):
        build_dataset(tmp_path, 'broken.mp4 0\n')[0]


@pytest.mark.parametrize('line', ['a.mp4', 'a.mp4 three'])
def test_regression_list_without_number_is_named(line, tmp_path):
    with pytest.raises(ValueError, match='list.txt, line 1: .* number'):
        build_dataset(tmp_path, line, type='VideoRegressionDataset', num_classes=None)
