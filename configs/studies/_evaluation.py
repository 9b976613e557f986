# How the runs of the studies on generated shapes are evaluated: as video encoders of
# joint_shapes.py, on clips that no run was trained on.
evaluation = dict(
    config='../bimm/demo/joint_shapes.py',
    labels=['motion', 'shape', 'texture'],
    probe_blocks=[2, 4, 6],
    probe_few=192,
    # from random weights, 300 steps read motion in 94 % of the test clips, and 100 steps in 64 %
    finetune=dict(dataset=dict(length=384, seed=100), batch_size=32, steps=300, warmup=30, lr=1e-3),
)
judge = ['motion', 'shape']
