# Stage 1 of BIMM, ViT-L on ImageNet-1K (paper: section 3, table 8). Stage ends at the same
# fractions of the depth, and decoders as ViT-B's (our choice).
_base_ = [
    './_base_/ventral_vitb.py',
    '../_base_/in1k.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

model = dict(ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))))

# made by tools/dataset_converters/extract_contours.py
train_dataloader = dict(dataset=dict(contour_cache='{{$IMAGENET:data/imagenet}}/contours'))

# base lr x batch per GPU / 16 = 1.6e-3
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 128)
