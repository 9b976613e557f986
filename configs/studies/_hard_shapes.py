# Hard generated clips (MovingShapesDataset's arguments), and how encoders are evaluated on them.
hard = dict(
    shapes='outlines',
    textures='waves',
    speeds=(1.0, 2.0),
    directions=4,
    camera_speeds=(0.0, 1.0, 2.0),
    distractors=1,
    occluders=1,
    max_turn=20.0,
    cache='work_dirs/clips',  # drawn once, for all runs
)
probe_clips, test_clips, few_clips, finetune_clips, finetune_steps = 1024, 768, 256, 768, 90
evaluation = dict(
    config='../bimm/demo/joint_shapes.py',
    options={
        'probe_train.dataset': dict(hard, length=probe_clips, seed=2),
        'probe_test.dataset': dict(hard, length=test_clips, seed=3),
    },
    labels=['motion', 'camera', 'shape', 'texture'],
    probe_blocks=[2, 4, 6],
    probe_few=few_clips,
    knn=20,
    attentive=dict(steps=100, batch_size=64, lr=2e-3),
    finetune=dict(
        dataset=dict(length=finetune_clips, seed=100),
        batch_size=32,
        steps=finetune_steps,
        warmup=15,
        lr=2e-3,
    ),
)
