"""Checkpoints of other libraries give the same features and predictions here."""

import argparse
import json
import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import bimm_mm  # noqa: F401
from bimm_mm.models.conversion import Settings, import_checkpoint

transformers = pytest.importorskip('transformers', reason='its models are compared')
timm = pytest.importorskip('timm', reason='its models are compared')
safetensors = pytest.importorskip('safetensors.torch', reason='transformers writes it')
pytest.importorskip('mmaction.models', reason='its models are compared')
pytest.importorskip('mmpretrain.models', reason='its models are compared')

REPO = Path(__file__).parents[2]
OFFICIAL = runpy.run_path(str(REPO / 'tests/official_layouts.py'))
SIZES = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192)
DECODER = dict(
    decoder_hidden_size=24,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=96,
)
IMAGE = dict(image_size=32, patch_size=8)
CLIP = dict(IMAGE, num_frames=4, tubelet_size=2)
SETTINGS = Settings(num_frames=4, img_size=(32, 32), num_heads=4, decoder_num_heads=2)


@dataclass
class Source:
    """A model of a library, with random weights.

    Attributes:
        kind: How it must be recognized.
        content: What the library saves; a path where it was saved already.
        features: Of all tokens, or of a clip where the last norm is after the mean.
        predict: (B, 3, ...) to visible tokens, masked tokens, and predictions of the latter; of
            those that have a decoder like ours.
        dropped: Of its keys, beginnings of those that have no counterpart here.
    """

    kind: str
    content: object
    features: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    dropped: tuple[str, ...] = ()


def randomise(model: nn.Module) -> nn.Module:
    """Random weights everywhere, but for positions that the method has fixed to sines."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and parameter.requires_grad:
            nn.init.normal_(parameter, std=0.15)
        elif parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
        elif name.endswith('embeddings.position_embeddings'):
            parameter.data[:, 0] = torch.randn(48)  # the class token's, too
    return model.eval()


def from_restore(ids_restore: Tensor, mask: Tensor, predictions: Tensor) -> tuple:
    """MAE's way to say what was masked, as lists of tokens."""
    order = ids_restore.argsort(dim=1)
    kept = int((mask[0] == 0).sum())
    ids_keep, ids_mask = order[:, :kept], order[:, kept:]
    return ids_keep, ids_mask, predictions[torch.arange(len(order))[:, None], ids_mask]


def vit_mae(folder: Path, official: bool) -> Source:
    eps = 1e-6 if official else 1e-12
    config = transformers.ViTMAEConfig(**IMAGE, **SIZES, **DECODER, layer_norm_eps=eps)
    model = randomise(transformers.ViTMAEForPreTraining(config))
    # so small that the epsilon counts, as before training
    model.vit.embeddings.cls_token.data *= 0.05
    model.vit.embeddings.position_embeddings.data[:, 0] = 0

    def features(x: Tensor) -> Tensor:
        model.config.mask_ratio = 0.0
        noise = torch.arange(16.0).expand(len(x), -1)
        return model.vit(x, noise=noise).last_hidden_state

    def predict(x: Tensor) -> tuple:
        model.config.mask_ratio = 0.75
        output = model(x, noise=torch.rand(len(x), 16))
        return from_restore(output.ids_restore, output.mask, output.logits)

    if official:
        args = argparse.Namespace(model='mae_vit_base_patch16', norm_pix_loss=True)
        content = dict(model=OFFICIAL['mae'](model.state_dict()), epoch=799, args=args)
        return Source('mae', content, features, predict, ('epoch', 'args'))
    model.save_pretrained(folder)
    return Source('mae_hf', folder, features, predict)


def videomae(folder: Path, official: bool) -> Source:
    config = transformers.VideoMAEConfig(**CLIP, **SIZES, **DECODER, use_mean_pooling=False)
    model = randomise(transformers.VideoMAEForPreTraining(config))

    def features(x: Tensor) -> Tensor:
        return model.videomae(x.transpose(1, 2)).last_hidden_state

    def predict(x: Tensor) -> tuple:
        order = torch.rand(len(x), 32).argsort(dim=1)
        ids_keep, ids_mask = (ids.sort(dim=1).values for ids in order.split([8, 24], dim=1))
        mask = torch.zeros(len(x), 32, dtype=torch.bool).scatter(1, ids_mask, True)
        return ids_keep, ids_mask, model(x.transpose(1, 2), bool_masked_pos=mask).logits

    if official:
        content = dict(model=OFFICIAL['videomae'](model.state_dict()))
        return Source('videomae', content, features, predict)
    model.save_pretrained(folder)
    return Source('videomae_hf', folder, features, predict)


def videomae_finetuned(folder: Path, official: bool) -> Source:
    config = transformers.VideoMAEConfig(**CLIP, **SIZES, num_labels=5)
    model = randomise(transformers.VideoMAEForVideoClassification(config))

    def features(x: Tensor) -> Tensor:
        return model.fc_norm(model.videomae(x.transpose(1, 2)).last_hidden_state.mean(1))

    if official:  # V2's are in 'module'
        content = dict(module=OFFICIAL['videomae_finetuned'](model.state_dict()))
        return Source('videomae', content, features, dropped=('head.',))
    model.save_pretrained(folder)
    return Source('videomae_hf', folder, features, dropped=('classifier.',))


def videomaev2_hub(folder: Path) -> Source:
    """As the releases on Hugging Face: a wrapper's prefix, and sizes one level down."""
    source = videomae_finetuned(folder, official=True)
    state = {f'model.{key}': value for key, value in source.content['module'].items()}
    tensors = {key: value.contiguous() for key, value in state.items()}
    safetensors.save_file(tensors, folder / 'model.safetensors')
    sizes = dict(img_size=32, num_frames=4, num_heads=4)
    (folder / 'config.json').write_text(json.dumps(dict(model_config=sizes)))
    return Source('videomae', folder, source.features, dropped=('head.',))


def videomae_mmaction(folder: Path, pooled: bool) -> Source:
    backbone = dict(type='mmaction.VisionTransformer', img_size=32, patch_size=8, embed_dims=48)
    backbone |= dict(depth=2, num_heads=4, num_frames=4, use_mean_pooling=pooled)
    head = dict(type='mmaction.TimeSformerHead', num_classes=5, in_channels=48)
    model = randomise(
        MODELS.build(
            dict(
                type='mmaction.Recognizer3D',
                backbone=backbone,
                cls_head=head,
                data_preprocessor=dict(type='mmaction.ActionDataPreprocessor'),
            )
        )
    )
    model.backbone.return_feat_map = not pooled

    def features(x: Tensor) -> Tensor:
        output = model.backbone(x)
        return output if pooled else output.flatten(2).transpose(1, 2)

    content = dict(state_dict=model.state_dict(), meta=dict(epoch=1))
    return Source('videomae_mmaction', content, features, dropped=('cls_head.', 'meta'))


def mae_mmpretrain(folder: Path) -> Source:
    arch = dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=192)
    neck = dict(type='mmpretrain.MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=48)
    neck |= dict(decoder_embed_dim=24, decoder_depth=1, decoder_num_heads=2)
    loss = dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2')
    config = dict(
        type='mmpretrain.MAE',
        backbone=dict(type='mmpretrain.MAEViT', arch=arch, img_size=32, patch_size=8),
        neck=neck,
        head=dict(type='mmpretrain.MAEPretrainHead', patch_size=8, loss=loss),
    )
    model = MODELS.build(config)
    model.neck.init_weights()  # fixes the positions
    model = randomise(model)

    def predict(x: Tensor) -> tuple:
        latent, mask, ids_restore = model.backbone(x, mask=True)
        return from_restore(ids_restore, mask, model.neck(latent, ids_restore))

    content = dict(state_dict=model.state_dict())
    return Source('mae_mmpretrain', content, lambda x: model.backbone(x, mask=None)[0], predict)


def mae_mmpretrain_finetuned(folder: Path) -> Source:
    arch = dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=192)
    backbone = dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=32, patch_size=8)
    backbone |= dict(out_type='avg_featmap', final_norm=False)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=48)
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head))
    model = randomise(model)
    content = dict(state_dict=model.state_dict())
    return Source('mae_mmpretrain', content, lambda x: model.backbone(x)[0], dropped=('head.',))


def timm_vit(folder: Path, pool: str) -> Source:
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=5)
    model = randomise(timm.create_model('vit_base_patch16_224', global_pool=pool, **sizes))

    def features(x: Tensor) -> Tensor:
        tokens = model.forward_features(x)
        return tokens if pool == 'token' else model.fc_norm(tokens[:, 1:].mean(1))

    safetensors.save_file(model.state_dict(), folder / 'model.safetensors')
    return Source('mae', folder / 'model.safetensors', features, dropped=('head.',))


def mae_st(folder: Path, separate: bool, cls: bool, predicted_frames: int) -> Source:
    model = randomise(OFFICIAL['SpaceTimeMAE'](separate, cls, predicted_frames))

    def predict(x: Tensor) -> tuple:
        ids_keep, ids_mask = torch.rand(len(x), 32).argsort(dim=1).split([8, 24], dim=1)
        return ids_keep, ids_mask, model.predict(x, ids_keep, ids_mask)

    matches = not cls and predicted_frames == 2
    return Source(
        'mae_st',
        dict(model_state=model.state_dict()),
        lambda x: model.norm(model.tokens(x)),
        predict,
        () if matches else ('decoder_', 'mask_token'),
    )


def mae_st_finetuned(folder: Path) -> Source:
    model = randomise(OFFICIAL['SpaceTimeMAE'](True, True, 2))
    state = {k: v for k, v in model.state_dict().items() if 'decoder' not in k and 'mask' not in k}
    state |= {'head.weight': torch.zeros(5, 48), 'head.bias': torch.zeros(5)}

    def features(x: Tensor) -> Tensor:
        return model.norm(model.tokens(x)[:, 1:].mean(1))

    return Source('mae_st', dict(model_state=state), features, dropped=('head.',))


SOURCES = {
    'mae': lambda folder: vit_mae(folder, official=True),
    'mae_hf': lambda folder: vit_mae(folder, official=False),
    'mae_mmpretrain': mae_mmpretrain,
    'mae_mmpretrain finetuned': mae_mmpretrain_finetuned,
    'timm': lambda folder: timm_vit(folder, 'token'),
    'timm, mean': lambda folder: timm_vit(folder, 'avg'),
    'videomae': lambda folder: videomae(folder, official=True),
    'videomae_hf': lambda folder: videomae(folder, official=False),
    'videomae finetuned': lambda folder: videomae_finetuned(folder, official=True),
    'videomae_hf finetuned': lambda folder: videomae_finetuned(folder, official=False),
    'videomaev2 on the hub': videomaev2_hub,
    'videomae_mmaction': lambda folder: videomae_mmaction(folder, pooled=False),
    'videomae_mmaction, mean': lambda folder: videomae_mmaction(folder, pooled=True),
    'mae_st as released': lambda folder: mae_st(folder, True, True, 1),
    'mae_st, the decoder as ours': lambda folder: mae_st(folder, True, False, 2),
    'mae_st, joint positions': lambda folder: mae_st(folder, False, False, 2),
    'mae_st, joint positions, class token': lambda folder: mae_st(folder, False, True, 2),
    'mae_st finetuned': mae_st_finetuned,
}


WITH_DECODER = [
    'mae',
    'mae_hf',
    'mae_mmpretrain',
    'videomae',
    'videomae_hf',
    'mae_st, the decoder as ours',
    'mae_st, joint positions',
]


@pytest.fixture(scope='module', params=SOURCES)
def pair(request, tmp_path_factory):
    """The source, its import, the file that was written, and the model with its weights."""
    folder = tmp_path_factory.mktemp('source')
    with torch.no_grad():
        source = SOURCES[request.param](folder)
    path = source.content
    if not isinstance(path, Path):
        path = folder / 'checkpoint.pth'
        torch.save(source.content, path)
    imported = import_checkpoint(path, folder / 'imported.pth', settings=SETTINGS)
    checkpoint = torch.load(folder / 'imported.pth')
    assert (imported.decoder is not None) == (request.param in WITH_DECODER)
    config = imported.model()
    if not imported.decoder and not config.get('norm_after_mean'):
        config = dict(config, out_type='raw')
    model = MODELS.build(config).eval()
    model.load_state_dict(checkpoint['state_dict'])  # nothing is missing, nothing is left over
    return source, imported, checkpoint, model


@pytest.fixture(params=['random', 'real'])
def frames(request) -> Tensor:
    """(2, 3, 4, 32, 32), normalized."""
    if request.param == 'random':
        return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    folder = Path(os.environ.get('BIMM_TEST_DATA', REPO.parent / 'shared/data')) / 'clips'
    videos = sorted(folder.glob('*.mp4'))[:2]
    if len(videos) < 2:
        pytest.skip(f'no two clips in {folder}; BIMM_TEST_DATA names another folder')
    clips = []
    for video in videos:
        capture = cv2.VideoCapture(str(video))
        clips.append(
            torch.stack(
                [torch.from_numpy(cv2.resize(capture.read()[1], (32, 32))) for _ in range(4)]
            )
        )
    return (torch.stack(clips).permute(0, 4, 1, 2, 3).float() - 120) / 58


def test_it_is_recognized_and_nothing_is_dropped_silently(pair):
    source, imported, _, _ = pair
    assert imported.kind == source.kind
    assert all(key.startswith(source.dropped) for key in imported.dropped)
    for start in source.dropped:
        assert any(key.startswith(start) for key in imported.dropped)


@torch.no_grad()
def test_features_are_the_same(pair, frames):
    source, imported, _, model = pair
    x = frames if imported.branch == 'dorsal' else frames[:, :, 0]
    encoder = getattr(model, imported.branch).backbone if imported.decoder else model
    wanted = source.features(x)
    assert wanted.std() > 0.1 and (wanted[0] - wanted[1]).abs().max() > 0.01
    torch.testing.assert_close(encoder(x)[-1], wanted, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('pair', WITH_DECODER, indirect=True)
def test_predictions_are_the_same(pair, frames):
    source, imported, _, model = pair
    x = frames if imported.branch == 'dorsal' else frames[:, :, 0]
    torch.manual_seed(2)
    ids_keep, ids_mask, wanted = source.predict(x)
    branch = getattr(model, imported.branch)
    (predictions,) = branch.neck(branch.backbone(x, ids_keep), ids_keep, ids_mask)
    # theirs are in the order frame, row, column, channel
    predictions = predictions.unflatten(2, (3, -1)).transpose(2, 3).flatten(2)
    assert wanted.std() > 0.1
    torch.testing.assert_close(predictions, wanted, rtol=0, atol=1e-4)


def test_metadata(pair):
    _, imported, checkpoint, _ = pair
    meta = checkpoint['meta']
    assert meta['imported_from'] == imported.kind
    assert meta['stage'] == meta['branch'] == imported.branch
    assert meta['backbones'] == {imported.branch: imported.backbone}
    assert imported.backbone['img_size'] == 32
    assert imported.backbone.get('num_frames', 4) == 4
