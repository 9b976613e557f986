"""tools/train.py and its launchers, run as a user runs them, on a model of one weight."""

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import OPTIM_WRAPPERS

from bimm_mm import compat
from bimm_mm.config.check import ConfigError
from bimm_mm.engine import runner as runner_module
from bimm_mm.engine.hooks import stop_on_signal_hook
from bimm_mm.engine.hooks.stop_on_signal_hook import EXIT_STOPPED
from bimm_mm.engine.optimizers import amp
from bimm_mm.engine.runner import set_global_batch_size

REPO = Path(__file__).parents[2]

PARTS = """
    import torch
    from mmengine.model import BaseModel
    from mmengine.registry import DATASETS, MODELS


    @DATASETS.register_module()
    class ToyNumbers(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return dict(inputs=torch.tensor([float(index)]))


    @MODELS.register_module()
    class ToyModel(BaseModel):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.ones_(self.linear.weight)

        def forward(self, inputs, mode='tensor'):
            return dict(loss=self.linear(inputs).mean())
"""

# The gradient is the mean of the numbers, 3.5 for each batch of all eight: SGD moves the weight by
# -0.035 a step, however many processes share the batch.
CONFIG = """
    custom_imports = dict(imports=['bimm_mm', 'toy_parts'], allow_failed_imports=False)
    default_scope = 'mmengine'
    model = dict(type='ToyModel')
    train_dataloader = dict(
        batch_size=8, num_workers=0, dataset=dict(type='ToyNumbers'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    train_cfg = dict(by_epoch=True, max_epochs=2)
    default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    auto_scale_lr = dict(base_batch_size=16)
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    """A folder with the toy parts and the config that uses them; runs start in it."""
    (tmp_path / 'toy_parts.py').write_text(textwrap.dedent(PARTS))
    (tmp_path / 'toy.py').write_text(textwrap.dedent(CONFIG))
    return tmp_path


@pytest.fixture(scope='module')
def tool():
    """tools/train.py as a module, for what need not run in a process of its own."""
    spec = spec_from_file_location('train', REPO / 'tools/train.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        'PYTHONPATH': f'{REPO}{os.pathsep}{folder}',
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'VIRTUAL_ENV': str(Path(sys.executable).parents[1]),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
    }


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300
    )


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run(folder, sys.executable, str(REPO / 'tools/train.py'), *arguments)


def weight(checkpoint: Path) -> float:
    compat.allow_checkpoint_classes()  # a checkpoint holds the log's history too
    (value,) = torch.load(checkpoint)['state_dict'].values()
    return value.item()


def test_trains_and_resumes_where_it_stopped(toy):
    first = train(toy, 'toy.py')
    assert first.returncode == 0, first.stderr
    work_dir = toy / 'work_dirs' / 'toy'
    assert weight(work_dir / 'epoch_2.pth') == pytest.approx(1 - 2 * 0.035)

    second = train(toy, 'toy.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert second.returncode == 0, second.stderr
    assert 'resumed epoch: 2, iter: 2' in second.stdout + second.stderr
    assert weight(work_dir / 'epoch_3.pth') == pytest.approx(1 - 3 * 0.035)

    one_epoch = str(work_dir / 'epoch_1.pth')
    third = train(toy, 'toy.py', '--resume', one_epoch, '--work-dir', 'other')
    assert third.returncode == 0, third.stderr
    assert 'resumed epoch: 1, iter: 1' in third.stdout + third.stderr
    assert sorted(p.name for p in (toy / 'other').glob('*.pth')) == ['epoch_2.pth']


STARTED = """
    import torch
    from mmengine.registry import MODELS
    from toy_parts import ToyModel


    @MODELS.register_module()
    class StartedModel(ToyModel):
        def __init__(self, init_dorsal_from, init_cfg):
            super().__init__()
            self.init_dorsal_from, self.init_cfg = init_dorsal_from, init_cfg

        def init_weights(self):
            super().init_weights()
            if self.init_dorsal_from is not None:
                torch.load(self.init_dorsal_from)
"""
STARTED_CONFIG = """
    _base_ = ['toy.py']
    custom_imports = dict(imports=['bimm_mm', 'started'])
    start = 'start.pth'
    model = dict(
        type='StartedModel',
        init_dorsal_from=start,
        init_cfg=dict(type='Pretrained', checkpoint=start),
    )
"""


@pytest.mark.parametrize('resume', [['--resume'], ['--resume', 'work_dirs/run/epoch_2.pth']])
def test_a_resumed_run_needs_nothing_that_it_once_started_from(toy, resume):
    (toy / 'started.py').write_text(textwrap.dedent(STARTED))
    (toy / 'run.py').write_text(textwrap.dedent(STARTED_CONFIG))
    start = {'linear.weight': torch.full((1, 1), 5.0)}
    torch.save(dict(state_dict=start), toy / 'start.pth')
    first = train(toy, 'run.py')
    assert first.returncode == 0, first.stderr
    work_dir = toy / 'work_dirs/run'
    assert weight(work_dir / 'epoch_2.pth') == pytest.approx(5 - 2 * 0.035)

    (toy / 'start.pth').unlink()
    again = train(toy, 'run.py', *resume, '--cfg-options', 'train_cfg.max_epochs=3')
    assert again.returncode == 0, again.stderr
    assert weight(work_dir / 'epoch_3.pth') == pytest.approx(5 - 3 * 0.035)
    # where the weights come from is not lost
    assert "init_dorsal_from='start.pth'" in torch.load(work_dir / 'epoch_3.pth')['meta']['cfg']
    assert "init_dorsal_from='start.pth'" in (work_dir / 'run.py').read_text()


def test_a_run_that_has_nothing_to_resume_needs_what_it_starts_from(toy):
    (toy / 'started.py').write_text(textwrap.dedent(STARTED))
    (toy / 'run.py').write_text(textwrap.dedent(STARTED_CONFIG))
    result = train(toy, 'run.py', '--resume')
    assert result.returncode == 1
    assert "model.init_dorsal_from='start.pth': no such file" in result.stderr


def test_learning_rate_is_scaled_to_the_batch(toy):
    result = train(toy, 'toy.py', '--auto-scale-lr', '--cfg-options', 'train_cfg.max_epochs=1')
    assert result.returncode == 0, result.stderr
    # half of base_batch_size=16, so half of the step
    assert weight(toy / 'work_dirs/toy/epoch_1.pth') == pytest.approx(1 - 0.035 / 2)


def test_after_an_error_of_ours_the_launcher_adds_no_traceback(toy):
    result = subprocess.run(
        ['bash', str(REPO / 'tools/dist_train.sh'), 'nothing.py', '2'],
        cwd=toy,
        env=environment(toy),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    said = [line for line in result.stderr.splitlines() if line.strip()]
    assert any('no config file nothing.py' in line for line in said)
    assert 'Traceback' not in result.stderr and 'ChildFailedError' not in result.stderr
    assert len(said) <= 4, result.stderr


@pytest.mark.parametrize(
    'arguments',
    [['train.sh', 'toy.py', '--cfg-options', 'a=1'], ['test.sh', 'toy.py', 'a.pth', '--tta']],
)
def test_without_the_number_of_processes_the_launchers_say_how_they_are_called(arguments):
    script, *arguments = arguments
    result = subprocess.run(
        ['bash', str(REPO / f'tools/dist_{script}'), *arguments], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert f'GPUS={arguments[-1] if "test" in script else arguments[1]} must be a number' in (
        result.stderr
    )
    assert f'tools/dist_{script} CONFIG' in result.stderr


def test_two_gloo_processes_do_what_one_does(toy):
    options = ('train_dataloader.batch_size=4', 'train_cfg.max_epochs=2')
    script = str(REPO / 'tools/dist_train.sh')
    result = run(toy, 'bash', script, 'toy.py', '2', '--cfg-options', *options)
    assert result.returncode == 0, result.stderr
    (log,) = (toy / 'work_dirs/toy').glob('*/*.log')
    assert 'GPU number: 2' in log.read_text()
    assert weight(toy / 'work_dirs/toy/epoch_2.pth') == pytest.approx(1 - 2 * 0.035)

    resume = (
        '--resume',
        '--cfg-options',
        'train_dataloader.batch_size=4',
        'train_cfg.max_epochs=3',
    )
    result = run(toy, 'bash', script, 'toy.py', '2', *resume)
    assert result.returncode == 0, result.stderr
    assert weight(toy / 'work_dirs/toy/epoch_3.pth') == pytest.approx(1 - 3 * 0.035)


def test_told_to_stop_it_saves_on_all_processes_and_goes_on_with_another_number(toy):
    stoppable = textwrap.dedent("""
        _base_ = ['toy.py']
        train_dataloader = dict(batch_size=2)
        train_cfg = dict(max_epochs=100000)
        default_hooks = dict(
            checkpoint=dict(type='WholeCheckpointHook', interval=1000),
            exact_resume=dict(type='ExactResumeHook'),
            stop=dict(type='StopOnSignalHook'),
        )
    """)
    (toy / 'long.py').write_text(stoppable)
    script = str(REPO / 'tools/dist_train.sh')
    with subprocess.Popen(
        ['bash', script, 'long.py', '2'],
        cwd=toy,
        env=environment(toy),
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output = ''
        while 'Epoch(train)' not in output:
            line = process.stdout.readline()
            assert line, output
            output += line
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        output += process.communicate(timeout=120)[0]
    assert process.returncode == EXIT_STOPPED, output
    (stopped,) = (toy / 'work_dirs/long').glob('*.pth')
    assert 'Stopped by SIG' in output and f'work_dirs/long/{stopped.name}. ' in output
    iterations = int(stopped.stem.removeprefix('stopped_iter_'))
    assert (toy / 'work_dirs/long/last_checkpoint').read_text().endswith(stopped.name)

    # one process with the whole batch: an epoch is four samples in two iterations of each
    epochs = iterations // 2 + 1
    options = ('--cfg-options', 'train_dataloader.batch_size=4', f'train_cfg.max_epochs={epochs}')
    result = train(toy, 'long.py', '--resume', *options)
    assert result.returncode == 0, result.stderr
    assert f', iter: {iterations}' in result.stdout + result.stderr
    said = 'The run goes on with 1 process in place of 2: the same global batches'
    assert said in result.stdout + result.stderr
    assert 'no longer bit-exact' not in result.stdout + result.stderr
    # every step is that of half of the eight numbers: -0.015 for 0 to 3, -0.055 for 4 to 7
    assert weight(toy / f'work_dirs/long/epoch_{epochs}.pth') == pytest.approx(
        1 - epochs * 0.07, rel=1e-3
    )
    assert not stopped.exists()  # a regular checkpoint has taken its place


def test_a_work_dir_that_cannot_be_written_is_told_at_once(toy, tool, monkeypatch):
    (toy / 'file').touch()
    monkeypatch.chdir(toy)
    monkeypatch.syspath_prepend(toy)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'toy.py', '--work-dir', 'file/run'])
    monkeypatch.setattr(tool, 'build_runner', lambda cfg: pytest.fail('too late'))
    with pytest.raises(SystemExit, match='cannot write file/run: a part of the path is no folder'):
        tool.main()


def test_a_package_that_a_config_imports_and_that_is_missing_is_named(toy, tool, monkeypatch):
    imports = "custom_imports = dict(imports=['nopackage'], allow_failed_imports=False)"
    (toy / 'needs.py').write_text(f"_base_ = ['toy.py']\n{imports}\n")
    monkeypatch.chdir(toy)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'needs.py'])
    message = "needs.py: custom_imports cannot be imported: No module named 'nopackage'"
    with pytest.raises(SystemExit, match=message):
        tool.main()


def test_a_package_that_refuses_another_is_told_without_traceback(toy, tool, monkeypatch):
    refused = 'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'
    (toy / 'refuses.py').write_text(f'raise AssertionError({refused!r})\n')
    imports = "custom_imports = dict(imports=['refuses'])"
    (toy / 'needs.py').write_text(f"_base_ = ['toy.py']\n{imports}\n")
    monkeypatch.chdir(toy)
    monkeypatch.syspath_prepend(toy)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'needs.py'])
    with pytest.raises(SystemExit) as told:
        tool.main()
    text = str(told.value)
    assert f'needs.py: custom_imports cannot be imported: {refused}' in text
    assert 'pip install "mmcv-lite<2.2"' in text


def test_a_full_disk_is_told_without_traceback(toy, tool, monkeypatch):
    class Full:
        logger = logging.getLogger()

        def train(self):
            raise OSError(errno.ENOSPC, 'No space left on device', 'run/20260101.log')

    monkeypatch.chdir(toy)
    monkeypatch.syspath_prepend(toy)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'toy.py'])
    monkeypatch.setattr(tool, 'build_runner', lambda cfg: Full())
    with pytest.raises(SystemExit, match='cannot write run/20260101.log: the disk is full'):
        tool.main()


def test_the_launcher_knows_the_exit_code():
    spec = spec_from_file_location('bimm_torchrun', REPO / 'tools/torchrun.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.EXIT_STOPPED, module.SIGNALS) == (EXIT_STOPPED, stop_on_signal_hook.SIGNALS)


def test_a_strategy_is_run_by_the_flexible_runner(toy):
    strategy = textwrap.dedent("""
        _base_ = ['toy.py']
        strategy = dict(type='DDPStrategy')
        train_dataloader = dict(batch_size=4)
    """)
    (toy / 'strategy.py').write_text(strategy)
    alone = train(toy, 'strategy.py')
    assert alone.returncode != 0
    assert "strategy.type='DDPStrategy' needs a launcher" in alone.stderr

    result = run(toy, 'bash', str(REPO / 'tools/dist_train.sh'), 'strategy.py', '2')
    assert result.returncode == 0, result.stderr
    assert weight(toy / 'work_dirs/strategy/epoch_2.pth') == pytest.approx(1 - 2 * 0.035)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('toyy.py',), 'no config file toyy.py'),
        (
            ('toy.py', '--cfg-options', 'model.type=ToyModle', 'load_from=no.pth'),
            "2 problems in toy.py:\n  model.type='ToyModle' is in no registry of mmengine; "
            'did you mean ToyModel?\n  load_from=',
        ),
        (('toy.py', '--cfg-options', 'trian_cfg.max_epochs=1'), 'did you mean train_cfg?'),
        (
            ('toy.py', '--launcher', 'pytorch', '--cfg-options', 'strategy.type=FSDPStrategy'),
            "strategy.type='FSDPStrategy' needs an accelerator",
        ),
        (('toy.py', '--amp', '--amp-dtype', 'float16'), '--amp-dtype float16 needs an acceler'),
        (('toy.py', '--amp-dtype', 'float16'), '--amp-dtype has no effect without --amp'),
        (
            ('toy.py', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr=None'),
            'no auto_scale_lr.base_batch_size',
        ),
    ],
)
def test_mistakes_end_the_run_before_anything_is_built(
    toy, tool, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(toy)
    monkeypatch.syspath_prepend(toy)
    monkeypatch.setattr(amp, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(runner_module, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert message in f'{stop.value.code}\n{capsys.readouterr().err}'
    assert not (toy / 'work_dirs').exists()


def test_a_mistake_is_told_without_traceback_and_the_run_fails(toy):
    result = train(toy, 'toyy.py')
    assert result.returncode == 1
    assert result.stderr.endswith('no config file toyy.py\n')


@pytest.mark.filterwarnings('ignore:torch.cuda.amp.GradScaler is enabled')
@pytest.mark.parametrize(
    ('native', 'asked', 'dtype', 'loss_scale'),
    [
        (True, None, 'bfloat16', dict(enabled=False)),
        (False, None, 'float16', 'dynamic'),
        (True, 'float16', 'float16', 'dynamic'),
    ],
)
def test_amp_takes_bfloat16_where_the_device_has_it(monkeypatch, native, asked, dtype, loss_scale):
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    with monkeypatch.context() as patch:
        patch.setattr(amp, 'get_device', lambda: 'cuda')
        patch.setattr(torch.cuda, 'is_available', lambda: True)
        patch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: native)
        amp.set_amp(cfg, asked)
    expected = dict(type='AmpOptimWrapper', dtype=dtype, loss_scale=loss_scale)
    assert cfg.optim_wrapper == expected

    # and mmengine takes these settings
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    wrapper = OPTIM_WRAPPERS.build(cfg.optim_wrapper, default_args=dict(optimizer=optimizer))
    assert wrapper.cast_dtype == getattr(torch, dtype)


@pytest.mark.parametrize('native', [True, False])
def test_amp_on_a_cpu_takes_bfloat16_or_says_that_there_is_none(monkeypatch, native):
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    monkeypatch.setattr(amp, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(amp, 'cpu_has_bfloat16', lambda: native)
    if native:
        amp.set_amp(cfg, None)
        assert cfg.optim_wrapper == dict(type='CpuAmpOptimWrapper', dtype='bfloat16')
    else:
        with pytest.warns(UserWarning, match='the run goes on in float32'):
            amp.set_amp(cfg, None)
        assert cfg.optim_wrapper == dict(type='OptimWrapper')


def test_print_config_shows_the_merged_config(toy):
    tool = str(REPO / 'tools/misc/print_config.py')
    result = run(toy, sys.executable, tool, 'toy.py', '--cfg-options', 'train_cfg.max_epochs=7')
    assert result.returncode == 0, result.stderr
    assert 'max_epochs=7' in result.stdout and "type='ToyModel'" in result.stdout


def test_slurm_script_hands_everything_to_srun(toy):
    srun = toy / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    command = f'PATH={srun.parent}:$PATH GPUS=16 bash {REPO}/tools/slurm_train.sh part job toy.py'
    result = run(toy, 'bash', '-c', f'{command} --resume')
    assert result.returncode == 0, result.stderr
    assert '--partition part --job-name job --ntasks 16 --ntasks-per-node 8' in result.stdout
    assert result.stdout.strip().endswith('train.py toy.py --launcher slurm --resume')


@pytest.mark.parametrize(('code', 'starts'), [(1, 3), (75, 1)])
def test_slurm_script_goes_on_after_failures_but_not_after_a_stop(toy, code, starts):
    srun = toy / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\necho "$@" >> {toy}/started\nexit {code}\n')
    srun.chmod(0o755)
    command = f'PATH={srun.parent}:$PATH bash {REPO}/tools/slurm_train.sh part job toy.py'
    result = run(toy, 'bash', '-c', f'{command} --max-restarts 2 --amp')
    assert result.returncode == code
    lines = (toy / 'started').read_text().splitlines()
    assert len(lines) == starts
    assert all(line.endswith('train.py toy.py --launcher slurm --amp --resume') for line in lines)


@pytest.mark.parametrize('script', ['dist_train.sh toy.py 2', 'slurm_train.sh part job toy.py'])
@pytest.mark.parametrize('number', ['', 'many'])
def test_launchers_want_a_number_of_restarts(toy, script, number):
    result = run(toy, 'bash', '-c', f'bash {REPO}/tools/{script} --max-restarts {number}')
    assert result.returncode == 2 and 'must be a number' in result.stderr


def test_a_global_batch_is_divided_among_processes(monkeypatch):
    cfg = Config(dict(launcher='pytorch', train_dataloader=dict(batch_size=1)))
    monkeypatch.setenv('WORLD_SIZE', '24')
    set_global_batch_size(cfg, 1920)
    assert cfg.train_dataloader.batch_size == 80
    with pytest.raises(ConfigError, match='24 processes need a multiple of 24, as 2040 or 2064'):
        set_global_batch_size(cfg, 2048)
