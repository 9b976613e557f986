# The default of the paper's table 7, which six of its questions have as a row: UCF101, ViT-B, 800
# epochs; both branches, all targets, stages that end after the blocks 2, 4 and 12, partial sharing,
# dorsal mask ratio 0.9, and both encoders start from the ventral branch, pretrained on ImageNet-1K
# by ventral_in1k_vitb.py. The other rows are beside this file.
_base_ = [
    '../_base_/joint_vitb.py',
    '../../_base_/ucf101.py',
    '../../_base_/pretrain.py',
    '../../_base_/runtime.py',
]

model = dict(init_dorsal_from='work_dirs/ventral_in1k_vitb/epoch_800.pth')

# made by tools/dataset_converters/extract_contours.py; without: configs/bimm/README.md
train_dataloader = dict(dataset=dict(contour_cache='{{$UCF101:data/ucf101}}/contours'))

# base lr x batch per GPU / 16 = 1.2e-3, as joint_ucf101_vitb.py
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 64 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 64)
