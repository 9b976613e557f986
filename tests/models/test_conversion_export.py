"""Exported encoders give the same features in timm and transformers, and come back unchanged."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bimm_mm.models import BimmViT, DualBranchPretrainer
from bimm_mm.models.conversion import complete_videomae, export_folder, import_checkpoint

transformers = pytest.importorskip('transformers', reason='loads what is exported')
timm = pytest.importorskip('timm', reason='loads what is exported')
safetensors = pytest.importorskip('safetensors.torch', reason='writes what is exported')

ARCH = dict(embed_dims=48, depth=3, num_heads=4)
SIZES = dict(arch=ARCH, img_size=32, patch_size=8)


def randomise(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
        else:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def build(video: bool, **kwargs) -> BimmViT:
    frames = dict(num_frames=4) if video else {}
    out_type = {} if 'out_type' in kwargs else dict(out_type='raw')
    return randomise(BimmViT(**SIZES, **frames, **out_type, **kwargs))


def save(path: Path, encoder: BimmViT, branch: str, **settings) -> Path:
    backbones = {branch: dict(SIZES, type='BimmViT', **settings)}
    torch.save(dict(state_dict=encoder.state_dict(), meta=dict(backbones=backbones)), path)
    return path


@pytest.fixture(scope='module')
def joint(tmp_path_factory):
    """A joint checkpoint, with the encoders of all stages and metadata."""

    def branch(video: bool) -> dict:
        backbone = dict(type='BimmViT', stage_ends=(1, 2, 3), **SIZES)
        return dict(
            backbone=backbone | (dict(num_frames=4) if video else {}),
            masking=dict(type='RandomMasking', ratio=0.5),
            neck=dict(
                type='MultiStageDecoder',
                decoders=[dict(type='LinearDecoder', embed_dims=8, predict='visible')] * 3,
            ),
            targets=[
                dict(type='GaborTarget'),
                dict(type='EdgeContourTarget'),
                dict(type='PixelTarget'),
            ],
        )

    model = randomise(DualBranchPretrainer(branch(False), branch(True)))
    path = tmp_path_factory.mktemp('joint') / 'joint.pth'
    backbones = {name: branch(name == 'dorsal')['backbone'] for name in ('ventral', 'dorsal')}
    torch.save(dict(state_dict=model.state_dict(), meta=dict(backbones=backbones)), path)
    return model, path


def clips() -> torch.Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_ventral_branch_in_timm(joint, tmp_path):
    model, path = joint
    exported = export_folder(path, tmp_path / 'timm', 'ventral', 'timm')
    theirs = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    assert type(theirs).__name__ == 'VisionTransformer'
    x = clips()[:, :, 0]
    wanted = model.ventral.backbone(x)[-1]
    assert wanted.std() > 0.1
    torch.testing.assert_close(theirs.forward_features(x), wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(theirs(x), wanted[:, 0], rtol=0, atol=1e-4)
    # the norms of the first two stages serve their decoders alone
    assert sorted(exported.dropped) == [
        f'norm{i}.{leaf}' for i in (0, 1) for leaf in ('bias', 'weight')
    ]


@torch.no_grad()
@pytest.mark.parametrize(
    'settings', [dict(out_type='avg_featmap'), dict(out_type='avg_featmap', norm_after_mean=True)]
)
@pytest.mark.parametrize('with_cls_token', [False, True])
def test_mean_pooled_encoders_in_timm(tmp_path, settings, with_cls_token):
    encoder = build(False, with_cls_token=with_cls_token, **settings)
    source = save(tmp_path / 'encoder.pth', encoder, 'ventral', **settings)
    export_folder(source, tmp_path / 'timm', 'ventral', 'timm')
    theirs = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    x = clips()[:, :, 0]
    wanted = encoder(x)[0]
    if with_cls_token and len(settings) == 1:  # timm would classify the class token
        output = theirs.forward_features(x)[:, 1:].mean(1)
    else:
        output = theirs(x)
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-4)


@torch.no_grad()
def test_encoder_like_videomae_in_transformers(tmp_path):
    encoder = build(True, with_cls_token=False, time_positions='sequence')
    source = save(tmp_path / 'encoder.pth', encoder, 'dorsal')
    exported = export_folder(source, tmp_path / 'hf', 'dorsal', 'huggingface')
    assert not exported.differences and not exported.dropped
    theirs = transformers.VideoMAEModel.from_pretrained(tmp_path / 'hf').eval()
    output = theirs(clips().transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(output, encoder(clips())[0], rtol=0, atol=1e-4)


@torch.no_grad()
def test_dorsal_branch_in_transformers(joint, tmp_path):
    model, path = joint
    exported = export_folder(path, tmp_path / 'hf', 'dorsal', 'huggingface')
    assert len(exported.differences) == 2 and not exported.dropped
    config = json.loads((tmp_path / 'hf' / 'config.json').read_text())
    assert config['bimm_mm']['differences'] == exported.differences
    theirs, info = transformers.VideoMAEModel.from_pretrained(
        tmp_path / 'hf', output_loading_info=True
    )
    assert not info['missing_keys'] and not info['mismatched_keys']
    # biases are there under the names of transformers 4 and of 5
    biases = ('q_bias', 'v_bias', 'query.bias', 'key.bias', 'value.bias')
    assert all(
        key.startswith('bimm_mm.') or key.endswith(biases) for key in info['unexpected_keys']
    )

    theirs.eval()
    wanted = model.dorsal.backbone(clips())[-1]
    plain = theirs(clips().transpose(1, 2)).last_hidden_state
    assert (plain - wanted[:, 1:]).abs().max() > 0.01  # as the export says
    tensors = safetensors.load_file(tmp_path / 'hf' / 'model.safetensors')
    output = complete_videomae(theirs, tensors)(clips().transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(output, wanted, rtol=0, atol=1e-4)


@torch.no_grad()
def test_finetuned_encoder_in_transformers(tmp_path):
    settings = dict(out_type='avg_featmap', norm_after_mean=True)
    encoder = build(True, with_cls_token=False, time_positions='sequence', **settings)
    source = save(tmp_path / 'encoder.pth', encoder, 'dorsal', **settings)
    export_folder(source, tmp_path / 'hf', 'dorsal', 'huggingface')
    theirs = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / 'hf').eval()
    output = theirs.videomae(clips().transpose(1, 2)).last_hidden_state
    output = theirs.fc_norm(output.mean(1))
    torch.testing.assert_close(output, encoder(clips())[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'branch, form, cut', [('ventral', 'timm', 2), ('dorsal', 'huggingface', 0)]
)
def test_export_then_import_is_the_identity(joint, tmp_path, branch, form, cut):
    model, path = joint
    export_folder(path, tmp_path / 'out', branch, form)
    imported = import_checkpoint(tmp_path / 'out', tmp_path / 'back.pth')
    before = getattr(model, branch).backbone.state_dict()
    after = torch.load(tmp_path / 'back.pth')['state_dict']
    # timm has no place for the norms of V1 and V2, transformers keeps what it does not know
    assert len(before) - len(after) == 2 * cut
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert imported.backbone['arch'] == dict(ARCH, mlp_ratio=4)
    assert not imported.dropped


@pytest.mark.parametrize(
    'video, form', [(False, 'timm'), (True, 'huggingface')], ids=['timm', 'huggingface']
)
@pytest.mark.parametrize('kwargs', [{}, dict(with_cls_token=False)], ids=['token', 'no token'])
def test_import_then_export_is_the_identity(tmp_path, video, form, kwargs):
    branch = 'dorsal' if video else 'ventral'
    source = save(tmp_path / 'encoder.pth', build(video, **kwargs), branch)
    export_folder(source, tmp_path / 'one', branch, form)
    import_checkpoint(tmp_path / 'one', tmp_path / 'back.pth')
    export_folder(tmp_path / 'back.pth', tmp_path / 'two', branch, form)
    for name in ('model.safetensors', 'config.json'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()


def test_what_cannot_be_exported(joint, tmp_path):
    with pytest.raises(ValueError, match='timm has no encoder of clips'):
        export_folder(joint[1], tmp_path / 'out', 'dorsal', 'timm')
    with pytest.raises(ValueError, match='VideoMAE is an encoder of clips'):
        export_folder(joint[1], tmp_path / 'out', 'ventral', 'huggingface')
    encoder = tmp_path / 'encoder.pth'
    torch.save(build(False).state_dict(), encoder)  # no metadata
    with pytest.raises(ValueError, match='48 wide.*--num-heads'):
        export_folder(encoder, tmp_path / 'out', 'ventral', 'timm')
    assert not (tmp_path / 'out').exists()
    export_folder(encoder, tmp_path / 'out', 'ventral', 'timm', num_heads=4)
    with pytest.raises(ValueError, match="branch='dorsal': .* has only a ventral encoder"):
        export_folder(encoder, tmp_path / 'out', 'dorsal', 'huggingface')
