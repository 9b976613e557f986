# The two readings of V1's decoder: predict visible patches, each from its own token, or masked ones
# after mixing tokens. About 8 minutes of one CPU core per seed.
_base_ = ['./_evaluation.py']

title = "V1's decoder: visible patches, or masked patches with token mixing"
about = (
    'Both stages of BIMM at the size of the demo, with either decoder in both branches. Explained '
    'variances of the Gabor targets are not comparable here: visible patches are seen.'
)

key = 'model.{}.neck.decoders.0.predict'
ventral = {key.format('ventral'): 'masked'}
both = {**ventral, key.format('dorsal'): 'masked'}
runs = dict(
    visible=dict(
        label='visible, per token',
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000),
            dict(config='../bimm/demo/joint_shapes.py'),
        ],
    ),
    masked=dict(
        label='masked, mixing',
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000, options=ventral),
            dict(config='../bimm/demo/joint_shapes.py', options=both),
        ],
    ),
)
reference = dict(run='visible', steps=712)
questions = [dict(name="V1's decoder", rows=dict(visible=None, masked=None))]
