"""Build a runner from a checked config, and end the processes of a distributed run."""

import copy
import logging
import os
import subprocess
import sys
import traceback
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_distributed, is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, FlexibleRunner, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..config.check import ConfigError
from ..models.checkpoints import check_decoders, forget_initialization
from .hooks.checkpoint_hook import checkpoint_to_resume
from .hooks.run_summary_hook import fills_batches, what_samples_are
from .schedules import without_short_warm_ups
from .screen import CalmScreen, silence_upstream

# Rank, world size and local rank as each launcher names them; torchrun uses torch's own names.
LAUNCHER_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
LISTED = 10  # missing files in a message
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
CPU_STRATEGIES = (
    'SingleDeviceStrategy',
    'DDPStrategy',
    'FullyShardStrategy',
    'SharedBlocksFSDPStrategy',
)


class CheckedLoop:
    """For a Runner: what is wrong at the start is told in a sentence; hooks can be left out.

    Where a training in a process of its own ends by an error or is stopped, ``after_failure`` of
    each hook that has it sets back what the hook changed in the process: a notebook goes on.
    """

    _begun = False

    def train(self) -> nn.Module:
        """Train the model.

        Raises:
            ConfigError: Before the first step, this package refused something, such as a
                checkpoint of another model.
        """
        try:
            return self._train()
        except ConfigError:
            raise
        except ValueError as error:
            ours = own_error(error)
            if self._begun or ours is None:
                raise
            loaded = self._load_from if str(ours).startswith('the checkpoint') else None
            raise ConfigError(f'{loaded}: {ours}' if loaded else str(ours)) from error

    def _train(self) -> nn.Module:
        try:
            return super().train()
        except BaseException:
            if not is_distributed():
                self._set_back()
            raise

    def _set_back(self) -> None:
        """Call ``after_failure`` of all hooks, the last first; workers take longest."""
        for hook in reversed(self.hooks):
            try:
                getattr(hook, 'after_failure', lambda runner: None)(self)
            except Exception as error:  # the first error is the one to be told
                self.logger.warning(f'{type(hook).__name__} could not set back: {error}')

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; note where the training begins, and look at what it starts from."""
        self._begun |= fn_name == 'before_train'
        if fn_name == 'after_load_checkpoint' and not self._resume:
            check_decoders(self.model, kwargs['checkpoint'].get('state_dict', {}))
        super().call_hook(fn_name, **kwargs)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the hooks; ``default_hooks.NAME=None`` leaves out any, not mmengine's alone."""
        known = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
        hooks = hooks or {}
        super().register_default_hooks(
            {name: hook for name, hook in hooks.items() if hook is not None or name in known}
        )

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, and with it the data.

        Raises:
            ConfigError: The data set of this package cannot be used, or there is no whole batch.
        """
        try:
            loop = super().build_train_loop(loop)
        except (ValueError, OSError) as error:
            ours = own_error(error)
            if ours is None:
                raise
            raise ConfigError(f'train_dataloader.dataset: {ours}') from error
        remark = check_steps(loop.dataloader)
        if remark:
            self.logger.warning(remark)
        self._leave_out_short_warm_ups(loop.dataloader)
        return loop

    def _leave_out_short_warm_ups(self, loader: DataLoader) -> None:
        schedulers = self.param_schedulers
        if not isinstance(schedulers, list) or not all(isinstance(s, dict) for s in schedulers):
            return
        steps = len(loader) if hasattr(loader.dataset, '__len__') else None
        self.param_schedulers = without_short_warm_ups(schedulers, steps)
        if len(self.param_schedulers) < len(schedulers):
            self.logger.info('The warm-up is left out: it would be a single step')

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation; raises a ConfigError if it would not get to its end."""
        return check_evaluation(super().build_val_loop(loop), 'val_dataloader')

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test; raises a ConfigError if it would not get to its end."""
        return check_evaluation(super().build_test_loop(loop), 'test_dataloader')


class CalmRunner(CheckedLoop, CalmScreen, Runner):
    """mmengine's Runner; the screen shows what counts, the log file everything."""


class CalmFlexibleRunner(CheckedLoop, CalmScreen, FlexibleRunner):
    """mmengine's FlexibleRunner; the screen shows what counts, the log file everything."""


def check_steps(loader: DataLoader) -> str:
    """Look at the number of steps that an epoch of a training has.

    Returns:
        A remark where all samples together are less than a batch, else ''.

    Raises:
        ConfigError: There is no step.
    """
    try:
        steps, samples = len(loader), len(loader.dataset)
    except TypeError:  # a stream
        return ''
    batch, processes = getattr(loader.batch_sampler, 'batch_size', 1), get_world_size()
    largest = samples // processes
    counted = f'{samples} {what_samples_are(loader.dataset)}'
    if not steps:
        fewer = f'train_dataloader.batch_size={largest} or less, or ' if largest else ''
        raise ConfigError(
            f'{counted} / ({processes} x {batch}) = 0 steps per epoch, since '
            'train_dataloader.drop_last leaves out the incomplete batch. Paste: '
            f'--cfg-options {fewer}train_dataloader.drop_last=False'
        )
    if samples >= batch * processes or fills_batches(loader):
        return ''
    return (
        f'{counted} do not fill a batch of {processes} x {batch}: an epoch is one step. For more '
        f'steps: --cfg-options train_dataloader.batch_size={max(largest // 4, 1)}'
    )


def check_evaluation(loop: BaseLoop, loader: str) -> BaseLoop:
    """Raise ConfigError where files of an evaluation are missing, before hours of training."""
    dataset = loop.dataloader.dataset
    if not hasattr(dataset, 'missing') or not dataset.test_mode or not is_main_process():
        return loop
    missing = dataset.missing()
    if missing:
        listed = ''.join(f'\n  {line}' for line in missing[:LISTED])
        more = f'\n  and {len(missing) - LISTED} more' if len(missing) > LISTED else ''
        raise ConfigError(
            f'{loader}.dataset: files of {len(missing)} of {len(dataset)} samples are missing, and '
            f'in an evaluation no others take their place. Bring them back, or leave them out: '
            f'{dataset.how_to_leave_out}.{listed}{more}'
        )
    return loop


def own_error(error: BaseException | None) -> BaseException | None:
    """The first error of a chain that this package raised; None where it raised none.

    mmengine's registry raises each error once more, and some of ours say more about mmengine's.
    """
    while error is not None:
        frames = list(traceback.walk_tb(error.__traceback__))
        module = frames[-1][0].f_globals.get('__name__', '') if frames else ''
        if module.partition('.')[0] == __name__.partition('.')[0]:
            return error
        error = error.__context__
    return None


def check_strategy(cfg: Config) -> None:
    """Raise ConfigError if the config's strategy cannot work as the run was started."""
    kind = (cfg.get('strategy') or {}).get('type', 'SingleDeviceStrategy')
    if kind != 'SingleDeviceStrategy' and cfg.launcher == 'none':
        raise ConfigError(f'strategy.type={kind!r} needs a launcher: start it by dist_train.sh')
    if kind not in CPU_STRATEGIES and get_device() == 'cpu':
        hint = '; FullyShardStrategy does not' if kind == 'FSDPStrategy' else ''
        raise ConfigError(f'strategy.type={kind!r} needs an accelerator; none was found{hint}')
    if kind == 'DeepSpeedStrategy' and find_spec('deepspeed') is None:
        raise ConfigError("strategy.type='DeepSpeedStrategy': deepspeed is not installed")


def set_global_batch_size(cfg: Config, samples: int) -> None:
    """Divide a batch among the processes that the launcher has started.

    Args:
        cfg: With ``launcher`` set; its ``train_dataloader.batch_size`` is set.
        samples: Of all processes together.

    Raises:
        ConfigError: They cannot be divided evenly.
    """
    variables = LAUNCHER_VARIABLES.get(cfg.get('launcher', 'none'))
    processes = int(os.environ.get(variables[1], 1)) if variables else 1
    if samples < 1 or samples % processes:
        near = max(samples // processes, 1) * processes
        raise ConfigError(
            f'--global-batch-size {samples}: {processes} processes need a multiple of '
            f'{processes}, as {near} or {near + processes}'
        )
    cfg.train_dataloader.batch_size = samples // processes


def build_runner(cfg: Config) -> Runner | FlexibleRunner:
    """Build the runner that the config names: a FlexibleRunner for a strategy, else a Runner.

    Where it will resume from a checkpoint, the model does not read what it once started from:
    that file may be gone, or on another machine. The config in checkpoints and in the work dir
    still names it.
    """
    silence_upstream()
    if cfg.get('runner_type'):
        return RUNNERS.build(cfg)
    if cfg.get('find_unused_parameters') and cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg.find_unused_parameters = True  # mmengine reads only one of the two
    kind = CalmFlexibleRunner if cfg.get('strategy') else CalmRunner
    if checkpoint_to_resume(cfg) is None:
        return kind.from_cfg(cfg)
    runner = kind.from_cfg(without_initialization(cfg))
    runner.cfg.model = copy.deepcopy(cfg.model)
    runner.dump_config()
    return runner


def without_initialization(cfg: Config) -> Config:
    """Return a copy of a config whose model is not initialized from a file."""
    cfg = copy.deepcopy(cfg)
    forget_initialization(cfg.get('model'))
    return cfg


def init_cpu_launcher(cfg: Config) -> None:
    """Start a gloo process group and fit ``cfg`` to it, where mmengine 0.10.7 would ask for CUDA.

    mmengine's launchers call ``torch.cuda.set_device``, and its Runner passes a ``device_ids`` that
    DistributedDataParallel refuses for CPU modules. Does nothing where ``cfg.launcher`` is 'none',
    where an accelerator is found, or where a process group runs already. Other ways to wrap a model
    need an accelerator (torch's FSDP says so itself).

    Args:
        cfg: The config of a Runner or FlexibleRunner with ``launcher`` set, changed in place: the
            ``model_wrapper_cfg`` (with a DDPStrategy, its ``model_wrapper``) gets
            ``device_ids=None``.

    Raises:
        ValueError: ``cfg.launcher`` is none of 'none', 'pytorch', 'slurm', 'mpi'.
        KeyError: A variable that the launcher should have set is missing from the environment.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or get_device() != 'cpu' or is_distributed():
        return
    if launcher not in LAUNCHER_VARIABLES:
        raise ValueError(f'launcher={launcher!r}: must be none, {", ".join(LAUNCHER_VARIABLES)}')
    names = LAUNCHER_VARIABLES[launcher]
    for name, source in zip(LAUNCHER_VARIABLES['pytorch'], names, strict=True):
        if source not in os.environ:
            raise KeyError(f'{source} is not set: launcher={launcher!r}, but not started by it?')
        os.environ[name] = os.environ[source]
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], text=True
        )
        os.environ['MASTER_ADDR'] = hosts.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group('gloo')

    if cfg.get('strategy'):
        wrapper = dict(cfg.strategy.get('model_wrapper') or {})
        cfg.strategy.model_wrapper = wrapper | {'device_ids': None}
    else:
        # what the Runner passes by itself where it is given no model_wrapper_cfg
        find_unused = cfg.get('find_unused_parameters', False)
        default = dict(broadcast_buffers=False, find_unused_parameters=find_unused)
        cfg.model_wrapper_cfg = (
            default | (cfg.get('model_wrapper_cfg') or {}) | {'device_ids': None}
        )


def leave(code: int = 0) -> None:
    """End this process with an exit code if it is one of several; else raise a nonzero code.

    To be called by all processes of a run. Those on CPUs are joined by gloo, whose threads now and
    then abort a process that ends as others do ("terminate called without an active exception").
    """
    if is_distributed():
        if torch.distributed.get_backend() == 'gloo':
            torch.distributed.barrier()
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        torch.distributed.destroy_process_group()
    if code:
        raise SystemExit(code)
