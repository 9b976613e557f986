# Stage 1 of the demo: the ventral branch on single frames of generated clips.
_base_ = ['./_base_/shapes.py', '../../_base_/runtime.py']

model = dict(type='SingleBranchPretrainer', ventral=_base_.ventral)

train_cfg = dict(max_iters=2000)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
