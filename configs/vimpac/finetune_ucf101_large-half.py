# Finetuning VIMPAC's large model on UCF101 (table 4):
# 50 epochs, 10 frames at 2 fps, 256x256 pixels. The paper reports 92.7 (table 1).
# The environment variable UCF101 says where the data set is.
_base_ = ['./_base_/finetune.py']

num_classes = 101
data_root = '{{$UCF101:data/ucf101}}'

model = dict(cls_head=dict(num_classes=num_classes))

codes = dict(code_cache=f'{data_root}/codes_finetuning')
held_out = dict(codes, ann_file=f'{data_root}/ucf101_val_split_1_videos.txt')
train_dataloader = dict(
    dataset=dict(codes, ann_file=f'{data_root}/ucf101_train_split_1_videos.txt')
)
val_dataloader = dict(dataset=held_out)
test_dataloader = dict(dataset=held_out)
