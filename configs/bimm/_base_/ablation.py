# What the rows of the paper's table 7 have in common: UCF101, ViT-B, 800 epochs, and both encoders
# start from the ventral branch, pretrained on ImageNet-1K by ventral_in1k_vitb.py. Without that
# checkpoint a run stops at once; another place: --cfg-options model.init_dorsal_from=...
_base_ = ['./joint_vitb.py', './ucf101.py', './schedule.py', './runtime_video.py']

model = dict(init_dorsal_from='work_dirs/ventral_in1k_vitb/epoch_800.pth')

# made by tools/dataset_converters/extract_contours.py; without: configs/bimm/README.md
train_dataloader = dict(dataset=dict(contour_cache='data/ucf101/contours'))

# base lr x batch per GPU / 16 = 1.2e-3, as joint_ucf101_vitb.py
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 64 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 64)
