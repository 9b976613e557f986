# Histograms of oriented gradients, by mmpretrain's HOGGenerator, as the target of stage V1 in the
# place of Gabor features. All else is ventral_in1k_vitb_edge.py.
_base_ = ['./ventral_in1k_vitb.py']

hog = dict(
    type='GeneratorTarget',
    name='hog',
    generator=dict(type='mmpretrain.HOGGenerator', nbins=9, pool=8, gaussian_window=16),
    out_dims=108,  # 3 colors x 9 bins x 2x2 cells of 8x8 pixels
)
model = dict(ventral=dict(targets=[hog, dict(type='EdgeContourTarget'), dict(type='PixelTarget')]))
train_dataloader = dict(dataset=dict(contour_cache=None))
