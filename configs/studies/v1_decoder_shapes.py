# The two readings of V1's decoder: predict masked patches after mixing tokens, or visible ones from
# their own token. About 8 minutes of one CPU core per seed.
_base_ = ['./_evaluation.py']

title = "V1's decoder: masked patches with token mixing, or visible patches without"
about = (
    'Both stages of BIMM at the size of the demo, with either decoder in both branches. Explained '
    'variances of the Gabor targets are not comparable here: visible patches are seen.'
)

key = 'model.{}.neck.decoders.0.predict'
ventral = {key.format('ventral'): 'visible'}
both = {**ventral, key.format('dorsal'): 'visible'}
runs = dict(
    masked=dict(
        label='masked, mixing',
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000),
            dict(config='../bimm/demo/joint_shapes.py'),
        ],
    ),
    visible=dict(
        label='visible, per token',
        stages=[
            dict(config='../bimm/demo/ventral_shapes.py', steps=1000, options=ventral),
            dict(config='../bimm/demo/joint_shapes.py', options=both),
        ],
    ),
)
reference = dict(run='masked', steps=700)
questions = [dict(name="V1's decoder", rows=dict(masked=None, visible=None))]
