# MAE (He et al., 2022), ViT-B: the ventral branch with a single stage, which predicts pixels, and
# MAE's decoder of 8 blocks with a linear head. Data and schedule are those of
# bimm/ventral_in1k_vitb.py, so that the two differ in the method only. MAE's own recipe: base lr
# 1.5e-4, batch 4096, random flip.
_base_ = ['../_base_/in1k.py', '../_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='SingleBranchPretrainer',
    ventral=dict(
        backbone=dict(type='BimmViT', arch='base', img_size=224, stage_ends=(12,)),
        masking=dict(type='RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(
                    type='TransformerDecoder', embed_dims=512, depth=8, num_heads=16, mlp_head=False
                ),
            ],
        ),
        targets=[dict(type='PixelTarget', eps=1e-6)],
    ),
)

# base lr x batch per GPU / 16 = 1.6e-3
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 128)
