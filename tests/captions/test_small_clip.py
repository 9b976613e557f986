"""A CLIP of one's own clips and captions, made by the tool and read by the guide."""

import re

import pytest
import torch

pytest.importorskip('transformers', reason='needs transformers')

from bimm_mm.captions.small_clip import SmallClip  # noqa: E402
from bimm_mm.models.guides import ClipGuide  # noqa: E402

TOOL = 'tools/dataset_converters/make_small_clip.py'
CONFIG = 'configs/tgm/demo/tgm_shapes.py'


def test_the_tool_writes_what_the_guide_reads(tmp_path, call_tool, capsys):
    folder = tmp_path / 'clip'
    call_tool(TOOL, CONFIG, folder, '--iters', 2, '--batch-size', 4)
    assert 'a CLIP for frames of 32x32 pixels' in capsys.readouterr().out
    guide = ClipGuide(str(folder))
    texts = ['a dotted ring moves up', 'a plus moves left', 'a dotted ring moves up']
    scores = guide(torch.rand(1, 3, 8, 32, 32).expand(3, -1, -1, -1, -1), texts, (4, 4, 4))
    assert scores.shape == (3, 4, 4, 4)
    assert torch.equal(scores[0], scores[2]) and not torch.equal(scores[0], scores[1])


def test_it_learns_which_caption_belongs_to_a_frame_and_where_it_speaks_of(tmp_path):
    torch.manual_seed(0)
    colors = dict(red=0, green=1, blue=2)
    frames = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    for row, channel in enumerate(colors.values()):
        frames[row, channel, :8, 8:] = 255  # the second of four patches
    clip = SmallClip(tmp_path, list(colors), 16, 8)
    history = list(clip.train(lambda: (frames, list(colors)), 150))
    assert all(last < 0.4 * first for first, last in zip(history[0], history[-1], strict=True))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('--patch-size', 5), '--patch-size 5 must divide square frames, .* 32x32 pixels'),
        (('--iters', 0), '--iters 0 must be at least 1'),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, call_tool, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        call_tool(TOOL, CONFIG, tmp_path / 'clip', *arguments)
    said = str(stop.value) + capsys.readouterr().err
    assert re.search(message, said)
    assert not (tmp_path / 'clip').exists()


def test_clips_without_captions_are_refused(tmp_path, call_tool):
    with pytest.raises(SystemExit, match='sample [0-9]+ of the training data has no caption'):
        call_tool(TOOL, 'configs/bimm/demo/joint_shapes.py', tmp_path / 'clip')


def test_a_config_without_training_data_is_refused(tmp_path, call_tool):
    config = tmp_path / 'empty.py'
    config.write_text("default_scope = 'mmengine'\n")
    with pytest.raises(SystemExit, match='empty.py has no train_dataloader'):
        call_tool(TOOL, config, tmp_path / 'clip')
