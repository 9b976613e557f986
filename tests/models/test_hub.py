"""Encoders go into a folder of the hub's layout and come back, without the four libraries."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from bimm_mm.models import BimmViT, VimpacViT
from bimm_mm.models.encoders import load_encoder
from bimm_mm.models.hub import export_pretrained
from bimm_mm.models.model_card import model_card

SMALL = dict(arch=dict(embed_dims=16, depth=2, num_heads=2), img_size=16, patch_size=8)
VIDEO = dict(SMALL, num_frames=4, stage_ends=(1, 2))
RUN = dict(
    stage='joint', epoch=800, recipe='joint_k400_vitb.py', data=['VideoFolderDataset data/k400']
)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A pretraining checkpoint with a dorsal encoder, as the hook describes it; and the encoder."""
    torch.manual_seed(0)
    encoder = BimmViT(**VIDEO).eval()
    state = {f'dorsal.backbone.{key}': value for key, value in encoder.state_dict().items()}
    meta = dict(RUN, backbones=dict(dorsal=dict(VIDEO, type='mmengine.BimmViT')))
    path = tmp_path_factory.mktemp('run') / 'epoch_800.pth'
    torch.save(dict(state_dict=state, meta=meta), path)
    return path, encoder


@pytest.mark.parametrize('make', [lambda: BimmViT(**VIDEO), lambda: BimmViT(**SMALL)])
def test_what_is_saved_comes_back_with_settings_of_ones_own(make, tmp_path):
    encoder = make().eval()
    encoder.save_pretrained(tmp_path)
    again = type(encoder).from_pretrained(tmp_path)
    x = torch.randn(2, 3, *((4,) if encoder.is_video else ()), 16, 16)
    assert torch.equal(again(x)[-1], encoder(x)[-1]) and not again.training
    mean = type(encoder).from_pretrained(tmp_path, out_type='avg_featmap')
    assert mean(x)[-1].shape == (2, 16) and not torch.equal(mean(x)[-1], encoder(x)[-1])
    again.save_pretrained(tmp_path / 'second')
    first, second = (
        json.loads((f / 'config.json').read_text()) for f in (tmp_path, tmp_path / 'second')
    )
    assert first == second


def test_encoders_of_codes_too(tmp_path):
    arch = dict(embed_dims=16, depth=1, num_heads=2)
    encoder = VimpacViT(arch, grid_size=(2, 4, 4), num_codes=8, attention='joint').eval()
    encoder.save_pretrained(tmp_path)
    codes = torch.randint(8, (2, 2, 4, 4))
    assert torch.equal(VimpacViT.from_pretrained(tmp_path)(codes)[-1], encoder(codes)[-1])
    assert load_encoder(tmp_path)(codes).tokens.shape == (2, 32, 16)
    with pytest.raises(
        ValueError, match='holds a VimpacViT, not a BimmViT: use VimpacViT.from_pre'
    ):
        BimmViT.from_pretrained(tmp_path)


def test_the_card_says_what_the_checkpoint_knows_of_its_run(checkpoint, tmp_path):
    path, encoder = checkpoint
    export_pretrained(path, tmp_path, 'dorsal', 'cc-by-nc-4.0', {'UCF101, k-NN': '71.3 %'})
    again = BimmViT.from_pretrained(tmp_path)
    assert again.run == RUN | dict(branch='dorsal', stage='dorsal')
    x = torch.randn(1, 3, 4, 16, 16)
    assert torch.equal(again(x)[-1], encoder(x)[-1])
    assert torch.equal(load_encoder(tmp_path)(x).cls_token, again(x)[-1])
    _, front, text = (tmp_path / 'README.md').read_text().split('---\n', 2)
    assert yaml.safe_load(front)['license'] == 'cc-by-nc-4.0'
    for row in (
        '# joint_k400_vitb\n',
        '| data | VideoFolderDataset data/k400 |',
        '| epochs | 800 |',
        '| iterations | not known |',
        '| UCF101, k-NN | 71.3 % |',
    ):
        assert row in text
    again.save_pretrained(tmp_path / 'second', 'cc-by-nc-4.0', {'UCF101, k-NN': '71.3 %'})
    assert '| epochs | 800 |' in (tmp_path / 'second/README.md').read_text()  # it is passed on


def test_the_card_has_no_path_of_the_machine():
    card = model_card('BimmViT', {}, 1, dict(data=['VideoFolderDataset /home/me/my clips']))
    assert '| data | VideoFolderDataset my clips |' in card
    card = model_card('BimmViT', {}, 1, dict(data=['ListDataset data/k400 /home/me/list.txt']))
    assert '| data | ListDataset data/k400 list.txt |' in card


def test_the_tool_writes_and_uploads_such_a_folder(
    checkpoint, tmp_path, call_tool, monkeypatch, capsys
):
    hub = pytest.importorskip('huggingface_hub')
    sent = []

    class Api:
        def __init__(self, token):
            pass

        def create_repo(self, repo_id, private, exist_ok):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, commit_message):
            sent.append((repo_id, folder_path))
            return SimpleNamespace(commit_url=f'https://hub/{repo_id}/commit/1')

    monkeypatch.setattr(hub, 'HfApi', Api)
    tool = 'tools/model_converters/export_branch.py'
    arguments = checkpoint[0], tmp_path / 'out', '--branch', 'dorsal'
    call_tool(tool, *arguments, '--format', 'hub', '--push', 'me/bimm')
    assert sent == [('me/bimm', str(tmp_path / 'out'))]
    assert 'https://hub/me/bimm/commit/1' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_tool(tool, *arguments, '--push', 'me/bimm')
    assert '--push belong to --format hub' in capsys.readouterr().err


def test_a_repository_is_downloaded_once_it_is_not_a_folder(checkpoint, tmp_path, monkeypatch):
    hub = pytest.importorskip('huggingface_hub')
    export_pretrained(checkpoint[0], tmp_path, 'dorsal')
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options.get('revision'), options['allow_patterns']))
        return str(tmp_path)

    monkeypatch.setattr(hub, 'snapshot_download', snapshot_download)
    assert BimmViT.from_pretrained('me/bimm', revision='v1').depth == 2
    assert asked == [('me/bimm', 'v1', ['config.json', 'model.safetensors'])]
    assert load_encoder('me/bimm').backbone.depth == 2


def test_what_is_not_there_or_of_another_kind_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(FileNotFoundError, match='no folder .*nobody/nothing, and no repository'):
        BimmViT.from_pretrained('nobody/nothing', local_files_only=True)
    with pytest.raises(ValueError, match='is a file, not a folder: use bimm_mm.apis.load_encoder'):
        BimmViT.from_pretrained(checkpoint[0])
    (tmp_path / 'config.json').write_text('{"model_type": "videomae"}')
    with pytest.raises(ValueError, match='was not written by save_pretrained'):
        BimmViT.from_pretrained(tmp_path)
    export_pretrained(checkpoint[0], tmp_path, 'dorsal')
    with pytest.raises(ValueError, match='BimmViT has no argument out_typ'):
        BimmViT.from_pretrained(tmp_path, out_typ='raw')
    with pytest.raises(ValueError, match='does not fit BimmViT'):
        BimmViT.from_pretrained(tmp_path, stage_ends=(1, 3), arch=dict(SMALL['arch'], depth=3))


def test_it_loads_where_none_of_the_four_libraries_is(checkpoint, tmp_path):
    export_pretrained(checkpoint[0], tmp_path, 'dorsal')
    code = f"""
import sys
for name in ('mmaction', 'mmpretrain', 'mmdet', 'mmseg', 'huggingface_hub', 'transformers'):
    sys.modules[name] = None
from bimm_mm.models import BimmViT
print(BimmViT.from_pretrained({str(tmp_path)!r}).depth)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout.strip() == '2', result.stderr
