# MAE (He et al., 2022), ViT-B: the ventral branch with a single stage, which predicts pixels, and
# MAE's decoder of 8 blocks with a linear head. Data and schedule are those of ventral_in1k_vitb.py,
# so that the two differ in the method only. MAE's own recipe: base lr 1.5e-4, batch 4096, random
# flip.
_base_ = ['../ventral_in1k_vitb.py']

train_dataloader = dict(dataset=dict(contour_cache=None))
model = dict(
    ventral=dict(
        backbone=dict(stage_ends=(12,)),
        neck=dict(
            decoders=[
                dict(
                    type='TransformerDecoder', embed_dims=512, depth=8, num_heads=16, mlp_head=False
                ),
            ],
        ),
        targets=[dict(type='PixelTarget', eps=1e-6)],
    )
)
