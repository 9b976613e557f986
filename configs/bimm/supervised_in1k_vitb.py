# BimmViT from scratch, with labels, under mmpretrain's VisionTransformerClsHead: what finetuning is
# to be compared with. The schedule is MAE's for ViT-B from scratch (He et al., 2022, appendix A.2)
# without its average of weights and its flips.
_base_ = ['./_base_/finetune_in1k.py', '../_base_/runtime.py']

model = dict(
    head=dict(
        type='VisionTransformerClsHead',
        init_cfg=dict(_delete_=True, type='Constant', layer='Linear', val=0),
    ),
)

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    # base lr x GPUs x images per GPU / 256
    optimizer=dict(lr=1e-4 * 8 * 128 / 256, betas=(0.9, 0.95), weight_decay=0.3),
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # what that lr is for
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='accuracy/top1'))
