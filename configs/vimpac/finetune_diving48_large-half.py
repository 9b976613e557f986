# Finetuning VIMPAC's large model on Diving48 (table 4):
# 50 epochs, 10 frames at 4 fps, 256x256 pixels. The paper reports 85.5 (table 1).
# The environment variable DIVING48 says where the data set is.
_base_ = ['./_base_/finetune.py']

num_classes = 48
data_root = '{{$DIVING48:data/diving48}}'

model = dict(cls_head=dict(num_classes=num_classes))

codes = dict(code_cache=f'{data_root}/codes_finetuning', frame_interval=4)
held_out = dict(codes, ann_file=f'{data_root}/diving48_val_list_videos.txt')
train_dataloader = dict(dataset=dict(codes, ann_file=f'{data_root}/diving48_train_list_videos.txt'))
val_dataloader = dict(dataset=held_out)
test_dataloader = dict(dataset=held_out)
