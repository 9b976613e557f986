# BIMM-Dorsal, ViT-B on Kinetics-400: the dorsal branch of joint_k400_vitb.py alone. It starts from
# scratch; model.dorsal.init_from names a ventral checkpoint to start from.
_base_ = ['./joint_k400_vitb.py']

model = dict(_delete_=True, type='SingleBranchPretrainer', dorsal=_base_.model.dorsal)
