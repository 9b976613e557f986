# MaskFeat on video (Wei et al., 2022) with a plain ViT-B on Kinetics-400: cubes of tokens become
# mask tokens, and a linear layer predicts their histograms of oriented gradients, averaged over the
# two frames of a token. MaskFeat's own encoder is MViT, its learning rate 1e-4 for each GPU of 8
# clips, its clipping 0.02, 300 epochs; data are those of bimm/joint_k400_vitb.py.
_base_ = ['../_base_/k400.py', '../_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(12,),
        masked='token',
    ),
    masking=dict(type='CubeMasking', ratio=0.4),
    neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
    targets=[
        dict(
            type='GeneratorTarget',
            name='hog',
            generator=dict(type='mmpretrain.HOGGenerator', nbins=9, pool=8, gaussian_window=16),
            out_dims=108,  # 3 colors x 9 bins x 2x2 cells of 8x8 pixels
        )
    ],
)

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    # 1e-4 for each 8 clips: 16 GPUs of 16
    optimizer=dict(lr=1e-4 * 16 * 16 / 8, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.02),
)
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
