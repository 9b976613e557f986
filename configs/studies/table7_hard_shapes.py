# Table 7 on hard clips: the rows of table7_shapes.py with the data of methods_shapes.py. About 4
# minutes of one CPU core per row and seed.
_base_ = ['./table7_shapes.py']

title = "The paper's ablations (table 7) on hard generated clips"
about = """
The rows of table 7 on the clips of methods_shapes.py, with the demo's encoder, schedule and rate
(5e-3, found for BIMM) in all of them; VideoMAE has a second row with its best of four, 3e-4. The
default predicts V1 of visible patches and its dorsal decoders start from the ventral ones, as in
the demo: the paper's letter is another method of methods_shapes.py. The paper's rows have the same
epochs, here they have the same seconds. Ventral pretraining on ImageNet-1K is one on ten times as
many frames of other clips here, that on UCF101 is one on first frames of the clips that the joint
stage sees. Its stage ends 4-8-12, 2-4-12 and 6-9-12 of 12 blocks are 2-4-6, 1-2-6 and 3-5-6 of 6.
Mask ratios are rounded to whole patches, 16 in a frame: 0.94 stands for 0.95, 0.88 for 0.9.
"""
ventral_steps, steps = 700, 500  # as many as fit in four hours

# which branches of a stage predict contours, by its config
contours = dict(
    ventral_shapes=['ventral'],
    joint_shapes=['ventral', 'dorsal'],
    videomae_shapes=[],
    dorsal_shapes=['dorsal'],
    stages_6_shapes=['ventral', 'dorsal'],
    targets_v1_last_shapes=[],
    targets_v1_v2_last_shapes=['ventral', 'dorsal'],
)


def harder(stage):
    """A stage of the other study on hard clips, with the steps of this one."""
    options = {**_base_.hard_data, **stage.get('options', {})}
    if stage['config'].endswith('/ventral_shapes.py') and 'options' in stage:
        # ten times as many frames: of all combinations of labels, with another seed
        options['train_dataloader.dataset.length'] = 10 * 6912
    for branch in contours[stage['config'].split('/')[-1].removesuffix('.py')]:
        options.update(_base_.hard_contours[branch])
    steps = dict(steps=ventral_steps) if 'steps' in stage else {}
    return dict(config=stage['config'], options=options, **steps)


runs = {
    name: dict(stages=[harder(stage) for stage in run['stages']])
    for name, run in _base_.runs.items()
}
runs['videomae_low'] = dict(
    label='VideoMAE, lr 3e-4',
    stages=[
        dict(
            config='../bimm/demo/comparison/videomae_shapes.py',
            options={**_base_.hard_data, 'optim_wrapper.optimizer.lr': 3e-4},
        )
    ],
)
reference = dict(run='default', steps=steps)
# linear probes and finetuning, as the paper's figures are finetuned
evaluation = dict(_base_.hard_evaluation, _delete_=True, knn=None, attentive=None)
judge = ['motion', 'shape']
