# Finetuning on ImageNet-1K from the dorsal encoder (paper: 85.2 after joint pretraining by section
# 4.2; the caption of table 9 says that it is the ventral encoder's). An image goes in as a static
# clip of 16 frames, which costs what a clip costs: 180 instead of 18 GFLOPs. With
# model.backbone.num_frames=2 the tokens are those of finetune_in1k_vitb_deflated.py. All else is
# the recipe of the ventral encoder.
_base_ = ['./finetune_in1k_vitb.py']

pretrained = 'work_dirs/joint_k400_vitb/epoch_800.pth'
model = dict(
    backbone=dict(
        num_frames=16,
        tubelet_size=2,
        static_images=True,
        init_cfg=dict(checkpoint=pretrained, prefix='dorsal.backbone.'),
    )
)

# 8 GPUs x 32 images, four times per step: a batch of 1024 as in the recipe
train_dataloader = dict(batch_size=32)
val_dataloader = dict(batch_size=32)
test_dataloader = val_dataloader
optim_wrapper = dict(accumulative_counts=4)
auto_scale_lr = dict(enable=False, base_batch_size=256)  # does not count the accumulation
