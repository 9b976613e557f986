"""Bad configs are refused with the place, the value and what would be right; good ones are not."""

import re

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, Registry

from bimm_mm.config import arguments as config_arguments
from bimm_mm.config.arguments import accepted_arguments
from bimm_mm.config.check import (
    ConfigError,
    check_config,
    check_options,
    unknown_parts,
    worker_problems,
)
from bimm_mm.config.loading import find_config
from bimm_mm.engine import WholeCheckpointHook


@DATASETS.register_module()
class AnyDataset:
    def __init__(self, **kwargs):
        pass


def dataloader(**dataset) -> dict:
    dataset.setdefault('type', 'AnyDataset')
    return dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset)


def problems(**cfg) -> list[str]:
    """The lines of the error of :func:`check_config`, without the heading."""
    with pytest.raises(ConfigError) as error:
        check_config(Config(cfg))
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_a_library_that_is_installed_in_part_is_told_with_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / 'half_a_library.py').write_text(
        'from mmengine.registry import TRANSFORMS\n'
        "TRANSFORMS.children['half'].register_module(module=type('Crop', (), {}))\n"
        'import torchvision_of_half\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(TRANSFORMS, '_children', dict(TRANSFORMS.children))
    Registry('transform', parent=TRANSFORMS, scope='half', locations=['half_a_library'])
    (text,) = unknown_parts(dict(pipeline=[dict(type='half.Crop')]))
    why = "Parts of half cannot be imported: No module named 'torchvision_of_half'"
    assert text == f"pipeline[0].type='half.Crop' is in no registry of half. {why}"


def test_a_sound_config_passes(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'list.txt').touch()
    cfg = dict(
        model=dict(type='TubeMasking', ratio=0.9),
        train_dataloader=dataloader(
            data_root=str(tmp_path), ann_file='list.txt', data_prefix=dict(video='videos')
        ),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=[dict(type='LinearLR'), dict(type='CosineAnnealingLR')],
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
        default_hooks=dict(logger=dict(type='LoggerHook')),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    )
    check_config(Config(cfg))


def test_missing_contours_with_the_command_and_the_variant(tmp_path):
    (tmp_path / 'recipe.py').touch()
    (tmp_path / 'recipe_edge.py').touch()
    cfg = Config(
        dict(train_dataloader=dataloader(data_root=str(tmp_path), contour_cache='no/contours')),
        filename=str(tmp_path / 'recipe.py'),
    )
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    text = str(error.value)
    assert "train_dataloader.dataset.contour_cache='no/contours'" in text
    assert f'bimm extract-contours videos {tmp_path} no/contours --model-type' in text
    assert f'{tmp_path}/recipe_edge.py' in text

    (tmp_path / 'list.txt').touch()
    cfg.train_dataloader.dataset.ann_file = 'list.txt'
    with pytest.raises(ConfigError, match=f'no/contours --ann-file {tmp_path}/list.txt --model'):
        check_config(cfg)

    cfg.train_dataloader.dataset.contour_cache = str(tmp_path)
    (tmp_path / 'contours.json').touch()
    check_config(cfg)


def test_every_unknown_part_is_reported_with_its_place_and_near_names():
    lines = problems(
        model=dict(type='SingleBranchPretrainr', ventral=dict(masking=dict(type='TubeMaskin'))),
        custom_hooks=[dict(type='EMAHook'), dict(type='finitelosshook')],
    )
    assert len(lines) == 3
    assert lines[0].startswith("model.type='SingleBranchPretrainr' is in no registry of mmengine")
    assert 'did you mean SingleBranchPretrainer' in lines[0]
    assert "model.ventral.masking.type='TubeMaskin'" in lines[1] and 'TubeMasking' in lines[1]
    assert "custom_hooks[1].type='finitelosshook'" in lines[2] and 'FiniteLossHook' in lines[2]


def test_a_missing_package_is_named():
    (line,) = problems(model=dict(type='nopackage.Model', head=dict(type='WhoKnows')))
    assert line == (
        "model.type='nopackage.Model' needs the package 'nopackage', which is not installed"
    )


@pytest.fixture
def upstream():
    """A library with a registry of its own, as mmdet has one, and one part in it."""
    registry = Registry('model', parent=MODELS, scope='upstream', locations=[])

    @registry.register_module()
    class Neck:
        pass

    Neck.__module__ = 'upstream.models'
    yield
    MODELS.children.pop('upstream')


def test_names_are_looked_up_in_the_scopes_of_the_parts_around_them(upstream):
    assert unknown_parts(dict(model=dict(type='upstream.Neck', inner=dict(type='Neck')))) == []
    assert unknown_parts(dict(model=dict(_scope_='upstream', type='Neck'))) == []
    assert unknown_parts(dict(model=dict(type='Neck')), scope='upstream') == []
    (line,) = unknown_parts(dict(model=dict(type='Neck')))
    assert 'did you mean upstream.Neck?' in line


def test_own_words_of_an_upstream_part_are_no_unknown_parts(upstream):
    # as mmdet's roi_layer=dict(type='RoIAlign'), an attribute of mmcv.ops
    part = dict(type='upstream.Neck', roi_layer=dict(type='RoIAlign'), nms=dict(type='nms'))
    assert unknown_parts(dict(model=part)) == []
    part['backbone'] = dict(type='RezNet')
    part['layer'] = dict(type='upstream.Nek')
    lines = unknown_parts(dict(model=part))
    assert len(lines) == 2
    assert "model.backbone.type='RezNet'" in lines[0]
    assert "model.layer.type='upstream.Nek'" in lines[1] and 'upstream.Neck?' in lines[1]


def test_full_import_paths_and_classes_are_parts():
    optimizer = dict(type='torch.optim.AdamW')
    assert unknown_parts(dict(optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer))) == []
    assert unknown_parts(dict(model=dict(type=ConfigError))) == []
    (line,) = unknown_parts(dict(optimizer=dict(type='torch.optim.AdamX')))
    assert "optimizer.type='torch.optim.AdamX'" in line


def test_missing_files_and_folders_are_reported_with_their_path(tmp_path):
    lines = problems(
        train_dataloader=dataloader(
            data_root=str(tmp_path),
            ann_file='train.txt',
            data_prefix=dict(video='videos'),
            pipeline=[dict(type='ToTensr')],
        ),
        val_dataloader=dataloader(datasets=[dict(data_root='/no/such/root', ann_file='val.txt')]),
        load_from='/no/such/checkpoint.pth',
        model=dict(init_dorsal_from='ventral.pth'),
    )
    text = '\n'.join(lines)
    dataset = 'train_dataloader.dataset'
    assert f"{dataset}.ann_file='train.txt': no such file {tmp_path}/train.txt" in text
    assert f"{dataset}.data_prefix.video='videos': no such folder {tmp_path}/videos" in text
    assert "val_dataloader.dataset.datasets[0].data_root='/no/such/root': no such folder" in text
    assert 'val.txt' not in text, 'one line for a missing root is enough'
    assert "load_from='/no/such/checkpoint.pth': no such file" in text
    assert "model.init_dorsal_from='ventral.pth': no such file" in text
    assert len([line for line in lines if re.match(r'[\w.\[\]]+=', line)]) == 6


def test_remote_paths_and_unused_loops_are_left_alone():
    remote = dict(backend_args=dict(backend='petrel'), ann_file='train.txt')
    check_config(
        Config(
            dict(
                train_dataloader=dataloader(**remote),
                val_dataloader=dataloader(data_root='s3://bucket/videos', ann_file='val.txt'),
                test_dataloader=dataloader(ann_file='/no/such/test.txt'),
                load_from='https://example.org/checkpoint.pth',
            )
        )
    )
    with pytest.raises(ConfigError, match='test.txt'):
        check_config(
            Config(dict(test_dataloader=dataloader(ann_file='/no/such/test.txt'))), loops=['test']
        )


def test_a_missing_config_file_is_answered_with_near_names(tmp_path):
    (tmp_path / 'bimm').mkdir()
    config = tmp_path / 'bimm' / 'joint_k400_vitb.py'
    config.touch()
    assert find_config(config) == config
    with pytest.raises(ConfigError, match='did you mean joint_k400_vitb\\?'):
        find_config('joint_k40_vitb.py', tmp_path)


def test_overrides_must_reach_something():
    cfg = Config(dict(model=dict(), train_dataloader=dict()))
    check_options(cfg, {'model.anything': 1, 'load_from': 'x'})
    with pytest.raises(ConfigError, match="no 'train_dataloder'; did you mean train_dataloader"):
        check_options(cfg, {'train_dataloder.batch_size': 1})


def test_misspelled_settings_are_reported_all_at_once():
    train = dataloader(lenght=3, type='MovingShapesDataset') | dict(num_worker=2)
    train['sampler'] = dict(type='DefaultSampler', shufle=True)
    lines = problems(
        train_dataloader=train,
        val_dataloder=dict(),
        optim_wrapper=dict(
            type='OptimWrapper',
            clip_gard=dict(max_norm=1.0),
            paramwise_cfg=dict(),
            optimizer=dict(type='AdamW', lr=1e-3, weigth_decay=0.05),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_facter=0.1, by_epoch=True, convert_to_iter_based=True)
        ],
        train_cfg=dict(type='EpochBasedTrainLoop', max_epoch=3),
        default_hooks=dict(
            logger=dict(type='LoggerHook', intervall=1, priority='LOW'),
            checkpoint=dict(type='WholeCheckpointHook', max_keep_ckpt=1),
        ),
        model=dict(type='TubeMasking', ratios=0.9),
        own_variable=3,
    )
    text = '\n'.join(lines)
    for expected in (
        'train_dataloader.num_worker=2: a data loader has no such setting; did you mean num_work',
        'train_dataloader.dataset.lenght=3: MovingShapesDataset takes no such argument; did you',
        'train_dataloader.sampler.shufle=True: DefaultSampler takes no such argument; did you mean',
        'val_dataloder: nobody reads this setting; did you mean val_dataloader?',
        "optim_wrapper.clip_gard={'max_norm': 1.0}: OptimWrapper takes no such argument; did you",
        'optim_wrapper.optimizer.weigth_decay=0.05: AdamW takes no such argument; did you mean wei',
        'param_scheduler[0].start_facter=0.1: LinearLR takes no such argument; did you mean start',
        'train_cfg.max_epoch=3: EpochBasedTrainLoop takes no such argument; did you mean max',
        'default_hooks.logger.intervall=1: LoggerHook takes no such argument; did you mean interva',
        'default_hooks.checkpoint.max_keep_ckpt=1: WholeCheckpointHook takes no such argument; did',
        'model.ratios=0.9: TubeMasking takes no such argument; did you mean ratio?',
    ):
        assert expected in text, text
    assert len(lines) == 11


def test_sizes_that_do_not_fit_are_found_without_memory_for_the_weights(monkeypatch):
    arch = dict(embed_dims=1200000, depth=2, num_heads=7)  # terabytes, if they were allocated
    backbone = dict(type='BimmViT', arch=arch, img_size=32, patch_size=8, stage_ends=(1, 2))
    lines = problems(model=backbone, load_from='/no/such.pth')
    assert lines[0].startswith('load_from=') and len(lines) == 2
    assert lines[1].startswith('model: ') and '1200000' in lines[1] and '7' in lines[1]
    arch.update(embed_dims=28)
    check_config(Config(dict(model=backbone)))


def test_a_package_that_a_part_imports_later_is_missed_at_once(monkeypatch):
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
    monkeypatch.setattr(config_arguments, 'find_spec', lambda name: None)
    (line,) = problems(visualizer=visualizer)
    assert line == (
        "visualizer.vis_backends[0].type='TensorboardVisBackend' needs the package 'tensorboard', "
        'which is not installed'
    )
    monkeypatch.setattr(config_arguments, 'find_spec', lambda name: 'there')
    check_config(Config(dict(visualizer=visualizer)))


def test_arguments_that_a_class_hands_on_are_known():
    names, is_open = accepted_arguments(dict)
    assert is_open
    names, is_open = accepted_arguments(WholeCheckpointHook)
    assert is_open and {'interval', 'max_keep_ckpts'} <= names
    names, is_open = accepted_arguments(check_config)
    assert names == {'cfg', 'loops'} and not is_open


@pytest.mark.parametrize(
    'schedulers, train_cfg, wanted',
    [
        # a warm-up that is longer than the run, and a cosine that would begin after it
        (
            [dict(end=40), dict(begin=40)],
            dict(max_epochs=15),
            ['param_scheduler.0.end=1', 'param_scheduler.1.begin=1'],
        ),
        # a cosine that would be cut off
        (
            [dict(end=5), dict(begin=5, end=800)],
            dict(max_epochs=60),
            ['param_scheduler.1.end=60'],
        ),
        ([dict(end=300), dict(begin=300)], dict(max_iters=100), ['.0.end=10', '.1.begin=10']),
        ([dict(end=40), dict(begin=40)], dict(max_epochs=1), ['param_scheduler=None']),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_refused(schedulers, train_cfg, wanted):
    by_epoch = 'max_epochs' in train_cfg
    cfg = dict(
        train_cfg=dict(
            type='EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop', **train_cfg
        ),
        param_scheduler=[
            dict(type=kind, by_epoch=by_epoch, **extent)
            for kind, extent in zip(('LinearLR', 'CosineAnnealingLR'), schedulers, strict=True)
        ],
    )
    (line,) = problems(**cfg)
    assert line.startswith('param_scheduler[')
    assert all(text in line for text in wanted)
    assert 'the run has train_cfg.{}={}'.format(*next(iter(train_cfg.items()))) in line
    options = re.findall(r'(param_scheduler\.\d\.\w+)=(\d+)', line)
    repaired = Config(cfg)
    repaired.merge_from_dict({key: int(value) for key, value in options})
    if options:
        check_config(repaired)


@pytest.mark.parametrize('unit, other', [('max_epochs', False), ('max_iters', True)])
def test_schedules_in_other_units_than_the_runs_are_left_alone(unit, other):
    schedulers = [dict(type='LinearLR', by_epoch=other, begin=0, end=500)]
    loop = 'EpochBasedTrainLoop' if unit == 'max_epochs' else 'IterBasedTrainLoop'
    check_config(Config(dict(param_scheduler=schedulers, train_cfg={'type': loop, unit: 36})))


def test_settings_for_workers_need_workers():
    loader = dict(num_workers=0, persistent_workers=True, prefetch_factor=4)
    first, second = worker_problems(dict(train_dataloader=loader))
    assert first == (
        'train_dataloader.persistent_workers=True needs num_workers of at least 1, but it is 0: '
        'set train_dataloader.persistent_workers=False as well'
    )
    assert 'train_dataloader.prefetch_factor=None as well' in second
    loader.update(num_workers=2)
    assert worker_problems(dict(train_dataloader=loader)) == []
    found = problems(train_dataloader=dict(dataloader(), num_workers=0, persistent_workers=True))
    assert len(found) == 1 and 'persistent_workers=True needs num_workers' in found[0]


@pytest.mark.parametrize(
    'part, wrong',
    [
        (dict(type='WholeCheckpointHook', interval=5, intervall=1), 'intervall'),
        (dict(type='SampleFrames', clip_len=16, frame_interval=4, frame_intervall=2), 'vall=2'),
    ],
)
def test_a_misspelled_setting_is_found_where_the_right_one_is_there_as_well(part, wrong):
    """Where a class takes ``**kwargs``, it would train and fail at the first checkpoint, or not."""
    if part['type'] == 'SampleFrames':
        pytest.importorskip('mmaction', reason='the transform is its')
        found = unknown_parts(dict(pipeline=[part]), 'mmaction')
    else:
        found = unknown_parts(dict(default_hooks=dict(checkpoint=part)))
    (line,) = found
    assert wrong in line and 'did you mean' in line
