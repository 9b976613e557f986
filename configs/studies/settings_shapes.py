# What the paper leaves open and a trial can settle: what the dorsal branch takes over from the
# ventral one, scale and compression of targets, weights of losses, size of decoders, learning rate
# and warm-up. About 4 minutes of one CPU core per run and seed.
_base_ = ['./_evaluation.py']

title = 'Initialization, targets, loss weights, decoders and learning rates'
about = (
    'Both stages of BIMM at the size of the demo; a setting is changed in both stages and, where '
    'both have it, in both branches.'
)


def run(label, stage=None, ventral=None, dorsal=None, joint=None):
    """The default with overrides: of both stages, of either branch, and of the joint stage."""
    stage = dict(stage or {})
    first = {**stage, **{f'model.ventral.{k}': v for k, v in (ventral or {}).items()}}
    second = {
        **first,
        **(joint or {}),
        **{f'model.dorsal.{k}': v for k, v in (dorsal or {}).items()},
    }
    return dict(
        label=label,
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000, options=first),
            dict(config='../bimm/demo/joint_shapes.py', options=second),
        ],
    )


def same(label, **branch):
    """The default with one override in both branches."""
    branch = {key.replace('__', '.'): value for key, value in branch.items()}
    return run(label, ventral=branch, dorsal=branch)


runs = dict(
    default=run('default'),
    positions_divided=run(
        'positions: channels divided among the axes',
        dorsal={'backbone.time_positions': 'divided'},
    ),
    inflation_mean=run(
        'patch embedding divided among the frames', dorsal={'backbone.inflation': 'mean'}
    ),
    decoders_anew=run('dorsal decoders start anew', joint={'model.init_dorsal_decoders': False}),
    weights_plain=run('motion weighs 1', dorsal={'loss_weights': (1.0, 8.0, 1.0)}),
    weights_motion=run('motion weighs 8', dorsal={'loss_weights': (1.0, 8.0, 8.0)}),
    weights_equal=same('loss weights 1, 1, 1 (paper)', loss_weights=(1.0, 1.0, 1.0)),
    gabor_root=same('square root of Gabor energy', targets__0__power=0.5, targets__0__scale=8.0),
    motion_root=run('square root of motion', dorsal={'targets.2.power': 0.5}),
    pixels_plain=run('pixels not normalized', ventral={'targets.2.normalize': 'none'}),
    decoder_small=same('last decoder of 1 block', neck__decoders__2__depth=1),
    decoder_large=same('last decoder of 4 blocks', neck__decoders__2__depth=4),
    lr_low=run('lr 2e-3', {'optim_wrapper.optimizer.lr': 2e-3}),
    lr_high=run('lr 1e-2', {'optim_wrapper.optimizer.lr': 1e-2}),
    warmup_short=run('a third of the warm-up', {'param_scheduler.0.end': 100}),
)
reference = dict(run='default', steps=712)
questions = [dict(name='the default against other settings', rows=dict.fromkeys(runs))]
