"""Segmentation on a small set in ADE20K's format: schedule, training, mIoU, multi-scale test."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner

pytest.importorskip('mmseg', reason='segmentors are mmsegs')
pytest.importorskip('mmcv.ops', reason='mmseg imports compiled operators')

REPO = Path(__file__).parents[2]
CONFIGS = REPO / 'configs' / 'bimm'
NAME = 'upernet_ade20k_vitb'
SIZE = 64  # instead of 512 pixels
CLASSES = dict(wall=1, person=13, car=21)  # values in the files, in which 0 is no class


def load(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def make_small(node: object) -> None:
    """An eighth of the size in every pipeline below ``node``, in place."""
    if isinstance(node, dict):
        for key in {'scale', 'crop_size', 'size', 'stride'} & set(node):
            node[key] = tuple(value // 8 for value in node[key])
        for value in node.values():
            make_small(value)
    elif isinstance(node, list | tuple):
        for value in node:
            make_small(value)


def small(ade: Path | None = None) -> Config:
    """The recipe with few channels and pixels, on the small set; all else as it is."""
    cfg = load(NAME)
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for part in (*(loader.dataset.pipeline for loader in loaders), cfg.tta_pipeline):
        make_small(part)
    for part in (cfg.model.test_cfg, cfg.model.data_preprocessor):
        make_small(part)
    scales = cfg.tta_pipeline[-1].transforms[0]
    cfg.tta_pipeline[-1].transforms[0] = [scales[1], scales[3]]
    cfg.model.backbone.update(
        arch=dict(embed_dims=24, depth=12, num_heads=2),
        img_size=SIZE,
        drop_path_rate=0.0,
        init_cfg=None,
    )
    cfg.model.neck.embed_dim = 24
    cfg.model.decode_head.update(in_channels=[24] * 4, channels=32)
    cfg.model.auxiliary_head.update(in_channels=24, channels=32)
    for loader in loaders:
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
        loader.dataset.data_root = str(ade)
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor.window_size = 1
    return cfg


@pytest.fixture(scope='module')
def ade(tmp_path_factory) -> Path:
    """Two photographs of 96 x 64 pixels with a red square and an orange disc before a wall."""
    folder = tmp_path_factory.mktemp('ade')
    generator = np.random.default_rng(0)
    for split in ('training', 'validation'):
        (folder / 'images' / split).mkdir(parents=True)
        (folder / 'annotations' / split).mkdir(parents=True)
    for index in range(2):
        picture = generator.integers(0, 80, (64, 96, 3), dtype=np.uint8)
        labels = np.full((64, 96), CLASSES['wall'], np.uint8)
        x, y = (int(v) for v in generator.integers(4, 20, 2))
        for image, color, label in (
            (picture, (40, 60, 230), (230, 160, 40)),
            (labels, CLASSES['person'], CLASSES['car']),
        ):
            cv2.rectangle(image, (x, y), (x + 28, y + 24), color, -1)
            cv2.circle(image, (x + 52, y + 20), 16, label, -1)
        labels[:4] = 0
        for split, name in (('training', 'train'), ('validation', 'val')):  # the same images
            stem = f'ADE_{name}_{index + 1:08}'
            cv2.imwrite(str(folder / 'images' / split / f'{stem}.jpg'), picture)
            cv2.imwrite(str(folder / 'annotations' / split / f'{stem}.png'), labels)
    return folder


def read_metrics(work_dir: Path) -> dict:
    (file,) = work_dir.glob('*/*.json')
    return json.loads(file.read_text())


@pytest.fixture(scope='module')
def overfitted(ade, tmp_path_factory, call_tool) -> SimpleNamespace:
    """UperNet, trained by tools/train.py on random crops and their mirror images."""
    folder = tmp_path_factory.mktemp('overfitted')
    cfg = small(ade)
    iterations = 60
    cfg.train_dataloader.batch_size = 4
    loading, labels, _, *rest = cfg.train_dataloader.dataset.pipeline
    rest = [step for step in rest if step.type != 'PhotoMetricDistortion']
    cfg.train_dataloader.dataset.pipeline = [loading, labels, *rest]
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.default_hooks.checkpoint.update(interval=iterations, save_best=None)
    cfg.param_scheduler[0].update(start_factor=0.1, end=5)
    cfg.param_scheduler[1].update(begin=5, end=iterations)
    cfg.optim_wrapper.optimizer.lr = 1e-2
    cfg.log_level = 'WARNING'
    cfg.dump(folder / 'config.py')
    call_tool('tools/train.py', folder / 'config.py', '--work-dir', folder / 'run')
    lines = (folder / 'run').glob('*/vis_data/scalars.json')
    scalars = [json.loads(line) for line in next(lines).read_text().splitlines()]
    return SimpleNamespace(
        config=folder / 'config.py',
        checkpoint=folder / 'run' / f'iter_{iterations}.pth',
        losses=[row['loss'] for row in scalars if 'loss' in row],
        scores=scalars[-1],
    )


def test_an_overfitted_segmentor_labels_its_training_images(overfitted, tmp_path, call_tool):
    losses = overfitted.losses
    assert len(losses) == 60 and np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:2])
    assert overfitted.scores['mIoU'] > 60  # in %, of the three classes that occur

    call_tool(
        'tools/test.py', overfitted.config, overfitted.checkpoint, '--work-dir', tmp_path / 'one'
    )
    one = read_metrics(tmp_path / 'one')
    assert one['mIoU'] == pytest.approx(overfitted.scores['mIoU'], abs=0.1)


def test_multi_scale_test(overfitted, tmp_path, call_tool):
    arguments = (overfitted.config, overfitted.checkpoint, '--tta', '--work-dir', tmp_path)
    call_tool('tools/test.py', *arguments)
    assert read_metrics(tmp_path)['mIoU'] > 50


def test_images_are_jittered_and_cropped(ade):
    cfg = small(ade)
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    samples = [dataset[index % 2] for index in range(20)]
    assert len({tuple(sample['inputs'].shape) for sample in samples}) > 3
    assert {sample['data_samples'].flip for sample in samples} == {True, False}
    seen = {int(v) for s in samples for v in s['data_samples'].gt_sem_seg.data.unique()}
    assert seen == {label - 1 for label in CLASSES.values()} | {255}  # "no class" is left out
    model = MODELS.build(cfg.model)
    data = model.data_preprocessor(pseudo_collate(samples[:4]), True)
    assert data['inputs'].shape == (4, 3, SIZE, SIZE)
    with torch.autocast('cpu', torch.bfloat16):  # as with --amp
        total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    # DDP would stop at a parameter that no loss depends on
    assert not [key for key, value in model.named_parameters() if value.grad is None]


@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), None])
@pytest.mark.parametrize('divisor', [1, 32])
def test_an_image_that_is_no_multiple_of_the_patch_is_padded(test_cfg, divisor):
    """By the encoder, or to whole positions at every stride, in sliding windows and without."""
    from mmseg.structures import SegDataSample

    cfg = small()
    cfg.model.test_cfg = test_cfg or cfg.model.test_cfg
    cfg.model.data_preprocessor.test_cfg.size_divisor = divisor
    model = MODELS.build(cfg.model).eval()
    image = torch.randint(256, (3, 75, 109), dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(ori_shape=(150, 218), img_shape=(75, 109)))
    (result,) = model.test_step(pseudo_collate([dict(inputs=image, data_samples=sample)]))
    assert result.pred_sem_seg.data.shape == (1, 150, 218)


def test_levels_are_blocks_4_6_8_and_12_at_four_strides():
    model = MODELS.build(small().model)
    assert model.backbone.out_indices == (3, 5, 7, 11)
    maps = model.extract_feat(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, 24, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)
    ]


def test_recipe_is_that_of_the_paper():
    cfg = load(NAME)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 4e-4, 0.05)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    warmup, decay = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, 1500)
    assert (decay.type, decay.power, decay.begin) == ('PolyLR', 1.0, 1500)
    assert cfg.train_cfg.max_iters == 160000 and 'end' not in decay  # the end of the run
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.img_size, backbone.pos_interpolation) == (
        'base',
        512,
        'bilinear',
    )
    assert cfg.model.data_preprocessor.size == (512, 512)
    resize, flip = cfg.tta_pipeline[-1].transforms[:2]
    assert (len(resize), len(flip)) == (6, 2)


def test_learning_rate_falls_from_layer_to_layer():
    cfg = small()
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {p: group['lr'] / 4e-4 for group in groups for p in group['params']}
    assert len(rates) == len(list(model.parameters()))
    for key, parameter in model.named_parameters():
        layer = 13
        if key.startswith('backbone.'):
            layer = model.backbone.get_layer_depth(key.removeprefix('backbone.'))[0]
        assert rates[parameter] == pytest.approx(0.65 ** (13 - layer)), key
    assert min(rates.values()) == pytest.approx(0.65**13)


def test_starts_from_the_ventral_encoder_of_a_recipes_checkpoint(tmp_path):
    init = load(NAME).model.backbone.init_cfg
    recipe = load(Path(init.checkpoint).parent.name)
    assert Path(init.checkpoint).name == f'epoch_{recipe.train_cfg.max_epochs}.pth'
    cfg = small()
    stages = dict(out_type='raw', out_indices='stages', img_size=32)
    encoders = {
        branch: MODELS.build(cfg.model.backbone | stages) for branch in ('ventral', 'dorsal')
    }
    state = {
        f'{branch}.backbone.{key}': value
        for branch, encoder in encoders.items()
        for key, value in encoder.state_dict().items()
    }
    torch.save(dict(state_dict=state), tmp_path / 'joint.pth')
    cfg.model.backbone.init_cfg = dict(init, checkpoint=str(tmp_path / 'joint.pth'))
    model = MODELS.build(cfg.model)
    model.init_weights()
    wanted = encoders['ventral'].state_dict()
    found = model.backbone.state_dict()
    same = {key for key in wanted if key in found and found[key].equal(wanted[key])}
    # the norms of the blocks 2 and 4 have no use here, and positions are those of a larger grid
    unused = {f'norm{index}.{part}' for index in (1, 3) for part in ('weight', 'bias')}
    assert set(wanted) - same <= unused | {'pos_embed'}
    assert found['pos_embed'].shape == (1, 1, 4, 4, 24)


def test_a_missing_data_set_is_named_at_once(tmp_path, monkeypatch, call_tool):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        call_tool(
            'tools/train.py',
            CONFIGS / f'{NAME}.py',
            '--cfg-options',
            'model.backbone.init_cfg=None',
        )
    text = str(stop.value)
    assert "data_root='data/ade/ADEChallengeData2016': no such folder" in text
    assert not (tmp_path / 'work_dirs').exists()


def test_a_folder_without_images_is_named(ade):
    cfg = small(ade).train_dataloader.dataset
    cfg.data_prefix.img_path = 'annotations/training'
    with pytest.raises(ValueError, match="annotations/training' has no image that ends in .*jpg"):
        DATASETS.build(cfg)


def test_a_label_that_is_not_a_class_is_named_with_its_file(ade, tmp_path):
    broken = tmp_path / 'ade'
    shutil.copytree(ade, broken)
    cfg = small(broken)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    file = broken / 'annotations/validation/ADE_val_00000002.png'
    labels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    labels[5, 5] = 200
    cv2.imwrite(str(file), labels)
    dataset[0]
    with pytest.raises(ValueError, match='_00000002.png has the value 200, but there are 150'):
        dataset[1]


def test_a_config_without_views_has_no_multi_scale_test(overfitted, call_tool):
    arguments = (overfitted.config, overfitted.checkpoint, '--tta')
    with pytest.raises(SystemExit, match='cannot be tested: it has no tta_pipeline'):
        call_tool('tools/test.py', *arguments, '--cfg-options', 'tta_pipeline=None')


def test_the_inferencer_of_the_docs_draws_the_classes(overfitted, ade, tmp_path):
    from mmseg.apis import MMSegInferencer

    image = ade / 'images' / 'validation' / 'ADE_val_00000001.jpg'
    inferencer = MMSegInferencer(str(overfitted.config), str(overfitted.checkpoint), device='cpu')
    out = inferencer(str(image), out_dir=str(tmp_path), show=False)
    assert set(np.unique(out['predictions'])) <= set(range(150))
    plain, drawn = (cv2.imread(str(p)) for p in (image, tmp_path / 'vis' / image.name))
    assert (drawn != plain).any(2).mean() > 0.5
