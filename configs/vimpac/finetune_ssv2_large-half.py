# Finetuning VIMPAC's large model on Something-Something V2 (table 4):
# 22 epochs, 10 frames at 4 fps, 256x256 pixels. The paper reports 68.1 (table 1).
# The environment variable SSV2 says where the data set is.
# Left and right matter: codes are made with --no-flip, and tested on the center crop only.
_base_ = ['./_base_/finetune.py']

num_classes = 174
data_root = '{{$SSV2:data/sthv2}}'

model = dict(cls_head=dict(num_classes=num_classes))

codes = dict(code_cache=f'{data_root}/codes_finetuning', frame_interval=4)
held_out = dict(codes, ann_file=f'{data_root}/sthv2_val_list_videos.txt')
train_dataloader = dict(dataset=dict(codes, ann_file=f'{data_root}/sthv2_train_list_videos.txt'))
val_dataloader = dict(dataset=held_out)
test_dataloader = dict(dataset=dict(held_out, views=dict(crop='center')))

train_cfg = dict(max_epochs=22)
warmup, decay = _base_.param_scheduler
param_scheduler = [dict(warmup, end=2), dict(decay, begin=2)]
