"""Pretrainers so small that a step takes milliseconds: 16x16 pixels, 4 frames, 16 or 32 tokens."""

from collections.abc import Callable

import pytest
import torch


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
