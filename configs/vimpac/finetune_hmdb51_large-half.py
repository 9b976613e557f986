# Finetuning VIMPAC's large model on HMDB51 (table 4):
# 50 epochs, 10 frames at 4 fps, 256x256 pixels. The paper reports 65.9 (table 1).
# The environment variable HMDB51 says where the data set is.
_base_ = ['./_base_/finetune.py']

num_classes = 51
data_root = '{{$HMDB51:data/hmdb51}}'

model = dict(cls_head=dict(num_classes=num_classes))

codes = dict(code_cache=f'{data_root}/codes_finetuning', frame_interval=4)
held_out = dict(codes, ann_file=f'{data_root}/hmdb51_val_split_1_videos.txt')
train_dataloader = dict(
    dataset=dict(codes, ann_file=f'{data_root}/hmdb51_train_split_1_videos.txt')
)
val_dataloader = dict(dataset=held_out)
test_dataloader = dict(dataset=held_out)
