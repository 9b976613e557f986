# Stage 2 of BIMM, ViT-L on Kinetics-400 (paper: section 3, table 8). Stage ends at the same
# fractions of the depth, and decoders as ViT-B's (our choice).
#
# Starts from the ventral branch, pretrained on ImageNet-1K by ventral_in1k_vitl.py. Without its
# checkpoint the run stops at once, and says what may take its place.
_base_ = [
    './_base_/joint_vitb.py',
    '../_base_/k400.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

model = dict(
    init_dorsal_from='work_dirs/ventral_in1k_vitl/epoch_800.pth',
    ventral=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
    dorsal=dict(backbone=dict(arch='large', stage_ends=(4, 8, 24))),
)

# Made by tools/dataset_converters/extract_contours.py. The paper has an edge image for each frame
# (section 3.2), which is --stride 1; the tool's default is every 8th frame, of which a clip takes
# the nearest. --stride 4 gives each frame of a clip one of its own.
train_dataloader = dict(dataset=dict(contour_cache='{{$KINETICS400:data/kinetics400}}/contours'))

# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
