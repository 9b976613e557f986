# Why motion is lost in finetuning, on hard clips: the positions in time, and the sign of the motion
# target. Its first run is the default of table7_hard_shapes.py, and trained once for both. About 12
# minutes of one CPU core per seed.
_base_ = ['./table7_hard_shapes.py']

title = 'Why motion is lost in finetuning, on hard clips'
about = (
    'BIMM, V1 on visible patches, with the steps of table7_hard_shapes.py, and the same encoder '
    'never pretrained. "Without positions in time": all frames of the encoder have the positions '
    'of the image; decoders keep theirs.'
)
default = _base_.runs['default']['stages']
without_time = dict(without_time=True)


def joint(label, **options):
    """The default with overrides of the joint stage's dorsal branch, given as a__b for a.b."""
    options = {'model.dorsal.' + key.replace('__', '.'): value for key, value in options.items()}
    last = dict(default[1], options={**default[1]['options'], **options})
    return dict(label=label, stages=[default[0], last])


runs = dict(
    default=dict(label='pretrained', stages=default),
    default_without=dict(
        label='pretrained, finetuned without positions in time',
        stages=default,
        finetune=without_time,
    ),
    none=joint(
        'pretrained and finetuned without positions in time', backbone__time_positions='none'
    ),
    signed=joint('pretrained with a signed motion target', targets__2__absolute=False),
    scratch=dict(label='never pretrained', stages=[]),
    scratch_without=dict(
        label='never pretrained, without positions in time', stages=[], finetune=without_time
    ),
)
units = ['steps']
questions = [dict(name='motion after finetuning', rows=dict.fromkeys(runs))]
runs['_delete_'] = True
judge = ['motion']
