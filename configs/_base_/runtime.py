# What all runs have in common: hooks, logs, processes. Nothing here says what is trained.
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, ignore_last=False),
    # every 10 minutes one to resume from, and every 5 epochs one that is kept; written by a thread,
    # complete or not there; for an interval in iterations add by_epoch=False
    checkpoint=dict(type='WholeCheckpointHook', minutes=10, interval=5, max_keep_ckpts=3),
    # shared blocks once, and versions, stage and sharing: docs/checkpoints.md
    contents=dict(type='CheckpointContentsHook'),
    # killed and resumed, a run is the same as one that was not: docs/reliability.md
    exact_resume=dict(type='ExactResumeHook'),
    # num_workers of the data loaders, where they leave it out: the cores for each process
    workers=dict(type='WorkerProcessesHook', at_most=32),
    # BatchNorm under DDP: the same statistics on all processes, in evaluation and in checkpoints
    running_statistics=dict(type='SyncRunningStatisticsHook'),
    # the last 1,000 values of each logged scalar, and no waiting for the device to read them
    history=dict(type='ShortHistoryHook'),
    # at the same iterations in all processes, which wait for each other
    garbage=dict(type='GarbageCollectionHook'),
    # on a CPU: as many threads as are fastest on this machine at this time
    threads=dict(type='ThreadsHook'),
    # SIGTERM and SIGUSR1 write a checkpoint and end the run with exit code 75
    stop=dict(type='StopOnSignalHook'),
    # what was found and how long it takes; at the end, what was written and what comes next
    summary=dict(type='RunSummaryHook'),
    # a process that hangs or is gone ends the others within a minute, exit code 76
    watch=dict(type='PeerWatchHook'),
    # broken videos and images are replaced and reported; above this share, the run stops
    broken_samples=dict(type='BrokenSamplesHook', max_share=0.01),
)
# DDP: gradients lie where they are exchanged, and are not copied
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    find_unused_parameters=False,
    gradient_as_bucket_view=True,
)
# averages over the window; the gradient norms of the groups are measured once in it. The screen has
# a short line per interval, the log file and vis_data/scalars.json have all numbers
log_processor = dict(
    type='ShortLogProcessor',
    window_size=50,
    mean_pattern=r'loss|time|explained|acc|grad_norm$',
)
# curves as vis_data/scalars.json in the work folder; for TensorBoard (pip install tensorboard) add
# dict(type='TensorboardVisBackend')
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # seconds; a process may wait for a file system while the others wait for it
    dist_cfg=dict(backend='nccl', timeout=3600),
)
# each process draws its own masks and augmentations
randomness = dict(seed=0, diff_rank_seed=True)
