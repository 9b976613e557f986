# Stage 2 of the demo on hard clips, those of configs/studies/methods_shapes.py.
_base_ = ['./joint_shapes.py', './_base_/hard_clips.py']

contour = dict(_base_.contour, low=0.2, high=0.3)  # waves are stronger edges than textures were
model = dict(
    ventral=dict(targets=[_base_.gabor, contour, dict(type='PixelTarget')]),
    dorsal=dict(targets=[_base_.gabor, contour, dict(type='MotionTarget', scale=1.0)]),
)
train_dataloader = dict(dataset=dict(_base_.hard, length=6912))  # every combination of labels once
probe_train = dict(dataset=dict(_base_.hard, length=1024))
probe_test = dict(dataset=dict(_base_.hard, length=768))
probe_labels = ('motion', 'camera', 'shape', 'texture')
