import json
import os
import re
import signal

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from bimm_mm.datasets.broken import ReplaceBroken
from bimm_mm.engine import BrokenSamplesHook
from bimm_mm.engine.hooks import broken_samples_hook as module
from bimm_mm.engine.hooks.broken_samples_hook import REPORT, TooManyBrokenSamples
from bimm_mm.engine.hooks.stop_on_signal_hook import SIGNALS


class Files(ReplaceBroken, BaseDataset):
    """One number per file; the files ``broken`` cannot be read."""

    def __init__(self, length, broken):
        self.length, self.broken = length, broken
        super().__init__(pipeline=[self.make])

    def load_data_list(self):
        return [dict(filename=f'{n}.mp4', number=n) for n in range(self.length)]

    def make(self, results):
        if results['number'] in self.broken:
            raise OSError(5, 'Input/output error')
        return dict(inputs=torch.ones(1), data_samples=BaseDataElement())


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples, mode):
        return dict(loss=sum(inputs) * self.weight)


def train(work_dir, length=40, broken=(), epochs=2, resume=False, workers=0, more=None, **hook):
    loader = dict(
        batch_size=4,
        num_workers=workers,
        dataset=Files(length, broken),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            broken_samples=dict(type='BrokenSamplesHook', **hook),
            logger=None,
            timer=None,
            **(more or {}),
        ),
        resume=resume,
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.name}{resume}',
    )
    runner.train()
    return runner


def report(work_dir):
    lines = (work_dir / REPORT).read_text().splitlines()
    return {line['path']: (line['reason'], line['iteration']) for line in map(json.loads, lines)}


def log(work_dir):
    return ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


@pytest.mark.parametrize('workers', [0, 2])
def test_each_is_reported_once_with_reason_and_iteration(tmp_path, workers):
    train(tmp_path, broken=[3, 17], epochs=3, workers=workers)
    assert len((tmp_path / REPORT).read_text().splitlines()) == 2
    reason = 'Input/output error'
    # a broken sample may have been drawn as a replacement earlier
    found = report(tmp_path)
    assert found['3.mp4'] == (reason, 1) and found['17.mp4'][0] == reason
    assert found['17.mp4'][1] in (1, 5)
    assert len(re.findall('Broken sample, replaced by another: 3.mp4: Input', log(tmp_path))) == 1


def test_a_run_without_broken_samples_writes_nothing(tmp_path):
    train(tmp_path)
    assert not (tmp_path / REPORT).exists()


def test_a_resumed_run_reports_only_what_is_new(tmp_path):
    train(tmp_path, broken=[3], epochs=1)
    with open(tmp_path / REPORT, 'a') as file:
        file.write('{"path": "9.m')  # torn by a kill
    train(tmp_path, broken=[3, 5], epochs=2, resume=True)
    lines = (tmp_path / REPORT).read_text().splitlines()
    assert [line.count('"3.mp4"') for line in lines] == [1, 0, 0]
    assert json.loads(lines[2]) == dict(path='5.mp4', reason='Input/output error', iteration=12)
    train(tmp_path, broken=[3], epochs=1)  # begun anew in the same folder: it is new again
    assert '"3.mp4"' in (tmp_path / REPORT).read_text().splitlines()[3]


def test_too_many_stop_the_run_with_what_was_broken(tmp_path):
    with pytest.raises(TooManyBrokenSamples) as error:
        train(tmp_path, length=400, broken=range(0, 400, 20), min_count=5, max_share=0.04)
    text = str(error.value)
    assert re.match(
        r'iteration \d+: (\d+) of (\d+) samples are broken, [5-9]\.\d%, more than', text
    )
    assert 'max_share=4.0%' in text and 'times: Input/output error' in text
    assert '0.mp4: Input/output error' in text and str(tmp_path / REPORT) in text
    assert len(report(tmp_path)) >= 5


def test_few_broken_samples_never_stop_it(tmp_path):
    train(tmp_path, length=8, broken=[0, 1, 2])  # 38 %, but three files
    assert len(report(tmp_path)) == 3


def test_a_loss_late_in_the_run_stops_it_too(tmp_path):
    """Asked for again and again, good samples must not outweigh what breaks late."""
    with pytest.raises(TooManyBrokenSamples, match='[67] of 40 samples'):
        broken = set()
        files = Files.make

        def make(self, results):
            make.calls += 1
            if make.calls > 380:  # of 400 in ten epochs
                broken.update(range(0, 40, 2))
            self.broken = broken
            return files(self, results)

        make.calls = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Files, 'make', make)
            train(tmp_path, epochs=10, min_count=6, max_share=0.1)


def test_processes_share_what_they_found(tmp_path, monkeypatch):
    """The other process is played: it sends as many samples, and two broken ones."""
    other = [('x.mp4', 'empty file', 2), ('3.mp4', 'Input/output error', 1)]

    def gather(mine):
        asked, _ = mine
        sent = list(other) if len(sent_before) == 0 else []
        sent_before.append(asked)
        return [mine, (asked, sent)]

    sent_before = []
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(module, 'all_gather_object', gather)
    train(tmp_path, broken=[3], epochs=1, interval=4)
    assert len(sent_before) == 3  # iterations 4 and 8, and the end
    assert report(tmp_path) == {'3.mp4': ('Input/output error', 1), 'x.mp4': ('empty file', 2)}


@pytest.mark.parametrize('argument', ['max_share=0', 'max_share=1.5', 'min_count=0', 'interval=0'])
def test_arguments_are_checked(argument):
    name, value = argument.split('=')
    with pytest.raises(ValueError, match=argument):
        BrokenSamplesHook(**{name: float(value) if '.' in value else int(value)})


def test_a_report_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / REPORT).mkdir()
    train(tmp_path, broken=[3], epochs=1)
    assert f'cannot write {tmp_path / REPORT}' in log(tmp_path)


def test_a_replaced_sample_is_refused_in_evaluation():
    sample = BaseDataElement(metainfo=dict(replaced=[('3.mp4', 'empty file')]))
    hook = BrokenSamplesHook()
    for check in (hook.after_val_iter, hook.after_test_iter):
        check(None, 0, dict(data_samples=[BaseDataElement()]))
        with pytest.raises(RuntimeError, match=r'3.mp4 is broken \(empty file\).*test_mode=True'):
            check(None, 0, dict(data_samples=[BaseDataElement(), sample]))


class EndAt(Hook):
    """Ends the run in its fourth iteration, as a scheduler or a failing machine does."""

    def __init__(self, killed):
        self.killed = killed

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            if self.killed:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize('killed', [False, True])
def test_what_was_found_is_reported_before_a_checkpoint_goes_on_without_it(
    tmp_path, monkeypatch, killed
):
    """Several processes exchange it every 50 iterations only."""
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 2))
    more = dict(
        checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=3 if killed else 100),
        stop=dict(type='StopOnSignalHook'),
        end=EndAt(killed),
    )
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(KeyboardInterrupt if killed else SystemExit):
            train(tmp_path, broken=[3], interval=50, more=more)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert report(tmp_path)['3.mp4'] == ('Input/output error', 1)
