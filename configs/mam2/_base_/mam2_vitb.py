# MAM2 (Song et al., 2022; arXiv 2210.05234), ViT-B: the encoder sees the visible cubes, a regressor
# predicts the latents of the masked ones, and two decoders of their own turn the same latents into
# appearance (codes of a VQGAN) and motion (signed RGB differences). The paper names these parts and
# says that RGB differences and VQGAN codes are the targets. What else is here, it does not say in
# what could be read: regressor, decoders and tokenizer are CAE's (Chen et al., 2022), masks,
# widths of the decoders and optimizer VideoMAE's.
model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(12,),
        with_cls_token=False,
        time_positions='sequence',  # VideoMAE's
    ),
    masking=dict(type='TubeMasking', ratio=0.9),
    # 8192 codes of 8x8 pixels: frames of 112x112 give 14x14 of them, the grid of patches. Others:
    # dict(type='VqganTokenizer', checkpoint='vqgan_imagenet_f16_16384.ckpt') at 224x224, and
    # num_codes=16384 below
    tokenizer=dict(type='VqganTokenizer', checkpoint='weights/vqgan/gumbel_f8_8192.pth'),
    neck=dict(
        type='RegressorDecoder',
        embed_dims=384,  # 768 and 12 heads would be CAE's, and several times the encoder's cost
        depth=4,
        num_heads=6,
        time_positions='sequence',
        decoders=[
            dict(type='LatentDecoder', depth=4, num_heads=6),
            dict(type='LatentDecoder', depth=4, num_heads=6),
            dict(type='IdentityDecoder'),
        ],
    ),
    targets=[
        dict(type='CodeTarget', num_codes=8192, frames='both'),
        dict(type='MotionTarget', absolute=False),
        dict(type='LatentTarget', out_dims=384),
    ],
    # the last is CAE's alignment of latents, where it weighs 2; with 0 it is not computed
    loss_weights=(1.0, 1.0, 0.0),
)
