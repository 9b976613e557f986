# In the manner of BEVT's video stream (Wang et al., 2022), ViT-B on Kinetics-400: a block of
# patches becomes mask tokens in a run of frames, and a linear layer predicts the code of each
# frame. BEVT's own encoder is Video Swin, whose tokens are 2x4x4 pixels, and it trains on images as
# well; codes of every frame at 112x112 pixels, blocks of 98 of 196 patches and spans of half to all
# of the frames are BEVT's. Data and schedule are those of bimm/joint_k400_vitb.py.
_base_ = ['../_base_/k400.py', '../_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedPretrainer',
    backbone=dict(
        type='BimmViT',
        arch='base',
        img_size=224,
        num_frames=16,
        tubelet_size=2,
        stage_ends=(12,),
        masked='token',
    ),
    masking=dict(type='BlockMasking', ratio=0.5, min_area=16, span=(0.5, 1.0)),
    tokenizer=dict(type='DalleTokenizer', checkpoint='weights/dalle/encoder.pkl'),
    neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
    targets=[dict(type='CodeTarget', num_codes=8192, frames='both')],
)

# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
