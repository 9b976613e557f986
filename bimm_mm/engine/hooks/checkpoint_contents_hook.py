"""Store shared blocks once, and metadata about the weights, in checkpoints."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ...models.checkpoints import BRANCHES
from ...utils.wrappers import unwrap_model
from ...version import __version__

PACKAGES = (
    'torch',
    'torchvision',
    'numpy',
    'mmengine',
    'mmcv',
    'mmcv-lite',
    'mmaction2',
    'mmpretrain',
    'mmdet',
    'mmsegmentation',
)


@HOOKS.register_module()
class CheckpointContentsHook(Hook):
    """Store shared blocks once, and describe the weights in the checkpoint's metadata.

    A state dict has the shared blocks under the names of both branches. From an accelerator,
    mmengine copies each of them, and the file would hold both copies; this hook makes them one
    again. Loading does not change: both names are there.

    ``meta`` of a checkpoint holds, besides what mmengine writes (``cfg``, the config as text,
    ``epoch``, ``iter``, ``time``, ``seed``):

    - ``bimm_mm_version``
    - ``stage``: 'ventral', 'dorsal' or 'joint'; of a model that is none of these pretrainers, its
      class
    - ``share`` and ``num_shared``: the config's setting, and the number of shared blocks
    - ``backbones``: the config of the encoder, by branch
    - ``versions``: of the packages that are installed
    - ``recipe``: name of the config file
    - ``data``: what the training set is made of, one text per data set
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Change the checkpoint in place."""
        model = unwrap_model(runner.model)
        num_shared = getattr(model, 'num_shared', 0)
        for key in ('state_dict', 'ema_state_dict'):
            tie_shared_blocks(checkpoint.get(key) or {}, num_shared)
        config = runner.cfg.get('model')
        config = config.to_dict() if hasattr(config, 'to_dict') else {}  # or a module
        branches = getattr(model, 'branch_names', ())
        kind = type(model).__name__.removeprefix('FSDP')  # FSDP 2 renames the class
        stage = 'joint' if len(branches) > 1 else (*branches, kind)[0]
        checkpoint['meta'].update(
            bimm_mm_version=__version__,
            stage=stage,
            share=config.get('share', 'partial') if stage == 'joint' else 'none',
            num_shared=num_shared,
            backbones=_backbones(config),
            versions=installed_versions(),
            recipe=Path(runner.cfg.filename).name if runner.cfg.filename else None,
            data=describe_data(runner.cfg.get('train_dataloader')),
        )


def tie_shared_blocks(state: dict[str, Tensor], num_shared: int) -> None:
    """Let the dorsal names of the first ``num_shared`` blocks refer to the ventral tensors.

    Args:
        state: Of a :class:`DualBranchPretrainer`, or a wrapped one; changed in place. Tensors that
            differ, or are sharded over processes, are left as they are.
        num_shared: Number of shared blocks.
    """
    differing = []
    for key, value in state.items():
        match = re.match(r'(?:module\.)*dorsal\.backbone\.blocks\.(\d+)\.', key)
        twin = state.get(key.replace('dorsal.', 'ventral.', 1)) if match else None
        if twin is None or int(match.group(1)) >= num_shared or type(value) is not Tensor:
            continue
        if torch.equal(value, twin):
            state[key] = twin
        else:
            differing.append(key)
    if differing:
        print_log(
            f'{len(differing)} tensors of shared blocks differ between the branches, and are '
            f'stored twice: {", ".join(differing[:3])}',
            'current',
            level=30,
        )


def describe_data(node: object) -> list[str]:
    """List the data sets in the config of a loader: class and root, or list of files, of each."""
    found = []
    if isinstance(node, dict):
        inner = [text for value in node.values() for text in describe_data(value)]
        kind = str(node.get('type')).rpartition('.')[2]
        if kind.endswith('Dataset') and not inner:  # not one that wraps others
            names = [str(node[key]) for key in ('data_root', 'ann_file') if node.get(key)]
            inner = [' '.join((kind, *names))]
        found += inner
    elif isinstance(node, list | tuple):
        found += [text for value in node for text in describe_data(value)]
    return found


def installed_versions() -> dict[str, str]:
    """Return the versions of the installed packages that a run depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _backbones(model: dict) -> dict[str, dict]:
    """Return the configs of a model's encoders by branch, without their ``init_cfg``."""
    configs = {name: model[name]['backbone'] for name in BRANCHES if name in model}
    backbone = model.get('backbone') or {}
    kind = str(backbone.get('type', '')).rpartition('.')[2]
    if not configs and kind in ('BimmViT', 'VimpacViT'):
        is_video = kind == 'VimpacViT' or backbone.get('num_frames') is not None
        configs = {'dorsal' if is_video else 'ventral': backbone}
    return {
        name: {key: value for key, value in config.items() if key != 'init_cfg'}
        for name, config in configs.items()
    }
