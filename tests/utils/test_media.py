"""Which files of a folder are videos and images."""

import pytest

from bimm_mm.utils.media import IMAGES, VIDEOS, list_media


def test_files_are_found_in_subfolders_and_behind_links_but_not_hidden_ones(tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    folder = tmp_path / 'videos'
    for path in ('a.MP4', 'class b/c d.webm', '._a.mp4', '.cache/e.mp4', 'notes.txt', 'f.jpg'):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    elsewhere.mkdir()
    (elsewhere / 'g.avi').touch()
    (folder / 'linked').symlink_to(elsewhere)
    assert list_media(folder, VIDEOS) == ['a.MP4', 'class b/c d.webm', 'linked/g.avi']
    assert list_media(folder, IMAGES) == ['f.jpg']
    assert len(list_media(folder)) == 4


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such folder: .*nothing'):
        list_media(tmp_path / 'nothing')
    with pytest.raises(FileNotFoundError, match=f'{tmp_path} holds no file ending in .mp4'):
        list_media(tmp_path, ['.mp4'])
