"""No tool runs what a checkpoint tells it to run, and each says why it stops."""

import os
import pickle
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

import bimm_mm  # noqa: F401
from bimm_mm.models.checkpoints import read_checkpoint

REPO = Path(__file__).parents[1]
SMALL = 'model.backbone.arch=tiny model.cls_head.in_channels=192'
FINETUNE = 'configs/bimm/finetune_ucf101_vitb.py'
# per tool, arguments that make it read EVIL
COMMANDS = {
    'train.py, resume': 'configs/bimm/demo/ventral_shapes.py --work-dir w --resume EVIL',
    'train.py, load_from': 'configs/bimm/demo/ventral_shapes.py --work-dir w '
    '--cfg-options load_from=EVIL',
    'train.py, init_dorsal_from': 'configs/bimm/demo/joint_shapes.py --work-dir w '
    '--cfg-options model.init_dorsal_from=EVIL',
    'test.py': f'{FINETUNE} EVIL --work-dir w --cfg-options {SMALL}',
    'inference.py': f'{FINETUNE} EVIL video.mp4 --device cpu --cfg-options {SMALL}',
    'benchmarks/knn.py': 'configs/bimm/demo/joint_shapes.py EVIL',
    'benchmarks/clip_retrieval.py': 'configs/vimpac/demo/vimpac_shapes.py EVIL',
    'benchmarks/retrieval.py': 'configs/tgm/demo/tgm_shapes.py EVIL',
    'analysis_tools/probe_pathway.py': 'configs/bimm/demo/joint_shapes.py EVIL --out-dir o',
    'analysis_tools/stage_gradients.py': 'configs/bimm/demo/joint_shapes.py EVIL --out-dir o',
    'visualization/reconstruct.py': 'configs/bimm/demo/joint_shapes.py EVIL video.mp4 --out-dir o',
    'model_converters/export_branch.py': 'EVIL out --branch dorsal',
    'model_converters/export_branch.py, timm': 'EVIL out --branch ventral --format timm',
    'model_converters/export_branch.py, huggingface': 'EVIL out --branch dorsal '
    '--format huggingface',
    'model_converters/import_checkpoint.py': 'EVIL out',
    'model_converters/import_checkpoint.py, kind': 'EVIL out --kind mae',
    'model_converters/import_checkpoint.py, folder': 'folder out',
    'deployment/export_onnx.py': f'{FINETUNE} EVIL out.onnx --cfg-options {SMALL}',
    'dataset_converters/extract_contours.py': 'images pictures cache --checkpoint EVIL '
    '--model-type vit_b --device cpu',
}
# Tools that read modules as they were pickled: their tensors, with stand-ins for their classes.
STAND_INS = {
    'model_converters/convert_tokenizer.py': ('EVIL out', 'is of no known tokenizer'),
    'dataset_converters/extract_codes.py': (
        '. cache --checkpoint EVIL --tokenizer PatchTokenizer --device cpu',
        'is not a codebook',
    ),
}
NEEDS = {
    'test.py': 'mmaction',
    'inference.py': 'decord',
    'deployment/export_onnx.py': 'onnxruntime',
    'dataset_converters/extract_contours.py': 'segment_anything',
}


class Malicious:
    """Writes a file when it is read."""

    def __reduce__(self):
        return os.system, ('touch pwned',)


@pytest.fixture
def evil(tmp_path, monkeypatch) -> str:
    """The checkpoint; the working directory has what the tools look for before they read it."""
    monkeypatch.chdir(tmp_path)
    state = {'dorsal.backbone.patch_embed.projection.weight': torch.zeros(1)}
    content = dict(state_dict=state, meta={}, message_hub={}, evil=Malicious())
    torch.save(content, 'evil.pth')
    Path('folder').mkdir()
    torch.save(dict(weight=torch.zeros(1), evil=Malicious()), 'folder/pytorch_model.bin')
    Path('video.mp4').write_bytes(b'1')
    Path('pictures').mkdir()
    Path('pictures/a.jpg').write_bytes(b'1')
    return str(tmp_path / 'evil.pth')


def run(tool: str, arguments: list[str], monkeypatch) -> str:
    """What the tool says when it stops."""
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises((SystemExit, ValueError, pickle.UnpicklingError)) as stop:
        runpy.run_path(str(REPO / 'tools' / tool), run_name='__main__')
    return str(stop.value)


@pytest.mark.parametrize('name', COMMANDS)
def test_tool(evil, monkeypatch, name):
    tool = name.split(',')[0]
    if tool in NEEDS:
        pytest.importorskip(NEEDS[tool], reason=f'{tool} needs it')
    arguments = COMMANDS[name].replace('EVIL', evil).replace('configs/', f'{REPO}/configs/')
    message = run(tool, arguments.split(), monkeypatch)
    assert not Path('pwned').exists()
    assert 'could run code' in message and 'system' in message
    assert not Path('out').exists() and not Path('out.onnx').exists()


def test_no_tool_is_forgotten():
    pattern = r"add_argument\(\s*'(--)?(checkpoint|resume|source)'|add_config_and_checkpoint\("
    tools = {
        str(path.relative_to(REPO / 'tools'))
        for path in (REPO / 'tools').rglob('*.py')
        if re.search(pattern, path.read_text())
    }
    tools -= {'dataset_converters/make_captions.py'}  # transformers reads its folder
    assert tools == {name.split(',')[0] for name in COMMANDS} | set(STAND_INS)


@pytest.mark.parametrize('tool', STAND_INS)
def test_what_is_pickled_as_modules_is_read_without_their_code(evil, monkeypatch, tool):
    arguments, expected = STAND_INS[tool]
    message = run(tool, arguments.replace('EVIL', evil).split(), monkeypatch)
    assert not Path('pwned').exists() and not Path('out').exists()
    assert expected in message


@pytest.mark.parametrize('key', ['init_cfg', 'init_from'])
def test_initialization_from_a_config(evil, key):
    arch = dict(embed_dims=16, depth=1, num_heads=2)
    backbone = dict(type='BimmViT', arch=arch, img_size=16, patch_size=8, stage_ends=(1,))
    branch = dict(
        backbone=backbone,
        masking=dict(type='RandomMasking', ratio=0.5),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=8, predict='visible')],
        ),
        targets=[dict(type='PixelTarget')],
    )
    if key == 'init_cfg':
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=evil)
    else:
        branch['init_from'] = evil
    model = MODELS.build(dict(type='SingleBranchPretrainer', ventral=branch))
    with pytest.raises((ValueError, pickle.UnpicklingError), match='could run code'):
        model.init_weights()
    assert not Path('pwned').exists()


@pytest.mark.parametrize('name', ['model.safetensors', 'plain.pkl'])
def test_files_that_pretend_to_be_something_else(evil, monkeypatch, name):
    pytest.importorskip('safetensors', reason='reads .safetensors')
    Path(name).write_bytes(pickle.dumps(Malicious()))
    message = run('model_converters/import_checkpoint.py', [name, 'out'], monkeypatch)
    assert name in message and not Path('pwned').exists()


def test_these_files_are_malicious(evil):
    with pytest.raises(ValueError, match='could run code'):
        read_checkpoint(evil)
    torch.load(evil, weights_only=False)
    assert Path('pwned').exists()
