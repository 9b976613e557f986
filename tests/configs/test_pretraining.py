import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

import bimm_mm  # noqa: F401
from bimm_mm.config.loading import merge_config
from bimm_mm.contours.format import SUFFIX, image_file_name
from bimm_mm.contours.writer import ContourWriter, write_manifest

CONFIGS = Path(__file__).parents[2] / 'configs'
EVERY = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and 'studies' not in path.parts
)


def is_of_mmpretrain(name):
    """Those that mix with mmpretrain have tests of their own."""
    return re.search(r'mmpretrain|_hog_|maskfeat', name)


# BIMM's branches that pretrain. What comes after pretraining, the recipes for one's own videos and
# other methods have tests of their own.
NAMES = [
    name
    for name in EVERY
    if re.match(r'(bimm|videomae|mae)/(\w+/)+|bimm/(ventral|joint|dorsal)_|mae/|videomae/', name)
    and not re.search(r'/finetune_|_own_', name)
    and not is_of_mmpretrain(name)
]
VIT_L = (4, 8, 24)


def load(name):
    pytest.importorskip('mmaction', reason='most configs read videos through mmaction2')
    pytest.importorskip('mmpretrain', reason='images are read through mmpretrain')
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    return cfg


def branches(cfg):
    return {name: cfg.model[name] for name in ('ventral', 'dorsal') if name in cfg.model}


def shrink(cfg, img_size=32, patch_size=8):
    """The same composition, with few channels and 4x4 patches: seconds, not minutes."""
    for branch in branches(cfg).values():
        branch.backbone.update(
            arch=dict(embed_dims=16, depth=branch.backbone.stage_ends[-1], num_heads=2),
            img_size=img_size,
            patch_size=patch_size,
        )
        for decoder in branch.neck.decoders:
            decoder.embed_dims = 16
            if decoder.type == 'TransformerDecoder':
                decoder.update(num_heads=2, depth=1)
    cfg.model.pop('init_dorsal_from', None)
    return cfg


def reads_contours(cfg):
    """Whether the input must have a fourth channel."""
    targets = [target.type for branch in branches(cfg).values() for target in branch.targets]
    return 'CachedContourTarget' in targets


def generated_batch(cfg, samples=2):
    generator = torch.Generator().manual_seed(0)
    frames = cfg.model.dorsal.backbone.num_frames if 'dorsal' in cfg.model else None
    channels = 4 if reads_contours(cfg) else 3
    # as mmpretrain packs images, and mmaction2 clips
    shape = (channels, 32, 32) if frames is None else (1, channels, frames, 32, 32)
    return pseudo_collate(
        [
            dict(
                inputs=torch.randint(256, shape, generator=generator).to(torch.uint8),
                data_samples=BaseDataElement(),
            )
            for _ in range(samples)
        ]
    )


def test_there_are_configs():
    folders = {Path(name).parent.name for name in NAMES}
    assert {'bimm', 'ablations', 'mae', 'videomae', 'demo'} <= folders


@pytest.mark.parametrize('name', NAMES)
def test_takes_a_training_step(name):
    cfg = shrink(load(name))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    losses = model.train_step(generated_batch(cfg), optim_wrapper)

    weights = [w for b in branches(cfg).values() for w in b.get('loss_weights') or b.targets]
    assert sum(key.startswith('loss_') for key in losses) == sum(map(bool, weights))
    assert all(torch.isfinite(value).all() for value in losses.values())
    # every parameter is trained but frozen ones; DDP would stop at one that no loss depends on
    moved = {key for key, parameter in model.named_parameters() if not parameter.equal(before[key])}
    assert moved == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(weights) == (moved == set(before))


@pytest.mark.parametrize('name', NAMES)
def test_every_name_resolves(name):
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    assert DATASETS.get(dataset.type) is not None
    scope = dataset.type.split('.')[0] if '.' in dataset.type else cfg.default_scope
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        for transform in dataset.get('pipeline', []):
            registry.build(transform)
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]:
        HOOKS.build(hook)


@pytest.mark.parametrize('name', NAMES)
def test_decays_weights_only_and_shared_blocks_once(name):
    cfg = shrink(load(name))
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    parameters = [p for group in groups for p in group['params']]
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert len(parameters) == len(set(parameters)) == len(trained)
    decay = {p: group['weight_decay'] for group in groups for p in group['params']}
    for key, parameter in trained.items():
        module, leaf = key.split('.')[-2:]
        spared = leaf in ('bias', 'cls_token', 'mask_token') or re.fullmatch(r'norm\d*', module)
        assert decay[parameter] == (0 if spared else cfg.optim_wrapper.optimizer.weight_decay), key


RECIPES = [
    f'{stage}_{dataset}_{arch}'
    for stage, datasets in (('joint', ('k400', 'ssv2', 'ucf101')), ('ventral', ('in1k',)))
    for dataset in datasets
    for arch in ('vitb', 'vitl')
]


@pytest.mark.parametrize('name', NAMES)
def test_contours_are_loaded_where_a_target_reads_them(name):
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.get('contour_cache') is not None) == reads_contours(cfg)
    if 'pipeline' in dataset:
        types = [transform.type.rpartition('/')[2] for transform in dataset.pipeline]
        geometry = [i for i, t in enumerate(types) if 'Resize' in t or 'Crop' in t or 'Flip' in t]
        assert types.index('LoadContours') < min(geometry)


@pytest.mark.parametrize('name', [*RECIPES, 'ventral_ucf101_vitb'])
def test_edge_variant_differs_in_the_contours_only(name):
    cfg, edge = load(f'bimm/{name}.py'), load(f'bimm/{name}_edge.py')
    assert reads_contours(cfg) and not reads_contours(edge)
    for branch in branches(edge).values():
        types = [target.type for target in branch.targets]
        branch.targets[types.index('EdgeContourTarget')].type = 'CachedContourTarget'
    edge.train_dataloader.dataset.contour_cache = cfg.train_dataloader.dataset.contour_cache
    if name.startswith('joint'):  # each starts from a stage 1 of its own kind
        edge.model.init_dorsal_from = cfg.model.init_dorsal_from
    edge._cfg_dict.pop('edges')
    assert edge._cfg_dict == cfg._cfg_dict


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_has_the_papers_branches(name):
    cfg = load(f'bimm/{name}.py')
    large = name.endswith('vitl')
    for branch in branches(cfg).values():
        assert branch.backbone.arch == ('large' if large else 'base')
        assert branch.backbone.stage_ends == (VIT_L if large else (2, 4, 12))
        assert [d.type for d in branch.neck.decoders] == [
            'LinearDecoder',
            'TransformerDecoder',
            'TransformerDecoder',
        ]
    assert cfg.model.ventral.masking == dict(type='RandomMasking', ratio=0.75)
    assert cfg.model.ventral.targets[-1].type == 'PixelTarget'
    if name.startswith('joint'):
        assert cfg.model.dorsal.masking == dict(type='TubeMasking', ratio=0.9)
        assert cfg.model.dorsal.targets[-1].type == 'MotionTarget'
        assert (cfg.model.share, cfg.model.dorsal_weight) == ('partial', 1)
    else:
        assert list(branches(cfg)) == ['ventral']


@pytest.mark.parametrize(
    'name, shared',
    [
        ('ablations/share_none', 0),
        ('ablations/default', 4),
        ('ablations/share_all', 12),
        ('ablations/stages_12', 4),
        ('ablations/stages_4_8_12', 8),
        ('ablations/stages_6_9_12', 9),
        ('ablations/targets_v1', 4),
        ('ablations/targets_v1_v2', 4),
        ('ablations/targets_v1_last', 4),
        ('ablations/targets_v1_v2_last', 4),
        ('joint_k400_vitl', 8),
    ],
)
def test_number_of_shared_blocks(name, shared):
    assert MODELS.build(shrink(load(f'bimm/{name}.py')).model).num_shared == shared


def settings(cfg):
    """What the rows of table 7 differ in."""
    dorsal = cfg.model.get('dorsal')
    return ConfigDict(
        branches=sorted(branches(cfg)),
        init=cfg.model.get('init_dorsal_from'),
        share=cfg.model.get('share'),
        ratio=dorsal.masking.ratio,
        ends=dorsal.backbone.stage_ends,
        readers=dorsal.neck.get('stages'),
        weights=dorsal.get('loss_weights'),
        targets=[target.type for target in dorsal.targets],
    )


DEFAULT = 'bimm/ablations/default'
# per question of table 7, the config of each of its rows; exactly one is the default
TABLE_7 = dict(
    init=('bimm/ablations/init_none', 'bimm/ablations/init_ucf101', DEFAULT),
    branch=('videomae/videomae_ucf101_vitb', 'bimm/ablations/branch_dorsal', DEFAULT),
    targets=('bimm/ablations/targets_v1', 'bimm/ablations/targets_v1_v2', DEFAULT),
    stages=(*(f'bimm/ablations/stages_{ends}' for ends in ('12', '4_8_12', '6_9_12')), DEFAULT),
    share=('bimm/ablations/share_none', DEFAULT, 'bimm/ablations/share_all'),
    mask=(*(f'bimm/ablations/mask_{ratio}' for ratio in (50, 75, 95)), DEFAULT),
)


def test_every_ablation_is_a_row_of_table_7_or_said_not_to_be_one():
    rows = {f'{row}.py' for rows in TABLE_7.values() for row in rows}
    others = {f'bimm/ablations/targets_{row}_last.py' for row in ('v1', 'v1_v2')}
    assert {name for name in NAMES if 'bimm/ablations/' in name} == {
        name for name in rows | others if 'ablations' in name
    }
    for name in others:
        assert (CONFIGS / name).read_text().startswith('# Not a row of table 7')


@pytest.mark.parametrize('question', TABLE_7)
def test_rows_of_a_question_differ_and_one_is_the_default(question):
    default = settings(load(f'{DEFAULT}.py'))
    rows = [settings(load(f'{row}.py')) for row in TABLE_7[question]]
    assert sum(row == default for row in rows) == 1
    assert all(row not in rows[:index] for index, row in enumerate(rows))


def test_readme_links_the_config_of_each_row_of_table_7():
    text = (CONFIGS / 'bimm' / 'README.md').read_text()
    text = text.partition('## Ablations')[2].partition('\n## ')[0]
    linked = re.findall(r'\]\(([\w/.]+\.py)\)', text)
    linked = [os.path.normpath(f'bimm/{path}') for path in linked]
    for rows in TABLE_7.values():
        assert {f'{row}.py' for row in rows} <= set(linked)
    assert linked.count(f'{DEFAULT}.py') >= len(TABLE_7)


def test_ablations_start_from_a_checkpoint_that_a_recipe_writes():
    for row, recipe in (('default', 'ventral_in1k_vitb'), ('init_ucf101', 'ventral_ucf101_vitb')):
        cfg = load(f'bimm/{recipe}.py')
        written = f'work_dirs/{recipe}/epoch_{cfg.train_cfg.max_epochs}.pth'
        assert load(f'bimm/ablations/{row}.py').model.init_dorsal_from == written


@pytest.mark.parametrize('folder', ['bimm', 'mae', 'videomae', 'maskfeat'])
def test_the_readme_of_a_folder_lists_every_config_in_it(folder):
    text = (CONFIGS / folder / 'README.md').read_text()
    linked = {
        os.path.normpath(f'{folder}/{path}') for path in re.findall(r'\]\(([\w/.]+\.py)\)', text)
    }
    assert {name for name in linked if not name.startswith('studies/')} <= set(EVERY)
    own = {name for name in EVERY if name.startswith(f'{folder}/')}
    assert {name for name in own if not name.startswith('bimm/demo')} <= linked


def test_every_folder_of_a_method_has_a_readme():
    folders = {path for path in CONFIGS.iterdir() if path.is_dir()}
    methods = {path for path in folders if path.name not in ('_base_', 'studies')}
    assert all((path / 'README.md').is_file() for path in methods)


# How a recipe is written -------------------------------------------------------------------------


def depth(path):
    """Files behind one another; the file itself counts 1."""
    bases = Config._get_base_files(str(path))
    return 1 + max((depth((path.parent / base).resolve()) for base in bases), default=0)


@pytest.mark.parametrize('name', EVERY)
def test_three_files_at_most_are_behind_one_another(name):
    assert depth(CONFIGS / name) <= 3


@pytest.mark.parametrize(
    'variable, configs',
    [
        ('KINETICS400', ['bimm/joint_k400_vitb', 'bimm/finetune_k400_vitb']),
        ('SSV2', ['bimm/joint_ssv2_vitb', 'bimm/finetune_ssv2_vitb']),
        ('UCF101', ['bimm/joint_ucf101_vitb', 'bimm/finetune_ucf101_vitb']),
        ('HMDB51', ['bimm/finetune_hmdb51_vitb']),
        ('IMAGENET', ['bimm/ventral_in1k_vitb', 'bimm/finetune_in1k_vitb']),
        ('AVA', ['bimm/finetune_ava_vitb']),
        ('COCO', ['bimm/maskrcnn_coco_vitb']),
        ('ADE20K', ['bimm/upernet_ade20k_vitb']),
    ],
)
def test_an_environment_variable_says_where_a_data_set_is(variable, configs, monkeypatch):
    before = [Config.fromfile(CONFIGS / f'{n}.py', import_custom_modules=False) for n in configs]
    monkeypatch.setenv(variable, '/elsewhere')
    for name, old in zip(configs, before, strict=True):
        cfg = Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)
        paths = dict(strings_below(cfg._cfg_dict))
        default = dict(strings_below(old._cfg_dict))
        moved = {key for key in paths if paths[key] != default[key]}
        assert all(paths[key].startswith('/elsewhere') for key in moved)
        # whatever was below data/ is there now
        assert moved == {key for key, value in default.items() if value.startswith('data/')}


def strings_below(node, path=''):
    """(place, string) of every string in a config."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from strings_below(value, f'{path}.{key}')


# A recipe runs -----------------------------------------------------------------------------------


@pytest.fixture
def real_data():
    default = Path(__file__).parents[3] / 'shared' / 'data'
    folder = Path(os.environ.get('BIMM_TEST_DATA', default))
    if not (folder / 'clips').is_dir() or not (folder / 'images').is_dir():
        pytest.skip(f'no clips/ and images/ in {folder}; BIMM_TEST_DATA names another folder')
    return folder


def write_contours(kind, folder, cache):
    """A cache of squares, for every video or image of a folder."""
    decord = pytest.importorskip('decord', reason='decodes the videos')
    made = dict(num_files=1, num_images=3) if kind == 'images' else {}
    write_manifest(cache, kind, {}, **made)
    names = sorted(path.name for path in folder.iterdir())
    if kind == 'images':
        sizes = [cv2.imread(str(folder / name)).shape[:2] for name in names]
        files = {cache / image_file_name(names[0], 1): (dict(names=names), sizes)}
    else:
        readers = {name: decord.VideoReader(str(folder / name)) for name in names}
        files = {}
        for name, reader in readers.items():
            height, width = reader[0].shape[:2]
            header = dict(num_frames=len(reader), height=height, width=width, stride=len(reader))
            files[cache / (name + SUFFIX)] = (header, [(height, width)])
    for path, (header, sizes) in files.items():
        with ContourWriter(path, dict(header, kind=kind, made_by={}), len(sizes)) as writer:
            for size in sizes:
                contour = np.zeros(size, bool)
                contour[::40], contour[:, ::40] = True, True
                writer.add(contour, size)
            writer.finish()


@pytest.mark.parametrize(
    'name, folder', [('joint_k400_vitb', 'clips'), ('ventral_in1k_vitb', 'images')]
)
def test_runner_trains_on_real_data(name, folder, real_data, tmp_path):
    pytest.importorskip('decord', reason='decodes the videos')
    write_contours('videos' if folder == 'clips' else folder, real_data / folder, tmp_path / 'c')
    # as the recipe's pipeline crops
    cfg = shrink(load(f'bimm/{name}.py'), img_size=224, patch_size=16)
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'train_dataloader.dataset.data_root': str(real_data / folder),
            'train_dataloader.dataset.contour_cache': str(tmp_path / 'c'),
            'train_dataloader.dataset.indices': 2,  # the first two samples
            'train_dataloader.batch_size': 1,
            'train_dataloader.num_workers': 1,
            'train_cfg.max_epochs': 1,
            'param_scheduler': cfg.param_scheduler[:1],  # the warm-up alone
            'default_hooks.logger.interval': 1,
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (runner.epoch, runner.iter) == (1, 2)
    assert (tmp_path / 'epoch_1.pth').is_file()
    history = runner.message_hub.log_scalars
    losses = [key for key in history if key.startswith('train/loss_')]
    assert len(losses) == (6 if name.startswith('joint') else 3)
    assert all(torch.tensor(history[key].data[0]).isfinite().all() for key in losses)


REPEATED = [name for name in EVERY if name.endswith('_r4.py')]


@pytest.mark.parametrize('repeats', [4, 2])
@pytest.mark.parametrize('name', REPEATED)
def test_several_clips_of_a_video_are_the_same_training_in_clips_and_iterations(name, repeats):
    one = merge_config(str(CONFIGS / name.replace('_r4', '')), {})
    several = merge_config(str(CONFIGS / name), {} if repeats == 4 else dict(num_repeats=repeats))
    assert several.train_dataloader.dataset.num_repeats == repeats
    assert several.train_dataloader.batch_size * repeats == one.train_dataloader.batch_size
    assert several.train_cfg.max_epochs * repeats == one.train_cfg.max_epochs
    assert several.auto_scale_lr.base_batch_size * repeats == one.auto_scale_lr.base_batch_size
    for before, after in zip(one.param_scheduler, several.param_scheduler, strict=True):
        for key in ('begin', 'end'):
            assert (key in after) == (key in before)
            assert after.get(key, 0) * repeats == before.get(key, 0)
    # the rest is the same
    for cfg in (one, several):
        cfg.train_dataloader.update(batch_size=0)
        cfg.train_dataloader.dataset.num_repeats = 0
        for key in ('train_cfg', 'param_scheduler', 'auto_scale_lr', 'num_repeats'):
            cfg.pop(key, None)
        cfg.default_hooks.checkpoint.interval = 0
    assert several.to_dict() == one.to_dict()
