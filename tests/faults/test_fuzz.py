"""Broken files of all kinds go through the training pipelines, and no sample is lost.

``BIMM_LONG_TESTS=1 python -m pytest tests/faults -s`` feeds 1,000 of them and prints the figures.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Subset

pytest.importorskip('mmaction', reason='needs mmaction2')
pytest.importorskip('decord', reason='needs decord')
pytest.importorskip('mmpretrain', reason='needs mmpretrain')

import bimm_mm.datasets.image  # noqa: E402
import bimm_mm.datasets.video  # noqa: E402, F401

sys.path.insert(0, str(Path(__file__).parent))
import mutations  # noqa: E402

BASE = Path(__file__).parents[2] / 'configs' / '_base_'
COUNT = 500 if os.environ.get('BIMM_LONG_TESTS') else 30  # of each kind
GOOD = COUNT // 2  # whole files to replace broken ones by
KINDS = {
    'videos by decord': dict(config='k400.py', shape=(3, 16, 224, 224), backend='decord'),
    'videos by torchcodec': dict(config='k400.py', shape=(3, 16, 224, 224), backend='torchcodec'),
    'videos': dict(config='k400.py', shape=(3, 16, 224, 224)),
    'images': dict(config='in1k.py', shape=(3, 224, 224)),
}


@pytest.fixture(scope='module')
def sources(tmp_path_factory) -> dict[str, list[Path]]:
    """Whole files: self-made ones, and where they are real ones (the short of the clips)."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ('videos', 'images')}
    made = {
        'videos': mutations.make_clips(folders['videos']),
        'images': mutations.make_images(folders['images']),
    }
    assert all(len(files) > 1 for files in made.values()), made
    clips = mutations.real_files('clips')
    most = 10**6 if COUNT > 100 else 200_000
    made['videos'] += [path for path in clips if path.stat().st_size < most] * 2
    made['images'] += mutations.real_files('images') * 2
    return made


@pytest.mark.parametrize('kind', KINDS)
def test_broken_files_lose_no_sample(kind, sources, tmp_path, capfd):
    if kind == 'videos by torchcodec':
        needs_torchcodec()
    whole, foreign = sources['videos'], sources['images']
    if kind == 'images':
        whole, foreign = foreign, whole
    broken = mutations.make_broken(tmp_path, whole, foreign, COUNT, seed=1)
    good = {}
    for number in range(GOOD):
        source = whole[number % len(whole)]
        link = tmp_path / f'good_{number:04d}{source.suffix}'
        link.symlink_to(source)
        good[link.name] = 'whole'
    dataset = build(kind, tmp_path, [*broken, *good])
    asked = [*range(len(broken)), *range(len(broken), len(broken) + 10)]  # 10 whole ones, too
    loader = Runner.build_dataloader(
        dict(
            dataset=Subset(dataset, asked),
            batch_size=10,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        seed=0,
    )
    preprocessor = MODELS.build(dict(type='ClipDataPreprocessor'))
    delivered, reasons = 0, {}
    for batch in loader:
        inputs = preprocessor(batch, training=True)['inputs']
        assert inputs.shape[1:] == KINDS[kind]['shape'] and inputs.dtype == torch.float32
        assert inputs.isfinite().all()
        delivered += len(inputs)
        for sample in batch['data_samples']:
            reasons |= {Path(path).name: reason for path, reason in sample.get('replaced', [])}
    assert delivered == len(asked)  # no sample is lost
    assert not reasons.keys() & good.keys()  # and no whole file is taken for a broken one
    ways = Counter(broken.values())
    replaced = Counter(broken[name] for name in reasons)
    for way in ('empty', 'text', 'vanished', 'a folder', 'random bytes', 'wrong ending'):
        assert replaced[way] == ways[way], way
    capfd.readouterr()  # ffmpeg's complaints
    with capfd.disabled():
        report(kind, ways, replaced, reasons, len(asked) - delivered)


def needs_torchcodec() -> None:
    """Skip where it is not installed, or does not find FFmpeg's libraries."""
    pytest.importorskip('torchcodec', reason='is the backend')
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f'torchcodec cannot be imported: {error}'.partition('\n')[0])


def build(kind: str, folder: Path, names: list[str]):
    """The data set of a recipe, on a list of files."""
    cfg = Config.fromfile(BASE / KINDS[kind]['config']).train_dataloader.dataset
    label = ' 0' if kind == 'images' else ''
    if 'backend' in KINDS[kind]:
        cfg.pipeline[0].backend = KINDS[kind]['backend']
    (folder / 'list').write_text(''.join(f'{name}{label}\n' for name in names))
    cfg.update(dict(data_root=str(folder), ann_file='list'))
    if kind == 'images':
        cfg.update(dict(data_prefix='', with_label=True))
    return DATASETS.build(cfg)


def report(kind, ways, replaced, reasons, lost):
    """Print the figures."""
    print(f'\n{sum(ways.values())} broken {kind}: {sum(replaced.values())} replaced, ', end='')
    print(f'{sum(ways.values()) - sum(replaced.values())} decoded, samples lost: {lost or "none"}')
    for way, count in ways.items():
        print(f'  {way:20} {count:4} files, {replaced[way]:4} replaced')
    for what in ('crashed', 'took longer'):
        print(f'  the decoder {what}: {sum(what in reason for reason in reasons.values())}')
