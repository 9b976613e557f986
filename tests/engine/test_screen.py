"""What a training shows: what was found, short lines, what was written, and nothing else."""

import argparse
import copy
import json
import re
import shlex
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn

from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.engine.hooks.run_summary_hook import _finetune, count_classes, places
from bimm_mm.engine.log_processor import numbers
from bimm_mm.engine.runner import build_runner
from bimm_mm.engine.screen import silence_upstream
from bimm_mm.models import BimmViT

RUNTIME = 'configs/_base_/runtime.py'


@DATASETS.register_module()
class ThreeOfTwoClasses(torch.utils.data.Dataset):
    metainfo = dict(classes=('cat', 'dog'))

    def __init__(self, length: int = 3) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([float(index)]))


@MODELS.register_module()
class OneWeight(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return list(inputs)
        return dict(loss=self.linear(torch.stack(list(inputs))).square().mean())


@MODELS.register_module()
class OneEncoder(OneWeight):
    """With an encoder that starts from a file, and that no training step fits."""

    def __init__(self, start: str | None = None, prefix: str | None = None) -> None:
        super().__init__()
        init = start and dict(type='Pretrained', checkpoint=start, prefix=prefix)
        self.encoder = encoder(24, init_cfg=init)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.encoder(torch.zeros(1, 3, 5, 5))[0].mean())


@MODELS.register_module()
class OneDecoder(OneWeight):
    """With a decoder at the place where pretrainers have theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.Module()
        self.neck.decoders = nn.ModuleList([nn.Linear(2, 2)])


def encoder(width: int, **kwargs) -> BimmViT:
    arch = dict(embed_dims=width, depth=1, num_heads=2)
    return BimmViT(arch, img_size=8, patch_size=8, stage_ends=(1,), **kwargs)


@pytest.fixture
def config(tmp_path, request) -> Config:
    runtime = Config.fromfile(request.config.rootpath / RUNTIME)
    loader = dict(
        batch_size=2,
        dataset=dict(type='ThreeOfTwoClasses'),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='pseudo_collate'),
    )
    return Config(
        runtime.to_dict()
        | dict(
            model=dict(type='OneWeight'),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
            default_scope='mmengine',
            work_dir=str(tmp_path / 'run'),
            experiment_name=tmp_path.name,
        )
    )


@pytest.mark.parametrize(
    ('epochs', 'often'),
    [
        (4, '; a checkpoint at the end'),
        (10, '; a checkpoint every 5 epochs and at the end'),
        (20, '; a checkpoint every 5 epochs and at the end, of which the last 3 stay'),
    ],
)
def test_the_plan_says_how_many_checkpoints_there_will_be(config, epochs, often):
    config.train_cfg.max_epochs = epochs
    runner = build_runner(config)
    assert places(runner)[0].endswith(often)


def test_a_second_run_in_a_folder_is_told_and_a_finished_one_too(config, capsys):
    config.train_dataloader.update(num_workers=0)
    build_runner(config).train()
    assert 'has checkpoints of another run' not in capsys.readouterr().out
    build_runner(config).train()
    assert 'run has checkpoints of another run (epoch_2.pth): those of' in capsys.readouterr().out
    config.resume = True
    build_runner(config).train()
    shown = capsys.readouterr().out
    assert 'Nothing is left to do: 4 steps are done, and the run has 4' in shown
    assert 'another run' not in shown


def test_the_finetuning_that_comes_next_has_the_sizes_of_any_encoder(config, tmp_path):
    backbone = dict(arch=dict(embed_dims=96, depth=4, num_heads=3), img_size=64, num_frames=8)
    line = _finetune(build_runner(config), tmp_path / 'last.pth', backbone, has_branches=True)
    words = shlex.split(line[line.index('--cfg-options') :])
    options = parse_words(words).cfg_options
    assert options['arch'] == backbone['arch']
    assert (options['img_size'], options['num_frames']) == (64, 8)


def parse_words(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_options(parser, 'seed=1')
    return parser.parse_args(words)


def test_a_step_has_no_more_samples_than_there_are(config, capsys):
    config.train_dataloader.update(batch_size=8, num_workers=0)
    build_runner(config).train()
    assert 'Plan: 2 epochs of 1 step, 2 in all; 3 samples a step' in capsys.readouterr().out


def test_rounds_without_an_end_fill_a_step(config, capsys):
    config.train_dataloader.update(batch_size=8, sampler=dict(type='InfiniteSampler'))
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    build_runner(config).train()
    assert 'Plan: 2 steps; 8 samples a step' in capsys.readouterr().out


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_warm_up_of_one_step_does_not_keep_the_rate_low(config, by_epoch, capsys):
    unit = dict(by_epoch=True, convert_to_iter_based=True) if by_epoch else dict(by_epoch=False)
    config.train_dataloader.update(num_workers=0, batch_size=3)  # a step is an epoch
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, **unit),
        dict(type='CosineAnnealingLR', eta_min=0.0, begin=1, **unit),
    ]
    config.train_cfg.max_epochs = 3
    runner = build_runner(config)
    rates = []

    def note(runner, **kwargs):
        rates.append(runner.optim_wrapper.get_lr()['lr'][0])

    runner.hooks[0].before_train_iter = note
    runner.train()
    assert rates[:2] == pytest.approx([0.01, 0.01])
    assert 'The warm-up is left out' in capsys.readouterr().out


def test_a_warm_up_of_two_steps_stays(config):
    config.train_dataloader.update(num_workers=0, batch_size=2, drop_last=False)
    warm_up = dict(type='LinearLR', by_epoch=True, begin=0, end=1, convert_to_iter_based=True)
    config.param_scheduler = [warm_up]
    runner = build_runner(config)
    runner.train()
    assert [type(scheduler).__name__ for scheduler in runner.param_schedulers] == ['LinearLR']


def test_the_screen_has_what_counts_and_the_file_has_all(config, tmp_path, capsys):
    build_runner(config).train()
    screen = capsys.readouterr().out
    lines = screen.splitlines()
    first = next(number for number, line in enumerate(lines) if 'loss' in line)
    assert first < 12
    assert 'Training: 3 samples of 2 classes' in screen
    assert 'Plan: 2 epochs of 2 steps, 4 in all; 2 samples a step on cpu' in screen
    assert '; a checkpoint at the end\n' in screen
    losses = [line for line in lines if 'epoch ' in line and 'loss' in line]
    assert 'epoch 1/2 step 2/2' in losses[0] and 'epoch 2/2 step 2/2' in losses[1]
    assert max(map(len, losses)) < 120
    end = screen[screen.index('Done in') :]
    assert 'epoch_2.pth' in end and 'the last checkpoint' in end
    assert '.log' in end and 'Next:' in end and 'curves' in end
    for unwanted in ('System environment', 'Config:', 'Hooks will be', 'Exp name', 'FileClient'):
        assert unwanted not in screen
    (file,) = (tmp_path / 'run').glob('*/*.log')
    text = file.read_text()
    for kept in ('System environment', 'Config:', 'Hooks will be', 'Epoch(train)'):
        assert kept in text


def test_averages_begin_with_the_epoch(config, tmp_path):
    config.train_dataloader.dataset.length = 5
    config.default_hooks.logger.interval = 1
    runner = build_runner(config)
    losses = []
    runner.register_hook(Losses(losses))
    runner.train()
    (file,) = tmp_path.glob('run/*/vis_data/scalars.json')
    logged = [json.loads(line)['loss'] for line in file.read_text().splitlines()]
    expected = [
        np.mean(losses[start : end + 1]) for start in (0, 3) for end in range(start, start + 3)
    ]
    assert logged == pytest.approx(expected)
    assert runner.log_processor.window_size == 50


def test_metrics_are_those_of_the_last_validation(config, tmp_path, capsys):
    config.val_dataloader = dict(
        config.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    config.val_evaluator, config.val_cfg = dict(type='Rising', prefix='acc'), dict()
    build_runner(config).train()
    (file,) = tmp_path.glob('run/*/vis_data/scalars.json')
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry['acc/top1'] for entry in entries if 'acc/top1' in entry] == [0.25, 0.5]
    screen = capsys.readouterr().out
    assert 'acc/top1 25 %' in screen and 'acc/top1 50 %' in screen


@pytest.mark.parametrize('same', [True, False])
def test_the_test_is_of_the_checkpoint_that_was_not_chosen_by_its_samples(config, capsys, same):
    config.train_dataloader.num_workers = 0  # ending workers takes seconds
    loader = dict(config.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False))
    config.val_dataloader, config.test_dataloader = loader, copy.deepcopy(loader)
    config.val_dataloader.dataset.length = 3
    config.test_dataloader.dataset.length = 3 if same else 2
    falling = dict(type='Rising', value=1.0, step=-0.25, prefix='acc')
    config.val_evaluator = config.test_evaluator = falling
    config.val_cfg = config.test_cfg = dict()
    config.default_hooks.checkpoint.save_best = 'acc/top1'
    build_runner(config).train()
    screen = capsys.readouterr().out
    assert re.search(r'best_acc_top1_epoch_1.pth +the best one in validation', screen)
    tested = 'epoch_2.pth' if same else 'best_acc_top1_epoch_1.pth'
    assert re.search(rf'bimm test \S*/{tested}|tools/test.py \S*/{tested}', screen)


@pytest.mark.parametrize('kind', ['OptimWrapper', 'CpuAmpOptimWrapper'])
def test_the_plan_says_which_precision(config, capsys, kind):
    config.train_dataloader.num_workers = 0
    config.optim_wrapper.type = kind
    if kind != 'OptimWrapper':
        config.optim_wrapper.dtype = 'bfloat16'
    build_runner(config).train()
    plan = re.search('Plan: .*', capsys.readouterr().out).group()
    assert plan.endswith('cpu' if kind == 'OptimWrapper' else 'mixed precision with bfloat16')


@METRICS.register_module()
class Rising(BaseMetric):
    """A quarter more in each validation, or less with a negative ``step``."""

    def __init__(self, value: float = 0.0, step: float = 0.25, **kwargs) -> None:
        super().__init__(**kwargs)
        self.value, self.step = value, step

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results) -> dict:
        self.value += self.step
        return dict(top1=self.value)


class Losses(Hook):
    """Keep each loss."""

    def __init__(self, losses: list) -> None:
        self.losses = losses

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs['loss'].item())


@pytest.mark.parametrize('name', ['threads', 'param_scheduler'])
def test_a_hook_is_left_out_by_none(config, name):
    config.default_hooks[name] = None
    names = {type(hook).__name__ for hook in build_runner(config).hooks}
    assert not names & {'ThreadsHook' if name == 'threads' else 'ParamSchedulerHook'}
    assert 'LoggerHook' in names


@pytest.mark.parametrize('key', ['start', 'load_from'])
def test_weights_of_another_model_are_told_without_traceback(config, tmp_path, key):
    file = str(tmp_path / 'other.pth')
    state = {f'encoder.{name}': value for name, value in encoder(48).state_dict().items()}
    torch.save(dict(state_dict=encoder(48).state_dict() if key == 'start' else state), file)
    config.model = dict(type='OneEncoder', start=file if key == 'start' else None)
    config.load_from = file if key == 'load_from' else None
    with pytest.raises(ConfigError, match=r'other\.pth.* it is 48 wide, the encoder 24'):
        build_runner(config).train()


def test_a_prefix_that_is_not_in_the_weights_is_told_without_traceback(config, tmp_path):
    file = str(tmp_path / 'encoder.pth')
    torch.save(dict(state_dict=encoder(24).state_dict()), file)
    config.model = dict(type='OneEncoder', start=file, prefix='dorsal.backbone.')
    with pytest.raises(ConfigError, match=r"prefix='dorsal.*an image encoder with prefix=''"):
        build_runner(config).train()


def test_a_start_from_other_decoders_is_refused(config, tmp_path):
    file = str(tmp_path / 'other.pth')
    torch.save(dict(state_dict={'neck.decoders.0.weight': torch.zeros(5)}), file)
    config.model, config.load_from = dict(type='OneDecoder'), file
    with pytest.raises(ConfigError, match=r'other\.pth: the checkpoint has other decoders'):
        build_runner(config).train()


def test_an_error_in_a_step_keeps_its_traceback(config):
    config.model = dict(type='OneEncoder')
    with pytest.raises(ValueError) as error:
        build_runner(config).train()
    assert not isinstance(error.value, ConfigError)


def test_debugging_shows_everything(config, capsys):
    config.log_level = 'DEBUG'
    build_runner(config)
    assert 'System environment' in capsys.readouterr().out


def test_a_warning_is_shown_as_one(config, capsys):
    build_runner(config)
    MMLogger.get_current_instance().warning('mind the gap')
    assert 'WARNING mind the gap' in capsys.readouterr().out


def test_a_short_line_says_how_well_it_goes():
    stages = dict(explained_ventral_gabor=0.8, explained_dorsal_motion=-0.254)
    losses = dict(loss_ventral_gabor=1.0, loss_dorsal_motion=2.0)
    assert numbers(dict(loss=3.0, grad_norm=1.25, **losses, **stages)) == [
        'loss 3',
        'explained ventral gabor 80 %, dorsal motion -25 %',
        'gradient 1.25',
    ]
    assert numbers(dict(loss=1.5, loss_cls=1.5, top1_acc=0.25)) == ['loss 1.5', 'top1 25%']
    assert numbers(dict(loss=3.0, loss_a=1.0, loss_b=2.0)) == ['loss 3', 'a 1', 'b 2']


def test_an_epoch_without_a_step_is_told_with_the_numbers(config):
    config.train_dataloader.update(batch_size=4, drop_last=True)
    with pytest.raises(ConfigError) as error:
        build_runner(config).train()
    assert '3 samples / (1 x 4) = 0 steps per epoch' in str(error.value)
    assert '--cfg-options train_dataloader.batch_size=3 or less' in str(error.value)


@pytest.mark.parametrize(
    'text, said',
    [
        ("'pin_memory' argument is set as true but no accelerator is found, then", False),
        ('This DataLoader will create 4 worker processes in total. Our suggested', False),
        ('pin_memory of another kind', True),
    ],
)
def test_only_named_warnings_are_silenced(text, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        silence_upstream()
        warnings.warn(text, UserWarning, stacklevel=1)
    assert bool(caught) is said


def test_the_number_of_classes_is_that_of_the_folders(tmp_path):
    assert count_classes(str(tmp_path)) == count_classes(str(tmp_path / 'none')) == 'N'
    for name in ('train/a b', 'train/c', 'val/a b', 'val/d'):
        (tmp_path / name).mkdir(parents=True)
    assert count_classes(str(tmp_path)) == 3
    assert count_classes(str(tmp_path / 'train')) == 2
