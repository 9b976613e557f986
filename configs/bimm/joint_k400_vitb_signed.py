# joint_k400_vitb.py with the sign of the motion target kept. The paper leaves it out. At the size
# of the demo an encoder that predicts signed differences keeps motion in finetuning at a low
# learning rate, where the other loses some (docs/evidence.md); at full size neither was tried.
_base_ = ['./joint_k400_vitb.py']

motion = dict(type='MotionTarget', absolute=False)
model = dict(dorsal=dict(targets=[*_base_.model.dorsal.targets[:2], motion]))
