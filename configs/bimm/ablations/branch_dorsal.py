# Table 7, ventral branch: none, the dorsal branch alone. Nothing ventral comes in, so it starts
# from scratch (our reading).
_base_ = ['./default.py']

model = dict(_delete_=True, type='SingleBranchPretrainer', dorsal=_base_.model.dorsal)
