# Gabor features in mmpretrain's MaskFeat (Wei et al., 2022), in the place of its HOG: GaborTarget
# is its target generator. Backbone, neck, head, masks and schedule are mmpretrain's, at half its
# batch; data are those of bimm/ventral_in1k_vitb.py.
_base_ = ['../_base_/in1k.py', '../_base_/pretrain.py', '../_base_/runtime.py']

default_scope = 'mmpretrain'

model = dict(
    type='MaskFeat',
    backbone=dict(type='MaskFeatViT', arch='b', patch_size=16),
    neck=dict(
        type='LinearNeck',
        in_channels=768,
        out_channels=512,  # GaborTarget's: 4 wavelengths x 8 orientations x 4x4 cells
        norm_cfg=None,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0),
    ),
    head=dict(type='MIMHead', loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    target_generator=dict(type='GaborTarget'),
    data_preprocessor=dict(type='ClipDataPreprocessor'),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.train_dataloader.dataset.pipeline[:-1],
            dict(
                type='BEiTMaskGenerator', input_size=14, num_masking_patches=78, min_num_patches=15
            ),
            dict(type='PackInputs'),
        ]
    )
)
custom_hooks = [dict(type='FiniteLossHook')]

train_cfg = dict(max_epochs=300)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=30),
    dict(_base_.param_scheduler[1], begin=30),
]
optim_wrapper = dict(
    # base lr x GPUs x batch per GPU / 256 = 8e-4
    optimizer=dict(lr=2e-4 * 8 * 128 / 256, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.02),
)
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # what that lr is for
