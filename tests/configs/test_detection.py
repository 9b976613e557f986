"""Detection on a small set in COCO's format: schedules, training, box and mask AP, pictures."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner

pytest.importorskip('mmdet', reason='detectors are mmdets')
pytest.importorskip('mmcv.ops', reason='RoIAlign and NMS are compiled')

REPO = Path(__file__).parents[2]
CONFIGS = REPO / 'configs' / 'bimm'
RECIPES = ('maskrcnn_coco_vitb', 'cascade_maskrcnn_coco_vitb', 'atss_coco_vitb')
SIZE = 64  # instead of 1024 pixels
SMALL = {  # a setting of the heads that costs time: its value in the recipe, and in the tests
    'in_channels': {256: 64},
    'feat_channels': {256: 64},
    'conv_out_channels': {256: 64},
    'out_channels': {256: 64},
    'fc_out_channels': {1024: 128},
    'num_convs': {4: 1, 2: 1},
    'nms_pre': {2000: 200, 1000: 200},
    'max_per_img': {1000: 100},
    'num': {512: 32, 256: 32},
    'scale': {(1024, 1024): (SIZE, SIZE)},
    'crop_size': {(1024, 1024): (SIZE, SIZE)},
    'pos_fraction': {0.25: 0.5},
}


def load(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def make_small(node: object) -> None:
    """Apply SMALL to every dict below ``node``, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, int | float | tuple) and value in SMALL.get(key, {}):
                node[key] = SMALL[key][value]
            make_small(value)
    elif isinstance(node, list | tuple):
        for value in node:
            make_small(value)


def small(name: str, coco: Path) -> Config:
    """The recipe with few channels, blocks and pixels, on the small set; all else as it is."""
    cfg = load(name)
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for part in (cfg.model, *loaders):
        make_small(part)
    cfg.model.data_preprocessor.pad_size_divisor = SIZE
    cfg.model.backbone.update(
        arch=dict(embed_dims=48, depth=3, num_heads=3),
        stage_ends=(1, 2, 3),
        img_size=SIZE,
        patch_size=8,
        drop_path_rate=0.0,
        window_size=3,  # does not divide the 8 x 8 tokens, as 14 does not divide 64
        global_blocks=(1, 2),
        init_cfg=None,
    )
    cfg.model.neck.update(patch_size=8, in_channels=48)
    for loader in loaders:
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False, batch_size=2)
        loader.dataset.data_root = str(coco)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(coco / 'annotations' / 'instances_val2017.json')
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor.window_size = 1
    return cfg


def without_jitter(cfg: Config) -> Config:
    """Whole images in training."""
    dataset = cfg.train_dataloader.dataset
    resize = dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=True)
    dataset.pipeline = [*dataset.pipeline[:2], resize, dataset.pipeline[-1]]
    return cfg


@pytest.fixture(scope='module')
def coco(tmp_path_factory) -> Path:
    """Two images of 64 x 48 pixels with a red square and an orange disc, or two of them, each."""
    from mmdet.datasets import CocoDataset

    folder = tmp_path_factory.mktemp('coco')
    # the real file's ids have gaps, too
    ids = [1 + i + i // 11 for i in range(80)]
    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=i, name=name) for i, name in zip(ids, names, strict=True)]
    generator = np.random.default_rng(0)
    images, objects = [], []
    for index in range(2):
        picture = generator.integers(0, 80, (48, 64, 3), dtype=np.uint8)
        for left, right in ((2, 31), (33, 62)):
            w, h = (int(v) for v in generator.integers(18, 28, 2))
            x, y = int(generator.integers(left, right - w)), int(generator.integers(2, 47 - h))
            kind = int(generator.integers(2))
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            disc = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], 1)
            outline = disc if kind else np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
            color = ((40, 60, 230), (230, 160, 40))[kind]
            cv2.fillPoly(picture, [outline.round().astype(np.int32)], color)
            objects.append(
                dict(
                    id=len(objects) + 1,
                    image_id=index + 1,
                    category_id=ids[(0, 16)[kind]],
                    iscrowd=0,
                    bbox=[x, y, w, h],
                    area=float(cv2.contourArea(outline.astype(np.float32))),
                    segmentation=[outline.flatten().tolist()],
                )
            )
        images.append(dict(id=index + 1, file_name=f'{index:012}.jpg', height=48, width=64))
        for split in ('train2017', 'val2017'):  # so that training images are tested
            (folder / split).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / split / images[-1]['file_name']), picture)
    (folder / 'annotations').mkdir()
    content = json.dumps(dict(images=images, annotations=objects, categories=categories))
    for split in ('train2017', 'val2017'):
        (folder / 'annotations' / f'instances_{split}.json').write_text(content)
    return folder


def read_metrics(work_dir: Path) -> dict:
    (file,) = work_dir.glob('*/*.json')
    return json.loads(file.read_text())


@pytest.fixture(scope='module')
def overfitted(coco, tmp_path_factory, call_tool) -> SimpleNamespace:
    """Mask R-CNN, trained by tools/train.py on the two images without jitter."""
    folder = tmp_path_factory.mktemp('overfitted')
    cfg = without_jitter(small('maskrcnn_coco_vitb', coco))
    epochs = 200  # of one step; with 120, how many threads there are decides
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.default_hooks.checkpoint.update(interval=epochs, save_best=None)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=epochs),
    ]
    cfg.optim_wrapper.optimizer.lr = 3e-3
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0
    cfg.log_level = 'WARNING'
    cfg.dump(folder / 'config.py')
    call_tool('tools/train.py', folder / 'config.py', '--work-dir', folder / 'run')
    lines = (folder / 'run').glob('*/vis_data/scalars.json')
    scalars = [json.loads(line) for line in next(lines).read_text().splitlines()]
    return SimpleNamespace(
        config=folder / 'config.py',
        checkpoint=folder / 'run' / f'epoch_{epochs}.pth',
        losses=[row['loss'] for row in scalars if 'loss' in row],
        scores=scalars[-1],
    )


def test_an_overfitted_detector_finds_its_training_images(overfitted, tmp_path, call_tool):
    first, last = np.mean(overfitted.losses[:5]), np.mean(overfitted.losses[-5:])
    assert last < 0.4 * first
    assert overfitted.scores['coco/bbox_mAP'] > 0.75
    assert overfitted.scores['coco/segm_mAP'] > 0.75

    arguments = (overfitted.config, overfitted.checkpoint, '--work-dir', tmp_path)
    call_tool('tools/test.py', *arguments)
    tested = read_metrics(tmp_path)
    for metric in ('coco/bbox_mAP', 'coco/segm_mAP'):
        assert tested[metric] == pytest.approx(overfitted.scores[metric], abs=0.02)


@pytest.mark.parametrize('name', RECIPES)
def test_trains_and_measures_average_precision(name, coco, tmp_path):
    cfg = without_jitter(small(name, coco))
    cfg.train_cfg.update(max_epochs=10, val_interval=10)
    cfg.default_hooks.checkpoint.save_best = None
    cfg.param_scheduler[0].start_factor = 1.0  # steps that can be seen
    cfg.optim_wrapper.optimizer.lr = 2e-3
    cfg.work_dir, cfg.log_level = str(tmp_path), 'WARNING'
    cfg.experiment_name = f'{name}-{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.named_parameters()}
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 10 and np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])
    # scalars are not decayed, and that of a level without boxes has a gradient of zero
    learned = ((k, v) for k, v in runner.model.named_parameters() if v.dim())
    same = [key for key, value in learned if value.equal(before[key])]
    assert not same  # DDP would stop at one that no loss depends on
    metrics = ('bbox', 'segm') if 'mask' in name else ('bbox',)
    for metric in metrics:
        (score,) = runner.message_hub.get_scalar(f'val/coco/{metric}_mAP').data[0]
        assert 0 <= score <= 1


@pytest.mark.parametrize('name', RECIPES)
def test_images_are_jittered_and_padded(name, coco):
    cfg = small(name, coco)
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    samples = [dataset[index % 2] for index in range(20)]
    sizes = {sample['data_samples'].img_shape for sample in samples}
    assert len(sizes) > 10 and max(max(size) for size in sizes) == SIZE
    assert {sample['data_samples'].flip for sample in samples} == {True, False}
    for sample in samples:
        assert ('masks' in sample['data_samples'].gt_instances) == ('mask' in name)
    inputs = MODELS.build(cfg.model.data_preprocessor)(pseudo_collate(samples[:4]), True)['inputs']
    assert inputs.shape == (4, 3, SIZE, SIZE)


def batch(height: int, width: int, objects: int = 1) -> dict:
    """One image with one object or none, as mmdet's pipelines pack it."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    mask = np.zeros((1, height, width), np.uint8)
    mask[:, 10:30, 12:40] = 1
    sample = DetDataSample(
        metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[12.0, 10, 40, 30]])[:objects]),
        labels=torch.tensor([3])[:objects],
        masks=BitmapMasks(mask[:objects], height, width),
    )
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    return pseudo_collate([dict(inputs=image, data_samples=sample)])


@pytest.mark.parametrize('name', ['maskrcnn_coco_vitb', 'atss_coco_vitb'])
def test_an_image_that_is_no_multiple_of_the_patch_is_padded(name, coco):
    cfg = small(name, coco)
    cfg.model.data_preprocessor.pad_size_divisor = 1
    model = MODELS.build(cfg.model)
    losses = model(**model.data_preprocessor(batch(51, 77), True), mode='loss')
    total, _ = model.parse_losses(losses)
    assert total.isfinite()

    # the levels begin at the same pixel, and end behind the last one
    maps = model.extract_feat(torch.zeros(1, 3, 51, 77))
    strides = cfg.model.get('bbox_head', cfg.model.get('rpn_head')).anchor_generator.strides
    assert [m.shape[2:] for m in maps] == [
        (-(-56 // stride), -(-80 // stride)) for stride in strides
    ]
    (result,) = model.eval().test_step(batch(51, 77))
    boxes = result.pred_instances.bboxes
    assert (boxes >= 0).all() and (boxes <= torch.tensor([77, 51, 77, 51])).all()
    if 'masks' in result.pred_instances:
        assert result.pred_instances.masks.shape[1:] == (51, 77)


@pytest.mark.parametrize('name', RECIPES)
def test_a_step_in_bfloat16(name, coco):
    """RoIAlign and NMS have no kernel for it, and boxes need more digits than it has."""
    cfg = small(name, coco)
    model = MODELS.build(cfg.model)
    (hook,) = [HOOKS.build(h) for h in cfg.custom_hooks if h.type == 'Float32HeadsHook']
    hook.before_run(SimpleNamespace(model=model))
    with torch.autocast('cpu', torch.bfloat16):
        assert model.neck(model.backbone(torch.zeros(1, 3, SIZE, SIZE)))[0].dtype == torch.float32
        head = model.bbox_head if name.startswith('atss') else model.rpn_head
        scores, boxes, *_ = head([torch.zeros(1, 64, 8, 8)] * 5)
        assert scores[0].dtype == boxes[0].dtype == torch.float32
        losses = model(**model.data_preprocessor(batch(48, 64), True), mode='loss')
        total, _ = model.parse_losses(losses)
    total.backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]


@pytest.mark.parametrize('name', RECIPES)
def test_a_crop_without_objects_trains_every_parameter(name, coco):
    """Jitter makes such crops; DDP would stop at a parameter that no loss depends on."""
    model = MODELS.build(small(name, coco).model)
    losses = model(**model.data_preprocessor(batch(48, 64, objects=0), True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert not [key for key, value in model.named_parameters() if value.grad is None]


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_that_of_the_paper(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay_rate=0.7)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    schedule = cfg.param_scheduler[-1]
    assert cfg.train_cfg.max_epochs == 36 and 'end' not in schedule  # the end of the run
    assert (schedule.type, schedule.milestones) == ('MultiStepLR', [27, 33])  # x 0.1, the default

    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.window_size, backbone.with_cp) == ('base', 14, True)
    assert backbone.global_blocks == (2, 5, 8, 11)
    assert (backbone.img_size, cfg.model.data_preprocessor.pad_size_divisor) == (1024, 1024)
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    jitter, crop = steps['RandomResize'], steps['RandomCrop']
    assert (jitter.scale, jitter.ratio_range, jitter.keep_ratio) == ((1024, 1024), (0.1, 2.0), True)
    assert (crop.crop_type, crop.crop_size) == ('absolute', (1024, 1024))
    assert steps['RandomFlip'].prob == 0.5
    assert steps['LoadAnnotations'].get('with_mask', False) == ('mask' in name)


@pytest.mark.parametrize('name', RECIPES)
def test_learning_rate_falls_from_layer_to_layer(name, coco):
    cfg = small(name, coco)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {p: group['lr'] / 1e-4 for group in groups for p in group['params']}
    assert len(rates) == len(list(model.parameters()))
    for key, parameter in model.named_parameters():
        layer = 4
        if key.startswith('backbone.'):
            layer = model.backbone.get_layer_depth(key.removeprefix('backbone.'))[0]
        assert rates[parameter] == pytest.approx(0.7 ** (4 - layer)), key
    assert min(rates.values()) == pytest.approx(0.7**4)


@pytest.mark.parametrize('name', RECIPES)
def test_starts_from_the_ventral_encoder_of_a_recipes_checkpoint(name, coco, tmp_path):
    init = load(name).model.backbone.init_cfg
    recipe = load(Path(init.checkpoint).parent.name)
    assert Path(init.checkpoint).name == f'epoch_{recipe.train_cfg.max_epochs}.pth'
    cfg = small(name, coco)
    encoders = {
        branch: MODELS.build(cfg.model.backbone | dict(out_indices='stages'))
        for branch in ('ventral', 'dorsal')
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
    assert all(value.equal(wanted[key]) for key, value in model.backbone.state_dict().items())


def test_a_missing_data_set_is_named_at_once(tmp_path, monkeypatch, call_tool):
    monkeypatch.chdir(tmp_path)
    options = ('model.backbone.init_cfg=None', 'model.backbone.type=BimVit')
    with pytest.raises(SystemExit) as stop:
        call_tool('tools/train.py', CONFIGS / 'maskrcnn_coco_vitb.py', '--cfg-options', *options)
    text = str(stop.value)
    for loader in ('train_dataloader', 'val_dataloader'):
        assert f"{loader}.dataset.data_root='data/coco': no such folder {tmp_path}" in text
    assert "val_evaluator.ann_file='data/coco/annotations/instances_val2017.json': no" in text
    assert re.search("model.backbone.type='BimVit' is in no registry .*BimmViT", text)
    assert not (tmp_path / 'work_dirs').exists()


@pytest.mark.parametrize(
    'classes, message',
    [
        (('person', 'dog'), None),
        (('person', 'dgo'), r"classes=\('person', 'dgo'\) has \['dgo'\], which .*'bicycle'"),
        (('dog', 'person'), r"classes=\('dog', 'person'\) has another order"),
        (('bicycle',), r'has 2 images, and none of them is left by filter_cfg='),
    ],
)
def test_names_of_classes_are_those_of_the_annotations(classes, message, coco):
    cfg = small('maskrcnn_coco_vitb', coco).train_dataloader.dataset
    cfg.metainfo = dict(classes=classes)
    if message is None:
        assert len(DATASETS.build(cfg)) == 2
    else:
        with pytest.raises(ValueError, match=message):
            DATASETS.build(cfg)


def test_the_inferencer_of_the_docs_draws_and_names_what_it_finds(overfitted, coco, tmp_path):
    from mmdet.apis import DetInferencer

    image = coco / 'val2017' / '000000000000.jpg'
    inferencer = DetInferencer(str(overfitted.config), str(overfitted.checkpoint), device='cpu')
    inferencer.show_progress = False
    out = inferencer(str(image), out_dir=str(tmp_path), pred_score_thr=0.3)
    scores = out['predictions'][0]['scores']
    assert sum(score >= 0.3 for score in scores) >= 2  # the two objects, perhaps more than once
    assert 'dog' in inferencer.visualizer.dataset_meta['classes']
    plain, drawn = (cv2.imread(str(p)) for p in (image, tmp_path / 'vis' / image.name))
    assert drawn.shape == plain.shape and (drawn != plain).any(2).mean() > 0.1
