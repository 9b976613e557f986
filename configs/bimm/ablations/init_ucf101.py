# Table 7, dorsal initialization: ventral branch trained on the frames of UCF101.
_base_ = ['./default.py']

model = dict(init_dorsal_from='work_dirs/ventral_ucf101_vitb/epoch_800.pth')
