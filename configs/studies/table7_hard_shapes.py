# Table 7 on hard clips: the rows of table7_shapes.py with the data of methods_shapes.py. About 7
# minutes of one CPU core per row and seed.
_base_ = ['./table7_shapes.py']

title = "The paper's ablations (table 7) on hard generated clips"
ventral_steps, steps = 1000, 712

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
reference = dict(run='default', steps=steps)
evaluation = dict(_base_.hard_evaluation, _delete_=True)
judge = ['motion', 'shape']
