# Stage 2 of the demo on hard clips, those of configs/studies/methods_shapes.py: 16 outlines, six
# textures of one contrast, another object behind, a post in front, and a camera that moves.
_base_ = ['./joint_shapes.py']

hard = dict(
    shapes='outlines',
    textures='waves',
    speeds=(1.0, 2.0),
    directions=4,
    camera_speeds=(0.0, 1.0, 2.0),
    distractors=1,
    occluders=1,
    max_turn=20.0,
)
contour = dict(_base_.contour, low=0.2, high=0.3)  # waves are stronger edges than textures were
model = dict(
    ventral=dict(targets=[_base_.gabor, contour, dict(type='PixelTarget')]),
    dorsal=dict(targets=[_base_.gabor, contour, dict(type='MotionTarget', scale=1.0)]),
)
train_dataloader = dict(dataset=dict(hard, length=6912))  # every combination of labels once
probe_train = dict(dataset=dict(hard, length=1024))
probe_test = dict(dataset=dict(hard, length=768))
probe_labels = ('motion', 'camera', 'shape', 'texture')
