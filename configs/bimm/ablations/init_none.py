# Table 7, dorsal initialization: none. The ventral branch starts from scratch too (our reading).
_base_ = ['./default.py']

model = dict(init_dorsal_from=None)
