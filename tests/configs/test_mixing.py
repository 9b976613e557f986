"""The configs that mix parts of the toolkit with mmpretrain's: each trains with tools/train.py."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS, init_default_scope

from bimm_mm.models import BimmViT

pytest.importorskip('mmpretrain', reason='mixes with mmpretrain')

REPO = Path(__file__).parents[2]
CONFIGS = {
    name: REPO / 'configs' / folder / f'{name}.py'
    for folder, name in (
        ('maskfeat', 'maskfeat_gabor_in1k_vitb'),
        ('mae', 'mmpretrain_mae_in1k_vitb'),
        ('bimm', 'supervised_in1k_vitb'),
        ('bimm', 'ventral_hog_in1k_vitb'),
        ('bimm', 'ventral_mmpretrain_in1k_vitb'),
    )
}
NAMES = list(CONFIGS)
TINY = dict(embed_dims=24, depth=3, num_heads=2)
THEIRS = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Eight images, in ImageNet's format with a list of labels."""
    root = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    (root / 'meta').mkdir()
    for split in ('train', 'val'):
        (root / split / 'n0').mkdir(parents=True)
        lines = [f'n0/{index}.JPEG {index % 2}\n' for index in range(8)]
        (root / 'meta' / f'{split}.txt').write_text(''.join(lines))
        for index in range(8):
            image = cv2.resize(random.integers(256, size=(5, 5, 3)).astype(np.uint8), (120, 120))
            cv2.imwrite(str(root / split / 'n0' / f'{index}.JPEG'), image)
    return root


def load(name):
    cfg = Config.fromfile(CONFIGS[name])
    init_default_scope(cfg.default_scope)
    return cfg


def shrink_encoder(backbone, size):
    if backbone.type == 'BimmViT':
        backbone.update(arch=TINY, img_size=size, patch_size=8)
        if 'stage_ends' in backbone:
            backbone.stage_ends = (1, 2, 3)
    elif backbone.type == 'MmpretrainEncoder':
        backbone.stage_ends = (1, 2, 3)
        shrink_encoder(backbone.vit, size)
    elif backbone.type == 'MaskedEncoder':
        shrink_encoder(backbone.encoder, size)
    else:  # mmpretrain's
        backbone.update(arch=THEIRS, img_size=size, patch_size=8)


def shrink(cfg, root):
    """Few channels, blocks and tokens, and the images of the test; all else as it is."""
    model = cfg.model
    is_hog = cfg.filename.endswith('ventral_hog_in1k_vitb.py')
    size = 112 if is_hog else 32  # HOGGenerator wants 14x14 tokens
    shrink_encoder(model.ventral.backbone if 'ventral' in model else model.backbone, size)
    if 'ventral' in model:
        for decoder in model.ventral.neck.decoders:
            decoder.embed_dims = 16
            if decoder.type == 'TransformerDecoder':
                decoder.update(num_heads=2, depth=1)
        if is_hog:
            model.ventral.targets[0].out_dims = 27  # one cell per token
    elif model.type == 'MAE':
        model.neck.update(num_patches=16, patch_size=8, embed_dim=24, decoder_embed_dim=16)
        model.neck.update(decoder_depth=1, decoder_num_heads=2)
        model.head.patch_size = 8
    elif model.type == 'MaskFeat':
        model.target_generator.patch_size = (1, 8, 8)
        model.neck.update(in_channels=24, out_channels=4 * 8 * 2 * 2)
    else:
        model.head.in_channels = 24
    for key in ('train_dataloader', 'val_dataloader'):
        loader = cfg.get(key)
        if not loader:
            continue
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=4)
        loader.dataset.data_root = str(root if 'split' in loader.dataset else root / 'train')
        for step in loader.dataset.pipeline:
            if step.type == 'BEiTMaskGenerator':
                step.update(input_size=4, num_masking_patches=6, min_num_patches=3)
            for name in {'size', 'crop_size'} & set(step):
                step[name] = size
            if 'scale' in step and isinstance(step.scale, int):
                step.scale = size
    cfg.pop('test_dataloader', None), cfg.pop('test_evaluator', None), cfg.pop('test_cfg', None)
    cfg.default_hooks.logger.interval = 1
    cfg.log_level = 'WARNING'
    cfg.param_scheduler = []
    cfg.optim_wrapper.optimizer.lr = 3e-3
    return cfg


@pytest.fixture
def train(tmp_path, call_tool):
    """Run tools/train.py on a config; returns what it logged, and its last checkpoint."""

    def run(cfg, epochs):
        cfg.train_cfg.max_epochs = cfg.default_hooks.checkpoint.interval = epochs
        if cfg.get('val_cfg'):
            cfg.train_cfg.val_interval = epochs
        path = tmp_path / f'{Path(cfg.filename).stem}_small.py'
        cfg.dump(path)
        work_dir = tmp_path / 'work_dir'
        call_tool('tools/train.py', path, '--work-dir', work_dir)
        (scalars,) = work_dir.glob('*/vis_data/scalars.json')
        log = [json.loads(line) for line in scalars.read_text().splitlines()]
        return log, torch.load(work_dir / f'epoch_{epochs}.pth', weights_only=False)

    return run


@pytest.mark.parametrize('name', NAMES)
def test_learns_with_the_train_tool(name, images, train):
    epochs = 12 if 'ventral' in name else 25
    log, checkpoint = train(shrink(load(name), images), epochs)
    steps = [entry for entry in log if 'loss' in entry]
    assert len(steps) == 2 * epochs
    losses = np.array([step['loss'] for step in steps])
    assert losses[-6:].mean() < 0.93 * losses[:3].mean()
    if name.startswith('ventral'):
        first = 'hog' if 'hog' in name else 'gabor'
        assert {f'loss_ventral_{target}' for target in (first, 'contour', 'pixel')} <= set(steps[0])
    if name.startswith('supervised'):
        assert any('accuracy/top1' in entry for entry in log)
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())
    # every parameter was trained; DDP would stop at one that no loss depends on
    optimizer = checkpoint['optimizer']
    trained = sum(len(group['params']) for group in optimizer['param_groups'])
    assert len(optimizer['state']) == trained


def test_there_is_a_config_for_each_way_of_mixing():
    kinds = {name: load(name).model for name in NAMES}
    assert {model.type for model in kinds.values()} == {
        'MAE',
        'MaskFeat',
        'ImageClassifier',
        'SingleBranchPretrainer',
    }
    assert kinds['maskfeat_gabor_in1k_vitb'].target_generator.type == 'GaborTarget'
    assert kinds['supervised_in1k_vitb'].head.type == 'VisionTransformerClsHead'


def test_sizes_of_the_recipes_fit_together():
    """What the shrunk ones above do not show."""
    mae = load('mmpretrain_mae_in1k_vitb').model
    with torch.device('meta'):
        model = MODELS.build(mae)
        supervised = MODELS.build(load('supervised_in1k_vitb').model)
    encoder = model.backbone.encoder
    assert model.neck.decoder_embed.in_features == encoder.embed_dims == 768
    assert model.neck.num_patches == encoder.grid_size[1] * encoder.grid_size[2] == 196
    assert model.head.patch_size == mae.neck.patch_size == encoder.patch_size[1]
    assert supervised.head.layers.head.in_features == supervised.backbone.embed_dims

    maskfeat = load('maskfeat_gabor_in1k_vitb').model
    assert MODELS.build(maskfeat.target_generator).out_dims == maskfeat.neck.out_channels
    hog = load('ventral_hog_in1k_vitb').model.ventral.targets[0]
    assert MODELS.build(hog)(torch.zeros(1, 3, 224, 224)).shape == (1, 196, hog.out_dims)
    foreign = load('ventral_mmpretrain_in1k_vitb').model.ventral.backbone
    assert (foreign.vit.arch, foreign.stage_ends) == ('base', (2, 4, 12))
    foreign.vit.arch = dict(THEIRS, num_layers=12)  # as 'base' has
    assert MODELS.build(foreign).grid_size == (1, 14, 14)


def test_maskfeats_loss_is_that_of_gabor_features_on_masked_tokens(images):
    from mmpretrain.structures import DataSample

    model = MODELS.build(shrink(load('maskfeat_gabor_in1k_vitb'), images).model).eval()
    model.init_weights()
    x = torch.randn(2, 3, 32, 32)
    masks = torch.rand(2, 4, 4) < 0.4
    samples = [DataSample().set_mask(mask.int()) for mask in masks]
    loss = model(x, samples, mode='loss')['loss']
    predictions = model.neck.fc(model.backbone(x, masks.flatten(1)))[:, 1:]
    errors = (predictions - model.target_generator(x)).square().mean(dim=-1)
    torch.testing.assert_close(loss, errors[masks.flatten(1)].mean())


def test_maes_encoder_goes_on_under_a_classifier(images, train, tmp_path):
    _, trained = train(shrink(load('mmpretrain_mae_in1k_vitb'), images), 1)
    checkpoint = tmp_path / 'work_dir' / 'epoch_1.pth'
    init = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.encoder.')
    model = BimmViT(TINY, img_size=32, patch_size=8, init_cfg=init)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, trained['state_dict'][f'backbone.encoder.{key}'])
