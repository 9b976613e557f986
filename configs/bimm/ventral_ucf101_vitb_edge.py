# ventral_ucf101_vitb.py with edges found online in place of the paper's contours: no cache
# is needed.
_base_ = ['./ventral_ucf101_vitb.py']

edges = dict(type='EdgeContourTarget')
model = dict(ventral=dict(targets=[dict(type='GaborTarget'), edges, dict(type='PixelTarget')]))
train_dataloader = dict(dataset=dict(contour_cache=None))
