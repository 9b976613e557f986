# Table 7, targets: V1 alone. One stage: its Gabor decoder reads the last block, and predicts masked
# patches, as nothing else does (our reading). The blocks of the default are shared.
_base_ = ['../_base_/ablation.py']

one_stage = dict(
    backbone=dict(stage_ends=(12,)),
    neck=dict(decoders=[dict(type='LinearDecoder', embed_dims=256, predict='masked')]),
    targets=[dict(type='GaborTarget')],
)
train_dataloader = dict(dataset=dict(contour_cache=None))
model = dict(share=4, ventral=one_stage, dorsal=one_stage)
