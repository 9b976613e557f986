"""Pretrainers so small that a step takes milliseconds: 16x16 pixels, 4 frames, 16 or 32 tokens."""

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from bimm_mm.models.layers import patchify

sys.path.insert(0, str(Path(__file__).parents[2]))
from small_clip import write_clip  # noqa: E402

# masked autoencoders by the masking that makes them
GUIDED = dict(
    mgmae=dict(type='FlowGuidedMasking', ratio=0.75, flow=dict(type='DisFlow')),
    adamae=dict(type='AdaptiveMasking', ratio=0.75, num_heads=2),
)
CAPTIONS = ['a dotted star moves left', 'a ring moves up', 'a disc', 'a plus moves right']


@cache
def small_clip() -> str:
    """The folder of a small random CLIP, the same in every process."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(write_clip(Path(folder) / 'clip'))


@MODELS.register_module(force=True)
class BrightnessTokenizer(nn.Module):
    """Eight codes for the brightness of a patch of 4x4 pixels, in place of a frozen network."""

    num_codes = 8

    def __init__(self, mean=None, std=None):
        super().__init__()

    def forward(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(B, 3, T, H, W) to (B, T, H', W') codes."""
        brightness = patchify(x, (1, 4, 4)).mean(dim=2).view(len(x), x.shape[2], *grid)
        return torch.bucketize(brightness, torch.linspace(-1.2, 1.2, 7, device=x.device))


def method_config(method: str) -> dict:
    """The config of a pretrainer on clips of 4 frames of 16x16 pixels."""
    if method == 'vimpac':
        return vimpac_config()
    if method == 'joint':
        branches = dict(ventral=branch_config(False), dorsal=branch_config(True))
        return dict(type='DualBranchPretrainer', share='partial', **branches)
    backbone = dict(branch_config(True)['backbone'], stage_ends=(3,))
    if method == 'tgm':
        return masked_autoencoder(
            dict(type='TextGuidedMasking', guide=dict(type='ClipGuide', checkpoint=small_clip())),
            objectives=[
                dict(
                    type='VideoTextContrast',
                    embed_dims=24,
                    text=dict(type='ClipTextEncoder', checkpoint=small_clip()),
                    text_dims=8,
                )
            ],
        )
    if method in GUIDED:
        return masked_autoencoder(dict(GUIDED[method]))
    shared = dict(type='MaskedPretrainer', tokenizer=dict(type='BrightnessTokenizer'))
    masking = dict(type='TubeMasking', ratio=0.75)
    codes = dict(type='CodeTarget', num_codes=8)
    if method == 'bevt':
        neck = dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')])
        backbone['masked'] = 'token'
        return dict(shared, backbone=backbone, masking=masking, neck=neck, targets=[codes])
    decoder = dict(type='LatentDecoder', depth=1, num_heads=2)
    neck = dict(
        type='RegressorDecoder',
        embed_dims=12,
        depth=2,
        num_heads=2,
        decoders=[decoder, decoder, dict(type='IdentityDecoder')],
    )
    targets = [
        codes,
        dict(type='MotionTarget', absolute=False),
        dict(type='LatentTarget', out_dims=12),
    ]
    return dict(
        shared,
        backbone=backbone,
        masking=masking,
        neck=neck,
        targets=targets,
        loss_weights=(1, 1, 2),
    )


def masked_autoencoder(masking: dict, **settings) -> dict:
    """VideoMAE on clips of 4 frames of 16x16 pixels, with another masking."""
    decoder = dict(type='TransformerDecoder', embed_dims=12, depth=1, num_heads=2)
    return dict(
        type='MaskedPretrainer',
        backbone=dict(branch_config(True)['backbone'], stage_ends=(3,)),
        masking=masking,
        neck=dict(type='MultiStageDecoder', decoders=[decoder]),
        targets=[dict(type='PixelTarget')],
        **settings,
    )


def method_side(method: str) -> dict:
    """Side inputs that a method needs with two clips."""
    return dict(caption=CAPTIONS[:2]) if method == 'tgm' else {}


def vimpac_config() -> dict:
    return dict(
        type='VIMPAC',
        backbone=dict(
            type='VimpacViT',
            arch=dict(embed_dims=24, depth=2, num_heads=2),
            grid_size=(4, 4, 4),
            num_codes=8,
            tokenizer=dict(type='BrightnessTokenizer'),
        ),
        masking=dict(type='VimpacMasking', num_blocks=3),
        projector=dict(hidden_dims=16, out_dims=8),
    )


def method_dataset(method: str) -> dict:
    """The config of a data set that the method trains on."""
    shapes = dict(type='MovingShapesDataset', length=12, size=16, num_frames=4, captions=True)
    if method != 'vimpac':
        return shapes
    return dict(type='ClipViewsDataset', dataset=dict(shapes, num_frames=8), num_frames=4)


def branch_config(video: bool, **backbone) -> dict:
    arch = dict(embed_dims=24, depth=3, num_heads=2)
    settings = dict(type='BimmViT', arch=arch, img_size=16, patch_size=4, stage_ends=(1, 2, 3)) | (
        dict(num_frames=4) if video else {}
    )
    linear = dict(type='LinearDecoder', embed_dims=12, predict='masked')
    transformer = dict(type='TransformerDecoder', embed_dims=12, depth=1, num_heads=2)
    return dict(
        backbone=settings | backbone,
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[linear, transformer, transformer],
        ),
        targets=[
            dict(type='GaborTarget'),
            dict(type='EdgeContourTarget'),
            dict(type='MotionTarget' if video else 'PixelTarget'),
        ],
    )


@pytest.fixture
def make_branch() -> Callable[..., dict]:
    """The config of a branch, ``make_branch(video, **backbone)``."""
    return branch_config


@pytest.fixture
def clips() -> torch.Tensor:
    """Two normalized clips, (2, 3, 4, 16, 16)."""
    return torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
