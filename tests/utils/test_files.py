"""Files are written whole or not at all."""

import errno
import os

import pytest

from bimm_mm.utils import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('step', ['write', 'fsync', 'replace'])
def test_where_writing_fails_the_file_is_as_before(tmp_path, monkeypatch, step):
    path = tmp_path / 'file'
    path.write_text('before')

    def fail(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    if step == 'write':
        write = fail
    else:
        monkeypatch.setattr(files.os, step, fail)
        write = lambda file: file.write(b'after')  # noqa: E731
    with pytest.raises(files.WriteError, match='file: the disk is full .No space left') as error:
        files.write_whole(path, write)
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == 'before' and names(tmp_path) == ['file']


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / 'usual').touch()
    files.write_text(tmp_path / 'whole', 'text')
    assert (tmp_path / 'whole').stat().st_mode == (tmp_path / 'usual').stat().st_mode
    assert (tmp_path / 'whole').read_text() == 'text'


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    for name in ('.new.tmp', 'new'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'part').write_text(name)
    files.finish(tmp_path / '.new.tmp', tmp_path / 'new')
    assert names(tmp_path) == ['new'] and (tmp_path / 'new/part').read_text() == '.new.tmp'


def test_what_was_left_unfinished_is_removed_and_nothing_else(tmp_path):
    (tmp_path / '.folder.tmp').mkdir()
    for name in ('.file.tmp', '.hidden', 'file.tmp'):
        (tmp_path / name).touch()
    assert files.remove_unfinished(tmp_path) == ['.file.tmp', '.folder.tmp']
    assert names(tmp_path) == ['.hidden', 'file.tmp']


def test_a_folder_is_created_and_tried(tmp_path):
    files.check_writable(tmp_path / 'a' / 'b')
    assert names(tmp_path / 'a' / 'b') == []
    (tmp_path / 'file').touch()
    with pytest.raises(files.WriteError, match='file/b: a part of the path is no folder'):
        files.check_writable(tmp_path / 'file' / 'b')


@pytest.mark.parametrize(
    ('number', 'said'),
    [
        (errno.EROFS, 'the file system is read-only'),
        (errno.ESTALE, 'the network file system was lost'),
        (errno.EACCES, 'no permission'),
    ],
)
def test_reasons_are_told_in_plain_words(number, said):
    error = files.explain(OSError(number, os.strerror(number)), 'x.pth')
    assert str(error) == f'cannot write x.pth: {said} ({os.strerror(number)})'
    assert files.explain(error, 'y.pth') is error


def test_the_cause_of_an_error_of_torch_is_found():
    try:
        try:
            raise OSError(errno.ENOSPC, 'No space left on device')
        except OSError:
            raise RuntimeError('unexpected pos 704 vs 598') from None
    except RuntimeError as error:
        assert 'the disk is full' in str(files.explain(error, 'x.pth'))
