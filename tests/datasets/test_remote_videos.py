"""Videos of a storage that only hands out bytes, as mmengine's remote backends do."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.fileio import LocalBackend, register_backend

pytest.importorskip('mmaction', reason='needs mmaction2')
pytest.importorskip('av', reason='decodes the videos')

from bimm_mm.datasets.video import VideoFolderDataset  # noqa: E402

PREFIX = 'bimmtest'


@register_backend(PREFIX, prefixes=PREFIX)
class Storage(LocalBackend):
    """A local folder behind a prefix."""

    root = ''
    asked: list[str] = []

    def path(self, name):
        return str(name).replace(f'{PREFIX}:/', self.root)

    def get(self, filepath):
        self.asked.append(str(filepath))
        return super().get(self.path(filepath))

    def exists(self, filepath):
        return super().exists(self.path(filepath))

    def isdir(self, filepath):
        return super().isdir(self.path(filepath))

    def list_dir_or_file(self, dir_path, *args, **kwargs):
        return super().list_dir_or_file(self.path(dir_path), *args, **kwargs)


def dataset(root, **init):
    pipeline = [
        dict(type='VideoInit', **init),
        dict(type='mmaction.SampleFrames', clip_len=4, frame_interval=1, test_mode=True),
        dict(type='VideoDecode'),
        dict(type='mmaction.FormatShape', input_format='NCTHW'),
        dict(type='mmaction.PackActionInputs'),
    ]
    return VideoFolderDataset(data_root=root, pipeline=pipeline, test_mode=True)


@pytest.mark.parametrize('init', [{}, dict(backend_args=dict(backend=PREFIX))], ids=str)
@pytest.mark.parametrize('timeout', [60.0, None])
def test_remote_videos_are_listed_and_decoded_from_memory(tmp_path, monkeypatch, init, timeout):
    (tmp_path / 'videos').mkdir()
    for name in ('a', 'b'):
        writer = cv2.VideoWriter(
            str(tmp_path / 'videos' / f'{name}.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48)
        )
        for level in range(20):
            writer.write(np.full((48, 64, 3), 10 * level + ord(name) % 2, np.uint8))
        writer.release()
    monkeypatch.setattr(Storage, 'root', str(tmp_path))
    monkeypatch.setattr(Storage, 'asked', [])
    remote = dataset(f'{PREFIX}://videos', timeout=timeout, **init)
    local = dataset(str(tmp_path / 'videos'))
    assert len(remote) == len(local) == 2
    for index in range(2):
        assert torch.equal(remote[index]['inputs'], local[index]['inputs'])
    assert Storage.asked == [f'{PREFIX}://videos/a.avi', f'{PREFIX}://videos/b.avi']
