"""Write a config that trains an imported model, to start from."""

import os
import pprint
from pathlib import Path

from .importing import Imported

# What a config inherits, by branch and whether the decoder came along.
BASES = {
    ('dorsal', True): 'videomae/continue_own_vitb.py',
    ('dorsal', False): 'bimm/finetune_own_vitb.py',
    ('ventral', True): 'mae/mae_in1k_vitb.py',
    ('ventral', False): 'bimm/finetune_in1k_vitb.py',
}


def config_text(result: Imported, weights: str | os.PathLike, configs: Path) -> str:
    """Return a config with the imported model, which starts from its weights.

    A model with its decoder goes on with its pretraining; an encoder alone is finetuned.

    Args:
        result: What was imported.
        weights: The file that was written, as the config names it.
        configs: The folder of recipes, which the config inherits from.

    Raises:
        ValueError: There is no recipe to inherit from for this kind of model.
    """
    with_decoder = result.decoder is not None
    base = configs / BASES[result.branch, with_decoder]
    if result.model().get('type') not in ('SingleBranchPretrainer', 'BimmViT'):
        raise ValueError(
            f'--config-out: {result.model().get("type")} has recipes of its own, in configs/'
        )
    sizes = sizes_of(result)
    clips = f' Its clips are set by --cfg-options {sizes}' if sizes else ''
    head = (
        f'# Written by import_checkpoint.py --config-out, for {os.fspath(weights)}.{clips}\n'
        f'_base_ = [{str(base)!r}]\n\n'
    )
    if with_decoder:
        model = dict(_delete_=True, **result.model())
        return f'{head}model = {_pretty(model)}\nload_from = {os.fspath(weights)!r}\n'
    backbone = dict(_delete_=True, **result.backbone)
    pooled = backbone.get('norm_after_mean') or not backbone.get('with_cls_token', True)
    if result.branch == 'dorsal':
        backbone['out_type'] = 'avg_featmap' if pooled else 'cls_token'
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint=os.fspath(weights))
    model = dict(backbone=backbone)
    if result.branch == 'dorsal':
        model['cls_head'] = dict(in_channels=len(result.state['patch_embed.projection.bias']))
    return f'{head}model = {_pretty(model)}\n'


def sizes_of(result: Imported) -> str:
    """The variables that make the clips of an own-videos recipe fit; '' for images."""
    if result.branch != 'dorsal':
        return ''
    size, frames = result.backbone.get('img_size', 224), result.backbone.get('num_frames', 16)
    if not isinstance(size, int):  # recipes for own videos have squares
        size = f'{size[0]}' if len(set(size)) == 1 else 'SIZE'
    return f'img_size={size} num_frames={frames}'


def _pretty(value: dict) -> str:
    return pprint.pformat(value, sort_dicts=False, width=96)
