# TGM, ViT-B on Something-Something V2, 200 epochs. Base lr 1.5e-4 and the number of epochs are
# from a note about the paper; the lr is read as MAE's rule (x batch / 256), with VideoMAE's warm-
# up and weight decay, by our choice. Captions are made beforehand:
#   python tools/dataset_converters/make_captions.py blip2 data/sthv2/videos \
#       data/sthv2/captions.jsonl --checkpoint weights/blip2-opt-2.7b \
#       --ann-file data/sthv2/sthv2_train_list_videos.txt
_base_ = [
    './_base_/tgm_vitb.py',
    '../_base_/ssv2.py',
    '../_base_/pretrain.py',
    '../_base_/runtime.py',
]

train_dataloader = dict(dataset=dict(caption_file='{{$SSV2:data/sthv2}}/captions.jsonl'))
train_cfg = dict(max_epochs=200)
# base lr x batch per GPU / 16 = 1.5e-4
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 16 / 16))
auto_scale_lr = dict(enable=False, base_batch_size=16 * 16)
