"""The recipes are what docs/method.md says: its tables are read, and held against every recipe."""

import ast
import inspect
import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from mmengine import Config

from bimm_mm import models

REPO = Path(__file__).parents[2]
CONFIGS = REPO / 'configs'
BIMM = CONFIGS / 'bimm'
COLUMNS = {'K400': 'k400', 'SSv2': 'ssv2', 'UCF101': 'ucf101', 'HMDB51': 'hmdb51'}
COLUMNS |= {'AVA v2.2': 'ava', 'IN-1K': 'in1k'}
# variants in another thing than the paper's, and rows of the paper's other tables
VARIANTS = ('_edge', '_visible', '_signed', '_hog', '_mmpretrain')


def section(title: str) -> list[list[str]]:
    """The rows of the table below a heading of docs/method.md, without its rule."""
    text = (REPO / 'docs' / 'method.md').read_text()
    _, found, rest = text.partition(f'### {title}')
    assert found, title
    lines = rest.partition('\n### ')[0].splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line]
    assert set(''.join(rows[1])) == {'-'}
    return rows[:1] + rows[2:]


def numbers(title: str) -> dict[str, dict[str, str]]:
    """A table of numbers: column, row and cell."""
    (_, *columns), *rows = section(title)
    return {
        COLUMNS[column]: {row[0]: row[index] for row in rows}
        for index, column in enumerate(columns, 1)
        if column in COLUMNS
    }


@cache
def load(name: str) -> Config:
    path = BIMM / f'{name}.py'
    path = path if path.is_file() else CONFIGS / f'{name}.py'
    return Config.fromfile(path, import_custom_modules=False)


def find(cfg: Config, key: str) -> object:
    """What stands at 'model.dorsal.targets.0.type'; None where nothing does."""
    node = cfg
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node.get(part)
    return node


def recipes(pattern: str) -> list[str]:
    """The paper's recipes in configs/bimm, or one that is named in full."""
    if '*' not in pattern:
        return [pattern]
    names = [path.stem for path in sorted(BIMM.glob('*.py'))]
    return [
        name
        for name in names
        if fnmatch(name, pattern) and not any(variant in name for variant in VARIANTS)
    ]


def read_settings(title: str, columns: tuple[int, int]) -> list[tuple[str, str, object]]:
    """(recipe, key, value) of each setting of a table; columns: of settings and recipes."""
    result = []
    for row in section(title)[1:]:
        found = re.findall(r'`([a-z_]\w*(?:\.\w+)+) = ([^`]+)`', row[columns[0]])
        patterns = re.findall(r'`([^`]+)`', row[columns[1]])
        assert bool(found) == bool(patterns), row
        for pattern in patterns:
            assert recipes(pattern), f'{pattern} is no recipe'
            result += [(name, key, value) for name in recipes(pattern) for key, value in found]
    return result


SETTINGS = [
    *read_settings('Section 3 and algorithm 1', (2, 3)),
    *read_settings('Section 4.3 and table 7', (2, 3)),
]


def same(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def test_there_are_as_many_settings_as_were_written():
    assert len({key for _, key, _ in SETTINGS}) >= 25
    assert {name.split('_')[0] for name, _, _ in SETTINGS} >= {'ventral', 'joint', 'finetune'}


@pytest.mark.parametrize('name', sorted({name for name, _, _ in SETTINGS}))
def test_recipe_has_the_settings_of_section_3(name):
    wanted = {key: eval(value, dict(dict=dict)) for n, key, value in SETTINGS if n == name}
    assert {key: same(find(load(name), key)) for key in wanted} == wanted


def test_defaults_of_classes_are_those_of_section_3():
    rows = section('Section 3 and algorithm 1')[1:]
    found = re.findall(r'`(\w+)\((\w+)=([^`]+)\)`', ' '.join(row[2] for row in rows))
    found = [default for default in found if hasattr(models, default[0])]
    assert {name for name, _, _ in found} == {'BimmViT', 'TransformerDecoder'}
    for name, argument, value in found:
        parameters = inspect.signature(getattr(models, name)).parameters
        assert parameters[argument].default == ast.literal_eval(value), (name, argument)


def pipeline(cfg: Config, loader: str = 'train_dataloader') -> dict[str, dict]:
    return {re.sub(r'.*[./]', '', t.type): t for t in cfg[loader].dataset.pipeline}


def says(cell: str) -> bool:
    return dict(yes=True, no=False)[cell]


TABLE_8 = numbers('Table 8')
TABLE_9 = numbers('Table 9')


def test_tables_are_those_of_the_paper():
    """Its figures once more: a slip in the documentation would carry a recipe along."""
    lr = {column: row['base lr'] for column, row in TABLE_8.items()}
    assert lr == dict(k400='1.5e-4', ssv2='1.5e-4', ucf101='3e-4', in1k='2e-4')
    batch = {column: row['batch size'] for column, row in TABLE_8.items()}
    assert batch == dict(k400='16', ssv2='16', ucf101='64', in1k='128')
    for row in TABLE_8.values():
        rate, base = list(row)[2:4]
        wanted = float(row['base lr']) * int(row['batch size']) / 16
        assert float(row[rate]) == pytest.approx(wanted)
        assert int(row[base]) == 16 * int(row['batch size'])
    assert TABLE_9.keys() == set(COLUMNS.values())


@pytest.mark.parametrize('arch', ['vitb', 'vitl'])
@pytest.mark.parametrize('column', TABLE_8)
def test_pretraining_recipe_is_that_of_table_8(column, arch):
    stage = 'ventral' if column == 'in1k' else 'joint'
    holds_table_8(load(f'{stage}_{column}_{arch}'), TABLE_8[column])


def holds_table_8(cfg: Config, row: dict[str, str], **other: object) -> None:
    """Assert that a config has the settings of a column of table 8, but for some others."""
    rate, base = list(row)[2:4]
    optimizer, loader = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    assert (optimizer.type, optimizer.betas) == ('AdamW', (0.9, 0.95))
    assert optimizer.weight_decay == float(row['weight decay'])
    assert optimizer.lr == pytest.approx(float(row[rate]))
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=int(row[base]))
    assert loader.batch_size == int(row['batch size']) and loader.drop_last
    assert loader.sampler.shuffle

    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, cosine.type) == ('LinearLR', 'CosineAnnealingLR')
    begin = int(row['warm-up epochs'])
    assert (warmup.begin, warmup.end, cosine.begin) == (0, begin, begin)
    epochs = other.get('epochs', int(row['epochs']))
    assert cfg.train_cfg.max_epochs == epochs and 'end' not in cosine  # the end of the run

    steps = pipeline(cfg)
    assert ('Flip' in steps or 'RandomFlip' in steps) == says(row['random flip'])
    crops = {'MultiScaleCrop', 'MultiScaleCropResize', 'RandomResizedCrop'}
    assert bool(crops & set(steps)) == says(row['random crop'])
    if row['frames'] != '–':
        sampling = steps['SampleFrames']
        assert sampling.clip_len == other.get('frames', int(row['frames']))
        assert sampling.get('frame_interval', 1) == other.get('stride', int(row['stride']))


COMPARED = {  # with a recipe of the paper: the column, and what is different
    'ventral_ucf101_vitb': ('ucf101', dict(epochs=800, frames=1, stride=1)),
    **{
        f'ablations/{path.stem}': ('ucf101', dict(epochs=800))
        for path in (BIMM / 'ablations').glob('*.py')
    },
    'dorsal_k400_vitb': ('k400', {}),
    'mae/mae_in1k_vitb': ('in1k', {}),
    'mae/mmpretrain_mae_in1k_vitb': ('in1k', {}),
    'videomae/videomae_k400_vitb': ('k400', {}),
    'videomae/videomae_ucf101_vitb': ('ucf101', {}),
    'videomae/motionmae_k400_vitb': ('k400', {}),
}


@pytest.mark.parametrize('name', COMPARED)
def test_what_is_compared_with_a_recipe_has_its_data_and_schedule(name):
    column, other = COMPARED[name]
    holds_table_8(load(name), TABLE_8[column], **other)


@pytest.mark.parametrize('arch', ['vitb', 'vitl'])
@pytest.mark.parametrize('column', TABLE_9)
def test_finetuning_recipe_is_that_of_table_9(column, arch):
    row, vit = TABLE_9[column], {'vitb': 'ViT-B', 'vitl': 'ViT-L'}[arch]
    if row[f'epochs, {vit}'] == '–':
        pytest.skip('the paper has none')
    cfg = load(f'finetune_{column}_{arch}')
    optimizer, loader = cfg.optim_wrapper.optimizer, cfg.train_dataloader
    assert (optimizer.type, tuple(optimizer.betas)) == ('AdamW', (0.9, 0.999))
    assert optimizer.weight_decay == 0.05
    assert optimizer.lr == pytest.approx(float(row['learning rate here, for 8 GPUs']))
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == float(row['layer-wise lr decay'])
    assert loader.batch_size == int(row['batch size'])
    assert cfg.auto_scale_lr.base_batch_size == 8 * loader.batch_size

    warmup, cosine = cfg.param_scheduler
    begin = int(row['warm-up epochs'])
    assert (warmup.begin, warmup.end, cosine.begin) == (0, begin, begin)
    assert cfg.train_cfg.max_epochs == int(row[f'epochs, {vit}'])
    assert 'end' not in cosine  # the end of the run
    assert cfg.model.backbone.drop_path_rate == float(row[f'drop path, {vit}'])
    repeats = loader.dataset.get('num_repeats')
    assert repeats == (None if row['repeated augmentation'] == 'no' else 2)

    training = pipeline(cfg)
    assert ('Flip' in training or 'RandomFlip' in training) == says(row['random flip'])
    if row['frames'] != '–' and column != 'ava':
        holds_sampling(cfg, row)


def holds_sampling(cfg: Config, row: dict[str, str]) -> None:
    """Assert that training and test take the table's frames, clips and crops."""
    uniform = row['stride'] == 'uniform'
    for loader in ('train_dataloader', 'test_dataloader'):
        steps = pipeline(cfg, loader)
        sampler = steps['UniformSample' if uniform else 'SampleFrames']
        assert sampler.clip_len == int(row['frames']) == cfg.model.backbone.num_frames
        assert sampler.get('frame_interval') == (None if uniform else int(row['stride']))
    assert sampler.num_clips == int(row['test clips'])
    assert (3 if 'ThreeCrop' in steps else 1) == int(row['test crops'])


@pytest.mark.parametrize('column', TABLE_9)
def test_labels_and_mixing_are_those_of_table_9(column):
    row, cfg = TABLE_9[column], load(f'finetune_{column}_vitb')
    if row['mixup'] == 'left out':
        assert 'blending' not in cfg.model.data_preprocessor
        return
    if column == 'in1k':
        smoothing, augments = cfg.model.head.loss.label_smooth_val, cfg.model.train_cfg.augments
    else:
        smoothing = cfg.model.cls_head.label_smooth_eps
        augments = cfg.model.data_preprocessor.blending.augments
    assert smoothing == float(row['label smoothing'])
    mixup, cutmix = augments
    assert (mixup.type.lower()[:5], mixup.alpha) == ('mixup', float(row['mixup']))
    assert (cutmix.type.lower()[:6], cutmix.alpha) == ('cutmix', float(row['cutmix']))


def test_only_the_variants_and_the_demo_predict_visible_patches():
    visible = set()
    for path in (REPO / 'configs').rglob('*.py'):
        if '_base_' in path.parts or path.name.startswith('_'):
            continue
        cfg = Config.fromfile(path, import_custom_modules=False)
        branches = [(cfg.get('model') or {}).get(name) for name in ('ventral', 'dorsal')]
        decoders = [d for b in branches if b for d in b.neck.decoders if d.type == 'LinearDecoder']
        kinds = {decoder.get('predict') for decoder in decoders}
        assert kinds <= {'masked', 'visible'}, f'{path} does not say what V1 predicts'
        if 'visible' in kinds:
            visible.add(str(path.relative_to(BIMM)))
    assert {name for name in visible if not name.startswith('demo/')} == {
        f'{stage}_{data}_vitb_visible{edge}.py'
        for stage, data in (('ventral', 'in1k'), ('joint', 'k400'))
        for edge in ('', '_edge')
    }


def test_only_the_variants_named_so_keep_the_sign_of_motion():
    for path in BIMM.glob('joint_*.py'):
        cfg = load(path.stem)
        assert cfg.model.dorsal.targets[2].get('absolute', True) == ('_signed' not in path.stem)
    for edge in ('', '_edge'):
        signed, plain = load(f'joint_k400_vitb_signed{edge}'), load(f'joint_k400_vitb{edge}')
        model = signed.model.to_dict()
        assert model['dorsal']['targets'][2].pop('absolute') is False
        assert model == plain.model.to_dict()
        for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert signed[key] == plain[key]


def test_joint_recipes_start_from_the_checkpoint_that_their_stage_1_writes():
    names = recipes('joint_*') + [p.stem for p in BIMM.glob('joint_*') if VARIANTS[0] in p.stem]
    names = [name for name in names if '_own_' not in name]  # they name what their user has
    names += ['joint_k400_vitb_visible']
    assert len(names) >= 12
    for name in names:
        source = Path(load(name).model.init_dorsal_from)
        assert source.parts[0] == 'work_dirs'
        stage_1 = load(source.parent.name)
        assert source.name == f'epoch_{stage_1.train_cfg.max_epochs}.pth'
        assert ('_edge' in name) == ('_edge' in source.parent.name)
        for part in ('arch', 'stage_ends'):
            assert stage_1.model.ventral.backbone[part] == load(name).model.ventral.backbone[part]
        predicts = [c.model.ventral.neck.decoders[0].predict for c in (stage_1, load(name))]
        assert predicts[0] == predicts[1]
