# The schedule of UCF101, twice as long (paper: table 8).
_base_ = ['./schedule.py']

train_cfg = dict(max_epochs=1600)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=1600)]
