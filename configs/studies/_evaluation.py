# How the runs of the studies on generated shapes are evaluated: as video encoders of
# joint_shapes.py, on clips that no run was trained on.
_base_ = ['../bimm/demo/_base_/hard_clips.py']

evaluation = dict(
    config='../bimm/demo/joint_shapes.py',
    labels=['motion', 'shape', 'texture'],
    probe_blocks=[2, 4, 6],
    probe_few=192,
    # from random weights, 300 steps read motion in 94 % of the test clips, and 100 steps in 64 %
    finetune=dict(dataset=dict(length=384, seed=100), batch_size=32, steps=300, warmup=30, lr=1e-3),
)
judge = ['motion', 'shape']

# ------------------------------------------------------------------------------------------------
# Hard clips (MovingShapesDataset's arguments), and how encoders are evaluated on them. A study
# takes
#   evaluation = dict(_base_.hard_evaluation, _delete_=True)
# and gives its trainings the data sets of clips.
hard = dict(_base_.hard, cache='work_dirs/clips')  # drawn once, for all runs
probe_clips, test_clips, few_clips, finetune_clips, finetune_steps = 1024, 768, 256, 768, 400
hard_evaluation = dict(
    config='../bimm/demo/joint_shapes.py',
    options={
        'probe_train.dataset': dict(hard, length=probe_clips, seed=2),
        'probe_test.dataset': dict(hard, length=test_clips, seed=3),
    },
    labels=['motion', 'camera', 'shape', 'texture'],
    probe_blocks=[2, 4, 6],
    probe_few=few_clips,
    knn=20,
    attentive=dict(steps=400, batch_size=64, lr=2e-3),
    finetune=dict(
        dataset=dict(length=finetune_clips, seed=100),
        batch_size=32,
        steps=finetune_steps,
        warmup=30,
        lr=3e-3,  # at 1e-3 much of the motion is lost (docs/evidence.md)
    ),
)

# overrides of a training on hard clips: the data, and contours without the edges of waves
hard_data = {f'train_dataloader.dataset.{key}': value for key, value in hard.items()}
hard_data['train_dataloader.dataset.length'] = 6912  # every combination of labels once
hard_contours = {
    branch: {f'model.{branch}.targets.1.low': 0.2, f'model.{branch}.targets.1.high': 0.3}
    for branch in ('ventral', 'dorsal')
}
