# BimmViT as the encoder of mmpretrain's own MAE: its decoder, its head, its loss. Data and schedule
# are those of bimm/ventral_in1k_vitb.py, so that mae_in1k_vitb.py is the same with the toolkit's
# parts.
#
# The encoder goes on with init_cfg=dict(type='Pretrained', prefix='backbone.encoder.',
# checkpoint=...).
_base_ = ['../_base_/in1k.py', '../_base_/pretrain.py', '../_base_/runtime.py']

default_scope = 'mmpretrain'

model = dict(
    type='MAE',
    backbone=dict(
        type='MaskedEncoder',
        encoder=dict(type='BimmViT', arch='base', img_size=224),
        masking=dict(type='RandomMasking', ratio=0.75),
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=196,
        patch_size=16,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
    data_preprocessor=dict(type='ClipDataPreprocessor'),
)

custom_hooks = [dict(type='FiniteLossHook')]

# base lr x batch per GPU / 16 = 1.6e-3
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 128)
