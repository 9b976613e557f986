# joint_ucf101_vitl.py with edges found online in place of the paper's contours: no cache is needed.
_base_ = ['./joint_ucf101_vitl.py']

edges = dict(type='EdgeContourTarget')
model = dict(
    init_dorsal_from='work_dirs/ventral_in1k_vitl_edge/epoch_800.pth',
    ventral=dict(targets=[dict(type='GaborTarget'), edges, dict(type='PixelTarget')]),
    dorsal=dict(targets=[dict(type='GaborTarget'), edges, dict(type='MotionTarget')]),
)
train_dataloader = dict(dataset=dict(contour_cache=None))
