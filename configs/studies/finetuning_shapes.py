# Why BIMM's encoder knows less motion after finetuning than one that was never pretrained: the
# demo's clips, encoder and budget, its nearest causes one by one. Runs that differ in finetuning
# alone share their pretraining. About 25 minutes of one CPU core per seed.
_base_ = ['./_evaluation.py']

title = 'Why motion is lost in finetuning'
about = (
    'Both stages of BIMM at the size of the demo; the learning rate of finetuning and its decay '
    'per layer, its length, and what pretraining leaves: the code of the time in the positions, '
    'and the sign of the motion target. All other settings are those of the first run.'
)
ventral_steps, joint_steps = 1000, 712


def run(label, finetune=None, **options):
    """The default with overrides of finetuning, and of the dorsal branch, as a__b for a.b."""
    options = {'model.dorsal.' + key.replace('__', '.'): value for key, value in options.items()}
    return dict(
        label=label,
        finetune=finetune or {},
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=ventral_steps),
            dict(config='../bimm/demo/joint_shapes.py', options=options),
        ],
    )


runs = dict(
    default=run('lr 1e-3, all layers alike'),
    lr_low=run('lr 3e-4', dict(lr=3e-4)),
    lr_high=run('lr 3e-3', dict(lr=3e-3)),
    decay=run('lr 1e-3, 0.75 per layer', dict(layer_decay=0.75)),
    decay_high=run('lr 3e-3, 0.75 per layer', dict(lr=3e-3, layer_decay=0.75)),
    long=run('three times the steps', dict(steps=900)),
    positions=run('positions divided among the axes', backbone__time_positions='divided'),
    signed=run('motion target signed', targets__2__absolute=False),
    scratch=dict(label='never pretrained, lr 1e-3', stages=[]),
    scratch_high=dict(label='never pretrained, lr 3e-3', stages=[], finetune=dict(lr=3e-3)),
)
reference = dict(run='default', steps=joint_steps)
questions = [dict(name='motion after finetuning', rows=dict.fromkeys(runs))]
judge = ['motion']
