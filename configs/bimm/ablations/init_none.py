# Table 7, dorsal initialisation: none. The ventral branch starts from scratch too (our reading).
_base_ = ['./default.py']

model = dict(init_dorsal_from=None)
