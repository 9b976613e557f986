# Stage 2 of BIMM, ViT-B on UCF101: both branches jointly (paper: section 3, table 8).
#
# The paper starts from the ventral branch, pretrained on ImageNet-1K, and so should every real run.
# Here init_dorsal_from is None, so that this file runs from a clone; train ventral_in1k_vitb.py
# first and add
#   --cfg-options model.init_dorsal_from=work_dirs/ventral_in1k_vitb/epoch_800.pth
#
# The paper's rule, / 16, would give 9.6e-3, eight times as much as on Kinetics-400, and MAE-like
# training diverges there: MAE's rule, / 256, instead (our choice).
_base_ = [
    './_base_/joint_vitb.py',
    './_base_/ucf101.py',
    './_base_/schedule_1600e.py',
    './_base_/runtime_video.py',
]

# made by tools/dataset_converters/extract_contours.py
train_dataloader = dict(dataset=dict(contour_cache='data/ucf101/contours'))

# base lr x GPUs x batch per GPU / 256 = 6e-4
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 8 * 64 / 256))
auto_scale_lr = dict(enable=False, base_batch_size=512)  # what that lr is for
