# Looking into an encoder with your own labelled videos: nearest neighbors, the probe of every
# block, and the evaluation of studies. Nothing is finetuned. The variables at the top of
# joint_own_vitb_edge.py hold here, too, and must be those of the checkpoint:
#   bimm knn probe_own_vitb CHECKPOINT --cfg-options data_root=... num_classes=7
#   python tools/analysis_tools/probe_pathway.py probe_own_vitb CHECKPOINT --cfg-options ...
# Videos are laid out as for finetune_own_vitb.py. Not in the paper.
_base_ = ['./joint_own_vitb_edge.py']

start = None  # the weights are those of the checkpoint
num_classes = 5
train_list, val_list = '', ''
val_share, seed = 0.2, 0

# ------------------------------------------------------------------------------------------------

model = dict(init_dorsal_from=start)
size = _base_.img_size
pipeline = [
    dict(type='mmaction.VideoInit'),
    dict(
        type='mmaction.SampleFrames',
        clip_len=_base_.num_frames,
        frame_interval=_base_.frame_interval,
        num_clips=1,
        test_mode=True,  # the middle of the video
        out_of_bound_opt='repeat_last',
    ),
    dict(type='mmaction.VideoDecode'),
    dict(type='mmaction.Resize', scale=(-1, size)),
    dict(type='mmaction.CenterCrop', crop_size=size),
    dict(type='mmaction.FormatShape', input_format='NCTHW'),
    dict(type='mmaction.PackActionInputs'),
]
labeled = dict(
    type='ClassFolderDataset',
    data_root=_base_.data_root,
    num_classes=num_classes,
    val_share=val_share,
    seed=seed,
    test_mode=True,
    pipeline=pipeline,
)
loader = dict(
    batch_size=_base_.batch_size,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
probe_train = dict(
    loader,
    dataset=dict(labeled, ann_file=train_list, split='all' if val_list else 'train'),
)
probe_test = dict(
    loader,
    dataset=dict(labeled, ann_file=val_list or train_list, split='all' if val_list else 'val'),
)
probe_labels = ['gt_label']
custom_imports = dict(
    imports=['bimm_mm', 'bimm_mm.datasets.video', 'bimm_mm.datasets.class_folders']
)
