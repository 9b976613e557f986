# TGM (Fan et al., ECCV 2024; arXiv 2408.00759), ViT-B: in each frame the patches that are most
# similar to the caption are hidden, VideoMAE's decoder predicts them, and the mean of the visible
# tokens is compared with the caption. No code is public, and the paper could not be read: ratio,
# CLIP ViT-B/32, BLIP-2's captions and both losses with weight 1 are from a note about it.
# Decoder, normalized pixels and stride are VideoMAE's; how CLIP's patches meet the grid, the
# projection and the temperature are our choice. docs/guided_masks.md says more.
_base_ = ['../../videomae/_base_/videomae_vitb.py']

clip = 'weights/clip-vit-base-patch32'
model = dict(
    _base_.model.dorsal,  # VideoMAE's encoder, decoder and target
    _delete_=True,
    type='MaskedPretrainer',
    # 117 of 196 patches of a frame. order='bottom' hides what the caption does not speak of
    masking=dict(
        type='TextGuidedMasking', ratio=0.6, guide=dict(type='ClipGuide', checkpoint=clip)
    ),
    # without the contrast: objectives=[]
    objectives=[
        dict(
            type='VideoTextContrast',
            embed_dims=768,
            text=dict(type='ClipTextEncoder', checkpoint=clip),
            text_dims=512,
        ),
    ],
)
