# What all pretraining runs have in common.
custom_imports = dict(imports=['bimm_mm'], allow_failed_imports=False)
default_scope = 'mmengine'

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, ignore_last=False),
    checkpoint=dict(type='CheckpointHook', interval=20, max_keep_ckpts=3),
)
custom_hooks = [
    dict(type='GradientNormHook', interval=50),
    dict(type='FiniteLossHook'),
    dict(type='ExplainedVarianceHook', after_iters=5000),
]
# averages over the window; the gradient norms of the groups are measured once in it
log_processor = dict(window_size=50, mean_pattern=r'loss|time|explained|grad_norm$')
# curves as vis_data/scalars.json in the work folder; for TensorBoard (pip install tensorboard) add
# dict(type='TensorboardVisBackend')
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# each process draws its own masks and augmentations
randomness = dict(seed=0, diff_rank_seed=True)
