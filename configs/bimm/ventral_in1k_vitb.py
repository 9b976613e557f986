# Stage 1 of BIMM, ViT-B on ImageNet-1K: the ventral branch alone (paper: section 3, table 8).
#
# The paper's rule, base lr x total batch / 16, would give 1.28e-2, where MAE-like training
# diverges: MAE's rule, / 256, instead (our choice).
_base_ = [
    './_base_/ventral_vitb.py',
    './_base_/in1k.py',
    './_base_/schedule.py',
    './_base_/runtime_image.py',
]

# made by tools/dataset_converters/extract_contours.py
train_dataloader = dict(dataset=dict(contour_cache='data/imagenet/contours'))

# base lr x GPUs x batch per GPU / 256 = 8e-4
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 8 * 128 / 256))
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # what that lr is for
