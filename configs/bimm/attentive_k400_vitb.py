# Attentive probe on Kinetics-400, ViT-B: one learned query attends to all tokens of the frozen
# dorsal encoder. Not in the paper; the probe and its schedule are V-JEPA's (Bardes et al., 2024).
_base_ = ['./finetune_k400_vitb.py']

model = dict(
    backbone=dict(frozen_stages=3, drop_path_rate=0.0, out_type='raw'),
    cls_head=dict(
        _delete_=True,
        type='AttentiveHead',
        in_channels=768,
        num_heads=12,
        num_classes=_base_.num_classes,
        average_clips='prob',
    ),
    data_preprocessor=dict(blending=None),
)
train_dataloader = dict(
    dataset=dict(num_repeats=1, pipeline=[*_base_.loading, *_base_.light_augmentation])
)

train_cfg = dict(max_epochs=20)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),  # no weight decay for biases and norms
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01, fused=True),
)
