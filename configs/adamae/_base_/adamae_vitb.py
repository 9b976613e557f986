# AdaMAE (Bandara et al., 2023; code wgcban/adamae), ViT-B: VideoMAE with a sampler that learns
# which 78 of 1568 tokens to show.
_base_ = ['../../videomae/_base_/videomae_vitb.py']

model = dict(
    _base_.model.dorsal,  # VideoMAE's encoder, decoder and target
    _delete_=True,
    type='MaskedPretrainer',
    masking=dict(type='AdaptiveMasking', ratio=0.95),
)
