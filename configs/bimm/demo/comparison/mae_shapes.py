# MAE at the demo's size, on single frames: one stage, pixels. Data, masks, encoder, decoder and
# schedule are those of ventral_shapes.py.
_base_ = ['../ventral_shapes.py']

model = dict(
    ventral=dict(
        backbone=dict(stage_ends=(6,)),
        neck=dict(
            decoders=[
                dict(
                    type='TransformerDecoder', embed_dims=64, depth=2, num_heads=4, mlp_head=False
                ),
            ],
        ),
        targets=[dict(type='PixelTarget')],
        loss_weights=None,
    ),
)
