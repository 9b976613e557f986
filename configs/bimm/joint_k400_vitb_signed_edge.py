# joint_k400_vitb_edge.py with the sign of the motion target kept. The paper leaves it out. At the
# size of the demo an encoder that predicts signed differences keeps motion in finetuning at a low
# learning rate, where the other loses some (docs/evidence.md); at full size neither was tried.
_base_ = ['./joint_k400_vitb.py']

edges = dict(type='EdgeContourTarget')
motion = dict(type='MotionTarget', absolute=False)
model = dict(
    init_dorsal_from='work_dirs/ventral_in1k_vitb_edge/epoch_800.pth',
    ventral=dict(targets=[dict(type='GaborTarget'), edges, dict(type='PixelTarget')]),
    dorsal=dict(targets=[dict(type='GaborTarget'), edges, motion]),
)
train_dataloader = dict(dataset=dict(contour_cache=None))
