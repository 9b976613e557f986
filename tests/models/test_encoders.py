import runpy
import sys
from pathlib import Path

import pytest
import torch

from bimm_mm.models import BimmViT
from bimm_mm.models.backbones import VimpacViT
from bimm_mm.models.checkpoints import export_branch
from bimm_mm.models.conversion import export_vimpac, import_checkpoint
from bimm_mm.models.encoders import load_encoder
from bimm_mm.utils.checkpoint import read_checkpoint

OFFICIAL = runpy.run_path(str(Path(__file__).parents[1] / 'vimpac_official.py'))
VIDEO = dict(
    type='BimmViT',
    arch=dict(embed_dims=32, depth=2, num_heads=2),
    img_size=16,
    patch_size=8,
    num_frames=4,
    stage_ends=(1, 2),
)
IMAGE = {key: value for key, value in VIDEO.items() if key != 'num_frames'}


def build(config, seed=0):
    torch.manual_seed(seed)
    return BimmViT(**{key: value for key, value in config.items() if key != 'type'}).eval()


@pytest.fixture
def joint(tmp_path):
    """A checkpoint of a pretrainer with both branches, and its encoders."""
    encoders = dict(dorsal=build(VIDEO), ventral=build(IMAGE, 1))
    state = {
        f'{name}.backbone.{key}': value
        for name, encoder in encoders.items()
        for key, value in encoder.state_dict().items()
    }
    meta = dict(backbones=dict(dorsal=VIDEO, ventral=IMAGE))
    torch.save(dict(meta=meta, state_dict=state), tmp_path / 'joint.pth')
    return tmp_path / 'joint.pth', encoders


def raw(encoder, x):
    encoder.out_type = 'raw'
    return encoder(x)[0]


@torch.no_grad()
def test_a_pretrained_file_gives_either_branch(joint):
    path, encoders = joint
    clip, image = torch.randn(2, 3, 4, 16, 16), torch.randn(2, 3, 16, 16)
    result = load_encoder(path)(clip)
    assert result.cls_token.shape == (2, 32) and result.tokens.shape == (2, 8, 32)
    wanted = raw(encoders['dorsal'], clip)
    torch.testing.assert_close(torch.cat([result.cls_token[:, None], result.tokens], 1), wanted)
    tokens = load_encoder(path, 'ventral')(image).tokens
    torch.testing.assert_close(tokens, raw(encoders['ventral'], image)[:, 1:])


@torch.no_grad()
def test_an_exported_file_gives_the_same_encoder(joint, tmp_path):
    path, encoders = joint
    export_branch(path, tmp_path / 'encoder.pth', 'dorsal')
    clip = torch.randn(1, 3, 4, 16, 16)
    tokens = load_encoder(tmp_path / 'encoder.pth')(clip).tokens
    torch.testing.assert_close(tokens, raw(encoders['dorsal'], clip)[:, 1:])


@torch.no_grad()
def test_clips_take_static_images_and_bytes(joint):
    encoder = load_encoder(joint[0])
    image = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8)
    normalized = (image.float() - encoder.mean.view(3, 1, 1)) / encoder.std.view(3, 1, 1)
    clip = normalized[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(encoder(image).tokens, encoder(clip).tokens)


def test_a_file_that_does_not_tell_its_config_needs_one(joint, tmp_path):
    state = joint[1]['dorsal'].state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match='does not tell the config of its encoder'):
        load_encoder(tmp_path / 'bare.pth')
    assert load_encoder(tmp_path / 'bare.pth', backbone=VIDEO).backbone.depth == 2
    with pytest.raises(ValueError, match='does not fit the model'):
        load_encoder(tmp_path / 'bare.pth', backbone=dict(VIDEO, patch_size=4))
    with pytest.raises(FileNotFoundError):
        load_encoder(tmp_path / 'missing.pth')


@torch.no_grad()
@pytest.mark.parametrize('ddp', [False, True])
def test_a_published_vimpac_file_is_imported_loaded_and_exported_back(tmp_path, ddp, monkeypatch):
    state = OFFICIAL['random_state']('T,H|W', grid=(3, 4, 4))
    names = {('module.' if ddp else '') + key: value for key, value in state.items()}
    torch.save(names, tmp_path / 'classifier.pt')
    codes = torch.randint(8192, (2, 3, 4, 4))
    codes[1, 2] = OFFICIAL['PAD']
    cls, tokens = OFFICIAL['encode'](state, codes, 'T,H|W')

    result = import_checkpoint(tmp_path / 'classifier.pt', tmp_path / 'vimpac.pth')
    assert result.kind == 'vimpac' and not result.dropped
    assert result.model()['type'] == 'VIMPAC'
    for path in (tmp_path / 'classifier.pt', tmp_path / 'vimpac.pth'):
        output = load_encoder(path)(codes)
        torch.testing.assert_close(output.cls_token, cls, atol=1e-4, rtol=0)
        torch.testing.assert_close(output.tokens, tokens.flatten(1, 3), atol=1e-4, rtol=0)

    tool = str(Path(__file__).parents[2] / 'tools/model_converters/export_branch.py')
    names = [str(tmp_path / name) for name in ('vimpac.pth', 'back.pt')]
    monkeypatch.setattr(sys, 'argv', [tool, *names, '--branch', 'dorsal', '--format', 'vimpac'])
    runpy.run_path(tool, run_name='__main__')
    back = torch.load(tmp_path / 'back.pt')
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_a_finetuned_vimpac_file_brings_its_classifier(tmp_path):
    state = OFFICIAL['random_state']('joint', grid=(3, 4, 4))
    state = {key: value for key, value in state.items() if key.startswith('backbone.')}
    state |= {'cls_fc.weight': torch.randn(7, 128), 'cls_fc.bias': torch.randn(7)}
    torch.save(state, tmp_path / 'classifier.pt')
    result = import_checkpoint(tmp_path / 'classifier.pt', tmp_path / 'out.pth', 'vimpac')
    converted = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert torch.equal(converted['cls_head.fc_cls.weight'], state['cls_fc.weight'])
    assert result.model()['cls_head']['num_classes'] == 7
    export_vimpac(tmp_path / 'out.pth', tmp_path / 'back.pt')
    assert torch.load(tmp_path / 'back.pt').keys() == state.keys()


@torch.no_grad()
def test_an_encoder_of_codes_takes_pixels_with_a_tokenizer(tmp_path):
    torch.manual_seed(0)
    config = dict(arch=dict(embed_dims=32, depth=1, num_heads=2), grid_size=(3, 4, 4), num_codes=9)
    encoder = VimpacViT(**config).eval()
    meta = dict(backbones=dict(dorsal=dict(config, type='VimpacViT')))
    state = {f'backbone.{key}': value for key, value in encoder.state_dict().items()}
    torch.save(dict(meta=meta, state_dict=state), tmp_path / 'vimpac.pth')
    centers = torch.rand(9, 48)
    torch.save(dict(state_dict=dict(centers=centers)), tmp_path / 'codebook.pth')
    tokenizer = dict(type='PatchTokenizer', checkpoint=str(tmp_path / 'codebook.pth'))
    loaded = load_encoder(tmp_path / 'vimpac.pth', tokenizer=tokenizer)
    clip = torch.randint(256, (2, 3, 3, 16, 16), dtype=torch.uint8)
    pixels = clip.transpose(1, 2).flatten(0, 1) / 255
    patches = pixels.view(6, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).flatten(3)
    codes = torch.cdist(patches.flatten(0, 2), centers).argmin(1).view(2, 3, 4, 4)
    assert torch.equal(loaded(clip).cls_token, loaded(codes).cls_token)
    torch.testing.assert_close(loaded(codes).cls_token, encoder(codes)[0])
    with pytest.raises(ValueError, match='set tokenizer='):
        load_encoder(tmp_path / 'vimpac.pth')(clip)
