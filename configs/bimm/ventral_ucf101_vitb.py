# Stage 1 of BIMM, ViT-B on UCF101: the ventral branch on one random frame of each video, for the
# ablation of the dorsal initialization (paper: table 7). The paper gives no recipe for it; epochs
# are those of the ablations, the rest is UCF101's (our choice).
_base_ = [
    './_base_/ventral_vitb.py',
    '../_base_/ucf101.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

train_dataloader = dict(
    dataset=dict(
        # made by tools/dataset_converters/extract_contours.py
        contour_cache='{{$UCF101:data/ucf101}}/contours',
        pipeline=[
            dict(type='VideoInit'),
            dict(type='mmaction.SampleFrames', clip_len=1, num_clips=1),
            *_base_.train_dataloader.dataset.pipeline[2:],
        ],
    )
)

# base lr x batch per GPU / 16 = 1.2e-3, as joint_ucf101_vitb.py
optim_wrapper = dict(optimizer=dict(lr=3e-4 * 64 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 64)
