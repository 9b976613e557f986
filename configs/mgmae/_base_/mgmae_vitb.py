# MGMAE (Huang et al., 2023; code MCG-NJU/MGMAE), ViT-B: VideoMAE with masks that follow the
# optical flow. 19 of 196 patches of a tubelet are visible, wherever motion takes them. Without
# RAFT's weights, flow=dict(_delete_=True, type='DisFlow') takes OpenCV's.
_base_ = ['../../videomae/_base_/videomae_vitb.py']

model = dict(
    _base_.model.dorsal,  # VideoMAE's encoder, decoder and target
    _delete_=True,
    type='MaskedPretrainer',
    masking=dict(
        type='FlowGuidedMasking',
        ratio=0.9,
        flow=dict(type='RaftFlow', checkpoint='weights/raft_small_C_T_V2-01064c6d.pth'),
    ),
)
