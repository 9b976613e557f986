"""BIMM's dorsal branch takes every guided mask by a setting, and recipes hand on what it needs."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

import bimm_mm  # noqa: F401
from bimm_mm.config.paths import missing_paths

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_clip import write_clip  # noqa: E402

CONFIGS = Path(__file__).parents[2] / 'configs'
# as --cfg-options has them
LINES = dict(
    difference={'model.dorsal.masking.type': 'FrameDifferenceMasking'},
    vectors={'model.dorsal.masking.type': 'MotionVectorMasking'},
    learned={'model.dorsal.masking.type': 'AdaptiveMasking'},
    flow={'model.dorsal.masking': dict(type='FlowGuidedMasking', flow=dict(type='DisFlow'))},
    text={
        'model.dorsal.masking': dict(
            type='TextGuidedMasking', guide=dict(type='ClipGuide', checkpoint=None)
        )
    },
)


@pytest.mark.parametrize('mask', LINES)
def test_bimms_dorsal_branch_takes_a_guided_mask(mask, tmp_path):
    cfg = Config.fromfile(CONFIGS / 'bimm/demo/joint_shapes.py')
    cfg.merge_from_dict(LINES[mask])
    if mask == 'text':
        pytest.importorskip('transformers', reason='needs transformers')
        cfg.model.dorsal.masking.guide.checkpoint = str(write_clip(tmp_path / 'clip'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    cfg.train_dataloader.dataset.update(length=2, captions=True)
    samples = [DATASETS.build(cfg.train_dataloader.dataset)[i] for i in range(2)]
    data = dict(
        inputs=[sample['inputs'] for sample in samples],
        data_samples=[sample['data_samples'] for sample in samples],
    )
    data = model.data_preprocessor(data)
    steps = model.steps(data.pop('inputs'), caption=data['caption'])
    visible = 8 if mask != 'flow' else 7  # of 16 in each slot; MGMAE's rounding
    assert steps['dorsal'].ids_keep.shape[1] in (4 * visible, 32)
    losses = model.dorsal.losses(steps['dorsal'], 'dorsal_')
    wanted = {'loss_dorsal_gabor', 'loss_dorsal_contour', 'loss_dorsal_motion'}
    wanted |= {'loss_dorsal_sampling'} if mask == 'learned' else set()
    found = {key: value for key, value in losses.items() if key.startswith('loss')}
    assert set(found) == wanted and all(value.isfinite() for value in found.values())


@pytest.mark.parametrize('name', ['k400', 'ssv2'])
def test_recipes_hand_on_captions_and_motion_vectors(name, tmp_path):
    """Of every recipe on these data, BIMM's too: the data set says what there is."""
    pytest.importorskip('mmaction', reason='needs mmaction2')
    folder = Path(__file__).parents[3] / 'shared/data/clips'
    if not folder.is_dir():
        pytest.skip(f'no real clips in {folder}')
    from bimm_mm.captions.file import format_line

    (tmp_path / 'captions.jsonl').write_text(format_line('pool_32frames.mp4', ['a pool']))
    cfg = Config.fromfile(CONFIGS / f'bimm/joint_{name}_vitb_edge.py')
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(folder), ann_file='', data_prefix=dict(video=''))
    init_default_scope('mmengine')
    names = sorted(path.name for path in folder.glob('*.mp4'))
    place = names.index('pool_32frames.mp4')
    plain = DATASETS.build(dataset)[place]['data_samples']
    assert 'caption' not in plain and 'motion_vectors' not in plain
    dataset.update(caption_file=str(tmp_path / 'captions.jsonl'), with_motion_vectors=True)
    sample = DATASETS.build(dataset)[place]
    assert sample['inputs'].shape == (1, 3, 16, 224, 224)
    assert sample['data_samples'].caption == 'a pool'
    assert sample['data_samples'].motion_vectors.shape == (8, 14, 14, 2)


@pytest.mark.parametrize('name', ['captions.jsonl', 'captions.*_of_2.jsonl'])
def test_a_missing_file_of_captions_is_reported_before_training(name, tmp_path):
    dataset = dict(caption_file=str(tmp_path / name))
    config = dict(train_dataloader=dict(dataset=dataset))
    (problem,) = missing_paths(config)
    assert 'caption_file' in problem and 'no such file' in problem
    (tmp_path / name.replace('*', '0')).touch()
    assert not missing_paths(config)
