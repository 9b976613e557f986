# Methods compared on your own labelled videos, by linear probes and after finetuning on them. Set
# the variables here, or on the command line:
#   python tools/ablate.py own_videos --seeds 1 --cfg-options data_root=... num_classes=7
# Small sizes, so that it can be tried on a CPU; on a GPU take more steps, and your own sizes.
# Two dozen videos tell methods apart only where they differ much: the report shows the spread.
data_root = '{{$OWN_VIDEOS:data/own}}'
num_classes = 5
arch, img_size, num_frames, frame_interval, batch_size = 'tiny', 128, 8, 4, 4
steps = 40  # of the reference; the other runs get the same
finetune_steps, finetune_lr = 30, 5e-4
few = 2 * num_classes  # labelled videos of the second probe
neighbors = 3  # of the k-NN
rates = (1e-3,)  # learning rates from which each method takes its best; one is not searched

# ------------------------------------------------------------------------------------------------

title = 'Methods on own videos'
about = (
    'Each run starts from random weights and sees the same videos for the same number of steps. '
    "The flow of MGMAE is OpenCV's."
)
clips = dict(
    data_root=data_root,
    arch=arch,
    img_size=img_size,
    num_frames=num_frames,
    frame_interval=frame_interval,
)
options = dict(clips, batch_size=batch_size, start=None)
pixels = dict(type='PixelTarget', normalize='channel', eps=1e-6)
decoder = dict(
    type='TransformerDecoder',
    embed_dims=384,
    depth=4,
    num_heads=6,
    mlp_head=False,
    time_positions='sequence',
)


def bimm(label, **other):
    """BIMM, both branches, with overrides of both, as a__b for a.b."""
    other = {
        f'model.{branch}.{key.replace("__", ".")}': value
        for branch in ('ventral', 'dorsal')
        for key, value in other.items()
    }
    stage = dict(config='../bimm/joint_own_vitb_edge.py', options={**options, **other})
    return dict(label=label, stages=[stage])


def videomae(label, **other):
    """VideoMAE with other parts of its branch."""
    other = {f'model.dorsal.{key}': value for key, value in other.items()}
    stage = dict(config='../videomae/continue_own_vitb.py', options={**options, **other})
    return dict(label=label, stages=[stage])


runs = dict(
    joint=bimm('BIMM, both branches'),
    joint_visible=bimm('BIMM, visible V1', neck__decoders__0__predict='visible'),
    videomae=videomae('VideoMAE'),
    videomaev2=videomae('VideoMAE V2', decoder_masking=dict(type='RunningCellMasking', ratio=0.5)),
    motionmae=videomae(
        'MotionMAE',
        neck=dict(decoders=[decoder, decoder], stages=(0, 0)),
        targets=[pixels, dict(type='MotionTarget')],
    ),
    mgmae=videomae(
        'MGMAE',
        masking=dict(_delete_=True, type='FlowGuidedMasking', ratio=0.9, flow=dict(type='DisFlow')),
    ),
    random=dict(label='random encoder', stages=[]),
)
reference = dict(run='joint', steps=steps)
units = ['steps']
search = dict(rates=rates)
questions = [dict(name='pretraining', rows=dict.fromkeys(runs))]
evaluation = dict(
    config='../bimm/probe_own_vitb.py',
    options=dict(clips, num_classes=num_classes, batch_size=batch_size),
    labels=['gt_label'],
    probe_blocks=[2, 4, 12],
    probe_few=few,
    knn=neighbors,
    finetune=dict(
        dataset=dict(),
        batch_size=batch_size,
        steps=finetune_steps,
        warmup=max(finetune_steps // 10, 1),
        lr=finetune_lr,
    ),
)
