"""Where joint recipes start: from stage 1, from MAE's weights in its place, or from scratch."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS
from torch import Tensor

from bimm_mm.models import BimmViT, TransformerDecoder

REPO = Path(__file__).parents[2]
CONFIGS = REPO / 'configs' / 'bimm'
WIDTH, DEPTH, SIZE, PATCH = 48, 12, 32, 8


def tiny_mae() -> dict[str, Tensor]:
    """What facebookresearch/mae writes: encoder, mask token and decoder, with its names."""
    torch.manual_seed(0)
    arch = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=4)
    encoder = BimmViT(arch=arch, img_size=SIZE, patch_size=PATCH, stage_ends=(DEPTH,))
    grid = (1, SIZE // PATCH, SIZE // PATCH)
    kwargs = dict(embed_dims=32, depth=1, num_heads=4, mlp_head=False, video=False)
    decoder = TransformerDecoder(WIDTH, 3 * PATCH**2, grid, **kwargs)
    state = {}
    for key, value in encoder.state_dict().items():
        state[key.replace('projection', 'proj').replace(f'norm{DEPTH - 1}', 'norm')] = value
    names = {'embed.': 'decoder_embed.', 'blocks.': 'decoder_blocks.', 'norm.': 'decoder_norm.'}
    names |= {'head.0.': 'decoder_pred.', 'pos_embed': 'decoder_pos_embed'}
    for key, value in decoder.state_dict().items():
        old = next((old for old in names if key.startswith(old)), '')
        state[names.get(old, '') + key.removeprefix(old)] = value
    for key in ('pos_embed', 'decoder_pos_embed'):
        positions = state[key].flatten(1, 3)
        state[key] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return state


def tool(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(REPO), *filter(None, [os.environ.get('PYTHONPATH')])])
    command = [sys.executable, str(REPO / 'tools' / name), *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | dict(PYTHONPATH=path), capture_output=True, text=True
    )


@pytest.fixture(scope='module')
def imported(tmp_path_factory) -> tuple[dict[str, Tensor], Path]:
    """MAE's weights, and the file that the importer makes of them."""
    folder = tmp_path_factory.mktemp('mae')
    state = tiny_mae()
    torch.save(dict(model=state), folder / 'mae.pth')
    heads = ('--num-heads', 4, '--decoder-num-heads', 4)
    result = tool(
        'model_converters/import_checkpoint.py', 'mae.pth', 'imported.pth', *heads, cwd=folder
    )
    assert result.returncode == 0, result.stderr
    assert 'encoder and decoder of the ventral branch' in result.stdout
    return state, folder / 'imported.pth'


def small(name: str, checkpoint: Path | None) -> Config:
    """A joint recipe with few channels, and the encoder of the tiny MAE."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)
    for branch in (cfg.model.ventral, cfg.model.dorsal):
        arch = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=4)
        branch.backbone.update(arch=arch, img_size=SIZE, patch_size=PATCH)
        for decoder in branch.neck.decoders:
            decoder.embed_dims = 16
            if decoder.type == 'TransformerDecoder':
                decoder.update(num_heads=2, depth=1)
    cfg.model.init_dorsal_from = checkpoint and str(checkpoint)
    return cfg


@pytest.mark.parametrize('name', ['joint_k400_vitb_edge', 'joint_k400_vitb_visible_edge'])
def test_maes_weights_take_the_place_of_stage_1(name, imported):
    state, checkpoint = imported
    model = MODELS.build(small(name, checkpoint).model)
    model.init_weights()
    for index in range(DEPTH):
        wanted = state[f'blocks.{index}.attn.qkv.weight']
        for branch in (model.ventral, model.dorsal):
            assert torch.equal(branch.backbone.blocks[index].attn.qkv.weight, wanted)
    embedding = model.dorsal.backbone.patch_embed.projection.weight
    torch.testing.assert_close(embedding.sum(2), state['patch_embed.proj.weight'])
    positions = model.dorsal.backbone.pos_embed.mean(1).flatten(1, 2)
    torch.testing.assert_close(positions, state['pos_embed'][:, 1:])
    clips = torch.randn(2, 3, 16, SIZE, SIZE)
    losses = model(clips, mode='loss')
    sum(loss for key, loss in losses.items() if key.startswith('loss_')).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not [key for key, p in model.named_parameters() if p.grad is None]


def test_dorsal_decoders_start_anew_in_the_papers_recipes(imported):
    """They do not take over those of stage 1, whatever they are; the ventral ones do."""
    torch.manual_seed(1)
    stage_1 = MODELS.build(small('joint_k400_vitb_edge', None).model)
    path = imported[1].with_name('stage_1.pth')
    state = {k: v for k, v in stage_1.state_dict().items() if k.startswith('ventral.')}
    torch.save(dict(state_dict=state), path)
    torch.manual_seed(2)
    model = MODELS.build(small('joint_k400_vitb_edge', path).model)
    before = {k: v.clone() for k, v in model.dorsal.neck.state_dict().items()}
    model.init_weights()
    after = model.dorsal.neck.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    ventral = model.ventral.neck.state_dict()
    assert all(torch.equal(ventral[k], v) for k, v in stage_1.ventral.neck.state_dict().items())


@pytest.fixture(scope='module')
def clips(tmp_path_factory) -> Path:
    """A folder of two short videos."""
    folder = tmp_path_factory.mktemp('clips')
    for index in range(2):
        code = cv2.VideoWriter_fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(folder / f'{index}.mp4'), code, 25, (64, 48))
        for _ in range(8):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.release()
    return folder


def test_a_joint_run_without_stage_1_stops_and_names_three_ways_on(clips, imported):
    """The commands are run as they are printed, but for the training itself."""
    pytest.importorskip('mmaction', reason='reads videos')
    folder = imported[1].parent
    config = CONFIGS / 'joint_k400_vitb_edge.py'
    data = f'train_dataloader.dataset.data_root={clips}'
    result = tool('train.py', config, '--cfg-options', data, cwd=folder)
    assert result.returncode == 1
    text = result.stderr
    assert 'Traceback' not in text
    assert text.startswith('1 problem in')
    assert "init_dorsal_from='work_dirs/ventral_in1k_vitb_edge/epoch_800.pth'" in text

    stage_1 = re.search(r'tools/dist_train.sh (\S+) 8', text)[1]
    assert (folder / stage_1).resolve() == CONFIGS / 'ventral_in1k_vitb_edge.py'

    command = shlex.split(re.search(r'python (\S*tools/model_converters/.*)', text)[1])
    assert command[1] == 'MAE.pth'
    (folder / 'MAE.pth').write_bytes((folder / 'mae.pth').read_bytes())
    heads = ('--num-heads', 4, '--decoder-num-heads', 4)  # ViT-B's are known
    name = command[0].partition('tools/')[2]
    converted = tool(name, *command[1:], *heads, cwd=folder)
    assert converted.returncode == 0, converted.stderr
    option = re.search(r'--cfg-options (model.init_dorsal_from=mae\S+)', text)[1]
    for way_on in (option, 'model.init_dorsal_from=None'):
        assert way_on in text
        # not as far as the training: nothing is learned from a schedule that does not fit
        options = (data, way_on, 'train_cfg.max_epochs=15')
        result = tool('train.py', config, '--cfg-options', *options, cwd=folder)
        assert result.stderr.startswith('1 problem in')
        assert 'init_dorsal_from' not in result.stderr
        assert 'param_scheduler.0.end=1 param_scheduler.1.begin=1' in result.stderr
