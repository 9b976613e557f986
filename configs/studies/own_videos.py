# Methods compared on your own labelled videos, by linear probes and after finetuning on them. Set
# the variables here, or on the command line:
#   python tools/ablate.py own_videos --seeds 1 --cfg-options data_root=... num_classes=7
# Small sizes, so that it can be tried on a CPU; on a GPU take more steps, and your own sizes.
# Two dozen videos tell methods apart only where they differ much: the report shows the spread.
data_root = '{{$OWN_VIDEOS:data/own}}'
num_classes = 5
arch, img_size, num_frames, frame_interval, batch_size = 'tiny', 112, 8, 4, 4
steps = 40  # of the reference; the other runs get the same
finetune_steps, finetune_lr = 30, 5e-4
few = 2 * num_classes  # labelled videos of the second probe

# ------------------------------------------------------------------------------------------------

title = 'Methods on own videos'
about = 'Each run starts from random weights and sees the same videos for the same number of steps.'
clips = dict(
    data_root=data_root,
    arch=arch,
    img_size=img_size,
    num_frames=num_frames,
    frame_interval=frame_interval,
)
options = dict(clips, batch_size=batch_size, start=None)
runs = dict(
    joint=dict(
        label='BIMM, both branches',
        stages=[dict(config='../bimm/joint_own_vitb_edge.py', options=options)],
    ),
    videomae=dict(
        label='VideoMAE',
        stages=[dict(config='../videomae/continue_own_vitb.py', options=options)],
    ),
    random=dict(label='random encoder', stages=[]),
)
reference = dict(run='joint', steps=steps)
units = ['steps']
questions = [dict(name='pretraining', rows=dict.fromkeys(runs))]
evaluation = dict(
    config='../bimm/probe_own_vitb.py',
    options=dict(clips, num_classes=num_classes, batch_size=batch_size),
    labels=['gt_label'],
    probe_blocks=[2, 4, 12],
    probe_few=few,
    finetune=dict(
        dataset=dict(),
        batch_size=batch_size,
        steps=finetune_steps,
        warmup=max(finetune_steps // 10, 1),
        lr=finetune_lr,
    ),
)
