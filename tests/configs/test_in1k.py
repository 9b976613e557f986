"""Classification of ImageNet-1K: table 9 of the paper, and every config on a few images."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from bimm_mm.models import BimmViT

pytest.importorskip('mmpretrain', reason='classifiers are mmpretrains')

CONFIGS = Path(__file__).parents[2] / 'configs' / 'bimm'
NAMES = [
    'finetune_in1k_vitb',
    'finetune_in1k_vitb_deflated',
    'finetune_in1k_vitb_static',
    'linear_in1k_vitb',
]
TINY = dict(embed_dims=24, depth=3, num_heads=2)
SIZES = {224: 32, 256: 36}  # of the images in the pipelines
LABELS = (0, 207, 999)


def load(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    """Eight images of each of three classes, stripes of three colors, in ImageNet's format."""
    root = tmp_path_factory.mktemp('imagenet')
    (root / 'meta').mkdir()
    random = np.random.default_rng(0)
    lines = []
    for channel, label in enumerate(LABELS):
        folder = f'n{label:08d}'
        for split in ('train', 'val'):
            (root / split / folder).mkdir(parents=True)
        for index in range(8):
            image = random.integers(60, size=(40, 48, 3))
            image[:, index % 4 :: 4, channel] += 180
            for split in ('train', 'val'):  # the same: what is learned is what is tested
                path = str(root / split / folder / f'{index}.JPEG')
                cv2.imwrite(path, image.astype(np.uint8))
            lines.append(f'{folder}/{index}.JPEG {label}\n')
    for split in ('train', 'val'):
        (root / 'meta' / f'{split}.txt').write_text(''.join(lines))
    return root


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """What stage 2 leaves, as far as encoders are concerned: (encoders by branch, file)."""
    torch.manual_seed(0)
    kwargs = dict(arch=TINY, img_size=32, stage_ends=(1, 2, 3), out_type='raw')
    kwargs |= dict(out_indices='stages')
    encoders = dict(ventral=BimmViT(**kwargs), dorsal=BimmViT(num_frames=16, **kwargs))
    state = {
        f'{branch}.backbone.{key}': value
        for branch, encoder in encoders.items()
        for key, value in encoder.state_dict().items()
    }
    path = tmp_path_factory.mktemp('pretrained') / 'joint.pth'
    torch.save(dict(state_dict=state), path)
    return encoders, str(path)


def shrink(cfg, root, checkpoint, work_dir):
    """Few channels, blocks and pixels, and the images of the test; all else as it is."""
    cfg.model.backbone.update(arch=TINY, stage_ends=(1, 2, 3), img_size=32)
    cfg.model.backbone.init_cfg.checkpoint = checkpoint
    cfg.model.head.in_channels = 24
    if 'neck' in cfg.model:
        cfg.model.neck.input_features = 24
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
        for step in loader.dataset.pipeline:
            step.update({k: SIZES[step[k]] for k in ('scale', 'crop_size') if k in step})
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=8)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = cfg.param_scheduler[:1]  # the warm-up alone
    cfg.work_dir = str(work_dir)
    cfg.default_hooks.logger.interval = 1
    cfg.log_level = 'WARNING'
    cfg.experiment_name = work_dir.name
    return cfg


def transforms(pipeline):
    return {re.sub(r'.*[./]', '', transform.type): transform for transform in pipeline}


# method.md's table of the paper's table 9
@pytest.mark.parametrize('name', NAMES[:3])
def test_recipe_is_that_of_table_9(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay, optimizer.lr) == ('AdamW', 0.05, 2e-3)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay_rate=0.65)
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert cfg.train_dataloader.batch_size * accumulated == 128
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, cosine.type) == ('LinearLR', 'CosineAnnealingLR')
    assert (warmup.begin, warmup.end, cosine.begin) == (0, 20, 20)
    assert cfg.train_cfg.max_epochs == 100 and 'end' not in cosine  # the end of the run
    backbone, head = cfg.model.backbone, cfg.model.head
    assert (backbone.arch, backbone.stage_ends, backbone.img_size) == ('base', (2, 4, 12), 224)
    assert (backbone.out_type, backbone.drop_path_rate) == ('cls_token', 0.1)
    assert (head.num_classes, head.in_channels) == (1000, 768)
    assert head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    assert cfg.model.train_cfg.augments == [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]
    training = transforms(cfg.train_dataloader.dataset.pipeline)
    assert {'RandomResizedCrop', 'RandAugment', 'RandomErasing'} <= set(training)
    assert 'RandomFlip' not in training


@pytest.mark.parametrize('name', NAMES)
def test_starts_from_a_checkpoint_that_a_recipe_writes(name):
    init = load(name).model.backbone.init_cfg
    path = Path(init.checkpoint)
    recipe = load(path.parent.name)
    assert path.name == f'epoch_{recipe.train_cfg.max_epochs}.pth'
    branch = recipe.model[init.prefix.split('.')[0]]
    assert branch.backbone.arch == load(name).model.backbone.arch


@pytest.mark.parametrize('name', NAMES)
def test_trains_and_validates_on_images_in_imagenets_format(name, imagenet, pretrained, tmp_path):
    cfg = shrink(load(name), imagenet, pretrained[1], tmp_path)
    cfg.param_scheduler[0].start_factor = 1.0  # steps that can be seen
    cfg.optim_wrapper.pop('accumulative_counts', None)
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    backbone = runner.model.backbone
    branch = pretrained[0][cfg.model.backbone.init_cfg.prefix.split('.')[0]]
    for index in range(3):
        wanted = branch.blocks[index].attn.qkv.weight
        assert torch.equal(backbone.blocks[index].attn.qkv.weight, wanted)
    before = {key: p.clone() for key, p in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 3
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 3 and np.isfinite(losses).all()
    changed = {k for k, p in runner.model.named_parameters() if not p.equal(before[k])}
    assert changed == {k for k in before if name[:6] != 'linear' or k.startswith('head.')}
    for top in ('top1', 'top5'):
        assert 0 <= runner.message_hub.get_scalar(f'val/accuracy/{top}').current() <= 100
    assert list(tmp_path.glob('best_accuracy_top1_epoch_1.pth'))
    assert 0 <= runner.test()['accuracy/top1'] <= 100


def test_layer_wise_rates_reach_the_optimizer_through_the_runner(imagenet, pretrained, tmp_path):
    cfg = shrink(load('finetune_in1k_vitb'), imagenet, pretrained[1], tmp_path)
    runner = Runner.from_cfg(cfg)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    names = {parameter: name for name, parameter in runner.model.named_parameters()}
    rates = {
        names[p]: (group['lr'] / 2e-3, group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    assert set(rates) == set(names.values())
    for name, layer, decay in (
        ('backbone.cls_token', 0, 0),
        ('backbone.patch_embed.projection.weight', 0, 0.05),
        ('backbone.blocks.0.attn.qkv.weight', 1, 0.05),
        ('backbone.blocks.2.mlp.fc1.bias', 3, 0),
        ('backbone.norm2.weight', 4, 0),
        ('head.fc.weight', 4, 0.05),
    ):
        assert rates[name] == (pytest.approx(0.65 ** (4 - layer)), decay), name


@pytest.mark.parametrize('name', ['finetune_in1k_vitb', 'finetune_in1k_vitb_deflated'])
def test_a_few_images_can_be_learned_by_heart(name, imagenet, pretrained, tmp_path):
    cfg = shrink(load(name), imagenet, pretrained[1], tmp_path)
    cfg.model.train_cfg = None  # no mixing of images, no augmentation
    cfg.model.backbone.drop_path_rate = 0.0
    cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    cfg.train_cfg.update(max_epochs=30, val_interval=30)
    cfg.default_hooks.checkpoint.interval = 30
    cfg.param_scheduler = []
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert losses[:3].mean() > 6.8  # ln(1000)
    assert losses[-3:].mean() < 3
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() == 100


def test_images_go_into_the_static_clip_as_they_are_for_the_others(imagenet, pretrained, tmp_path):
    """One image, three ways; the two of the dorsal encoder agree for a clip of one tubelet."""
    models = {}
    for name in NAMES[1:3]:
        cfg = shrink(load(name), imagenet, pretrained[1], tmp_path)
        if name.endswith('static'):
            cfg.model.backbone.num_frames = 2
        models[name] = MODELS.build(cfg.model).eval()
        models[name].init_weights()
    x = torch.randn(2, 3, 32, 32)
    deflated, static = (model.backbone(x)[0] for model in models.values())
    torch.testing.assert_close(deflated, static, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_the_other_branchs_checkpoint_is_refused(name, imagenet, pretrained, tmp_path):
    cfg = shrink(load(name), imagenet, pretrained[1], tmp_path)
    init = cfg.model.backbone.init_cfg
    if name.endswith('deflated'):  # takes image encoders too: another width is refused
        cfg.model.backbone.arch = dict(TINY, embed_dims=48)
        cfg.model.head.in_channels = 48
    else:
        other = dict(ventral='dorsal', dorsal='ventral')[init.prefix.split('.')[0]]
        init.prefix = f'{other}.backbone.'
    with pytest.raises(ValueError, match=r'joint\.pth.* does not fit the encoder'):
        MODELS.build(cfg.model).init_weights()
