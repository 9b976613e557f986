"""The benchmark of pretraining steps: on small models, that its figures are of what they say."""

import json

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

SHAPE = (3, 4, 32, 32)


@pytest.fixture
def benchmark(load_script, monkeypatch):
    module = load_script('benchmarks/step.py')
    monkeypatch.setattr(
        module, 'MODELS_TO_TIME', {'ours': (SHAPE, small_pretrainer), 'linear': (SHAPE, Linear)}
    )
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def small_pretrainer():
    return MODELS.build(
        dict(
            type='SingleBranchPretrainer',
            dorsal=dict(
                backbone=dict(
                    type='BimmViT',
                    arch=dict(embed_dims=24, depth=2, num_heads=3),
                    img_size=32,
                    patch_size=8,
                    num_frames=4,
                    stage_ends=(2,),
                ),
                masking=dict(type='TubeMasking', ratio=0.75),
                neck=dict(
                    type='MultiStageDecoder',
                    decoders=[dict(type='TransformerDecoder', embed_dims=24, depth=1, num_heads=3)],
                ),
                targets=[dict(type='MotionTarget')],
            ),
        )
    )


class Linear(nn.Module):
    """A matrix product whose cost is known."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 16))

    def step_loss(self, x):
        return (x.flatten(0, 3) @ self.weight).mean()


def test_models_take_turns_and_the_figures_are_written(benchmark, tmp_path, capsys):
    file = tmp_path / 'result.json'
    options = '--models ours linear --steps 2 --warmup 1 --no-memory --device cpu --threads 1'
    benchmark.main([*options.split(), '--json', str(file)])
    result = json.loads(file.read_text())
    ours, linear = result['models']['ours'], result['models']['linear']
    assert ours['ratio'] == 1
    assert linear['ratio'] == pytest.approx(linear['seconds']['step'] / ours['seconds']['step'])
    # one product forward, one backward, of 2 clips: the input needs no gradient
    assert linear['flops'] == 2 * 2 * (2 * 3 * 4 * 32) * 32 * 16
    assert linear['parameters'] == 32 * 16
    seconds = ours['seconds']
    assert 0 < seconds['targets'] < seconds['forward'] < seconds['step']
    assert 0 < seconds['masks'] < seconds['forward'] and linear['seconds']['masks'] == 0
    assert linear['seconds']['targets'] == 0
    parts = sum(seconds[part] for part in ('forward', 'backward', 'optimizer'))
    assert parts == pytest.approx(seconds['step'], rel=0.5)
    assert ours['mfu'] == pytest.approx(
        ours['flops'] / seconds['step'] / 1e12 / result['matmul_peak_tflops']
    )
    output = capsys.readouterr().out
    assert '| ours | ' in output and '| linear | ' in output


def test_the_largest_batch_leaves_room_for_all_models(benchmark):
    model = dict(peak_memory=11.2e9, parameters=100e6)  # 1.2 GB of state, 10 GB for 16 samples
    result = dict(batch_size=16, models=dict(a=model, b=model))
    assert benchmark.largest_batch(result, int(100e9)) == 112  # (80 - 2.4) / 0.625 = 124.2
    assert benchmark.largest_batch(result, int(5e9)) == 16


def test_several_batches_are_timed_with_the_same_models(benchmark, tmp_path, capsys):
    options = '--models linear --steps 1 --warmup 1 --no-memory --device cpu --threads 1'
    file = tmp_path / 'result.json'
    benchmark.main([*options.split(), '--batch-size', '2', '3', '--json', str(file)])
    assert {path.name for path in tmp_path.iterdir()} == {'result_2.json', 'result_3.json'}
    two, three = (json.loads((tmp_path / f'result_{n}.json').read_text()) for n in (2, 3))
    assert (two['batch_size'], three['batch_size']) == (2, 3)
    assert three['models']['linear']['flops'] * 2 == two['models']['linear']['flops'] * 3
    assert capsys.readouterr().out.count('| linear | ') == 2


@pytest.mark.parametrize(
    'sizes, said',
    [
        (['largest'], "--batch-size largest: numbers, then perhaps 'largest'"),
        (['16', 'huge'], "--batch-size 16 huge: numbers, then perhaps 'largest'"),
        (['16', 'largest'], '--batch-size largest is for a GPU'),
    ],
)
def test_a_batch_size_that_cannot_be_is_told(benchmark, capsys, sizes, said):
    with pytest.raises(SystemExit):
        benchmark.main(['--models', 'linear', '--device', 'cpu', '--batch-size', *sizes])
    assert said in capsys.readouterr().err


def test_whole_branches_are_compiled(benchmark, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        benchmark, 'compile_modules', lambda modules, **options: compiled.append((modules, options))
    )
    model = small_pretrainer()
    benchmark.compile_parts(model, 'branch-graphs')
    benchmark.compile_parts(model, 'blocks')
    (branches, with_graphs), (blocks, plain) = compiled
    assert branches == [model.dorsal.backbone, model.dorsal.neck]
    assert [type(block).__name__ for block in blocks] == ['TransformerBlock'] * 3
    assert with_graphs == dict(dynamic=False, mode='reduce-overhead') and plain == dict(
        dynamic=False
    )
    with pytest.raises(ValueError, match='--compile blocks: Linear has no such part'):
        benchmark.compile_parts(Linear(), 'blocks')


def test_images_and_clips_are_not_compared(benchmark, monkeypatch, capsys):
    monkeypatch.setitem(benchmark.MODELS_TO_TIME, 'image', ((3, 32, 32), small_pretrainer))
    with pytest.raises(SystemExit):
        benchmark.main(['--models', 'ours', 'image'])
    assert 'all on clips, or all on images' in capsys.readouterr().err


def test_a_profile_lists_the_operators_of_each_model(benchmark, capsys):
    options = '--models linear ours --steps 1 --warmup 1 --device cpu --threads 1 --profile'
    benchmark.main(options.split())
    header, _, *rows, total = capsys.readouterr().out.splitlines()
    assert header == '| operator, ms per step | linear | ours |'
    assert len(rows) == 12 and total.startswith('| all | ')
    figures = [[float(cell) for cell in row.split('|')[2:-1]] for row in [*rows, total]]
    for *longest, whole in zip(*figures, strict=True):
        assert whole >= sum(longest) - 6  # each is rounded to whole milliseconds
    assert figures[-1][1] > 0
