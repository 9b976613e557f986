# Why BIMM's encoder knows less motion after finetuning than one that was never pretrained: the
# demo's encoders, and its nearest causes one by one. First the demo, a folder for each seed:
#   for seed in 0 1 2; do python tools/demo.py --seed $seed --work-dir work_dirs/demo/$seed; done
# Runs that differ in finetuning alone start from these; the others are trained with its steps.
# About half an hour of one CPU core that others use, too, per seed, of which 20 minutes are these
# trainings.
_base_ = ['./_evaluation.py']

demo = 'work_dirs/demo/{seed}/joint_shapes/last.pth'
ventral_steps, joint_steps = 2000, 1600
finetune_steps = 300

title = 'Why motion is lost in finetuning'
about = (
    'The learning rate of finetuning and its decay per layer, its length, and what pretraining '
    'leaves: the code of the time in the positions, and the sign of the motion target. All other '
    "settings are those of the first run. Encoders are the demo's."
)


def start(label, **finetune):
    """The demo's encoder, finetuned otherwise."""
    return dict(label=label, stages=[], checkpoint=demo, finetune=finetune)


def train(label, **options):
    """The demo with overrides of the dorsal branch, given as a__b for a.b."""
    options = {'model.dorsal.' + key.replace('__', '.'): value for key, value in options.items()}
    return dict(
        label=label,
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=ventral_steps),
            dict(config='../bimm/demo/joint_shapes.py', options=options),
        ],
    )


runs = dict(
    default=start('lr 1e-3, all layers alike'),
    lr_low=start('lr 3e-4', lr=3e-4),
    lr_high=start('lr 3e-3', lr=3e-3),
    decay=start('lr 1e-3, 0.75 per layer', layer_decay=0.75),
    decay_high=start('lr 3e-3, 0.75 per layer', lr=3e-3, layer_decay=0.75),
    long=start('three times the steps', steps=3 * finetune_steps),
    positions=train('positions divided among the axes', backbone__time_positions='divided'),
    signed=train('motion target signed', targets__2__absolute=False),
    scratch=dict(label='never pretrained, lr 1e-3', stages=[]),
    scratch_high=dict(label='never pretrained, lr 3e-3', stages=[], finetune=dict(lr=3e-3)),
)
reference = dict(run='signed', steps=joint_steps)
units = ['steps']
evaluation = dict(finetune=dict(steps=finetune_steps))
questions = [dict(name='motion after finetuning', rows=dict.fromkeys(runs))]
judge = ['motion']
