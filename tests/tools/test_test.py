"""tools/test.py and its launchers, run as a user runs them, on a model of one weight."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS

REPO = Path(__file__).parents[2]

PARTS = """
    import torch
    from mmengine.evaluator import BaseMetric
    from mmengine.model import BaseModel
    from mmengine.registry import DATASETS, METRICS, MODELS


    @DATASETS.register_module()
    class TestedNumbers(torch.utils.data.Dataset):
        metainfo = {}

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return dict(inputs=torch.tensor([float(index)]))


    @MODELS.register_module()
    class TestedModel(BaseModel):
        def __init__(self, classes=1, init_cfg=None):
            super().__init__(init_cfg=init_cfg)
            self.linear = torch.nn.Linear(1, classes, bias=False)

        def forward(self, inputs, mode='tensor'):
            return [dict(value=row.tolist()) for row in self.linear(inputs)]


    @METRICS.register_module()
    class MeanValue(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results += [sample['value'][0] for sample in data_samples]

        def compute_metrics(self, results):
            return dict(mean=sum(results) / len(results), count=float(len(results)))
"""

CONFIG = """
    custom_imports = dict(imports=['bimm_mm', 'tested_parts'], allow_failed_imports=False)
    default_scope = 'mmengine'
    model = dict(
        type='TestedModel', init_cfg=dict(type='Pretrained', checkpoint='not/there/any/more.pth')
    )
    train_dataloader = dict(dataset=dict(type='TestedNumbers', data_root='not/there'))
    train_cfg = dict(by_epoch=True, max_epochs=1)
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
    test_dataloader = dict(
        batch_size=2, num_workers=0, dataset=dict(type='TestedNumbers'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    test_cfg = dict(type='TestLoop')
    test_evaluator = dict(type='MeanValue')
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A folder with the parts, a config that uses them, and a checkpoint with the weight 2."""
    (tmp_path / 'tested_parts.py').write_text(textwrap.dedent(PARTS))
    (tmp_path / 'toy.py').write_text(textwrap.dedent(CONFIG))
    state = {'linear.weight': torch.full((1, 1), 2.0)}
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'two.pth')
    return tmp_path


@pytest.fixture
def main(toy, monkeypatch):
    """Run tools/test.py in this process, in the folder of the toy."""
    spec = spec_from_file_location('tools_test', REPO / 'tools/test.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(toy)
    monkeypatch.syspath_prepend(toy)
    monkeypatch.delitem(sys.modules, 'tested_parts', raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['test.py', *arguments])
        tool.main()

    yield run
    for registry, name in (
        (DATASETS, 'TestedNumbers'),
        (MODELS, 'TestedModel'),
        (METRICS, 'MeanValue'),
    ):
        registry.module_dict.pop(name, None)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    env = os.environ | {
        'PYTHONPATH': f'{REPO}{os.pathsep}{folder}',
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'VIRTUAL_ENV': str(Path(sys.executable).parents[1]),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
    }
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def metrics(work_dir: Path) -> dict:
    (file,) = work_dir.glob('*/*.json')
    result = json.loads(file.read_text())
    return {key: result[key] for key in ('mean', 'count')}


def test_tests_the_checkpoint_and_dumps_the_predictions(toy):
    tool = str(REPO / 'tools/test.py')
    arguments = ('--dump', 'new/out.pkl', '--work-dir', 'runs')
    result = run(toy, sys.executable, tool, 'toy.py', 'two.pth', *arguments)
    assert result.returncode == 0, result.stderr
    assert metrics(toy / 'runs') == dict(mean=7.0, count=8)  # 2 * mean of 0 to 7
    predictions = pickle.loads((toy / 'new/out.pkl').read_bytes())
    assert [p['value'] for p in predictions] == [[2.0 * i] for i in range(8)]


def test_two_processes_share_the_samples_and_join_the_metric(toy):
    script = str(REPO / 'tools/dist_test.sh')
    result = run(toy, 'bash', script, 'toy.py', 'two.pth', '2', '--work-dir', 'runs')
    assert result.returncode == 0, result.stderr
    assert metrics(toy / 'runs') == dict(mean=7.0, count=8)


class Malicious:
    def __reduce__(self):
        return os.system, ('touch pwned',)


def test_a_checkpoint_that_would_run_code_is_refused(toy, main):
    torch.save(dict(state_dict={}, evil=Malicious()), toy / 'evil.pth')
    with pytest.raises(SystemExit, match='evil.pth was not loaded: .*could run code.*system'):
        main('toy.py', 'evil.pth')
    assert not (toy / 'pwned').exists()


def test_a_checkpoint_for_another_number_of_classes_is_refused(toy, main):
    shapes = r'linear.weight has shape \(1, 1\), the model needs \(3, 1\)'
    (toy / '20261127_010101.py').write_text('model = dict(')  # as a run without a file writes it
    beside = '\nbeside it lies the config toy.py$'
    with pytest.raises(SystemExit, match=f'two.pth does not fit the model.*\n  {shapes}{beside}'):
        main('toy.py', 'two.pth', '--cfg-options', 'model.classes=3')


def test_a_checkpoint_of_something_else_is_refused(toy, main):
    torch.save({'dorsal.weight': torch.zeros(1)}, toy / 'other.pth')
    with pytest.raises(SystemExit, match='other.pth does not fit .*\n  linear.weight is not in it'):
        main('toy.py', 'other.pth')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('toyy.py', 'two.pth'), 'no config file toyy.py'),
        (('toy.py', 'three.pth'), 'no checkpoint .*three.pth'),
        (('toy.py', 'toy.py'), 'toy.py was not loaded|toy.py is not a checkpoint'),
        (
            ('toy.py', 'two.pth', '--cfg-options', 'test_evaluator.type=MeanValu'),
            "test_evaluator.type='MeanValu' is in no registry.*MeanValue",
        ),
        (
            ('toy.py', 'two.pth', '--cfg-options', 'test_evaluator=None'),
            'toy.py cannot be tested: it has no test_evaluator',
        ),
    ],
)
def test_mistakes_end_the_run_before_anything_is_built(toy, main, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(*arguments)
    assert not (toy / 'work_dirs').exists()


def test_the_end_of_the_dump_is_checked(main, capsys):
    with pytest.raises(SystemExit):
        main('toy.py', 'two.pth', '--dump', 'out.json')
    assert '--dump out.json: must end in .pkl or .pickle' in capsys.readouterr().err


def test_slurm_script_hands_everything_to_srun(toy):
    srun = toy / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    script = f'{REPO}/tools/slurm_test.sh'
    command = f'PATH={srun.parent}:$PATH GPUS=4 bash {script} part job toy.py two.pth --dump o.pkl'
    result = run(toy, 'bash', '-c', command)
    assert result.returncode == 0, result.stderr
    assert '--partition part --job-name job --ntasks 4 --ntasks-per-node 4' in result.stdout
    assert result.stdout.strip().endswith(
        'tools/test.py toy.py --launcher slurm two.pth --dump o.pkl'
    )


@DATASETS.register_module()
class ThreeNamedNumbers(torch.utils.data.Dataset):
    metainfo = dict(classes=('low', 'high'))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]), data_samples=int(index > 1))

    def get_data_info(self, index):
        return dict(filename=f'clip {index}.mp4')


@MODELS.register_module()
class HighOrLow(BaseModel):
    def __init__(self, head=None):
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        high = (torch.stack(list(inputs)) > self.threshold).float()
        scores = torch.cat([1 - high, high], 1)
        return [
            dict(pred_score=score, gt_label=torch.tensor([label]))
            for score, label in zip(scores, data_samples, strict=True)
        ]


HIGH_OR_LOW = """
default_scope = 'mmengine'
model = dict(type='HighOrLow', head=dict(num_classes=2))
test_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ThreeNamedNumbers'),
    sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate'))
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='DumpResults', out_file_path='all.pkl')
work_dir = 'runs'
"""


def test_a_classifier_is_reported_by_class_and_file_with_the_checkpoints_own_config(
    tmp_path, monkeypatch, capsys, call_tool
):
    monkeypatch.chdir(tmp_path)
    state = dict(threshold=torch.tensor(0.5))
    torch.save(dict(state_dict=state, meta=dict(cfg=HIGH_OR_LOW)), 'half.pth')
    call_tool('tools/test.py', 'half.pth')
    shown = capsys.readouterr().out
    assert 'Accuracy 66.7% of 3' in shown and 'low' in shown
    assert (tmp_path / 'runs/test/half/confusion.png').stat().st_size > 1000
    lines = (tmp_path / 'runs/test/half/predictions.csv').read_text().splitlines()
    assert lines[0] == 'file,label,prediction,score,score low,score high'
    assert lines[1:] == [
        'clip 0.mp4,low,low,1.000000,1.000000,0.000000',
        'clip 1.mp4,low,high,1.000000,0.000000,1.000000',
        'clip 2.mp4,high,high,1.000000,0.000000,1.000000',
    ]


@pytest.mark.parametrize('name', ['best_half.pth', 'half.pth'])
def test_a_checkpoint_that_was_chosen_by_the_same_samples_is_remarked_upon(
    name, tmp_path, monkeypatch, capsys, call_tool
):
    test = HIGH_OR_LOW[HIGH_OR_LOW.index('test_dataloader') : HIGH_OR_LOW.index('work_dir')]
    validation = test.replace('test_', 'val_').replace('TestLoop', 'ValLoop')
    # loggers are shared by name, and the default name is the second
    config = f'{HIGH_OR_LOW}{validation}experiment_name = {tmp_path.name!r}\n'
    state, meta = dict(threshold=torch.tensor(0.5)), dict(cfg=config)
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict=state, meta=meta), name)
    call_tool('tools/test.py', name)
    assert ('was chosen by these samples' in capsys.readouterr().out) == name.startswith('best_')
