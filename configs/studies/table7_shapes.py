# The paper's table 7 at the demo's size: every row gets the seconds of the default, its ventral
# stage included. About 4 minutes of one CPU core per row and seed.
_base_ = ['./_evaluation.py']

title = "The paper's ablations (table 7) on generated shapes"
about = """
The rows of table 7 with the encoder and the schedule of the demo: 6 blocks of width 96, generated
clips of 8 frames of 32x32 pixels. The paper's rows have the same epochs, here they have the same
seconds. Ventral pretraining on ImageNet-1K is here on ten times as many frames, of other clips, and
that on UCF101 on the first frames of the clips that the joint stage sees. The paper's stage ends
4-8-12, 2-4-12 and 6-9-12 of 12 blocks are 2-4-6, 1-2-6 and 3-5-6 of 6. Mask ratios are rounded to
whole patches, 16 in a frame: 0.94 stands for 0.95, 0.88 for 0.9.
"""

joint = '../bimm/demo/joint_shapes.py'
rows = '../bimm/demo/ablations/'
ventral = dict(config='../bimm/demo/ventral_shapes.py', steps=1000)


def row(label, **options):
    """The default with overrides of the joint stage, given as a__b for model.a.b."""
    options = {'model.' + key.replace('__', '.'): value for key, value in options.items()}
    return dict(label=label, stages=[ventral, dict(config=joint, options=options)])


def weigh(label, weights):
    """The default with other weights of the three losses, in both branches."""
    return row(label, ventral__loss_weights=weights, dorsal__loss_weights=weights)


def ends(*blocks):
    """The default with other stage ends."""
    name = 'stages ' + '-'.join(map(str, blocks))
    return row(name, ventral__backbone__stage_ends=blocks, dorsal__backbone__stage_ends=blocks)


runs = dict(
    default=row('default (both branches, V1-V2-V4&MT, stages 2-4-6, partial, mask 0.5)'),
    init_none=dict(label='no ventral stage', stages=[dict(config=joint)]),
    init_large=dict(
        label='ventral stage on ten times as many frames',
        stages=[
            dict(
                config='../bimm/demo/ventral_shapes.py',
                steps=1000,
                options={
                    'train_dataloader.dataset.length': 100 * 384,
                    'train_dataloader.dataset.seed': 11,
                },
            ),
            dict(config=joint),
        ],
    ),
    videomae=dict(
        label='VideoMAE', stages=[dict(config='../bimm/demo/comparison/videomae_shapes.py')]
    ),
    dorsal=dict(label='dorsal branch alone', stages=[dict(config=rows + 'dorsal_shapes.py')]),
    # only the losses of the named stages are computed (section 4.3)
    targets_v1=weigh('targets V1', (1.0, 0.0, 0.0)),
    targets_v1_v2=weigh('targets V1-V2', (1.0, 8.0, 0.0)),
    # not in the paper: the last of these stages reads the last block
    targets_v1_last=dict(
        label='V1 alone, after block 6',
        stages=[ventral, dict(config=rows + 'targets_v1_last_shapes.py')],
    ),
    targets_v1_v2_last=dict(
        label='V1 and V2, after blocks 2 and 6',
        stages=[ventral, dict(config=rows + 'targets_v1_v2_last_shapes.py')],
    ),
    stages_6=dict(label='stages 6', stages=[ventral, dict(config=rows + 'stages_6_shapes.py')]),
    stages_126=ends(1, 2, 6),
    stages_356=ends(3, 5, 6),
    share_none=row('sharing none', share='none'),
    share_all=row('sharing all', share='all'),
    mask_75=row('mask 0.75', dorsal__masking__ratio=0.75),
    mask_88=row('mask 0.88', dorsal__masking__ratio=0.875),
    mask_94=row('mask 0.94', dorsal__masking__ratio=0.9375),
)
reference = dict(run='default', steps=712)

source = 'UCF101 top-1 of ViT-B, paper, table 7'
questions = [
    dict(
        name='dorsal initialization',
        rows=dict(init_large=92.5, default=91.2, init_none=90.9),
        source=source,
    ),
    dict(name='ventral branch', rows=dict(default=92.5, dorsal=91.0, videomae=90.7), source=source),
    dict(
        name='targets', rows=dict(default=92.5, targets_v1_v2=90.2, targets_v1=89.3), source=source
    ),
    dict(
        name='where the last stage with a loss ends (not in the paper)',
        rows=dict(default=None, targets_v1_v2_last=None, targets_v1_last=None),
    ),
    dict(
        name='stage ends',
        rows=dict(stages_126=92.5, default=91.7, stages_356=91.3, stages_6=91.0),
        source=source,
    ),
    dict(name='sharing', rows=dict(default=92.5, share_all=91.3, share_none=91.0), source=source),
    dict(
        name='dorsal mask ratio',
        rows=dict(mask_88=92.5, mask_75=91.9, default=91.7, mask_94=91.5),
        source=source,
    ),
]
