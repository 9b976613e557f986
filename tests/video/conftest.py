"""Odd videos, made once for all tests of this folder."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import odd_videos  # noqa: E402

DATA = Path(os.environ.get('BIMM_TEST_DATA', Path(__file__).parents[3] / 'shared' / 'data'))


@pytest.fixture(scope='session')
def ffmpeg() -> str:
    package = pytest.importorskip('imageio_ffmpeg', reason='its ffmpeg makes the odd videos')
    return package.get_ffmpeg_exe()


@pytest.fixture(scope='session')
def odd(ffmpeg, tmp_path_factory) -> Path:
    """A folder of odd videos."""
    folder = tmp_path_factory.mktemp('odd')
    missing = set(odd_videos.VIDEOS) - set(odd_videos.make(folder, ffmpeg))
    assert not missing
    return folder


@pytest.fixture
def path(odd, name) -> str:
    """A real clip or an odd video."""
    if name not in odd_videos.CLIPS:
        return str(odd / name)
    if not (DATA / 'clips' / name).is_file():
        pytest.skip(f'no {name} in {DATA}/clips; BIMM_TEST_DATA names another folder')
    return str(DATA / 'clips' / name)
