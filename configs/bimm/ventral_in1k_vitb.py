# Stage 1 of BIMM, ViT-B on ImageNet-1K: the ventral branch alone (paper: section 3, table 8).
_base_ = [
    './_base_/ventral_vitb.py',
    '../_base_/in1k.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

# made by tools/dataset_converters/extract_contours.py
train_dataloader = dict(dataset=dict(contour_cache='{{$IMAGENET:data/imagenet}}/contours'))

# base lr x batch per GPU / 16 = 1.6e-3
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 128)
