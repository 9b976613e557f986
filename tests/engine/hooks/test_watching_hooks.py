import logging
import math
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bimm_mm.engine import ExplainedVarianceHook, FiniteLossHook, GradientNormHook
from bimm_mm.engine.hooks.exact_resume_hook import ExactResumeHook
from bimm_mm.utils.checkpoint import read_checkpoint


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]))


class TwoBranches(BaseModel):
    """Losses and explained variances as a pretrainer has them, spoiled at the iterations asked."""

    def __init__(self, bad=None, explained=0.5):
        super().__init__()
        self.shared, self.ventral, self.dorsal = (nn.Linear(1, 1, bias=False) for _ in range(3))
        self.bad = bad or {}
        self.explained = explained
        self.calls = 0

    def gradient_groups(self):
        return {
            name: list(child.parameters())
            for name, child in self.named_children()
            if name != 'data_preprocessor'
        }

    def forward(self, inputs, mode='tensor'):
        x = self.shared(torch.stack(inputs))
        losses = {
            'loss_ventral_gabor': self.ventral(x).square().mean(),
            'loss_dorsal_motion': 3 * self.dorsal(x).square().mean(),
            'explained_ventral_gabor': torch.tensor(0.9),
            'explained_dorsal_motion': torch.tensor(self.explained),
        }
        self.calls += 1
        for name, value in self.bad.get(self.calls, {}).items():
            losses[name] = losses[name] * value
        return losses


def make_runner(
    tmp_path, model, hooks, iters=4, clip=None, accumulate=1, checkpoint=None, **settings
):
    return Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            dataset=Samples(),
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=pseudo_collate,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=1e-4),
            clip_grad=clip,
            accumulative_counts=accumulate,
        ),
        default_hooks=dict(
            checkpoint=checkpoint or dict(type='CheckpointHook', by_epoch=False, interval=2),
            logger=dict(type='LoggerHook', interval=1000),
        ),
        custom_hooks=hooks,
        experiment_name=re.sub(r'\W', '_', str(tmp_path)),
        **settings,
    )


# gradient norms ----------------------------------------------------------------------------------


def note_gradients(runner):
    """A list that gets the size of each parameter's gradient when the optimizer uses it."""
    steps = []

    def note(*args):
        named = runner.model.named_parameters()
        steps.append({name.partition('.')[0]: abs(p.grad.item()) for name, p in named})

    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.optimizer.register_step_pre_hook(note)
    return steps


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.01)])
def test_gradient_norms_are_those_that_the_optimizer_uses(tmp_path, clip):
    model = TwoBranches()
    runner = make_runner(tmp_path, model, [dict(type='GradientNormHook', interval=2)], clip=clip)
    steps = note_gradients(runner)
    runner.train()
    assert len(steps) == 4
    for name in ('shared', 'ventral', 'dorsal'):
        values = runner.message_hub.get_scalar(f'train/grad_norm_{name}').data[0]
        assert values.tolist() == pytest.approx([steps[1][name], steps[3][name]])
        assert all(value > 0 for value in values)
    if clip:
        assert math.hypot(*steps[3].values()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize('accumulate, iters', [(3, 17), (4, 24)])
def test_the_interval_counts_steps_of_the_optimizer(tmp_path, accumulate, iters):
    """The last of 17 iterations, too, whose step is of two gradients only."""
    hooks = [dict(type='GradientNormHook', interval=2)]
    runner = make_runner(tmp_path, TwoBranches(), hooks, iters, accumulate=accumulate)
    steps = note_gradients(runner)
    runner.train()
    values = runner.message_hub.get_scalar('train/grad_norm_dorsal').data[0]
    assert values.tolist() == pytest.approx([step['dorsal'] for step in steps[1::2]])
    assert len(steps) == math.ceil(iters / accumulate)


def test_the_norm_of_a_group_is_over_all_of_its_gradients(tmp_path):
    class OneGroup(TwoBranches):
        def gradient_groups(self):
            return dict(all=[p for ps in super().gradient_groups().values() for p in ps])

    hooks = [dict(type='GradientNormHook', interval=1)]
    runner = make_runner(tmp_path, OneGroup(), hooks, iters=1)
    steps = note_gradients(runner)
    runner.train()
    wanted = math.hypot(*steps[0].values())
    logged = runner.message_hub.get_scalar('train/grad_norm_all').current()
    assert logged == pytest.approx(wanted)


def test_nobody_listens_after_training(tmp_path):
    runner = make_runner(tmp_path, TwoBranches(), [dict(type='GradientNormHook')])
    runner.train()
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_interval_is_positive():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        GradientNormHook(0)


# finite losses -----------------------------------------------------------------------------------


# at once, or one step later with a device that skips the step by itself
WAYS = {
    'at once': (dict(type='FiniteLossHook'), dict(type='SGD', lr=1e-4)),
    'later': (dict(type='FiniteLossHook', late=True), dict(type='SGD', lr=1e-4, fused=True)),
    'later, with state': (
        dict(type='FiniteLossHook', late=True),
        dict(type='AdamW', lr=1e-4, fused=True),
    ),
}
every_way = pytest.mark.parametrize('way', WAYS)


def make_watched(folder, model, way, iters=6, **settings):
    hook, optimizer = WAYS[way]
    runner = make_runner(folder, model, [hook], iters, **settings)
    runner.optim_wrapper['optimizer'] = optimizer
    return runner


@every_way
@pytest.mark.parametrize('value, said', [(float('nan'), 'nan'), (float('inf'), 'inf')])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, value, said, way):
    model = TwoBranches(bad={4: {'loss_dorsal_motion': value}})
    runner = make_watched(tmp_path, model, way)
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    assert error.match(f'iteration 4: .*loss_dorsal_motion is {said}')
    assert error.match(re.escape(f'Last checkpoint: {tmp_path / "iter_2.pth"}'))
    assert 'loss_ventral_gabor' not in str(error.value)
    assert model.calls == 4
    assert not (tmp_path / 'iter_4.pth').exists()  # that state is not worth saving


@every_way
def test_before_the_first_checkpoint_there_is_none(tmp_path, way):
    model = TwoBranches(bad={1: {'loss_ventral_gabor': float('nan')}})
    runner = make_watched(tmp_path, model, way)
    with pytest.raises(FloatingPointError, match='iteration 1: .* Last checkpoint: none'):
        runner.train()


@every_way
@pytest.mark.parametrize('bad', [3, 5, 6])  # before others, before a checkpoint, the last of all
def test_the_weights_are_those_from_before_the_bad_step(tmp_path, way, bad):
    model = TwoBranches(bad={bad: {'loss_dorsal_motion': float('nan')}})
    weights = []

    def note(*args):
        weights.append([p.detach().clone() for p in model.parameters()])

    model.register_forward_pre_hook(note)
    with pytest.raises(FloatingPointError, match=f'iteration {bad}:'):
        make_watched(tmp_path, model, way, iters=6).train()
    for now, before in zip(model.parameters(), weights[bad - 1], strict=True):
        assert torch.equal(now, before)
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))


def stopped_state(folder, way, bad, paramwise=None):
    """The checkpoint that a run writes which a bad step stops."""
    folder.mkdir()
    torch.manual_seed(0)
    model = TwoBranches(bad={bad: {'loss_dorsal_motion': float('nan')}})
    warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=6)
    runner = make_watched(folder, model, way, param_scheduler=[warm_up], checkpoint=WHOLE)
    runner.optim_wrapper['paramwise_cfg'] = paramwise
    runner.register_hook(ExactResumeHook())
    with pytest.raises(FloatingPointError, match=f'iteration {bad}: .*on sample 0, sample 1'):
        runner.train()
    checkpoint = read_checkpoint(folder / f'stopped_iter_{bad - 1}.pth')
    history = checkpoint['message_hub']['log_scalars']['train/loss_dorsal_motion'].data[0]
    names = ('state_dict', 'optimizer', 'param_schedulers')
    return [checkpoint[name] for name in names], checkpoint['meta']['iter'], history.tolist()


WHOLE = dict(type='WholeCheckpointHook', by_epoch=False, interval=100)


@pytest.mark.parametrize(
    'paramwise', [None, dict(bias_lr_mult=0.5)], ids=['one group', 'several groups']
)
def test_a_step_found_bad_later_leaves_the_state_that_one_found_at_once_does(
    tmp_path, monkeypatch, paramwise
):
    monkeypatch.setitem(WAYS, 'at once', (WAYS['at once'][0], WAYS['later, with state'][1]))
    at_once, later = (
        stopped_state(tmp_path / way.replace(' ', '_'), way, bad=5, paramwise=paramwise)
        for way in ('at once', 'later, with state')
    )
    assert ('base_param_settings' in later[0][1]) == (paramwise is not None)
    assert str(at_once) == str(later)
    assert 0 < at_once[0][2][0]['_last_value'][0] < 1e-4 and later[1] == 4
    assert len(later[2]) == 4 and all(map(math.isfinite, later[2]))


class HostReads(TorchDispatchMode):
    """Counts the values that the host asks a tensor for."""

    count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += operator is torch.ops.aten._local_scalar_dense.default
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize('way, reads', [('at once', 1), ('later, with state', 0)])
def test_a_guarded_step_asks_for_no_value_of_its_own(tmp_path, way, reads):
    runner = make_watched(tmp_path, TwoBranches(), way, iters=1)
    modes = []

    def watched(step):
        def step_watched(*args, **kwargs):
            with HostReads() as mode:
                modes.append(mode)
                return step(*args, **kwargs)

        return step_watched

    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.step = watched(runner.optim_wrapper.step)
    runner.train()
    (mode,) = modes
    assert mode.count == reads


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
@pytest.mark.parametrize('late', [False, True])
def test_steps_that_loss_scaling_skips_are_counted_and_too_many_stop_the_run(tmp_path, late, clip):
    bad = {call: {'loss_dorsal_motion': float('inf')} for call in (2, 4, 5, 6)}
    hook = dict(type='FiniteLossHook', patience=2, late=late)
    runner = make_runner(tmp_path, TwoBranches(bad=bad), [hook], iters=9, clip=clip)
    runner.optim_wrapper.update(type=ScaledWrapper, optimizer=dict(type='SGD', lr=1e-4, fused=True))
    with pytest.raises(FloatingPointError, match='iteration 6: loss scaling has skipped 3 steps'):
        runner.train()


class ScaledWrapper(OptimWrapper):
    """Loss scaling as of mmengine's AmpOptimWrapper, which asks for a GPU."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self, **kwargs):
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()

    def state_dict(self):
        return self.optimizer.state_dict()


def test_only_losses_count(tmp_path):
    model = TwoBranches(bad={2: {'explained_dorsal_motion': float('-inf')}})
    make_runner(tmp_path, model, [dict(type='FiniteLossHook')]).train()
    assert model.calls == 4


@pytest.fixture
def deepspeed_like(tmp_path):
    """A runner whose optimizer and its wrapper are not torch's and mmengine's, as DeepSpeed's."""
    runner = make_runner(tmp_path, TwoBranches(bad={2: {'loss_dorsal_motion': float('nan')}}), [])
    runner.optim_wrapper = SimpleNamespace(optimizer=object())
    runner.model.train()
    return runner


def test_without_an_optimizer_to_listen_to_losses_are_looked_at_before_the_backward_pass(
    deepspeed_like,
):
    hook = FiniteLossHook()
    hook.before_train(deepspeed_like)
    inputs = [torch.ones(1)] * 2
    hook.before_train_iter(deepspeed_like, 0)
    deepspeed_like.model(inputs)
    hook.after_train_iter(deepspeed_like, 0)
    with pytest.raises(FloatingPointError, match='loss_dorsal_motion is nan'):
        deepspeed_like.model(inputs)
    hook.after_train(deepspeed_like)
    deepspeed_like.model(inputs)


def test_gradients_that_cannot_be_seen_are_not_measured(deepspeed_like):
    hook = GradientNormHook()
    hook.before_train(deepspeed_like)
    deepspeed_like.model([torch.ones(1)] * 2)
    hook.after_train(deepspeed_like)
    assert not any('grad_norm' in key for key in deepspeed_like.message_hub.log_scalars)


# explained variance ------------------------------------------------------------------------------


@pytest.fixture
def warnings_of(caplog):
    """Warnings that mention explained variance, of the current mmengine logger."""

    def run(runner):
        MMLogger.get_current_instance().addHandler(caplog.handler)
        runner.train()
        messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        return [m for m in messages if 'explains' in m or 'constant' in m]

    return run


@pytest.mark.parametrize('explained', [0.005, -3.0])
def test_a_stage_that_explains_nothing_is_named(tmp_path, warnings_of, explained):
    hook = dict(type='ExplainedVarianceHook', after_iters=3, window=2)
    warnings = warnings_of(make_runner(tmp_path, TwoBranches(explained=explained), [hook], iters=7))
    assert [w.partition(',')[0] for w in warnings] == ['After 3 iterations', 'After 6 iterations']
    assert all('dorsal_motion explains' in w and 'ventral' not in w for w in warnings)


def test_batches_with_a_constant_target_are_left_out_of_the_mean(tmp_path, warnings_of):
    """Two of four batches, the first and the last, have no motion; the others explain 0.5."""
    nothing = {'explained_dorsal_motion': math.nan}
    model = TwoBranches(bad={1: nothing, 4: nothing})
    runner = make_runner(
        tmp_path, model, [dict(type='ExplainedVarianceHook', after_iters=4, window=4)]
    )
    assert warnings_of(runner) == []
    history = runner.message_hub.get_scalar('train/explained_dorsal_motion')
    assert history.mean(4) == history.current() == 0.5 and len(history.data[0]) == 2


def test_a_target_that_is_always_constant_is_named_as_such(tmp_path, warnings_of):
    hook = dict(type='ExplainedVarianceHook', after_iters=3, window=2)
    warnings = warnings_of(make_runner(tmp_path, TwoBranches(explained=math.nan), [hook], iters=3))
    assert len(warnings) == 1 and 'dorsal_motion was constant in every batch' in warnings[0]


def test_no_warning_where_all_stages_explain_something(tmp_path, warnings_of):
    hook = dict(type='ExplainedVarianceHook', after_iters=3, window=2)
    assert warnings_of(make_runner(tmp_path, TwoBranches(explained=0.02), [hook])) == []


@pytest.mark.parametrize('window, count', [(1, 1), (4, 0)])
def test_the_mean_over_the_window_counts(tmp_path, warnings_of, window, count):
    """0.5 but for the last of four iterations, which has -0.5."""
    model = TwoBranches(bad={4: {'explained_dorsal_motion': -1.0}})
    hook = dict(type='ExplainedVarianceHook', after_iters=4, window=window)
    assert len(warnings_of(make_runner(tmp_path, model, [hook]))) == count


@pytest.mark.parametrize('window', [0, 11])
def test_the_window_fits_into_the_time(window):
    with pytest.raises(ValueError, match=f'window={window} must be 1 to after_iters=10'):
        ExplainedVarianceHook(after_iters=10, window=window)


def test_configs_find_the_hooks():
    for kind in (GradientNormHook, FiniteLossHook, ExplainedVarianceHook):
        assert isinstance(HOOKS.build(dict(type=kind.__name__)), kind)
