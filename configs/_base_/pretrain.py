# What all pretraining has in common: AdamW with a cosine schedule after a linear warm-up of 40
# epochs, for 800 epochs (paper: table 8), and hooks.
# Recipes set the learning rate by the paper's rule, base lr x batch / 16, with its batch sizes read
# as those of one GPU. On 16 GPUs that equals MAE's rule, base lr x total batch / 256. Hence
# auto_scale_lr.base_batch_size is 16 x batch per GPU, and --auto-scale-lr applies MAE's rule to any
# number of GPUs.
default_scope = 'mmengine'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=800)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
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
    dict(  # down to 0 at the end of the run, whatever max_epochs is
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=40,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(type='GradientNormHook', interval=50),
    dict(type='FiniteLossHook'),
    dict(type='ExplainedVarianceHook', after_iters=5000),
]
