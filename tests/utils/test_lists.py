"""Lists are read alike by all tools, however their columns are parted."""

import pytest

from bimm_mm.utils.lists import list_of, read_list


@pytest.fixture
def read(tmp_path):
    def read(text: bytes | str, delimiter=None):
        (tmp_path / 'list.txt').write_bytes(text.encode() if isinstance(text, str) else text)
        return read_list(tmp_path / 'list.txt', delimiter)

    return read


@pytest.mark.parametrize(
    ('line', 'path', 'fields'),
    [
        ('a.mp4 0', 'a.mp4', ('0',)),
        ('a.mp4', 'a.mp4', ()),
        ('a.mp4\t0', 'a.mp4', ('0',)),
        ('a.mp4,0', 'a.mp4', ('0',)),
        ('a.mp4, 0 ', 'a.mp4', ('0',)),
        ('a.mp4  0', 'a.mp4', ('0',)),
        ('a.mp4 60 0', 'a.mp4', ('60', '0')),
        ('a.mp4 1 5 7', 'a.mp4', ('1', '5', '7')),
        ('a.mp4 0.25 -3e-1', 'a.mp4', ('0.25', '-3e-1')),
        ('drinking (31).mp4 1', 'drinking (31).mp4', ('1',)),
        ('x/copy of a.mp4 b.MP4 1', 'x/copy of a.mp4 b.MP4', ('1',)),
        ('Smith, J. 3.avi 1', 'Smith, J. 3.avi', ('1',)),
        ('/data/v.mp4/7.webm 2', '/data/v.mp4/7.webm', ('2',)),
        ('78687 3', '78687', ('3',)),
        ('frames/v 1 60 0', 'frames/v', ('1', '60', '0')),
        ('frames/my video', 'frames/my video', ()),
        ('a.mp4 0\r', 'a.mp4', ('0',)),
        ('a.mp4 dog', 'a.mp4', ('dog',)),
    ],
)
def test_a_line_is_a_path_and_fields(read, line, path, fields):
    for text in (f'{line}\n', line, f'\n\n{line}\n\nb.mp4 1\n'):
        entry = read(text)[0]
        assert (entry.path, entry.fields) == (path, fields)


def test_a_delimiter_ends_the_path(read):
    assert [(e.path, e.fields) for e in read('a.mp4 b 7|3\nc|4\n', '|')] == [
        ('a.mp4 b 7', ('3',)),
        ('c', ('4',)),
    ]
    assert read('a b.mp4 3', ' ')[0].path == 'a b.mp4'  # mmaction2's default


def test_a_byte_order_mark_is_no_part_of_a_name(read):
    assert read('\ufeffa.mp4 0\n')[0].path == 'a.mp4'


def test_names_that_are_not_utf8_are_kept(read):
    entry = read(b'caf\xe9.mp4 1\n')[0]
    assert entry.path.encode('utf-8', 'surrogateescape') == b'caf\xe9.mp4' and entry.label() == 1


def test_labels(read):
    assert [entry.label() for entry in read('a.mp4 60 7\nb.mp4 3\nc.mp4\n')] == [7, 3, -1]
    assert read('a.mp4 1 2\n')[0].labels() == [1, 2]
    assert read('a.mp4 1.5 2\n')[0].numbers() == [1.5, 2.0]


@pytest.mark.parametrize(
    ('line', 'method', 'message'),
    [
        ('a.mp4 dog', 'label', r"list.txt, line 2: 'dog' is not an integer in 'a.mp4 dog'"),
        ('a.mp4 1 2 3', 'label', r'list.txt, line 2: .* number of frames \(or not\) and a label'),
        ('a.mp4 1 x', 'labels', r"list.txt, line 2: 'x' is not an integer"),
        ('a.mp4', 'numbers', r'list.txt, line 2: no number follows'),
        ('a.mp4 y', 'numbers', r"list.txt, line 2: 'y' is not a number"),
    ],
)
def test_mistakes_name_file_and_line(read, line, method, message):
    with pytest.raises(ValueError, match=message):
        getattr(read(f'\n{line}\n')[0], method)()


def test_an_empty_list_is_refused(read):
    with pytest.raises(ValueError, match='list.txt is empty'):
        read('\n \n')
    with pytest.raises(FileNotFoundError):
        read_list('nowhere.txt')


def test_paths_below_a_folder(read):
    entries = read('/data/v/x/a.mp4 0\nx/../b.mp4 0\n../c.mp4 0\n/elsewhere/d.mp4 0\n')
    assert [entry.below('/data/v') for entry in list(entries)[:2]] == ['x/a.mp4', 'b.mp4']
    for number in (3, 4):
        with pytest.raises(ValueError, match=rf"line {number}: .* in the folder '/data/v'"):
            entries[number - 1].below('/data/v')


def test_names_from_elsewhere_make_a_list_too():
    names = ['a b.mp4', 'caf\udce9.mp4', 'x/y.avi']
    entries = list_of(names, 'folder')
    assert list(entries.paths()) == names and entries[0].fields == ()
    assert list(entries.take([2, 0]).paths()) == ['x/y.avi', 'a b.mp4']
