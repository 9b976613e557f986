# mmpretrain's VisionTransformer as the ventral encoder: learned positions, and whatever else its
# config says. All else is ventral_in1k_vitb_edge.py.
#
# It goes on in mmpretrain with init_cfg=dict(type='Pretrained', prefix='ventral.backbone.vit.',
# checkpoint=...).
_base_ = ['./ventral_in1k_vitb.py']

model = dict(
    ventral=dict(
        backbone=dict(
            _delete_=True,
            type='MmpretrainEncoder',
            vit=dict(type='mmpretrain.VisionTransformer', arch='base', img_size=224, patch_size=16),
            stage_ends=(2, 4, 12),
        ),
        targets=[
            dict(type='GaborTarget'),
            dict(type='EdgeContourTarget'),
            dict(type='PixelTarget'),
        ],
    )
)
train_dataloader = dict(dataset=dict(contour_cache=None))
