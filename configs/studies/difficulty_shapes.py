# How hard the hard clips are: a random encoder with probes, and the same encoder trained on labels,
# never pretrained, for many steps. What lies between is what a method can gain.
#   python tools/ablate.py difficulty_shapes --seeds 1 --runs random supervised
# VideoMAE only lends its number of steps. About 25 minutes of one CPU core per seed.
_base_ = ['./_evaluation.py']

title = 'How hard the hard clips are'
about = (
    'Clips and encoder of methods_shapes.py. "Supervised" is the encoder with random weights, '
    'finetuned on as many labeled clips as there are combinations of labels, twice.'
)
steps, labels = 6000, 2 * 6912

runs = dict(
    random=dict(label='random encoder', stages=[]),
    supervised=dict(
        label='supervised',
        stages=[],
        finetune_all=True,
        finetune=dict(dataset=dict(length=labels, seed=100), warmup=200, lr=1e-3),
    ),
    videomae=dict(
        label='VideoMAE',
        stages=[
            dict(config='../bimm/demo/comparison/videomae_shapes.py', options=_base_.hard_data)
        ],
    ),
)
reference = dict(run='videomae', steps=steps)
units = ['steps']
finetune = dict(_base_.hard_evaluation['finetune'], steps=600)
evaluation = dict(_base_.hard_evaluation, finetune=finetune, _delete_=True)
judge = ['motion', 'camera', 'shape', 'texture']
