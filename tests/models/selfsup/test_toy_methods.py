"""Methods that the toolkit does not have, each of at most two small classes on its parts."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from bimm_mm.models import BaseMasking, BaseTarget
from bimm_mm.models.losses import accuracy, contrastive_loss, cross_entropy
from bimm_mm.models.masking.base import split_mask


@MODELS.register_module()
class BrightnessTarget(BaseTarget):
    """(a) Classes instead of values: how bright a patch is, in four steps."""

    name, out_dims, score_name = 'brightness', 4, 'accuracy'
    loss, score = staticmethod(cross_entropy), staticmethod(accuracy)

    def compute(self, x, ids):
        brightness = self.take(x, ids).mean(dim=2)
        return torch.bucketize(brightness, torch.tensor([-0.1, 0.0, 0.1]))


@MODELS.register_module()
class MovingMasking(BaseMasking):
    """(b) Guided by the data: hide the half of the tubes in which most moves."""

    guided = True

    def draw(self, step, generator=None):
        frames, rows, columns = step.grid
        change = step.x.diff(dim=2).abs().mean(dim=(1, 2))[:, None]  # (B, 1, H, W)
        scores = F.adaptive_avg_pool2d(change, (rows, columns)).flatten(1)
        order = scores.argsort(dim=1)
        hidden = torch.zeros_like(scores, dtype=torch.bool)
        hidden.scatter_(1, order[:, order.shape[1] // 2 :], True)
        return split_mask(hidden.repeat(1, frames), frames * (order.shape[1] - order.shape[1] // 2))


@MODELS.register_module()
class SecondOpinion(nn.Module):
    """(d) A second head on the regressor's latents."""

    def __init__(self, embed_dims, out_dims):
        super().__init__()
        self.head = nn.Linear(embed_dims, out_dims)

    def forward(self, latents, positions):
        return self.head(latents)


@MODELS.register_module()
class ToyClipContrast(nn.Module):
    """(e) Between views: the two clips of a video belong together."""

    def __init__(self, in_dims, branch='masked'):
        super().__init__()
        self.project, self.branch = nn.Linear(in_dims, 8), branch

    def forward(self, steps):
        step = steps[self.branch]
        x = self.project(step.features[-1].mean(dim=1)).unflatten(0, (-1, step.side['views']))
        loss, found = contrastive_loss(x[:, 0], x[:, 1])
        return dict(loss_contrast=loss, accuracy_contrast=found)


@MODELS.register_module()
class CaptionMatch(nn.Module):
    """(e) Between a video and its text."""

    def __init__(self, in_dims):
        super().__init__()
        self.words = nn.EmbeddingBag(128, in_dims)

    def forward(self, steps):
        step = steps['masked']
        text = [
            self.words(torch.tensor([list(caption.encode())])) for caption in step.side['caption']
        ]
        loss, found = contrastive_loss(step.features[-1].mean(dim=1), torch.cat(text))
        return dict(loss_text=loss, accuracy_text=found)


def config(**changes):
    """A small VideoMAE on 4 frames of 16x16 pixels."""
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=24, depth=2, num_heads=2),
        img_size=16,
        patch_size=4,
        num_frames=4,
        stage_ends=(2,),
        with_cls_token=False,
    )
    decoder = dict(type='TransformerDecoder', embed_dims=12, depth=1, num_heads=2)
    settings = dict(
        type='MaskedPretrainer',
        backbone=backbone,
        masking=dict(type='TubeMasking', ratio=0.75),
        neck=dict(type='MultiStageDecoder', decoders=[decoder]),
        targets=[dict(type='PixelTarget')],
    )
    return settings | changes | dict(backbone=backbone | changes.get('backbone', {}))


REGRESSOR = dict(type='RegressorDecoder', embed_dims=12, depth=2, num_heads=2)
LATENT = dict(type='LatentDecoder', depth=1, num_heads=2)
METHODS = dict(
    classes=config(targets=[dict(type='BrightnessTarget')]),
    guided=config(masking=dict(type='MovingMasking')),
    mask_tokens=config(
        backbone=dict(masked='token'),
        neck=dict(type='MultiStageDecoder', decoders=[dict(type='PickDecoder')]),
    ),
    regressor=config(
        neck=dict(REGRESSOR, decoders=[LATENT, dict(type='SecondOpinion')]),
        targets=[dict(type='PixelTarget'), dict(type='MotionTarget')],
    ),
    clips=config(objectives=[dict(type='ToyClipContrast', in_dims=24)]),
    text=config(
        objectives=[dict(type='CaptionMatch', in_dims=24)],
        data_preprocessor=dict(type='ClipDataPreprocessor', side_inputs=('caption',)),
    ),
)
WANTED = dict(
    classes={'loss_brightness', 'accuracy_brightness'},
    guided={'loss_pixel', 'explained_pixel'},
    mask_tokens={'loss_pixel', 'explained_pixel'},
    regressor={'loss_pixel', 'explained_pixel', 'loss_motion', 'explained_motion'},
    clips={'loss_pixel', 'explained_pixel', 'loss_contrast', 'accuracy_contrast'},
    text={'loss_pixel', 'explained_pixel', 'loss_text', 'accuracy_text'},
)


@pytest.mark.parametrize('method', METHODS)
def test_a_method_learns_a_batch_by_heart(method):
    torch.manual_seed(0)
    model = MODELS.build(METHODS[method])
    views = (2,) if method == 'clips' else ()
    clips = torch.randint(0, 256, (3, *views, 3, 4, 16, 16), dtype=torch.uint8)
    captions = ('a cat', 'two dogs', 'one bird')
    samples = [BaseDataElement(metainfo=dict(caption=caption)) for caption in captions]
    data = dict(inputs=list(clips), data_samples=samples)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = dict(lr=3e-3, weight_decay=0)  # what has no gradient does not change
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), **settings))
    history = []
    for _ in range(25):
        torch.manual_seed(1)  # the same masks
        history.append(model.train_step(data, optimizer))
    assert set(history[0]) == WANTED[method] | {'loss'}
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    for name in WANTED[method]:
        if name.startswith('loss_'):
            assert history[-1][name] < 0.98 * history[0][name], name


def test_what_moves_is_hidden():
    clips = torch.zeros(2, 3, 4, 16, 16)
    clips[:, :, 1::2, :8] = 1.0  # the upper half flickers
    step = MODELS.build(METHODS['guided'])(clips, mode='predict')['masked']
    rows = step.ids_mask % 16 // 4
    assert step.ids_mask.shape == (2, 16) and (rows < 2).all()


def test_the_example_in_contributing_trains():
    text = (Path(__file__).parents[3] / 'CONTRIBUTING.md').read_text()
    names = {}
    exec(re.search(r'## A method.*?```python\n(.*?)```', text, re.DOTALL).group(1), names)
    torch.manual_seed(0)
    model = MODELS.build(names['model'])
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    data = dict(inputs=torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    history = [model.train_step(data, optimizer) for _ in range(3)]
    assert set(history[0]) == {'loss', 'loss_lightness', 'accuracy_lightness'}
    assert history[-1]['loss'] < history[0]['loss']
