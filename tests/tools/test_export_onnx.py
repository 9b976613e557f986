"""tools/deployment/export_onnx.py on a small recognizer."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

pytest.importorskip('mmaction', reason='the recognizer is its')
pytest.importorskip('decord', reason='the recipe decodes with it')
onnxruntime = pytest.importorskip('onnxruntime', reason='computes what is exported')
pytest.importorskip('onnxscript', reason='torch exports with it')

REPO = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool(load_script):
    return load_script('tools/deployment/export_onnx.py')


@pytest.fixture(scope='module')
def recognizer(tmp_path_factory):
    """The recipe for UCF101 with a small encoder, its checkpoint, and the model."""
    config = tmp_path_factory.mktemp('model') / 'small.py'
    cfg = Config.fromfile(REPO / 'configs/bimm/finetune_ucf101_vitb.py')
    cfg.model.backbone.update(
        arch=dict(embed_dims=16, depth=2, num_heads=2),
        stage_ends=(1, 2),
        img_size=32,
        patch_size=8,
        num_frames=4,
        init_cfg=None,
    )
    cfg.model.cls_head.in_channels = 16
    cfg.dump(config)
    init_default_scope('mmaction')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    checkpoint = config.with_name('model.pth')
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return config, checkpoint, model


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['export_onnx.py', *map(str, arguments)])
    tool.main()


@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_the_file_names_the_classes(tool, recognizer, monkeypatch, tmp_path, suffix):
    config, checkpoint, _ = recognizer
    names = [f'Übung {number}' for number in range(101)]
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state | dict(meta=dict(dataset_meta=dict(classes=names))), tmp_path / 'named.pth')
    out = tmp_path / f'model{suffix}'
    run(tool, monkeypatch, config, tmp_path / 'named.pth', out)
    if suffix == '.pt2':
        files = {'classes.json': ''}
        torch.export.load(out, extra_files=files)
        told = files['classes.json']
    else:
        session = onnxruntime.InferenceSession(out, providers=['CPUExecutionProvider'])
        told = session.get_modelmeta().custom_metadata_map['classes']
    assert json.loads(told) == names


@torch.no_grad()
def test_onnxruntime_gives_the_models_scores_for_any_batch(
    tool, recognizer, monkeypatch, tmp_path, capsys
):
    config, checkpoint, model = recognizer
    run(tool, monkeypatch, config, checkpoint, tmp_path / 'model.onnx')
    assert 'largest difference to PyTorch' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']
    session = onnxruntime.InferenceSession(tmp_path / 'model.onnx')
    for batch in (1, 5):
        clip = torch.randint(256, (batch, 3, 4, 32, 32), dtype=torch.uint8)
        (scores,) = session.run(['scores'], dict(clip=clip.float().numpy()))
        # the model's own way, preprocessor included
        inputs = model.data_preprocessor(dict(inputs=[c[None] for c in clip], data_samples=None))[
            'inputs'
        ]
        wanted = model.cls_head(model.backbone(inputs.flatten(0, 1)))
        assert scores.shape == (batch, 101)
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_torch_export(tool, recognizer, monkeypatch, tmp_path):
    run(tool, monkeypatch, *recognizer[:2], tmp_path / 'model.pt2')
    program = torch.export.load(tmp_path / 'model.pt2').module()
    assert program(torch.zeros(4, 3, 4, 32, 32)).shape == (4, 101)


def test_a_model_that_computes_something_else_is_not_written(
    tool, recognizer, monkeypatch, tmp_path
):
    monkeypatch.setattr(tool, 'export', lambda model, path: lambda clip: model(clip) + 0.1)
    with pytest.raises(SystemExit, match='more than --tolerance 0.0001: .*was not written'):
        run(tool, monkeypatch, *recognizer[:2], tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


def test_mistakes(tool, recognizer, monkeypatch, tmp_path, capsys):
    config, checkpoint, model = recognizer
    with pytest.raises(SystemExit):
        run(tool, monkeypatch, config, checkpoint, 'model.bin')
    assert 'model.bin: must end in .onnx or .pt2' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='no folder .*no to write model.onnx'):
        run(tool, monkeypatch, config, checkpoint, tmp_path / 'no' / 'model.onnx')
    torch.save(model.backbone.state_dict(), tmp_path / 'encoder.pth')
    with pytest.raises(SystemExit, match='holds an encoder and no head'):
        run(tool, monkeypatch, config, tmp_path / 'encoder.pth', tmp_path / 'model.onnx')
