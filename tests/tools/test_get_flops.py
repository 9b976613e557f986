"""tools/analysis_tools/get_flops.py: the paper's table of costs, and how views are counted."""

import re
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from bimm_mm.evaluation.analysis.flops import Views, test_views

REPO = Path(__file__).parents[2]

PARTS = """
    import torch
    from mmengine.registry import MODELS


    @MODELS.register_module()
    class ToyRecognizer(torch.nn.Module):
        def __init__(self, backbone, num_classes):
            super().__init__()
            self.backbone = MODELS.build(backbone)
            linear = torch.nn.Linear(self.backbone.embed_dims, num_classes)
            self.cls_head = Head(linear)


    class Head(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.linear = linear

        def forward(self, feats):
            return self.linear(feats[-1])
"""

CONFIG = """
    custom_imports = dict(imports=['bimm_mm', 'toy_flops_parts'], allow_failed_imports=False)
    model = dict(
        type='ToyRecognizer',
        num_classes=400,
        backbone=dict(type='BimmViT', arch='{arch}', num_frames=16),
    )
    test_dataloader = dict(dataset=dict(pipeline=[
        dict(type='mmaction.SampleFrames', clip_len=16, frame_interval=4, num_clips=5),
        dict(type='mmaction.ThreeCrop', crop_size=224),
    ]))
"""


@pytest.fixture
def get_flops(tmp_path, monkeypatch, capsys):
    """Run the tool on a config: its output as ``{first word: number}``."""
    path = REPO / 'tools/analysis_tools/get_flops.py'
    spec = spec_from_file_location('get_flops', path)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / 'toy_flops_parts.py').write_text(textwrap.dedent(PARTS))
    monkeypatch.syspath_prepend(tmp_path)

    def run(config, *arguments):
        monkeypatch.setattr(sys, 'argv', ['get_flops.py', str(config), *arguments])
        tool.main()
        lines = capsys.readouterr().out.splitlines()
        found = (re.match(r'(.{12}) ([\d.]+)', line) for line in lines)
        return {match[1].strip(): float(match[2]) for match in found if match}

    def write(arch):
        path = tmp_path / f'{arch}.py'
        path.write_text(textwrap.dedent(CONFIG).format(arch=arch))
        return path

    monkeypatch.delitem(sys.modules, 'toy_flops_parts', raising=False)
    run.write = write
    yield run
    from mmengine.registry import MODELS

    MODELS.module_dict.pop('ToyRecognizer', None)


@pytest.mark.parametrize('arch, million, giga', [('base', 87, 180), ('large', 305, 597)])
def test_figures_of_the_papers_table(get_flops, arch, million, giga):
    result = get_flops(get_flops.write(arch))
    assert result['parameters'] == pytest.approx(million, rel=0.01)
    assert result['one view'] == pytest.approx(giga, rel=0.01)
    assert result['test'] == pytest.approx(15 * giga, rel=0.01)


def test_another_shape(get_flops):
    result = get_flops(get_flops.write('tiny'), '--shape', '8', '224', '224')
    whole = get_flops(get_flops.write('tiny'))
    assert result['view'] == 8
    # linear layers cost half, attention a quarter
    assert 0.25 * whole['one view'] < result['one view'] < 0.5 * whole['one view']


def test_a_shape_that_does_not_fit(get_flops):
    with pytest.raises(SystemExit, match=r'num_frames=7 is not a multiple of the patch \(2\)'):
        get_flops(get_flops.write('tiny'), '--shape', '7', '224', '224')


def test_a_pretraining_config_is_counted_without_decoders_and_with_nothing_masked(get_flops):
    joint = get_flops(REPO / 'configs/bimm/demo/joint_shapes.py')
    ventral = get_flops(REPO / 'configs/bimm/demo/ventral_shapes.py')
    assert joint['view'] == 8 and ventral['view'] == 32
    # 65 tokens and 17, of width 96 in 6 blocks: 12 C² per token, and attention
    tokens, width, blocks = 17, 96, 6
    cost = blocks * (12 * tokens * width**2 + 2 * tokens**2 * width) + 16 * 192 * width
    assert ventral['one view'] == pytest.approx(cost / 1e9, abs=0.05)
    assert joint['one view'] > 3 * cost / 1e9


def test_a_recipe_for_finetuning(get_flops):
    pytest.importorskip('mmaction', reason='the recipes are mmaction2')
    result = get_flops(REPO / 'configs/bimm/finetune_ssv2_vitb.py')
    assert result['parameters'] == pytest.approx(87, rel=0.01)
    assert result['one view'] == pytest.approx(180, rel=0.01)
    assert result['test'] == pytest.approx(2 * 3 * result['one view'], rel=0.001)


@pytest.mark.parametrize(
    'pipeline, views',
    [
        ([], Views(1, 1, (16, 224, 224))),
        (
            [
                dict(type='DenseSampleFrames', clip_len=8, num_clips=1),
                dict(type='TenCrop', crop_size=(112, 128)),
            ],
            Views(10, 10, (8, 112, 128)),
        ),
        (
            [
                dict(type='mmaction.UniformSample', clip_len=16, num_clips=2),
                dict(type='mmaction.CenterCrop', crop_size=320),
            ],
            Views(2, 1, (16, 320, 320)),
        ),
    ],
)
def test_views_are_read_from_the_test_pipeline(pipeline, views):
    cfg = ConfigDict(
        model=dict(backbone=dict(type='BimmViT', num_frames=16)),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    assert test_views(cfg) == views
