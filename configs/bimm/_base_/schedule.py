# AdamW with a cosine schedule after a linear warm-up of 40 epochs, for 800 epochs (paper: table 8).
# Recipes set the learning rate: base lr x total batch / 16 (paper), the total batch being that of 8
# GPUs, because the paper's batch size is read as per GPU; where that rule gives far more than
# MAE-like training bears, MAE's, / 256. A comment in each recipe says which.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    # biases, norms and tokens are not decayed, as in MAE; blocks shared by both branches count once
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=40,
        convert_to_iter_based=True,
    ),
    dict(  # down to 0, over the epochs from begin to end
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=40,
        end=800,
        convert_to_iter_based=True,
    ),
]
