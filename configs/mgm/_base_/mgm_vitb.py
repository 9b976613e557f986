# In the manner of MGM (Fan et al., ICCV 2023; arXiv 2308.12962), ViT-B: VideoMAE with masks that
# follow the codec's motion vectors. That masks are contiguous in space and time and follow the
# vectors is from the abstract, the ratio from notes about the paper; how the rectangle is placed
# is our choice, as is everything else, VideoMAE's.
_base_ = ['../../videomae/_base_/videomae_vitb.py']

model = dict(
    _base_.model.dorsal,  # VideoMAE's encoder, decoder and target
    _delete_=True,
    type='MaskedPretrainer',
    masking=dict(type='MotionVectorMasking', ratio=0.75),
)
