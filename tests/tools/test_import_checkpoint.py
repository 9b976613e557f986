"""tools/model_converters/import_checkpoint.py and export_branch.py on the command line."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.config.agreement import clip_problems
from bimm_mm.config.loading import merge_config
from bimm_mm.models import BimmViT, DualBranchPretrainer
from bimm_mm.models.conversion import KINDS

safetensors = pytest.importorskip('safetensors.torch', reason='reads .safetensors')

REPO = Path(__file__).parents[2]
TOOLS = REPO / 'tools/model_converters'


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a tool; returns what it printed, or why it stopped."""

    def start(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        try:
            runpy.run_path(str(TOOLS / tool), run_name='__main__')
        except SystemExit as stop:
            return f'{stop.code}\n{capsys.readouterr().err}'
        return capsys.readouterr().out

    return start


def mae(width=48, **more) -> dict:
    """A state dict with the keys of facebookresearch/mae's encoder."""
    encoder = BimmViT(
        arch=dict(embed_dims=width, depth=1, num_heads=4),
        img_size=32,
        patch_size=8,
        stage_ends=(1,),
    )
    state = {
        key.replace('projection', 'proj').replace('norm0', 'norm'): value
        for key, value in encoder.state_dict().items()
    }
    positions = state['pos_embed'].flatten(1, 3)
    state['pos_embed'] = torch.cat([torch.zeros(1, 1, width), positions], dim=1)
    return state | more


def test_says_what_was_written_left_out_and_how_it_is_used(run, tmp_path):
    head = {'head.weight': torch.zeros(5, 48), 'optimizer_step': torch.zeros(1)}
    torch.save(dict(model=mae(**head), optimizer={}), tmp_path / 'mae.pth')
    text = run('import_checkpoint.py', tmp_path / 'mae.pth', tmp_path / 'out.pth', '--num-heads', 4)
    assert 'encoder of the ventral branch, 18 tensors' in text
    assert '--kind mae' in text
    assert 'left out, the head of a task:\n  head.weight' in text
    assert 'left out, of no use here:\n  optimizer_step' in text
    assert 'left out, no weights of the model:\n  optimizer' in text
    config = text.partition('backbone = ')[2]
    encoder = BimmViT(**{k: v for k, v in eval(config).items() if k != 'type'})
    encoder.load_state_dict(torch.load(tmp_path / 'out.pth')['state_dict'])


def test_hidden_widths_that_are_no_multiple(run, tmp_path):
    state = mae(176)
    state['blocks.0.mlp.fc1.weight'] = torch.zeros(784, 176)
    state['blocks.0.mlp.fc1.bias'] = torch.zeros(784)
    state['blocks.0.mlp.fc2.weight'] = torch.zeros(176, 784)
    assert int(176 * (784 / 176)) == 783
    torch.save(state, tmp_path / 'in.pth')
    arguments = (tmp_path / 'in.pth', tmp_path / 'out.pth', '--num-heads', 4)
    config = run('import_checkpoint.py', *arguments).partition('backbone = ')[2]
    encoder = BimmViT(**{k: v for k, v in eval(config).items() if k != 'type'})
    encoder.load_state_dict(torch.load(tmp_path / 'out.pth')['state_dict'])


def test_known_widths_need_no_heads(run, tmp_path):
    torch.save(mae(192), tmp_path / 'tiny.pth')
    text = run('import_checkpoint.py', tmp_path / 'tiny.pth', tmp_path / 'out.pth')
    assert 'nothing was left out' in text and "'num_heads': 3" in text


def test_encoder_of_a_file_is_exported_and_comes_back(run, tmp_path):
    torch.save(mae(192), tmp_path / 'tiny.pth')
    run('import_checkpoint.py', tmp_path / 'tiny.pth', tmp_path / 'ours.pth')
    options = ('--branch', 'ventral', '--format', 'timm')
    text = run('export_branch.py', tmp_path / 'ours.pth', tmp_path / 'timm', *options)
    assert 'the ventral encoder, 18 tensors' in text and 'left out' not in text
    assert json.loads((tmp_path / 'timm/config.json').read_text())['model_args']['num_heads'] == 3
    state = safetensors.load_file(tmp_path / 'timm/model.safetensors')
    assert state.keys() == mae(192).keys()
    assert all(
        torch.equal(value, torch.load(tmp_path / 'tiny.pth')[k]) for k, value in state.items()
    )


def test_joint_pretraining_starts_from_it(run, tmp_path):
    torch.save(mae(), tmp_path / 'mae.pth')
    run('import_checkpoint.py', tmp_path / 'mae.pth', tmp_path / 'out.pth', '--num-heads', 4)

    def branch(video):
        arch = dict(embed_dims=48, depth=1, num_heads=4)
        backbone = dict(type='BimmViT', arch=arch, img_size=32, patch_size=8, stage_ends=(1,))
        return dict(
            backbone=backbone | (dict(num_frames=4) if video else {}),
            masking=dict(type='RandomMasking', ratio=0.5),
            neck=dict(
                type='MultiStageDecoder', decoders=[dict(type='LinearDecoder', predict='visible')]
            ),
            targets=[dict(type='PixelTarget')],
        )

    model = DualBranchPretrainer(
        branch(False), branch(True), share='none', init_dorsal_from=str(tmp_path / 'out.pth')
    )
    model.init_weights()
    wanted = torch.load(tmp_path / 'mae.pth')['blocks.0.mlp.fc1.weight']
    for encoder in (model.ventral.backbone, model.dorsal.backbone):
        assert torch.equal(encoder.blocks[0].mlp.fc1.weight, wanted)


def test_an_export_that_is_not_the_same_says_so(run, tmp_path):
    encoder = BimmViT(arch='tiny', img_size=32, num_frames=4)
    torch.save(encoder.state_dict(), tmp_path / 'encoder.pth')
    options = ('--branch', 'dorsal', '--format', 'huggingface')
    text = run('export_branch.py', tmp_path / 'encoder.pth', tmp_path / 'hf', *options)
    assert 'NOT the same features: VideoMAE has no class token; VideoMAE adds positions' in text


LAYER_SCALE = {'blocks.0.gamma_1': torch.ones(48)}
CASES = {
    'missing': (None, (), 'no checkpoint .*in.pth'),
    'no weights': (dict(epoch=3), (), 'in.pth holds no weights; its keys are epoch'),
    'unknown': (
        {'conv1.weight': torch.zeros(1), 'bn1.bias': torch.zeros(1)},
        (),
        'is of no known kind. Its first keys are conv1.weight, bn1.bias. --kind may name one of',
    ),
    'V-JEPA': (
        dict(encoder=mae(), predictor=mae(), target_encoder=mae()),
        (),
        'in.pth is a checkpoint of V-JEPA',
    ),
    'ours': (BimmViT(arch='tiny', img_size=32).state_dict(), (), 'needs no import'),
    'another kind': (mae(), ('--kind', 'videomae'), '--kind videomae: .*of 5 dimensions'),
    'nothing of the kind': (mae(), ('--kind', 'mae_hf'), 'lacks what becomes patch_embed'),
    'no heads': (mae(), (), '48 wide.*give --num-heads'),
    'layer scale': (mae(**LAYER_SCALE), ('--num-heads', '4'), 'would give .*blocks.0.gamma_1'),
    'another size': (
        mae(),
        ('--num-heads', '4', '--img-size', '64'),
        r'16 positions per frame do not fit --img-size \(64, 64\)',
    ),
    'unknown kind': (mae(), ('--kind', 'mea'), "invalid choice: 'mea'"),
    'three sizes': (mae(), ('--img-size', '1', '2', '3'), 'must be one or two numbers'),
}


@pytest.mark.parametrize('name', CASES)
def test_mistakes(run, tmp_path, name):
    content, arguments, message = CASES[name]
    if content is not None:
        torch.save(content, tmp_path / 'in.pth')
    text = run('import_checkpoint.py', tmp_path / 'in.pth', tmp_path / 'out.pth', *arguments)
    assert re.search(message, text), text
    assert 'Traceback' not in text and not (tmp_path / 'out.pth').exists()


def test_unknown_files_are_told_all_kinds(run, tmp_path):
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    text = run('import_checkpoint.py', tmp_path / 'resnet.pth', tmp_path / 'out.pth')
    assert all(f'{kind}: {layout.source}' in text for kind, layout in KINDS.items())


def test_folders(run, tmp_path):
    text = run('import_checkpoint.py', tmp_path, tmp_path / 'out.pth')
    assert 'no *.safetensors or pytorch_model.bin in the folder' in text
    (tmp_path / 'config.json').write_text('{"hidden_act": "gelu_new"}')
    safetensors.save_file(mae(), tmp_path / 'model.safetensors')
    (tmp_path / 'other.safetensors').write_text('not looked at')
    text = run('import_checkpoint.py', tmp_path, tmp_path / 'out.pth')
    assert "hidden_act='gelu_new' in its config.json, must be 'gelu'" in text


def test_a_broken_config_is_named(run, tmp_path):
    safetensors.save_file(mae(), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{')
    text = run('import_checkpoint.py', tmp_path, tmp_path / 'out.pth')
    assert f'{tmp_path}/config.json is not valid JSON' in text


def test_a_truncated_file_is_named(run, tmp_path):
    safetensors.save_file(mae(), tmp_path / 'model.safetensors')
    whole = (tmp_path / 'model.safetensors').read_bytes()
    (tmp_path / 'model.safetensors').write_bytes(whole[: len(whole) // 2])
    text = run('import_checkpoint.py', tmp_path / 'model.safetensors', tmp_path / 'out.pth')
    assert 'model.safetensors is not a safetensors file, or broken' in text


def test_wrapped_models_are_unwrapped(run, tmp_path):
    state = {f'module.{key}': value for key, value in mae(192).items()}
    torch.save(dict(state_dict=state), tmp_path / 'ddp.pth')
    text = run('import_checkpoint.py', tmp_path / 'ddp.pth', tmp_path / 'out.pth')
    assert 'nothing was left out' in text


def test_an_image_that_is_no_square(run, tmp_path):
    state = mae()
    state['pos_embed'] = state['pos_embed'][:, :9]  # 2x4 patches, and the class token's
    torch.save(state, tmp_path / 'in.pth')
    arguments = (tmp_path / 'in.pth', tmp_path / 'out.pth', '--num-heads', 4)
    assert 'give --img-size' in run('import_checkpoint.py', *arguments)
    text = run('import_checkpoint.py', *arguments, '--img-size', 16, 32)
    assert "'img_size': (16, 32)" in text


def test_parts_that_would_overwrite_each_other(run, tmp_path):
    state = mae()
    torch.save(state | {'decoder_blocks.x': state['cls_token']}, tmp_path / 'in.pth')
    text = run('import_checkpoint.py', tmp_path / 'in.pth', tmp_path / 'out.pth', '--num-heads', 4)
    assert 'left out, the decoder is not complete:\n  decoder_blocks.x' in text
    both = {f'{prefix}{key}': v for prefix in ('', 'backbone.') for key, v in mmpretrain().items()}
    torch.save(both, tmp_path / 'in.pth')
    arguments = (tmp_path / 'in.pth', tmp_path / 'out.pth', '--kind', 'mae_mmpretrain')
    text = run('import_checkpoint.py', *arguments)
    assert 'cls_token and backbone.cls_token are both cls_token' in text


def mmpretrain() -> dict:
    """A state dict with the keys of mmpretrain's encoder."""
    names = {'blocks.': 'layers.', 'norm1': 'ln1', 'norm2': 'ln2', 'norm0': 'ln1'}
    names |= {'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1', 'proj.': 'projection.'}
    state = {}
    for key, value in mae().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value
    return state


def test_a_config_is_written_that_trains_what_was_imported(run, tmp_path):
    transformers = pytest.importorskip('transformers', reason='makes the weights')
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    decoder = dict(
        decoder_hidden_size=24,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=48,
    )
    source = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(
            image_size=64, num_frames=4, use_mean_pooling=False, **sizes, **decoder
        )
    )
    source.save_pretrained(tmp_path / 'hf')
    out, config = tmp_path / 'videomae.pth', tmp_path / 'go_on.py'
    text = run('import_checkpoint.py', tmp_path / 'hf', out, '--config-out', config)
    assert f'{config}: a config that starts from it' in text
    sizes = 'data_root=VIDEOS img_size=64 num_frames=4'
    assert f'{config} --cfg-options {sizes}' in text  # without which clips would not fit
    cfg = merge_config(str(config), dict(img_size=64, num_frames=4))
    assert clip_problems(cfg, MODELS.build(cfg.model)) == []
    cfg = merge_config(str(config), {})
    assert cfg.load_from == str(out) and 'ventral' not in cfg.model
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(out)['state_dict'], strict=True)

    torch.save(dict(model=mae()), tmp_path / 'mae.pth')
    out, config = tmp_path / 'out.pth', tmp_path / 'finetune.py'
    run('import_checkpoint.py', tmp_path / 'mae.pth', out, '--num-heads', 4, '--config-out', config)
    backbone = merge_config(str(config), {}).model.backbone
    assert backbone.init_cfg.checkpoint == str(out) and backbone.arch.embed_dims == 48


def test_a_decoder_that_stays_behind_says_why_and_its_keys_fill_no_screen(run, tmp_path):
    transformers = pytest.importorskip('transformers', reason='makes the weights')
    source = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(
            image_size=32,
            num_frames=4,
            hidden_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            decoder_hidden_size=24,
            decoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
        )
    )
    source.save_pretrained(tmp_path / 'hf')
    text = run('import_checkpoint.py', tmp_path / 'hf', tmp_path / 'out.pth')
    assert 'needs VideoMAEConfig(use_mean_pooling=False)' in text
    assert re.search(r'  and \d+ more', text) and len(text.splitlines()) < 45
