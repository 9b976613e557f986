import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from bimm_mm.config.check import ConfigError
from bimm_mm.datasets.broken import BrokenSampleError, ReplaceBroken
from bimm_mm.engine.runner import check_evaluation


class Numbers(ReplaceBroken, BaseDataset):
    """Samples whose input is their number; those of ``broken`` fail, after some random draws."""

    def __init__(self, length, broken=(), draws=0, test_mode=False, failure=None):
        self.length, self.broken, self.draws = length, broken, draws
        self.failure = failure or OSError(5, 'Input/output error')
        super().__init__(pipeline=[self.make], test_mode=test_mode)

    def load_data_list(self):
        return [dict(filename=f'{number}.mp4', number=number) for number in range(self.length)]

    def make(self, results):
        if results['number'] in self.broken:
            for _ in range(self.draws):
                random.random(), np.random.random(), torch.rand(1)
            raise self.failure
        noise = random.random() + np.random.random() + torch.rand(1).item()
        return dict(inputs=results['number'], noise=noise, data_samples=BaseDataElement())


def draw(dataset, index, seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return dataset[index]


def test_good_sample_is_as_without():
    sample = draw(Numbers(5), 2)
    assert sample['inputs'] == 2 and 'replaced' not in sample['data_samples']
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert sample['noise'] == random.random() + np.random.random() + torch.rand(1).item()


def test_broken_sample_is_replaced_and_told():
    dataset = Numbers(5, broken=[2])
    others = set()
    for seed in range(40):
        sample = draw(dataset, 2, seed)
        assert sample['data_samples'].replaced == [('2.mp4', 'Input/output error')]
        others.add(sample['inputs'])
    assert others == {0, 1, 3, 4}


def test_replacement_depends_on_the_seed_alone():
    few, many = Numbers(30, broken=[3], draws=0), Numbers(30, broken=[3], draws=7)
    for seed in range(10):
        a, b = draw(few, 3, seed), draw(many, 3, seed)
        assert (a['inputs'], a['noise']) == (b['inputs'], b['noise'])
    assert len({draw(few, 3, seed)['inputs'] for seed in range(10)}) > 3


def test_all_broken_ones_that_are_met_are_told():
    dataset = Numbers(10, broken=range(9))  # one good sample is found, whatever is drawn
    for seed in range(5):
        sample = draw(dataset, 0, seed)
        assert sample['inputs'] == 9
        paths = [path for path, _ in sample['data_samples'].replaced]
        assert paths[0] == '0.mp4' and len(set(paths)) == len(paths) <= 9


def test_ten_in_a_row_or_all_end_it():
    with pytest.raises(BrokenSampleError, match='^10 samples in a row .* lost mount') as error:
        draw(Numbers(1000, broken=range(1000)), 7)
    assert len(str(error.value).splitlines()) == 11
    assert '\n  7.mp4: Input/output error\n' in str(error.value)
    with pytest.raises(BrokenSampleError, match='^All 3 samples are broken'):
        draw(Numbers(3, broken=range(3)), 0)


def test_evaluation_replaces_nothing():
    dataset = Numbers(5, broken=[2], test_mode=True)
    assert dataset[1]['inputs'] == 1
    with pytest.raises(BrokenSampleError, match="failed on '2.mp4': Input.*mend the file or take"):
        dataset[2]


def test_missing_files_are_told_without_opening_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('0.mp4', '2.mp4'):
        (tmp_path / name).touch()
    dataset = Numbers(4, broken=range(4), test_mode=True)
    assert dataset.missing() == ['1.mp4', '3.mp4']
    dataset.load_data_list = lambda: [dict(filename='s3://bucket/5.mp4', number=5)]
    dataset._fully_initialized = False
    assert dataset.missing() == []


def test_a_run_whose_evaluation_lacks_files_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Loop:
        dataloader = DataLoader(Numbers(25, test_mode=True))

    with pytest.raises(ConfigError) as raised:
        check_evaluation(Loop, 'val_dataloader')
    text = str(raised.value)
    assert text.startswith('val_dataloader.dataset: files of 25 of 25 samples are missing')
    assert 'bimm verify' in text and text.endswith('\n  9.mp4\n  and 15 more')
    for number in range(25):
        (tmp_path / f'{number}.mp4').touch()
    assert check_evaluation(Loop, 'val_dataloader') is Loop
    Loop.dataloader = DataLoader(Numbers(99))  # in training, other samples take their places
    assert check_evaluation(Loop, 'val_dataloader') is Loop


def test_what_is_no_broken_file_is_raised():
    missing = Numbers(5, broken=[2], failure=ImportError('no decord'))
    with pytest.raises(ImportError, match='no decord'):
        missing[2]
    with pytest.raises(IndexError):
        Numbers(5)[5]
    bare = Numbers(5, broken=[2])
    bare.pipeline.transforms.append(lambda results: dict(inputs=results['inputs']))
    with pytest.raises(TypeError, match="'2.mp4' is broken .*PackActionInputs"):
        bare[2]


def test_reason_is_one_line_that_repeats_itself():
    text = 'cannot identify <_io.BytesIO object at 0x7f00>\nmore'
    sample = draw(Numbers(5, broken=[2], failure=ValueError(text)), 2)
    assert sample['data_samples'].replaced == [('2.mp4', 'ValueError: cannot identify')]
    dataset = Numbers(5)
    dataset.pipeline.transforms[:0] = [lambda r: r if r['number'] != 2 else None]
    assert (
        draw(dataset, 2)['data_samples'].replaced[0][1] == 'ValueError: the pipeline returns None'
    )


def test_through_a_loader():
    loader = DataLoader(Numbers(8, [1, 6]), 4, num_workers=2, collate_fn=pseudo_collate)
    batches = list(loader)
    assert [len(batch['inputs']) for batch in batches] == [4, 4]
    told = [s.get('replaced') for batch in batches for s in batch['data_samples']]
    assert [index for index, entry in enumerate(told) if entry] == [1, 6]


def test_error_passes_through_a_loader():
    loader = DataLoader(Numbers(2, [0, 1]), 2, num_workers=1, collate_fn=pseudo_collate)
    with pytest.raises(BrokenSampleError, match='All 2 samples are broken'):
        list(loader)
