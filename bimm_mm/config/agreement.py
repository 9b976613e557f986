"""Compare the settings of a config that must agree with each other."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from torch import nn

from .arguments import show
from .paths import walk_dicts
from .variables import variables_of

# Transforms that give clips and images their final size, and the setting that says it.
SIZED = {
    'Resize': 'scale',
    'GridCrop': 'size',
    'CenterCrop': 'crop_size',
    'ThreeCrop': 'crop_size',
    'RandomCrop': 'size',
    'RandomResizedCrop': 'scale',
    'MultiScaleCrop': 'input_size',
}


def class_problems(cfg: Config, loops: Sequence[str]) -> list[str]:
    """Return where the number of classes is not that of the classifier's head.

    Compared are the head, what mixes samples in the preprocessor, and the data sets.
    """
    model = cfg.get('model') or {}
    head = next((key for key in ('cls_head', 'head') if isinstance(model.get(key), dict)), None)
    wanted = model[head].get('num_classes') if head else None
    if not isinstance(wanted, int):
        return []
    others = {f'{loop}_dataloader': cfg.get(f'{loop}_dataloader') for loop in loops}
    others['model'] = dict(data_preprocessor=model.get('data_preprocessor'))
    others['data_preprocessor'] = cfg.get('data_preprocessor')
    wrong = {
        (*path, 'num_classes'): part['num_classes']
        for path, part in walk_dicts(others)
        if isinstance(part.get('num_classes'), int) and part['num_classes'] != wanted
    }
    if not wrong:
        return []
    shown = ', '.join(show(path, value) for path, value in wrong.items())
    options = dict.fromkeys(('.'.join(map(str, path)) for path in wrong), wanted)
    here = f'model.{head}.num_classes={wanted}'
    return [f'{here}, but {shown}. {paste(cfg, options, num_classes=wanted)}']


def width_problems(cfg: Config, model: nn.Module) -> list[str]:
    """Return why a classifier's head does not fit the width of its encoder.

    Args:
        cfg: The config.
        model: Built from it, with weights or without.
    """
    width = getattr(getattr(model, 'backbone', None), 'embed_dims', None)
    if not isinstance(width, int) or getattr(model, 'neck', None) is not None:
        return []
    for key in ('cls_head', 'head'):
        head = getattr(model, key, None)
        given = getattr(head, 'in_channels', None)
        if isinstance(given, int) and given != width:
            return [
                f'model.{key}.in_channels={given}, but the encoder (model.backbone.arch) has '
                f'{width} channels. {paste(cfg, {f"model.{key}.in_channels": width})}'
            ]
    return []


def clip_problems(cfg: Config, model: nn.Module) -> list[str]:
    """Return where the clips of a pretraining are not of the encoders' size.

    The last transform that sets the size counts. Other models interpolate their positions, and say
    so when they do.

    Args:
        cfg: The config.
        model: Built from it, with weights or without.
    """
    pipeline = ((cfg.get('train_dataloader') or {}).get('dataset') or {}).get('pipeline')
    branches = getattr(model, 'branches', None)
    if not isinstance(pipeline, list | tuple) or branches is None:
        return []
    where = ('train_dataloader', 'dataset', 'pipeline')
    problems = []
    for name, branch in branches.items():
        backbone = branch.backbone
        grid = getattr(backbone, 'grid_size', None)
        patch = getattr(backbone, 'patch_size', None)
        if grid is None or patch is None:
            continue
        frames, *size = (n * p for n, p in zip(grid, patch, strict=True))
        prefix = 'model' if branch is model else f'model.{name}'
        sized = _last_size(pipeline)
        if sized is not None and sized[2] != tuple(size):
            index, key, given = sized
            option = {f'{prefix}.backbone.img_size': _short(given)}
            problems.append(
                f'{show((*where, index, key), pipeline[index][key])}, but {prefix}.backbone needs '
                f'{size[0]}x{size[1]} pixels. {paste(cfg, option, img_size=_short(tuple(size)))}'
            )
        length = next(((i, t['clip_len']) for i, t in enumerate(pipeline) if 'clip_len' in t), None)
        fitting = (frames, frames + 1) if getattr(branch, 'wants_next_frame', False) else (frames,)
        if getattr(backbone, 'is_video', False) and length and length[1] not in fitting:
            option = {f'{prefix}.backbone.num_frames': length[1]}
            problems.append(
                f'{show((*where, length[0], "clip_len"), length[1])}, but {prefix}.backbone needs '
                f'{frames} frames. {paste(cfg, option, num_frames=frames)}'
            )
    return problems


def _last_size(pipeline: Sequence[dict]) -> tuple[int, str, tuple[int, int]] | None:
    """Index, setting and (height, width) of the last transform that sets the size of a clip."""
    for index in range(len(pipeline) - 1, -1, -1):
        kind = f'{pipeline[index].get("type")}'.rpartition('.')[2]
        key = SIZED.get(kind)
        value = pipeline[index].get(key) if key else None
        if isinstance(value, int) and kind != 'Resize':
            return index, key, (value, value)
        pair = isinstance(value, list | tuple) and len(value) == 2
        if pair and all(isinstance(v, int) and v > 0 for v in value):
            if kind == 'Resize' and pipeline[index].get('keep_ratio', True):
                continue
            return index, key, (value[1], value[0]) if key == 'scale' else tuple(value)
    return None


def _short(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def remarks(cfg: Config, processes: int, scaled: bool = False, resumed: bool = False) -> list[str]:
    """Return what is allowed and probably not meant, a line each, to be shown before a training.

    Args:
        cfg: The config.
        processes: That share a batch.
        scaled: Whether the learning rate is scaled to the batch.
        resumed: Whether it goes on from a checkpoint of its own.
    """
    found = [*_batch_remarks(cfg, processes, scaled), *_checkpoint_remarks(cfg)]
    if (cfg.get('optim_wrapper') or {}).get('type') == 'CpuAmpOptimWrapper':
        found.append('--amp: no accelerator was found; the CPU computes in bfloat16')
    return found if resumed else [*found, *_start_remarks(cfg)]


def _batch_remarks(cfg: Config, processes: int, scaled: bool) -> Iterator[str]:
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    rate = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
    if scaled or not isinstance(base, int) or not isinstance(batch, int):
        return
    total = batch * processes * ((cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1)
    if total != base and isinstance(rate, int | float):
        yield (
            f'The learning rate, {rate:.3g}, is meant for {base} samples a step, and there are '
            f'{total}: --auto-scale-lr makes it {rate * total / base:.3g}'
        )


def _checkpoint_remarks(cfg: Config) -> Iterator[str]:
    """Where a run that is killed would leave nothing."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    train_cfg = cfg.get('train_cfg') or {}
    interval, by_epoch = hook.get('interval'), hook.get('by_epoch', True)
    length = train_cfg.get('max_epochs' if by_epoch else 'max_iters')
    if not isinstance(interval, int) or not isinstance(length, int) or not 1 < length < interval:
        return
    unit = 'epochs' if by_epoch else 'iterations'
    new = max(length // 5, 1)
    yield (
        f'default_hooks.checkpoint.interval={interval}, but the run has {length} {unit}: it writes '
        f'its only checkpoint at the end. {paste(cfg, {"default_hooks.checkpoint.interval": new})}'
    )


def _start_remarks(cfg: Config) -> Iterator[str]:
    """Where BIMM starts otherwise than in the paper."""
    if (cfg.get('model') or {}).get('init_dorsal_from', '') is None:
        yield (
            'model.init_dorsal_from is None: both branches start from scratch. The paper starts '
            'from a ventral branch that was pretrained on images'
        )


def tests_on_validation(cfg: Config) -> bool:
    """Whether the samples of the test are those of the validation."""
    sets = [(cfg.get(f'{loop}_dataloader') or {}).get('dataset') for loop in ('val', 'test')]
    val, test = ({**(kept or {}), 'pipeline': None, 'test_mode': None} for kept in sets)
    return val == test


def paste(cfg: Config, options: Mapping[str, object], **variables: object) -> str:
    """Say which overrides to paste: the recipe's variable where it has one, else each setting.

    Args:
        cfg: The config.
        options: Settings by their place.
        **variables: What a recipe may have one variable for, by its name.
    """
    path = Path(cfg.filename or '')
    if variables and path.suffix == '.py' and path.is_file():
        read = variables_of(path)
        if all(read.get(name) for name in variables):
            options = variables
    text = ' '.join(f'{key}={_text(value)}' for key, value in options.items())
    return f'Paste: --cfg-options {text}'


def _text(value: object) -> str:
    return f'"{value}"'.replace(' ', '') if isinstance(value, tuple) else f'{value}'
