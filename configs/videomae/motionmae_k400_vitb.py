# In the manner of MotionMAE (Yang et al., 2022), ViT-B on Kinetics-400: VideoMAE, and a second
# decoder that reads the same last stage and predicts motion. An example of composition: the target
# and the decoders are this toolkit's, the data and schedule those of bimm/joint_k400_vitb.py.
_base_ = ['./videomae_k400_vitb.py']

model = dict(
    dorsal=dict(
        neck=dict(
            decoders=[
                _base_.model.dorsal.neck.decoders[0],
                _base_.model.dorsal.neck.decoders[0],
            ],
            stages=(0, 0),  # both decoders read the only stage
        ),
        targets=[
            dict(type='PixelTarget', normalize='channel', eps=1e-6),
            dict(type='MotionTarget'),
        ],
    )
)
