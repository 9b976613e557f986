# Stage 2 of BIMM, ViT-B on Something-Something V2: both branches jointly (paper: section 3, table
# 8).
#
# The paper starts from the ventral branch, pretrained on ImageNet-1K, and so should every real run.
# Here init_dorsal_from is None, so that this file runs from a clone; train ventral_in1k_vitb.py
# first and add
#   --cfg-options model.init_dorsal_from=work_dirs/ventral_in1k_vitb/epoch_800.pth
_base_ = [
    './_base_/joint_vitb.py',
    './_base_/ssv2.py',
    './_base_/schedule.py',
    './_base_/runtime_video.py',
]

# made by tools/dataset_converters/extract_contours.py
train_dataloader = dict(dataset=dict(contour_cache='data/sthv2/contours'))

# base lr x GPUs x batch per GPU / 16 = 1.2e-3
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 8 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=128)  # what that lr is for
