"""A folder per class, or a list, becomes a data set with a split that stays."""

import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction', reason='the data set is built on mmaction2s')

from mmengine.registry import DATASETS, init_default_scope  # noqa: E402

from bimm_mm.datasets import class_folders  # noqa: E402

CLASSES = {'cat nap': 5, 'dog run': 3, 'one': 1}


def write_video(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (32, 24))
    for _ in range(4):
        writer.write(np.zeros((24, 32, 3), np.uint8))
    writer.release()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three classes, one with a folder in it, and what is not a video."""
    root = tmp_path_factory.mktemp('own videos')
    for name, count in CLASSES.items():
        for index in range(count):
            inside = 'by day' if index == 0 and count > 1 else '.'
            write_video(root / name / inside / f'a clip {index}.mp4')
    (root / 'cat nap' / 'notes.txt').write_text('no video')
    (root / '.hidden').mkdir()
    return root


def build(root, split='all', num_classes=3, type='ClassFolderDataset', **kwargs):
    init_default_scope('mmaction')
    cfg = dict(type=type, data_root=str(root), split=split, num_classes=num_classes, **kwargs)
    pipeline = [dict(type='DecordInit'), dict(type='SampleFrames', clip_len=2)]
    return DATASETS.build(dict(cfg, pipeline=[*pipeline, dict(type='DecordDecode')]))


def files(dataset):
    return {
        info['filename']: info['label'] for info in map(dataset.get_data_info, range(len(dataset)))
    }


def test_classes_are_the_folders_and_splits_are_apart(folder):
    everything, train, val = (build(folder, split) for split in ('all', 'train', 'val'))
    assert everything.metainfo['classes'] == tuple(CLASSES)
    assert len(everything) == 9
    assert files(train) | files(val) == files(everything)
    assert not set(files(train)) & set(files(val))
    labels = sorted(files(val).values())
    assert labels == [0, 1]  # a fifth, at least one of two; the only video of a class is trained on


def test_the_split_depends_on_the_seed_and_not_on_other_classes(folder, tmp_path):
    first = files(build(folder, 'val', val_share=0.5))
    assert files(build(folder, 'val', val_share=0.5)) == first
    others = [files(build(folder, 'val', val_share=0.5, seed=seed)) for seed in range(1, 6)]
    assert any(other != first for other in others)

    for name in CLASSES:
        (tmp_path / name).symlink_to(folder / name)
    write_video(tmp_path / 'bird' / '0.mp4')
    more = build(tmp_path, 'val', num_classes=4, val_share=0.5)
    same = {path.replace(str(tmp_path), str(folder)) for path in files(more) if 'bird' not in path}
    assert same == set(first)


def test_a_split_by_hand(folder, tmp_path):
    write_video(tmp_path / 'train' / 'a' / '0.mp4')
    write_video(tmp_path / 'train' / 'b' / '1.mp4')
    write_video(tmp_path / 'val' / 'b' / '2.mp4')
    train, val, everything = (build(tmp_path, s, num_classes=2) for s in ('train', 'val', 'all'))
    assert [len(train), len(val), len(everything)] == [2, 1, 3]
    assert files(val) == {str(tmp_path / 'val' / 'b' / '2.mp4'): 1}  # it lacks a


@pytest.mark.parametrize(
    'lines',
    [
        'cat nap/a clip 1.mp4 cat nap\ndog run/a clip 1.mp4 dog run\n\n',
        'cat nap/a clip 1.mp4,cat nap\ndog run/a clip 1.mp4,dog run\n',
        'cat nap/a clip 1.mp4\tcat nap\ndog run/a clip 1.MP4\tdog run\n',
        'cat nap/a clip 1.mp4 0\ndog run/a clip 1.mp4 1\n',
    ],
)
def test_a_list_with_blanks_in_paths_and_names(folder, lines):
    (folder / 'list.txt').write_text(lines)
    dataset = build(folder, num_classes=2, ann_file='list.txt')
    assert sorted(files(dataset).values()) == [0, 1]
    numbers = '0' in lines.splitlines()[0][-1]
    assert dataset.metainfo['classes'] == (('0', '1') if numbers else ('cat nap', 'dog run'))


@pytest.mark.parametrize(
    'kwargs, error, message',
    [
        (
            dict(num_classes=5),
            ValueError,
            'has 3 classes: cat nap, dog run, one. Set num_classes=3',
        ),
        (dict(split='test'), ValueError, "split='test' must be one of train, val, all"),
        (dict(val_share=1.0), ValueError, 'val_share=1.0 must be'),
        (dict(ann_file='nowhere.txt'), FileNotFoundError, 'nowhere.txt'),
        (dict(ann_file='bad.txt'), ValueError, r"line 2 of .* but is 'dog run/1.mp4'"),
    ],
)
def test_mistakes_are_named(folder, kwargs, error, message):
    (folder / 'bad.txt').write_text('cat nap/1.mp4 0\ndog run/1.mp4\n')
    with pytest.raises(error, match=message):
        build(folder, **kwargs)


def test_a_folder_without_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match='a folder for each class is needed'):
        build(tmp_path)


def test_several_clips_of_a_video(folder):
    dataset = build(folder, 'train', type='RepeatedClassFolderDataset', num_repeats=2)
    assert len(dataset) == 7 and dataset.num_repeats == 2


def test_class_names_of_numbers_are_all_numbers_up_to_the_largest():
    assert class_folders.class_names(['3', '1']) == ['0', '1', '2', '3']
