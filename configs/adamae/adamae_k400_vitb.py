# AdaMAE, ViT-B on Kinetics-400, 800 epochs with a warm-up of 40, batch 32 x 64. Base lr 1.5e-4 (x
# batch / 256) is VideoMAE's, our choice: the authors' was not found.
_base_ = [
    './_base_/adamae_vitb.py',
    '../_base_/k400.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

# base lr x batch per GPU / 16 = 1.5e-4; at 32 x 64 clips, --auto-scale-lr makes it 1.2e-3
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
