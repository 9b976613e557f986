"""Runs of every method on some processes: ``FILE RANK PROCESSES FOLDER ITERATIONS METHOD...``.

A method's name may end in ``:FIRST``, to stop after so many iterations, or in ``+``, to resume.
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

sys.path.insert(0, str(Path(__file__).parents[2] / 'models' / 'selfsup'))
import conftest as parts  # noqa: E402

from bimm_mm.models.selfsup import branch, vimpac  # noqa: E402

TOGETHER = 4  # samples of a global batch
SEEN: list[torch.Tensor] = []  # inputs and masks of an iteration


def recorded(draw):
    """Note the masks that a function draws."""

    def draw_and_note(*args):
        drawn = draw(*args)
        SEEN.append(drawn[1].detach().clone())
        return drawn

    return draw_and_note


branch.draw_masks = recorded(branch.draw_masks)
vimpac.VIMPAC.corrupt = recorded(vimpac.VIMPAC.corrupt)


@HOOKS.register_module(force=True)
class NoteGlobalBatches(Hook):
    """The mean loss of each iteration, and a digest of the samples and masks of all processes."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.noted = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        SEEN[:] = [torch.stack(data_batch['inputs'])]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, 'mean')
        seen = all_gather_object([x.cpu() for x in SEEN])  # in the order of the ranks
        digests = []
        for whole in zip(*seen, strict=True):
            rows = [row.flatten() for x in whole for row in x]
            # where rows are filled up, to another length for each process, by repetitions
            rows = [row.unique() if row.dtype == torch.int64 else row for row in rows]
            data = b''.join(row.contiguous().numpy().tobytes() for row in rows)
            digests.append(hashlib.sha256(data).hexdigest()[:16])
        self.noted[runner.iter] = (loss.item(), digests)

    def after_train(self, runner):
        path = Path(runner.work_dir) / f'noted_{dist.get_world_size()}.json'
        if dist.get_rank() == 0:
            path.write_text(json.dumps(self.noted))


def model_config(method: str) -> dict:
    """Each way to draw and each way to average, at the size of toys."""
    block = dict(type='BlockMasking', ratio=0.5, span=(0.5, 1))
    autoencoder = parts.masked_autoencoder
    if method == 'vimpac':
        return vimpac_config()
    if method == 'joint_drop_path':  # recomputed in the backward pass, too
        config = parts.method_config('joint')
        for name in ('ventral', 'dorsal'):
            config[name]['backbone'].update(drop_path_rate=0.3, with_cp=True)
        return config
    if method == 'mae':
        image = parts.branch_config(False)
        config = autoencoder(dict(type='RandomMasking', ratio=0.75), decode_ratio=0.5)
        return config | dict(backbone=dict(image['backbone'], stage_ends=(3,)))
    configs = dict(
        videomae=autoencoder(dict(type='TubeMasking', ratio=0.75)),
        videomaev2=autoencoder(
            dict(type='TubeMasking', ratio=0.75),
            decoder_masking=dict(type='RunningCellMasking'),
        ),
        vjepa=autoencoder(dict(type='MultiBlockMasking', num_blocks=2, spatial_scale=(0.2, 0.5))),
        maskfeat=autoencoder(dict(type='CubeMasking', ratio=0.4))
        | dict(targets=[dict(type='GaborTarget')]),
        blocks=autoencoder(block),
        mgm=autoencoder(dict(type='MotionVectorMasking', ratio=0.75)),
    )
    if method in ('ventral', 'dorsal'):
        branch = parts.branch_config(method == 'dorsal')
        return dict(type='SingleBranchPretrainer', **{method: branch})
    if method in ('bevt', 'mam2', 'tgm', 'joint', 'mgmae', 'adamae'):
        config = parts.method_config(method)
        return config | dict(masking=block) if method == 'bevt' else config
    return configs[method]


def vimpac_config() -> dict:
    return dict(
        type='VIMPAC',
        backbone=dict(
            type='VimpacViT',
            arch=dict(embed_dims=16, depth=1, num_heads=2),
            grid_size=(4, 4, 4),
            num_codes=8,
            tokenizer=dict(type='BrightnessTokenizer'),
        ),
        masking=dict(type='VimpacMasking', num_blocks=3),
        projector=dict(hidden_dims=16, out_dims=8),
        noise=True,
    )


def train(method: str, folder: Path, iterations: int, resume: bool) -> None:
    """Train on the processes of the group."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(method))
    if method == 'vimpac':  # else the batch norm divides by next to nothing: all clips look alike
        torch.nn.init.normal_(model.backbone.embedding.weight)
    size = dict(length=10, size=16, num_frames=4, captions=True)
    dataset = dict(type='MovingShapesDataset', **size)
    if method in ('mae', 'ventral'):
        dataset['num_frames'] = None
    if method == 'vimpac':
        dataset = dict(type='ClipViewsDataset', dataset=dataset | dict(num_frames=6), num_frames=4)
    Runner(
        model=model,
        work_dir=str(folder),
        experiment_name=f'{method} {iterations} {dist.get_world_size()} {folder.parent.name}',
        train_dataloader=dict(
            batch_size=TOGETHER // dist.get_world_size(),
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
            dataset=dataset,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=iterations),
            exact_resume=dict(type='ExactResumeHook'),
            logger=None,
        ),
        custom_hooks=[dict(type='NoteGlobalBatches')],
        cfg=dict(
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None
            )
        ),
        launcher='pytorch',
        log_level='ERROR',
        resume=resume,
        randomness=dict(seed=0, diff_rank_seed=True),
    ).train()


def main(rank: int, processes: int, folder: Path, iterations: int, methods: list[str]) -> None:
    """One of the processes, through all methods."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
    store = f'file://{folder}/store_{processes}_{os.environ["ATTEMPT"]}'
    dist.init_process_group('gloo', store, rank=rank, world_size=processes)
    for method in methods:
        name, _, first = method.rstrip('+').partition(':')
        part = folder / f'{name}_parts' if first or method.endswith('+') else folder / name
        train(name, part, int(first or iterations), method.endswith('+'))
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == '__main__':
    _, rank, processes, folder, iterations, *methods = sys.argv
    Runner._log_env = lambda *args: None  # it asks compilers for their versions, which takes time
    main(int(rank), int(processes), Path(folder), int(iterations), methods)
