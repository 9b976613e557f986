# BIMM against what else the same seconds, or the same steps, could be spent on. BIMM's first stage
# counts. About 20 minutes of one CPU core per seed in seconds, and as many in steps.
_base_ = ['./_evaluation.py']

title = 'BIMM, VideoMAE, MAE on frames, training from scratch and a random encoder'
about = (
    'Generated clips of 8 frames of 32x32 pixels; every encoder has 6 blocks of width 96. BIMM is '
    'the ventral stage on frames and the joint stage on clips, and its dorsal encoder is '
    'evaluated. The encoder of MAE gets its patch embedding inflated. "From scratch" spends the '
    'budget on finetuning.'
)
runs = dict(
    bimm=dict(
        label='BIMM',
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000),
            dict(config='../bimm/demo/joint_shapes.py'),
        ],
    ),
    videomae=dict(
        label='VideoMAE', stages=[dict(config='../bimm/demo/comparison/videomae_shapes.py')]
    ),
    # the learning rate was chosen for BIMM
    videomae_slow=dict(
        label='VideoMAE, lr 2e-3',
        stages=[
            dict(
                config='../bimm/demo/comparison/videomae_shapes.py',
                options={'optim_wrapper.optimizer.lr': 2e-3},
            )
        ],
    ),
    mae=dict(label='MAE on frames', stages=[dict(config='../bimm/demo/comparison/mae_shapes.py')]),
    scratch=dict(label='from scratch', stages=[], finetune_all=True),
    random=dict(label='random encoder', stages=[]),
)
reference = dict(run='bimm', steps=712)
units = ['seconds', 'steps']
questions = [
    dict(
        name='BIMM against the others',
        rows=dict(
            bimm=92.5, videomae=90.7, videomae_slow=None, mae=None, scratch=None, random=None
        ),
        source='UCF101 top-1 of ViT-B, paper, table 7',
    )
]
