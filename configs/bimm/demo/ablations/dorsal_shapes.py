# Table 7 at the demo's size, ventral branch: none, the dorsal branch alone, from scratch.
_base_ = ['../joint_shapes.py']

model = dict(_delete_=True, type='SingleBranchPretrainer', dorsal=_base_.model.dorsal)
