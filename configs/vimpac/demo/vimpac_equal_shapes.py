# VIMPAC with the encoder, the clips and the schedule of joint_shapes.py: pixels in, codes out (its
# section 4.2), masked blocks as mask tokens, and a contrast between two clips of a video.
_base_ = ['../../bimm/demo/joint_shapes.py']

codebook = 'work_dirs/mam2_shapes/codebook.pth'
model = dict(
    _delete_=True,
    type='MaskedPretrainer',
    backbone=dict(_base_.model.dorsal.backbone, stage_ends=(6,), masked='token'),
    masking=dict(type='VimpacMasking', num_blocks=5),
    tokenizer=dict(type='PatchTokenizer', checkpoint=codebook),
    neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
    targets=[dict(type='CodeTarget', num_codes=64)],
    objectives=[
        dict(type='ClipContrast', embed_dims=96, projector=dict(hidden_dims=256, out_dims=64)),
    ],
)
train_dataloader = dict(
    batch_size=16,  # videos; two clips each
    dataset=dict(
        _delete_=True,
        type='ClipViewsDataset',
        num_frames=8,
        num_clips=2,
        color_jitter=0.2,  # else colors tell the videos apart (configs/vimpac)
        dataset=dict(_base_.train_dataloader.dataset, num_frames=12),
    ),
)
