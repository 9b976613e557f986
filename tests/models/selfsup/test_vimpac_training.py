"""Runs of VIMPAC by mmengine's Runner: losses fall, resuming is exact, stages follow each other."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from bimm_mm.engine.hooks.resize_moments_hook import resize_rows
from bimm_mm.models.encoders import load_encoder
from bimm_mm.models.layers.axial import resize_table
from bimm_mm.utils.checkpoint import read_checkpoint


@pytest.fixture(scope='module')
def codebook(tmp_path_factory):
    path = tmp_path_factory.mktemp('codebook') / 'codebook.pth'
    centers = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    torch.save(dict(state_dict=dict(centers=centers.repeat_interleave(64, 1))), path)
    return str(path)


def run_config(codebook, work_dir, iters, size=32, **kwargs):
    config = dict(
        default_scope='mmengine',
        model=dict(
            type='VIMPAC',
            backbone=dict(
                type='VimpacViT',
                arch=dict(embed_dims=16, depth=1, num_heads=2),
                grid_size=(3, size // 8, size // 8),
                num_codes=16,
                tokenizer=dict(type='PatchTokenizer', checkpoint=codebook),
            ),
            masking=dict(type='VimpacMasking', num_blocks=3),
            projector=dict(hidden_dims=16, out_dims=8),
            data_preprocessor=dict(type='ClipDataPreprocessor', side_inputs=('num_valid_frames',)),
        ),
        train_dataloader=dict(
            batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(
                type='ClipViewsDataset',
                num_frames=3,
                dataset=dict(type='MovingShapesDataset', length=32, size=size, num_frames=6),
            ),
        ),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=3),
            contents=dict(type='CheckpointContentsHook'),
            exact_resume=dict(type='ExactResumeHook'),
        ),
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        log_level='ERROR',
    )
    return Config(config | kwargs)


def train(*args, **kwargs):
    runner = Runner.from_cfg(run_config(*args, **kwargs))
    runner.train()
    return runner


def test_a_run_that_was_stopped_continues_with_the_same_clips_and_masks(codebook, tmp_path):
    whole = train(codebook, tmp_path / 'whole', 6).model.state_dict()
    train(codebook, tmp_path / 'parts', 3)
    resumed = train(codebook, tmp_path / 'parts', 6, resume=True)
    assert resumed.iter == 6
    state = resumed.model.state_dict()
    assert all(torch.equal(state[key], whole[key]) for key in whole)


def test_the_second_stage_goes_on_with_larger_frames_and_resized_moments(codebook, tmp_path):
    first = train(codebook, tmp_path / 'first', 3)
    path = str(tmp_path / 'first' / 'iter_3.pth')
    before = read_checkpoint(path)
    config = run_config(
        codebook,
        tmp_path / 'second',
        4,
        size=64,
        load_from=path,
        resume=True,
        custom_hooks=[dict(type='ResizeMomentsHook')],
    )
    config.optim_wrapper.optimizer.lr = 0.0  # what was loaded stays as it is
    config.optim_wrapper.optimizer.weight_decay = 0.0
    runner = Runner.from_cfg(config)
    loaded = {}

    def look(*args, **kwargs):
        state = runner.optim_wrapper.optimizer.state
        for name, parameter in runner.model.named_parameters():
            if name.endswith(('pos_embed.rows', 'pos_embed.time')) and parameter in state:
                loaded.setdefault(name, {k: v.clone() for k, v in state[parameter].items()})

    runner.model.register_forward_pre_hook(look)
    runner.train()
    assert runner.iter == 4
    names = [name for name, _ in first.model.named_parameters()]
    number = names.index('backbone.pos_embed.rows')
    old = before['optimizer']['state'][number]
    rows = loaded['backbone.pos_embed.rows']
    for key in ('exp_avg', 'exp_avg_sq'):
        assert rows[key].shape == (8, 16) and old[key].norm() > 0
        torch.testing.assert_close(rows[key], resize_table(old[key], 8))
    assert loaded['backbone.pos_embed.time']['exp_avg'].shape == (3, 16)


def test_the_first_stage_ends_early_and_the_second_goes_on_with_the_schedule(codebook, tmp_path):
    decay = dict(type='LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=3)
    settings = dict(
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3),
        param_scheduler=[dict(decay, convert_to_iter_based=True)],
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', interval=1),
            exact_resume=dict(type='ExactResumeHook'),
        ),
        log_processor=dict(by_epoch=True),
    )
    stage = dict(custom_hooks=[dict(type='EndStageHook', epochs=2)])
    first = train(codebook, tmp_path / 'run', 0, **settings, **stage)
    files = sorted(path.name for path in (tmp_path / 'run').glob('epoch_*.pth'))
    assert first.epoch == 2 and files == ['epoch_1.pth', 'epoch_2.pth']
    # a third of the schedule of both stages is left
    assert first.optim_wrapper.get_lr()['lr'][0] == pytest.approx(3e-3 / 3, rel=0.15)
    second = train(codebook, tmp_path / 'run', 0, resume=True, **settings)
    assert second.epoch == 3 and second.optim_wrapper.get_lr()['lr'][0] == pytest.approx(0)
    with pytest.raises(ValueError, match='epochs=0 must be at least 1'):
        HOOKS.build(dict(type='EndStageHook', epochs=0))


def test_moments_of_another_width_are_refused():
    with pytest.raises(ValueError, match='only the number of rows may change'):
        resize_rows(torch.zeros(4, 8), torch.zeros(4, 6), 'pos')


def test_checkpoints_tell_their_encoder(codebook, tmp_path):
    model = train(codebook, tmp_path / 'run', 3).model.eval()
    encoder = load_encoder(tmp_path / 'run' / 'iter_3.pth')
    clip = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        output = encoder(clip)
        (cls_token,) = model(model.data_preprocessor.normalize(clip))
    torch.testing.assert_close(output.cls_token, cls_token)
    assert output.tokens.shape == (2, 48, 16)
