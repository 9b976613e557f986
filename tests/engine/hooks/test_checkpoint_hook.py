"""Checkpoints that are whole, signals, and losses that explode, on a model of three weights."""

import errno
import math
import os
import re
import signal
from uuid import uuid4

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn

from bimm_mm.engine.background import BackgroundWriter
from bimm_mm.engine.hooks import checkpoint_hook
from bimm_mm.engine.hooks.checkpoint_hook import newest_checkpoint
from bimm_mm.engine.hooks.stop_on_signal_hook import EXIT_STOPPED
from bimm_mm.utils import files


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]))


class TwoBranches(BaseModel):
    """Losses as a pretrainer has them, with chance in them; multiplied at the calls asked."""

    def __init__(self, bad=None):
        super().__init__()
        torch.manual_seed(3)
        self.shared, self.ventral, self.dorsal = (nn.Linear(1, 1, bias=False) for _ in range(3))
        self.bad = bad or {}
        self.calls = 0

    def gradient_groups(self):
        return dict(dorsal=list(self.dorsal.parameters()))

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return [0]
        x = self.shared(torch.stack(inputs)) + torch.rand(len(inputs), 1)
        losses = {
            'loss_ventral_gabor': self.ventral(x).square().mean(),
            'loss_dorsal_motion': 3 * self.dorsal(x).square().mean(),
        }
        self.calls += 1
        for name, value in self.bad.get(self.calls, {}).items():
            losses[name] = losses[name] * value
        return losses


@pytest.fixture(autouse=True)
def handlers():
    """A run that was stopped leaves its handlers in place until its process ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class SignalAt(Hook):
    """Sends this process a signal in an iteration, twice."""

    def __init__(self, iteration, number):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)
            os.kill(os.getpid(), self.number)


def make_runner(folder, model=None, hooks=(), iters=8, resume=False, keep=2, **optim_wrapper):
    return Runner(
        model=model or TwoBranches(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            dataset=Samples(),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=pseudo_collate,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)) | optim_wrapper,
        default_hooks=dict(
            checkpoint=dict(
                type='WholeCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=keep
            ),
            exact_resume=dict(type='ExactResumeHook'),
            stop=dict(type='StopOnSignalHook'),
            logger=dict(type='LoggerHook', interval=1000),
        ),
        custom_hooks=[dict(type='FiniteLossHook', patience=3), *hooks],
        resume=resume,
        log_level='WARNING',
        randomness=dict(seed=0),
        experiment_name=uuid4().hex,  # a message hub of its own
    )


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def last(folder):
    return os.path.basename((folder / 'last_checkpoint').read_text())


# complete or not there ----------------------------------------------------------------------------


def test_outdated_checkpoints_go_when_the_new_one_is_named(tmp_path, monkeypatch):
    seen = []
    remove = checkpoint_hook._remove

    def note_and_remove(path):
        seen.append((path.name, checkpoints(tmp_path), last(tmp_path)))
        remove(path)

    monkeypatch.setattr(checkpoint_hook, '_remove', note_and_remove)
    make_runner(tmp_path, iters=6).train()
    assert seen == [('iter_2.pth', ['iter_2.pth', 'iter_4.pth', 'iter_6.pth'], 'iter_6.pth')]
    assert checkpoints(tmp_path) == ['iter_4.pth', 'iter_6.pth']


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_disk_that_is_full_harms_no_checkpoint(tmp_path, monkeypatch, step):
    make_runner(tmp_path, iters=2).train()

    def fail(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    class FillDisk(Hook):
        def before_train(self, runner):
            monkeypatch.setattr(files.os, step, fail)

    runner = make_runner(tmp_path, iters=4, resume=True, hooks=[FillDisk()])
    with pytest.raises(files.WriteError, match='iter_4.pth: the disk is full'):
        runner.train()
    monkeypatch.undo()
    assert checkpoints(tmp_path) == ['iter_2.pth'] and last(tmp_path) == 'iter_2.pth'
    assert not list(tmp_path.glob('.*.tmp'))


def test_the_newest_complete_checkpoint_is_found_and_leftovers_removed(tmp_path):
    make_runner(tmp_path, iters=4).train()
    (tmp_path / '.iter_6.pth.tmp').write_bytes(b'half')
    (tmp_path / 'iter_6.pth').write_bytes((tmp_path / 'iter_4.pth').read_bytes()[:-100])
    (tmp_path / 'best_acc_iter_9.pth').write_bytes((tmp_path / 'iter_4.pth').read_bytes())
    (tmp_path / 'last_checkpoint').write_text('')  # killed as it was written
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_4.pth'
    runner = make_runner(tmp_path, iters=5, resume=True)
    seen = []
    runner.call_hook = lambda name, call=runner.call_hook, **kw: (
        seen.append(runner.iter) if name == 'before_train_iter' else None,
        call(name, **kw),
    )
    runner.train()
    assert seen == [4]
    assert not list(tmp_path.glob('.*.tmp'))


def test_a_work_dir_that_was_copied_without_times_goes_on_at_the_latest_iteration(tmp_path):
    """As ``cp -r``, an object store or rsync without ``-t`` leave it: in any order of time."""
    made = tmp_path / 'made'
    make_runner(made, iters=6, keep=-1).train()
    copy = tmp_path / 'copy'
    copy.mkdir()
    for time, name in enumerate(['last_checkpoint', 'iter_6.pth', 'iter_4.pth', 'iter_2.pth']):
        (copy / name).write_bytes((made / name).read_bytes())
        os.utime(copy / name, (time, time))
    before = {name: (copy / name).read_bytes() for name in checkpoints(copy)}
    make_runner(copy, iters=7, resume=True, keep=-1).train()
    assert checkpoints(copy) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'iter_7.pth']
    assert all((copy / name).read_bytes() == content for name, content in before.items())


def test_of_two_checkpoints_of_one_iteration_the_one_that_was_written_last_is_taken(tmp_path):
    make_runner(tmp_path, iters=2).train()
    (tmp_path / 'stopped_iter_2.pth').write_bytes((tmp_path / 'iter_2.pth').read_bytes())
    os.utime(tmp_path / 'stopped_iter_2.pth', (0, 0))
    (tmp_path / 'last_checkpoint').write_text('/before/the/copy/stopped_iter_2.pth')
    assert newest_checkpoint(tmp_path).name == 'stopped_iter_2.pth'
    (tmp_path / 'last_checkpoint').unlink()
    assert newest_checkpoint(tmp_path).name == 'iter_2.pth'


@pytest.mark.parametrize('parts', [['rank0.pth', 'rank1.pth'], []])
def test_sharded_checkpoints_are_ordered_too(tmp_path, parts):
    for number in (10, 9):  # the later one is the older file
        folder = tmp_path / f'iter_{number}.pth'
        folder.mkdir()
        for part in parts:
            torch.save(dict(meta=dict(iter=number), message_hub={}), folder / part)
    assert newest_checkpoint(tmp_path).name == 'iter_10.pth'


def test_without_any_checkpoint_resume_starts_from_the_beginning(tmp_path):
    make_runner(tmp_path, iters=1, resume=True).train()
    assert checkpoints(tmp_path) == ['iter_1.pth']


class LateWriter(BackgroundWriter):
    """As a thread that gets no time before somebody waits for it."""

    work = None

    def start(self, work):
        self.wait()
        self.work = work

    def wait(self):
        work, self.work = self.work, None
        if work is not None:
            super().start(work)
        super().wait()


class NoMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


class OtherWeightsInValidation(Hook):
    """As a hook that validates averages of the weights."""

    def before_val_epoch(self, runner):
        self.weights = [p.detach().clone() for p in runner.model.parameters()]
        for p in runner.model.parameters():
            p.data.zero_()

    def after_val_epoch(self, runner, metrics=None):
        for p, weight in zip(runner.model.parameters(), self.weights, strict=True):
            p.data.copy_(weight)


@pytest.mark.parametrize('validate', [False, True])
def test_checkpoints_that_are_written_late_hold_what_those_hold_that_are_written_at_once(
    tmp_path, monkeypatch, validate
):
    for writer in (None, LateWriter):
        if writer:
            monkeypatch.setattr(checkpoint_hook, 'BackgroundWriter', writer)
        folder = tmp_path / ('late' if writer else 'now')
        hooks = [OtherWeightsInValidation()] if validate else []
        runner = make_runner(folder, iters=6, keep=-1, hooks=hooks, optimizer=dict(type='AdamW'))
        if validate:
            runner._val_dataloader = runner._train_dataloader | dict(
                sampler=dict(type='DefaultSampler', shuffle=False)
            )
            runner._val_loop, runner._val_evaluator = dict(), [NoMetric()]
            runner._train_loop['val_interval'] = 2
        runner.train()
    for name in ('iter_2.pth', 'iter_4.pth', 'iter_6.pth'):
        now, late = (torch.load(tmp_path / k / name, weights_only=False) for k in ('now', 'late'))
        for key, value in now['state_dict'].items():
            assert torch.equal(late['state_dict'][key], value) and value.abs().sum() > 0
        for key, state in now['optimizer']['state'].items():
            assert all(torch.equal(late['optimizer']['state'][key][k], v) for k, v in state.items())


# the clock ----------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass with each iteration, in place of the machine's."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def monotonic(self):
        return self.now


class Tick(Hook):
    priority = 'HIGHEST'

    def __init__(self, clock):
        self.clock = clock

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.clock.now += self.clock.seconds


def train_by_the_clock(folder, monkeypatch, seconds, iters):
    """With a checkpoint every minute, none by iterations; the iterations that were saved."""
    clock, saved = Clock(seconds), []
    runner = make_runner(folder, iters=iters, hooks=[Tick(clock)])
    hook = next(h for h in runner.hooks if isinstance(h, checkpoint_hook.WholeCheckpointHook))
    hook.minutes, hook.interval, hook.save_last = 1.0, 1000, False
    save = hook._save_between
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_hook, 'time', clock)
        patch.setattr(hook, '_save_between', lambda *args: (saved.append(args[-1]), save(*args)))
        runner.train()
    return saved


@pytest.mark.parametrize(('seconds', 'wanted'), [(7, [9, 18, 27]), (90, range(1, 31))])
def test_a_checkpoint_is_saved_when_so_many_minutes_have_passed(
    tmp_path, monkeypatch, seconds, wanted
):
    """In place of the one before."""
    saved = train_by_the_clock(tmp_path, monkeypatch, seconds, 30)
    assert saved == list(wanted)
    assert checkpoints(tmp_path) == [f'latest_iter_{saved[-1]}.pth']
    assert last(tmp_path) == f'latest_iter_{saved[-1]}.pth'


def test_a_run_goes_on_from_the_latest_and_the_next_regular_checkpoint_takes_its_place(
    tmp_path, monkeypatch
):
    train_by_the_clock(tmp_path / 'cut', monkeypatch, 25, 5)
    assert checkpoints(tmp_path / 'cut') == ['latest_iter_3.pth']
    make_runner(tmp_path / 'cut', iters=5, resume=True).train()
    assert checkpoints(tmp_path / 'cut') == ['iter_4.pth', 'iter_5.pth']
    make_runner(tmp_path / 'whole', iters=5).train()
    cut, whole = (
        torch.load(tmp_path / name / 'iter_5.pth', weights_only=False) for name in ('cut', 'whole')
    )
    for key, value in whole['state_dict'].items():
        assert torch.equal(cut['state_dict'][key], value)


class NoteSamples(Hook):
    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append((runner.iter, [x.item() for x in data_batch['inputs']]))


@pytest.mark.parametrize(
    ('old', 'said'),
    [(True, 'of an earlier version'), (False, ''), (None, 'written without ExactResumeHook')],
)
def test_checkpoints_of_the_first_release_go_on_with_the_same_samples_and_say_so(
    tmp_path, old, said, capsys
):
    """They say nothing of 'shared': 0.1.0's ExactResumeHook._layout had the other three."""
    whole = NoteSamples()
    make_runner(tmp_path / 'whole', iters=6, hooks=[whole]).train()
    make_runner(tmp_path / 'cut', iters=3).train()
    path = tmp_path / 'cut' / 'iter_3.pth'
    checkpoint = torch.load(path, weights_only=False)
    if old:
        del checkpoint['meta']['exact_resume']['shared']
    elif old is None:
        del checkpoint['meta']['exact_resume']
    torch.save(checkpoint, path)
    capsys.readouterr()
    rest = NoteSamples()
    make_runner(tmp_path / 'cut', iters=6, hooks=[rest], resume=True).train()
    assert [iteration for iteration, _ in rest.seen] == [3, 4, 5]
    if old is not None:
        assert rest.seen == whole.seen[3:]
    log = capsys.readouterr().out
    assert said in log and ('earlier version' in log) == bool(old)


# signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_after_the_iteration_and_has_an_exit_code_of_its_own(tmp_path, number):
    whole = make_runner(tmp_path / 'whole').train().state_dict()
    folder = tmp_path / 'stopped'
    with pytest.raises(SystemExit) as end:
        make_runner(folder, hooks=[SignalAt(5, number)]).train()
    assert end.value.code == EXIT_STOPPED
    assert checkpoints(folder) == ['iter_2.pth', 'iter_4.pth', 'stopped_iter_5.pth']
    assert last(folder) == 'stopped_iter_5.pth'

    resumed = make_runner(folder, resume=True).train().state_dict()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    assert checkpoints(folder) == ['iter_6.pth', 'iter_8.pth']


def test_a_run_that_has_ended_gives_the_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    make_runner(tmp_path, iters=1).train()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_checkpoint_hook_is_refused(tmp_path):
    runner = make_runner(tmp_path)
    runner._hooks = [h for h in runner.hooks if 'Checkpoint' not in type(h).__name__]
    with pytest.raises(TypeError, match="default_hooks.checkpoint.type='WholeCheckpointHook'"):
        runner.train()


# losses that explode ------------------------------------------------------------------------------


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_loss_that_explodes_does_not_reach_the_weights(tmp_path, value):
    good = make_runner(tmp_path / 'good', iters=4).train().state_dict()
    model = TwoBranches(bad={5: {'loss_dorsal_motion': value}})
    with pytest.raises(FloatingPointError) as error:
        make_runner(tmp_path / 'bad', model).train()
    text = str(error.value)
    assert text.startswith(f'iteration 5: loss_dorsal_motion is {value}')
    assert re.search(r', on sample \d, sample \d\. State before it: .*stopped_iter_4.pth', text)
    saved = torch.load(tmp_path / 'bad' / 'stopped_iter_4.pth', weights_only=True)
    assert saved['meta']['iter'] == 4
    for key, weight in good.items():
        assert torch.equal(saved['state_dict'][key], weight)
        assert torch.equal(model.state_dict()[key], weight)


def test_a_gradient_that_explodes_under_a_finite_loss_is_found(tmp_path):
    class Steep(TwoBranches):
        def forward(self, inputs, mode='tensor'):
            losses = super().forward(inputs, mode)
            if self.calls == 2:
                # the square root of 0: finite, but its gradient is not
                losses['loss_dorsal_motion'] = (self.dorsal.weight * 0).sqrt().sum()
            return losses

    runner = make_runner(tmp_path, Steep())
    with pytest.raises(FloatingPointError, match='iteration 2: the norm of the gradient is nan'):
        runner.train()


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledSteps(OptimWrapper):
    """Loss scaling as AmpOptimWrapper's, which needs a GPU."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)

    def backward(self, loss, **kwargs):
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize(('bad', 'stops'), [(3, False), (4, True)])
def test_loss_scaling_may_skip_some_steps_but_not_all(tmp_path, bad, stops, fused):
    """A fused optimizer is called all the same, and skips the step by itself."""
    model = TwoBranches(bad={i: {'loss_dorsal_motion': float('inf')} for i in range(2, 2 + bad)})
    optimizer = dict(type='SGD', lr=1e-3, fused=fused)
    hooks = [dict(type='GradientNormHook', interval=1)]
    runner = make_runner(tmp_path, model, hooks, type='ScaledSteps', optimizer=optimizer)
    if stops:
        with pytest.raises(FloatingPointError, match='loss scaling has skipped 4 steps in a row'):
            runner.train()
    else:
        runner.train()
        assert model.calls == 8
        norms = runner.message_hub.get_scalar('train/grad_norm_dorsal').data[0]
        assert len(norms) == 8 - bad and all(map(math.isfinite, norms))
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize('fused', [False, True])
def test_gradient_norms_are_without_the_loss_scale(tmp_path, fused):
    norms = []
    for kind in ('OptimWrapper', 'ScaledSteps'):
        optimizer = dict(type='SGD', lr=1e-3, fused=fused)
        hooks = [dict(type='GradientNormHook', interval=1)]
        torch.manual_seed(0)
        runner = make_runner(tmp_path / kind, None, hooks, 2, type=kind, optimizer=optimizer)
        runner.train()
        norms.append(runner.message_hub.get_scalar('train/grad_norm_dorsal').current())
    assert norms[0] == pytest.approx(norms[1]) and norms[0] > 0
