"""Try other settings on bare steps, and say what they gain."""

import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info

from ..engine.optimizers.cpu_amp import cpu_has_bfloat16
from .plan import Advice
from .steps import BareSteps, largest_batch, memory_of

KINDS = ('amp', 'tf32', 'compile', 'threads', 'batch')
KINDS_ON_CPU = ('amp', 'threads', 'batch')  # compiling takes minutes, and gained nothing
FASTER = 0.97  # of the step before; above it, the change is not taken


def precision_of(cfg: Config) -> str:
    """In which type a run computes its products: 'float32', 'tf32', 'bfloat16' or 'float16'."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') in ('AmpOptimWrapper', 'CpuAmpOptimWrapper'):
        dtype = wrapper.get('dtype', 'float16')
        if dtype is not None:
            return str(dtype).removeprefix('torch.')
    return 'float32' if torch.get_float32_matmul_precision() == 'highest' else 'tf32'


class Trials:
    """Trials one after the other, each on top of those that were faster.

    Args:
        cfg: Of the run.
        steps: To take.
    """

    def __init__(self, cfg: Config, steps: BareSteps) -> None:
        self.cfg, self.steps = cfg, steps
        self.advice: list[Advice] = []
        self.tried: list[str] = []
        self.memory: dict[str, object] = {}

    def run(self, kinds: tuple[str, ...]) -> None:
        """Try what is asked for and makes sense here; settings that gain stay on meanwhile."""
        before = torch.get_float32_matmul_precision(), torch.get_num_threads()
        try:
            for kind in kinds:
                getattr(self, f'_try_{kind}')()
        finally:
            self.steps.dtype = None
            self.steps.uncompile_blocks()
            torch.set_float32_matmul_precision(before[0])
            torch.set_num_threads(before[1])

    def _take_if_faster(self, before: float, advice: Advice) -> bool:
        """Compare a step with one from just before, since a machine may be shared."""
        ratio = self.steps.seconds() / before
        self.tried.append(f'{advice.what}: the step takes {ratio:.2f} of the time')
        if ratio >= FASTER:
            return False
        self.advice.append(Advice(**{**vars(advice), 'step': ratio}))
        return True

    def _try_amp(self) -> None:
        if precision_of(self.cfg) not in ('float32', 'tf32'):
            return
        device = self.steps.device.type
        if device == 'cpu' and not cpu_has_bfloat16():
            return
        if device == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
            return
        before = self.steps.seconds()
        self.steps.dtype = torch.bfloat16
        advice = Advice('mixed precision (bfloat16)', flags=('--amp',))
        if not self._take_if_faster(before, advice):
            self.steps.dtype = None

    def _try_tf32(self) -> None:
        taken = self.steps.dtype is not None
        if taken or self.steps.device.type != 'cuda' or precision_of(self.cfg) != 'float32':
            return
        before = self.steps.seconds()
        torch.set_float32_matmul_precision('high')
        options = (
            'default_hooks.precision.type=MatmulPrecisionHook',
            'default_hooks.precision.precision=high',
        )
        if not self._take_if_faster(before, Advice('TF32 products', options)):
            torch.set_float32_matmul_precision('highest')

    def _try_compile(self) -> None:
        if self._has_hook('CompileHook'):
            return
        before = self.steps.seconds()
        problem = self.steps.compile_blocks()
        if problem:
            self.tried.append(f'compiled blocks: {problem}')
            return
        advice = Advice('compiled blocks', ('default_hooks.compile.type=CompileHook',))
        if not self._take_if_faster(before, advice):
            self.steps.uncompile_blocks()

    def _try_threads(self) -> None:
        now = torch.get_num_threads()
        picked = self._has_hook('ThreadsHook')  # which has tried
        if self.steps.device.type != 'cpu' or now < 2 or picked:
            return
        before = self.steps.seconds()
        torch.set_num_threads(1)
        advice = Advice('one thread', variables=('OMP_NUM_THREADS=1',))
        if not self._take_if_faster(before, advice):
            torch.set_num_threads(now)

    def _try_batch(self) -> None:
        fixed, each, how = memory_of(self.steps)
        self.memory = dict(fixed=fixed, per_sample=each, how=how, largest=None)
        largest = self.memory['largest'] = largest_batch(self.steps, fixed, each)
        if self.steps.device.type == 'cpu' or largest is None or largest <= self.steps.size:
            return
        before = self.steps.seconds()
        ratio = self.steps.seconds(largest) / largest * self.steps.size / before
        self.tried.append(f'batches of {largest}: a sample takes {ratio:.2f} of the time')
        if ratio < FASTER:
            _, world = get_dist_info()
            self.advice.append(
                Advice(
                    f'batches of {largest}',
                    (f'train_dataloader.batch_size={largest}',),
                    ('--auto-scale-lr',) if self.cfg.get('auto_scale_lr') else (),
                    step=ratio,
                    changes=f'a total batch of {largest * world}, with another learning rate',
                )
            )

    def _has_hook(self, kind: str) -> bool:
        named = [hook for hook in (self.cfg.get('default_hooks') or {}).values() if hook]
        return any(hook.get('type') == kind for hook in [*named, *self.cfg.get('custom_hooks', [])])
