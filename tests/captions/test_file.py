import json

import pytest

from bimm_mm.captions.file import CaptionError, CaptionFile, format_line


def test_captions_are_found_by_the_path_of_their_video(tmp_path):
    path = tmp_path / 'captions.jsonl'
    texts = {f'class {i % 7}/vidéo {i}.mp4': [f'caption {i}', 'ein Ball 🏀'] for i in range(500)}
    path.write_text(''.join(format_line(*item) for item in texts.items()) + '\n\n')
    captions = CaptionFile(path)
    assert len(captions) == 500
    assert all(captions.get(name) == found for name, found in texts.items())
    assert captions.get('class 1/another.mp4') == []


def test_the_parts_that_processes_wrote_are_read_together(tmp_path):
    for part in range(3):
        text = format_line(f'{part}.mp4', [f'caption {part}'])
        (tmp_path / f'captions.{part}_of_3.jsonl').write_text(text)
    captions = CaptionFile(tmp_path / 'captions.*_of_3.jsonl')
    assert [captions.get(f'{part}.mp4') for part in range(3)] == [
        [f'caption {i}'] for i in range(3)
    ]
    with pytest.raises(FileNotFoundError, match='bimm make-captions makes one'):
        CaptionFile(tmp_path / 'others.*.jsonl')


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('a.mp4 a cat', 'line 2: not JSON'),
        ('["a.mp4", "a cat"]', 'line 2: no path'),
        ('{"path": "a.mp4", "captions": "a cat"}', "line 2: captions='a cat' is not a list"),
        ('{"path": "a.mp4", "captions": [""]}', 'is not a list of texts'),
        ('{"path": "a.mp4", "captions": []}', 'is empty'),
        ('{"path": "b.mp4", "captions": ["a dog"]}', "'b.mp4' in two lines"),
    ],
)
def test_a_line_that_is_none_is_named(line, message, tmp_path):
    path = tmp_path / 'captions.jsonl'
    path.write_text(json.dumps(dict(path='b.mp4', captions=['a cat'])) + f'\n{line}\n')
    with pytest.raises(CaptionError, match=message):
        CaptionFile(path)
