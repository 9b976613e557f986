# ventral_in1k_vitl.py with edges found online in place of the paper's contours: no cache is needed.
_base_ = ['./ventral_in1k_vitl.py']

edges = dict(type='EdgeContourTarget')
model = dict(ventral=dict(targets=[dict(type='GaborTarget'), edges, dict(type='PixelTarget')]))
train_dataloader = dict(dataset=dict(contour_cache=None))
