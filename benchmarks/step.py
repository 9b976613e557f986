"""Time pretraining steps of this toolkit and of others, side by side in one run.

Each model trains on the same random batch, and the steps take turns, so that whatever else the
machine does falls on all of them alike. Examples::

    python benchmarks/step.py                       # clips, float32, CPU or GPU
    python benchmarks/step.py --precision bf16 --json step_bf16.json
    python benchmarks/step.py --models hf_mae mmpretrain_mae mae --batch-size 16

    python benchmarks/step.py --models videomae tgm mgmae mgmae_dis mgm adamae difference  # guides

The peers need ``pip install transformers==4.49.0`` (hf_*, tgm) and mmpretrain (mmpretrain_mae).
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bimm_mm
from bimm_mm.engine.hooks.compile_hook import compile_modules, modules_of
from bimm_mm.evaluation.analysis.flops import step_flops
from bimm_mm.evaluation.analysis.peaks import (
    device_name,
    measured_peak,
    sheet_peak,
    synchronize,
)
from bimm_mm.models import TubeMasking
from bimm_mm.utils.tables import markdown_table

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVE_FREE = 0.8  # of a GPU's memory, for the largest batch that all models take


def build_ours(config: str, options: dict | None = None, tiny: bool = False) -> nn.Module:
    """A pretrainer of this toolkit from its config, with overrides."""
    cfg = Config.fromfile(CONFIGS / config)
    cfg.merge_from_dict(options or {})
    if tiny:
        for branch in (cfg.model.get('ventral'), cfg.model.get('dorsal')):
            if branch is not None:
                branch.backbone.update(arch=dict(embed_dims=48, depth=12, num_heads=3), img_size=64)
                branch.neck.decoders = [
                    dict(decoder, embed_dims=24, num_heads=3) if 'depth' in decoder else decoder
                    for decoder in branch.neck.decoders
                ]
    return MODELS.build(cfg.model)


def tiny_hf(size: dict) -> dict:
    """Settings of Hugging Face's models for a rehearsal."""
    layers = dict(num_hidden_layers=2, decoder_num_hidden_layers=1)
    heads = dict(num_attention_heads=3, decoder_num_attention_heads=3)
    widths = dict(hidden_size=48, intermediate_size=96, decoder_hidden_size=24)
    return layers | heads | widths | dict(decoder_intermediate_size=48, image_size=64) | size


def build_hf_videomae(tiny: bool = False) -> nn.Module:
    """Hugging Face's VideoMAE, ViT-B with the decoder of 4 blocks of width 384."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    class Model(VideoMAEForPreTraining):
        def step_loss(self, x: Tensor) -> Tensor:
            batch = len(x)
            grid = (x.shape[2] // 2, x.shape[3] // 16, x.shape[4] // 16)
            _, masked = TubeMasking(0.9)(batch, grid, x.device)
            mask = torch.zeros(batch, math.prod(grid), dtype=torch.bool, device=x.device)
            return self(x.transpose(1, 2), mask.scatter_(1, masked, True)).loss

    return Model(VideoMAEConfig(**tiny_hf(dict(num_frames=16)) if tiny else {}))


def build_hf_mae(tiny: bool = False) -> nn.Module:
    """Hugging Face's MAE, ViT-B with the decoder of 8 blocks of width 512."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    class Model(ViTMAEForPreTraining):
        def step_loss(self, x: Tensor) -> Tensor:
            return self(x).loss

    return Model(ViTMAEConfig(norm_pix_loss=True, **tiny_hf({}) if tiny else {}))


def build_mmpretrain_mae(tiny: bool = False) -> nn.Module:
    """mmpretrain's MAE, ViT-B with the decoder of 8 blocks of width 512."""
    from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

    init_default_scope('mmpretrain')
    import mmpretrain.models  # noqa: F401, registers

    model = MMPRETRAIN_MODELS.build(
        dict(
            type='MAE',
            data_preprocessor=None,
            backbone=dict(type='MAEViT', arch='b', patch_size=16, mask_ratio=0.75),
            neck=dict(
                type='MAEPretrainDecoder',
                patch_size=16,
                in_chans=3,
                embed_dim=768,
                decoder_embed_dim=512,
                decoder_depth=8,
                decoder_num_heads=16,
                mlp_ratio=4.0,
            ),
            head=dict(
                type='MAEPretrainHead',
                norm_pix=True,
                patch_size=16,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'),
            ),
        )
    )
    model.init_weights()
    init_default_scope('mmengine')
    return model


class CaptionedModel(nn.Module):
    """A TGM of this toolkit with a CLIP ViT-B/32 of random weights, and captions that are new.

    Args:
        options: Overrides of its config.
    """

    def __init__(self, options: dict | None = None) -> None:
        super().__init__()
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

        from bimm_mm.captions.small_clip import write_tokenizer
        from bimm_mm.models.guides.clip import Clip

        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.model = build_ours('tgm/_base_/tgm_vitb.py', options)
        self.clip = (Clip(CLIPModel(CLIPConfig()), tokenizer),)  # not a submodule
        for module in self.model.modules():
            if hasattr(module, 'clip_'):
                module.clip_ = self.clip[0]
        self.count = 0

    def step_loss(self, x: Tensor) -> Tensor:
        captions = [f'caption {self.count + number}' for number in range(len(x))]
        self.count += len(x)
        losses = self.model(x, mode='loss', caption=captions)
        return sum(value for key, value in losses.items() if 'loss' in key)


def build_mgmae() -> nn.Module:
    """MGMAE with a RAFT-small of random weights, which costs what a trained one does."""
    from torchvision.models.optical_flow import raft_small

    model = build_ours('mgmae/_base_/mgmae_vitb.py')
    model.masking.flow._frozen = (raft_small(weights=None).eval(),)
    return model


def build_guided(masking: str) -> nn.Module:
    """VideoMAE with another masking of its ratio."""
    path = 'videomae/_base_/videomae_vitb.py'
    masking = dict(type=masking, ratio=0.9)
    if masking['type'] == 'FlowGuidedMasking':
        masking['flow'] = dict(type='DisFlow')
    return build_ours(path, {'model.dorsal.masking': dict(masking, _delete_=True)})


VIDEO, IMAGE = (3, 16, 224, 224), (3, 224, 224)
MODELS_TO_TIME: dict[str, tuple[tuple[int, ...], Callable[..., nn.Module]]] = {
    'hf_videomae': (VIDEO, build_hf_videomae),
    'videomae': (VIDEO, partial(build_ours, 'videomae/_base_/videomae_vitb.py')),
    'joint': (VIDEO, partial(build_ours, 'bimm/joint_k400_vitb_edge.py')),
    'joint_half': (
        VIDEO,
        partial(build_ours, 'bimm/joint_k400_vitb_edge.py', {'model.dorsal.decode_ratio': 0.5}),
    ),
    'tgm': (VIDEO, CaptionedModel),
    'tgm_224': (VIDEO, lambda: CaptionedModel({'model.masking.guide.input_size': 224})),
    'mgmae': (VIDEO, build_mgmae),
    'mgmae_dis': (VIDEO, lambda: build_guided('FlowGuidedMasking')),
    'mgm': (VIDEO, lambda: build_guided('MotionVectorMasking')),
    'difference': (VIDEO, lambda: build_guided('FrameDifferenceMasking')),
    'adamae': (VIDEO, partial(build_ours, 'adamae/_base_/adamae_vitb.py')),
    'hf_mae': (IMAGE, build_hf_mae),
    'mmpretrain_mae': (IMAGE, build_mmpretrain_mae),
    'mae': (IMAGE, partial(build_ours, 'mae/mae_in1k_vitb.py')),
}
# what the builders import
PEER_MODULES = {
    'hf_videomae': ('transformers.models.videomae.modeling_videomae',),
    'hf_mae': ('transformers.models.vit_mae.modeling_vit_mae',),
    'mmpretrain_mae': ('mmpretrain.models',),
}


class Contestant:
    """A model, its optimizer, and the times of its steps.

    Args:
        name: One of ``MODELS_TO_TIME``.
        args: Of the command line.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name = name
        self.device = torch.device(args.device)
        self.shape, build = MODELS_TO_TIME[name]
        torch.manual_seed(0)
        before = self.allocated()
        options = dict(tiny=True) if args.tiny else {}
        if args.tiny:
            self.shape = (*self.shape[:-2], 64, 64)
        with self.device:  # random numbers for weights are drawn there, which is faster
            self.model = build(**options)
        self.model = self.model.to(self.device).train()
        self.with_graphs = args.compile in ('graphs', 'branch-graphs')
        if args.compile:
            compile_parts(self.model, args.compile)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, weight_decay=0.05, fused=True
        )
        self.autocast = args.precision != 'fp32'
        self.dtype = dict(fp32=torch.float32, bf16=torch.bfloat16)[args.precision]
        self.weights = self.allocated() - before
        self.x = torch.empty(0)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.target_time = self.mask_time = 0.0
        for module in self.model.modules():
            self._time_masking(module)
            if isinstance(module, bimm_mm.models.targets.base.BaseTarget):
                module.register_forward_pre_hook(lambda *_: self._clock(-1))
                module.register_forward_hook(lambda *_: self._clock(+1))

    def take_batch(self, size: int) -> None:
        """Train on another batch from now on."""
        self.x = torch.empty(0)
        self.x = torch.randn(size, *self.shape, device=self.device)
        self.times.clear()

    def allocated(self) -> int:
        """Bytes that torch has given to tensors on a GPU; 0 on a CPU."""
        return torch.cuda.memory_allocated(self.device) if self.device.type == 'cuda' else 0

    def peak_memory(self, steps: int) -> int:
        """Bytes on the GPU at the peak of some steps, without what other models hold there."""
        torch.cuda.reset_peak_memory_stats(self.device)
        others = self.allocated() - self.weights - self.x.nbytes
        others -= sum(
            value.nbytes
            for state in self.optimizer.state.values()
            for value in state.values()
            if value.device == self.device
        )
        for _ in range(steps):
            self.step()
        return torch.cuda.max_memory_allocated(self.device) - others

    def loss(self) -> Tensor:
        """The loss of a batch, forward only."""
        if self.with_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        context = torch.autocast(self.device.type, self.dtype) if self.autocast else nullcontext()
        with context:
            if hasattr(self.model, 'step_loss'):
                return self.model.step_loss(self.x)
            if self.name == 'mmpretrain_mae':
                losses = self.model(self.x, None, mode='loss')
            else:
                losses = self.model(self.x, mode='loss')
            return sum(value for key, value in losses.items() if 'loss' in key)

    def step(self) -> None:
        """One step, its parts timed. The device is synchronised between the parts."""
        self.target_time = self.mask_time = 0.0
        start = self.now()
        loss = self.loss()
        forward = self.now()
        loss.backward()
        backward = self.now()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        end = self.now()
        self.times['step'].append(end - start)
        self.times['forward'].append(forward - start)
        self.times['masks'].append(self.mask_time)
        self.times['targets'].append(self.target_time)
        self.times['backward'].append(backward - forward)
        self.times['optimizer'].append(end - backward)

    def free_run(self, steps: int) -> float:
        """Seconds per step of several steps with no synchronisation between them."""
        start = self.now()
        for _ in range(steps):
            self.loss().backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return (self.now() - start) / steps

    def flops(self) -> int:
        """Multiplications and additions of forward and backward, of all matrix products."""
        flops = step_flops(lambda: self.loss().backward())
        self.optimizer.zero_grad(set_to_none=True)
        return flops

    def now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def _time_masking(self, module: nn.Module) -> None:
        """Let a module's masking count the seconds that it takes."""
        masking = getattr(module, 'masking', None)
        if not hasattr(masking, 'draw'):
            return
        draw = masking.draw

        def timed(*args, **kwargs):
            start = self.now()
            masks = draw(*args, **kwargs)
            self.mask_time += self.now() - start
            return masks

        masking.draw = timed

    def _clock(self, sign: int) -> None:
        self.target_time += sign * self.now()


def compile_parts(model: nn.Module, how: str) -> None:
    """Compile each Transformer block of a model, or its encoders and decoders as a whole.

    Blocks of ours are known by class, others' parts by the end of the name.

    Args:
        model: Of ``MODELS_TO_TIME``.
        how: 'blocks', 'branches', or 'graphs' and 'branch-graphs', the same as CUDA graphs.
    """
    whole = how.startswith('branch')
    ends = ('MAEEncoder', 'MAEDecoder') if whole else ('MAELayer', 'TransformerEncoderLayer')
    modules = [module for module in model.modules() if type(module).__name__.endswith(ends)]
    modules += modules_of(model, 'branches' if whole else 'blocks')
    if not modules:
        raise ValueError(f'--compile {how}: {type(model).__name__} has no such part')
    mode = dict(mode='reduce-overhead') if how.endswith('graphs') else {}
    compile_modules(modules, dynamic=False, **mode)


def growth_of_process(name: str, args: argparse.Namespace, batch_size: int) -> int:
    """Bytes by which a process of its own grows in which a model takes two steps on a CPU."""
    command = [sys.executable, __file__, '--memory-of', name, '--precision', args.precision]
    command += ['--batch-size', str(batch_size), '--threads', str(args.threads)]
    command += ['--tiny'] if args.tiny else []
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(output.split()[-1])


def largest_batch(result: dict, total: int, multiple: int = 16) -> int:
    """The largest batch at which all models fit on a GPU side by side, one of them in a step.

    What a model takes is all counted as growing with the batch, but for weights and AdamW's
    moments: the peak is before there are gradients.

    Args:
        result: Of a smaller batch, with memory.
        total: Bytes of the GPU.
        multiple: Of which the batch is one.
    """
    models = result['models'].values()
    states = [12 * model['parameters'] for model in models]
    each = max(
        (model['peak_memory'] - state) / result['batch_size']
        for model, state in zip(models, states, strict=True)
    )
    return max(multiple, int((LEAVE_FREE * total - sum(states)) / each) // multiple * multiple)


def measure_own_growth(name: str, args: argparse.Namespace) -> None:
    """Print by how many bytes this process grows when a model takes two steps."""
    for module in PEER_MODULES.get(name, ()):  # what is imported counts for nobody
        import_module(module)
    before = int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()
    contestant = Contestant(name, args)
    contestant.take_batch(int(args.batch_size[0]))
    for _ in range(2):
        contestant.step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def run(contestants: list[Contestant], args: argparse.Namespace, batch_size: int) -> dict:
    """Let the models take turns; medians, ratios to the first, FLOPs and memory of each."""
    names = [contestant.name for contestant in contestants]
    device = torch.device(args.device)
    dtype = torch.float32 if args.precision == 'fp32' else torch.bfloat16
    sheet = sheet_peak(device_name(device), 'float32' if args.precision == 'fp32' else 'bfloat16')
    result = dict(
        date=date.today().isoformat(),
        machine=describe_machine(device),
        torch=torch.__version__,
        precision=args.precision,
        batch_size=batch_size,
        steps=args.steps,
        compile=args.compile,
        matmul_peak_tflops=measured_peak(device, dtype) / 1e12,
        sheet_peak_tflops=sheet / 1e12 if sheet else None,
        models={},
    )
    memory = {}
    if not args.no_memory and device.type == 'cpu':
        memory = {name: growth_of_process(name, args, batch_size) for name in names}
    for contestant in contestants:
        contestant.take_batch(batch_size)
        for _ in range(args.warmup):
            contestant.step()
        if not args.no_memory and device.type == 'cuda':
            memory[contestant.name] = contestant.peak_memory(2)
        contestant.times.clear()
    for _ in range(args.steps):
        for contestant in contestants:
            contestant.step()
    free = {contestant.name: [] for contestant in contestants}
    if device.type == 'cuda':  # how fast it is when nothing waits for the device
        for _ in range(args.steps):
            for contestant in contestants:
                short = statistics.median(contestant.times['step']) < 0.1
                free[contestant.name].append(contestant.free_run(4 if short else 1))
    peak = result['sheet_peak_tflops'] or result['matmul_peak_tflops']
    for contestant in contestants:
        medians = {part: statistics.median(values) for part, values in contestant.times.items()}
        if free[contestant.name]:
            medians['step'] = statistics.median(free[contestant.name])
        flops = contestant.flops()
        result['models'][contestant.name] = dict(
            seconds=medians,
            flops=flops,
            mfu=flops / medians['step'] / 1e12 / peak,
            samples_per_second=batch_size / medians['step'],
            peak_memory=memory.get(contestant.name),
            parameters=sum(p.numel() for p in contestant.model.parameters() if p.requires_grad),
        )
    first = result['models'][names[0]]['seconds']['step']
    for values in result['models'].values():
        values['ratio'] = values['seconds']['step'] / first
    return result


class OperatorTimes(TorchDispatchMode):
    """Adds up the seconds of each operator on a CPU, ``times``.

    torch's profiler keeps its events in the same heap as the tensors. The heap then grows with each
    step, and its fresh pages fall to whichever operator touches them first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(
        self,
        operator: torch._ops.OpOverload,
        types: tuple,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        start = time.perf_counter()
        result = operator(*args, **(kwargs or {}))
        self.times[operator.overloadpacket.__name__] += time.perf_counter() - start
        return result


def operator_times(contestant: Contestant, steps: int) -> dict[str, float]:
    """Seconds per step of each operator, on a GPU those of the device."""
    if contestant.device.type == 'cpu':
        with OperatorTimes() as operators:
            for _ in range(steps):
                contestant.step()
        return {key: seconds / steps for key, seconds in operators.times.items()}
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            contestant.step()
    return {
        event.key.removeprefix('aten::'): event.self_device_time_total / steps / 1e6
        for event in profiler.key_averages()
        if event.device_type == torch.autograd.DeviceType.CPU  # else kernels count twice
    }


def profile(names: list[str], args: argparse.Namespace, rows: int = 12) -> str:
    """Milliseconds per step of the operators that take longest, as a Markdown table."""
    times = {}
    for name in names:
        contestant = Contestant(name, args)
        contestant.take_batch(int(args.batch_size[0]))
        for _ in range(args.warmup):
            contestant.step()
        times[name] = operator_times(contestant, args.steps)
    operators = {key for table in times.values() for key in table}
    longest = sorted(operators, key=lambda key: -max(t.get(key, 0) for t in times.values()))
    lines = [
        [f'`{key}`', *(f'{1e3 * times[name].get(key, 0):.0f}' for name in names)]
        for key in longest[:rows]
    ]
    lines.append(['all', *(f'{1e3 * sum(times[name].values()):.0f}' for name in names)])
    return markdown_table(['operator, ms per step', *names], lines, 'l' + 'r' * len(names))


def describe_machine(device: torch.device) -> str:
    """The GPU; or the processor, and how many threads compute on it."""
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    return device_name(device) + threads


def table(result: dict) -> str:
    """A result as a Markdown table."""
    head = [
        'model',
        'step, s',
        'samples/s',
        'ratio',
        'forward',
        'masks in it',
        'targets in it',
        'backward',
        'optimizer',
    ]
    head += ['TFLOP', 'MFU', 'memory, GB']
    rows = []
    for name, values in result['models'].items():
        seconds = values['seconds']
        memory = values['peak_memory']
        cells = [
            name,
            f'{seconds["step"]:.3f}',
            f'{values["samples_per_second"]:.1f}',
            f'{values["ratio"]:.2f}',
            f'{seconds["forward"]:.3f}',
            f'{seconds["masks"]:.3f}' if seconds['masks'] else '',
            f'{seconds["targets"]:.3f}' if seconds['targets'] else '',
            f'{seconds["backward"]:.3f}',
            f'{seconds["optimizer"]:.3f}',
            f'{values["flops"] / 1e12:.2f}',
            f'{100 * values["mfu"]:.0f} %',
            '' if memory is None else f'{memory / 1e9:.2f}',
        ]
        rows.append(cells)
    return markdown_table(head, rows, 'l' + 'r' * 11)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--models',
        nargs='+',
        default=['hf_videomae', 'videomae', 'joint'],
        choices=MODELS_TO_TIME,
        help='all on clips, or all on images; ratios are to the first',
    )
    parser.add_argument(
        '--batch-size',
        nargs='+',
        default=['2'],
        help="one or more; behind another, 'largest' is what fits on the GPU; default: 2",
    )
    parser.add_argument('--precision', choices=('fp32', 'bf16'), default='fp32')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--steps', type=int, default=10, help='of each model, after the warm-up')
    parser.add_argument('--warmup', type=int, default=2)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of a CPU')
    parser.add_argument(
        '--compile',
        nargs='?',
        const='blocks',
        choices=('blocks', 'graphs', 'branches', 'branch-graphs'),
        help='torch.compile of the blocks, or of whole encoders and decoders; graphs: as CUDA '
        'graphs; default: %(const)s',
    )
    parser.add_argument('--tiny', action='store_true', help='small models, for a rehearsal')
    parser.add_argument('--no-memory', action='store_true', help='do not measure memory')
    parser.add_argument(
        '--profile', action='store_true', help='show which operators take the time instead'
    )
    parser.add_argument(
        '--json',
        type=Path,
        help='file to write the figures to; with several batch sizes NAME.json gives NAME_16.json '
        'and so on',
    )
    parser.add_argument('--memory-of', choices=MODELS_TO_TIME, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if len({MODELS_TO_TIME[name][0] for name in args.models}) > 1:
        parser.error('--models must be all on clips, or all on images, to get the same batch')
    first, *others = args.batch_size
    if not (first.isdigit() and all(size.isdigit() or size == 'largest' for size in others)):
        parser.error(f"--batch-size {' '.join(args.batch_size)}: numbers, then perhaps 'largest'")
    if 'largest' in others and (args.device == 'cpu' or args.no_memory):
        parser.error('--batch-size largest is for a GPU, and needs the memory of the size before')
    if args.profile and args.compile and args.device == 'cpu':
        parser.error('--profile on a CPU does not see into compiled code: leave out --compile')
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's text."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    init_default_scope('mmengine')
    if args.memory_of:
        measure_own_growth(args.memory_of, args)
        return
    if args.profile:
        print(profile(args.models, args))
        return
    contestants = [Contestant(name, args) for name in args.models]
    result = {}
    for size in args.batch_size:
        if size == 'largest':
            total = torch.cuda.get_device_properties(args.device).total_memory
            result = run(contestants, args, largest_batch(result, total))
        else:
            result = run(contestants, args, int(size))
        show(result)
        if args.json:
            several = len(args.batch_size) > 1
            path = args.json.with_stem(f'{args.json.stem}_{size}') if several else args.json
            path.write_text(json.dumps(result, indent=2) + '\n')


def show(result: dict) -> None:
    """Print a result, and of what it is."""
    print(
        f'{result["machine"]}, torch {result["torch"]}, {result["precision"]}, batch '
        f'{result["batch_size"]}, medians of {result["steps"]} steps, {result["date"]}; matrix '
        f'product: {result["matmul_peak_tflops"]:.2f} TFLOP/s\n'
    )
    print(table(result), flush=True)


def keep_heap() -> None:
    """Start over with a C library that keeps freed memory, as CUDA's allocator does.

    Otherwise pages go back and forth between process and kernel, up to a tenth of a step on a CPU,
    at the expense of whichever model chance picks.
    """
    keep = dict(MALLOC_TRIM_THRESHOLD_=str(1 << 40), MALLOC_MMAP_THRESHOLD_=str(1 << 40))
    if platform.libc_ver()[0] == 'glibc' and not keep.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | keep)


if __name__ == '__main__':
    keep_heap()
    main()
