"""Studies: what each run gets, what is kept, and what the report says."""

import json
import runpy
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

import bimm_mm  # noqa: F401
from bimm_mm.config.check import ConfigError
from bimm_mm.evaluation.functional.linear_probe import fit_linear_probe
from bimm_mm.studies import Report, StudyRunner, evaluate, read_study
from bimm_mm.studies.evaluate import Evaluation, choose_few
from bimm_mm.studies.needs import Need
from bimm_mm.studies.plan import digest, share_out
from bimm_mm.studies.scores import difference, kinds_of, leaders, summary, verdict
from bimm_mm.studies.training import fit_schedule, measure_in_turn, train_stage

REPO = Path(__file__).parents[2]
STUDIES = sorted((REPO / 'configs/studies').glob('[!_]*.py'))

CONFIG = """
custom_imports = dict(imports=['bimm_mm'], allow_failed_imports=False)
default_scope = 'mmengine'
decoder = dict(type='TransformerDecoder', embed_dims=16, depth=1, num_heads=2)
backbone = dict(type='BimmViT', arch=dict(embed_dims=24, depth=2, num_heads=2), img_size=16,
                patch_size=8, stage_ends=(1, 2))
ventral = dict(backbone=backbone, masking=dict(type='RandomMasking', ratio=0.5),
               neck=dict(type='MultiStageDecoder', decoders=[decoder, decoder]),
               targets=[dict(type='GaborTarget', wavelengths=(4,)), dict(type='PixelTarget')])
dorsal = dict(ventral, backbone=dict(backbone, num_frames=4, tubelet_size=2),
              targets=[dict(type='GaborTarget', wavelengths=(4,)), dict(type='MotionTarget')])
model = MODEL
loader = dict(batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'))
data = dict(type='MovingShapesDataset', length=24, size=16, num_frames=4, cache=False)
train_dataloader = dict(loader, sampler=dict(type='InfiniteSampler', shuffle=True),
                        dataset=dict(data, num_frames=FRAMES))
fixed = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False))
probe_train = dict(fixed, dataset=dict(data, seed=1))
probe_test = dict(fixed, dataset=dict(data, seed=2))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50)]
log_processor = dict(by_epoch=False)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
"""
STUDY = """
title = 'A small study'
runs = dict(
    both=dict(label='Both', stages=[dict(config='ventral.py', steps=3), dict(config='joint.py')]),
    other=dict(
        label='Other',
        stages=[dict(config='joint.py', options={'model.dorsal.masking.ratio': 0.25})],
    ),
    frames=dict(label='Frames', stages=[dict(config='ventral.py')]),
    scratch=dict(label='Scratch', stages=[], finetune_all=True),
    random=dict(label='Random', stages=[]),
)
reference = dict(run='both', steps=4)
units = ['steps', 'seconds']
questions = [dict(name='what helps', rows=dict(both=92.5, other=90.0, random=None), source='x')]
evaluation = dict(
    config='joint.py', labels=['motion', 'shape'], probe_blocks=[1, 2], probe_few=22,
    finetune=dict(dataset=dict(length=8, seed=5), batch_size=4, steps=2, warmup=1, lr=1e-3),
)
"""
MODELS = dict(
    ventral="dict(type='SingleBranchPretrainer', ventral=ventral)",
    joint="dict(type='DualBranchPretrainer', ventral=ventral, dorsal=dorsal)",
)


@pytest.fixture
def folder(tmp_path):
    for name, model in MODELS.items():
        frames = 'None' if name == 'ventral' else '4'
        text = CONFIG.replace('MODEL', model).replace('FRAMES', frames)
        (tmp_path / f'{name}.py').write_text(text)
    (tmp_path / 'small.py').write_text(STUDY)
    return tmp_path


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_studies_of_the_repository_can_be_run(path):
    study = read_study(path)
    times = {s.digest: 1.0 for run in study.runs.values() for s in run.stages} | dict(finetune=1.0)
    for unit in study.units:
        for run in study.runs.values():
            assert min(share_out(study, run, unit, times).steps, default=1) > 0
    # overrides that are misspelled would make two runs the same
    chains = [
        (*(s.digest for s in run.stages), str(run.finetune), run.checkpoint)
        for run in study.runs.values()
        if run.stages or run.checkpoint
    ]
    assert len(set(chains)) == len(chains)
    assert all(len(question.rows) > 1 for question in study.questions)


@pytest.mark.parametrize('few, said', [(0, '0 must be'), (2, "not have all 8 classes of 'motion'")])
def test_few_labels_have_all_classes(folder, few, said):
    text = (folder / 'small.py').read_text()
    (folder / 'small.py').write_text(text.replace('probe_few=22', f'probe_few={few}'))
    with pytest.raises(ConfigError, match=said):
        study = read_study(folder / 'small.py')
        evaluation = Evaluation(study)
        evaluation.probe(evaluation.encoder(study.runs['random'], None, 0))


def test_probes_are_fitted_to_all_samples_and_to_few(folder, monkeypatch):
    counts = []

    def fit(train, test):
        counts.append([len(part) for part in (*train, *test)])
        return fit_linear_probe(train, test)

    monkeypatch.setattr(evaluate, 'fit_linear_probe', fit)
    study = read_study(folder / 'small.py')
    evaluation = Evaluation(study)
    evaluation.probe(evaluation.encoder(study.runs['random'], None, 0))
    assert counts == [[24, 24, 24, 24]] * 2 + [[22, 22, 24, 24]] * 2


def test_every_row_of_table_7_is_a_run():
    study = read_study(REPO / 'configs/studies/table7_shapes.py')
    reported = {q.name: sorted(q.rows.values(), reverse=True) for q in study.questions if q.source}
    assert reported == {
        'dorsal initialization': [92.5, 91.2, 90.9],
        'ventral branch': [92.5, 91.0, 90.7],
        'targets': [92.5, 90.2, 89.3],
        'stage ends': [92.5, 91.7, 91.3, 91.0],
        'sharing': [92.5, 91.3, 91.0],
        'dorsal mask ratio': [92.5, 91.9, 91.7, 91.5],
    }


def test_every_row_of_table_7_is_run_on_hard_clips():
    easy, hard = (
        read_study(REPO / f'configs/studies/{name}_shapes.py') for name in ('table7', 'table7_hard')
    )
    assert list(hard.runs) == [*easy.runs, 'videomae_low']
    assert hard.questions[:-1] == easy.questions
    clips = hard.evaluation['options']['probe_test.dataset']
    default = hard.runs['default'].stages
    for run in hard.runs.values():
        for stage in run.stages:
            data = stage.cfg.train_dataloader.dataset
            assert (data.shapes, data.cache) == (clips['shapes'], clips['cache'])
            assert data.seed not in (clips['seed'], hard.evaluation['finetune']['dataset']['seed'])
            branches = [stage.cfg.model.get(name, {}) for name in ('ventral', 'dorsal')]
            targets = [target for branch in branches for target in branch.get('targets', ())]
            contours = {(t.low, t.high) for t in targets if t.type == 'EdgeContourTarget'}
            has_none = run.name.startswith('videomae') or (
                run.name == 'targets_v1_last' and stage is run.stages[-1]
            )
            assert contours == (set() if has_none else {(0.2, 0.3)})
        assert all(stage.steps == default[0].steps for stage in run.stages[:-1])
    frames = hard.runs['init_large'].stages[0].cfg.train_dataloader.dataset
    assert frames.length == 10 * default[0].cfg.train_dataloader.dataset.length


def test_runs_get_the_same_seconds_or_the_same_steps(folder):
    study = read_study(folder / 'small.py')
    ventral, joint = study.runs['both'].stages
    (other,) = study.runs['other'].stages
    times = {ventral.digest: 1.0, joint.digest: 3.0, other.digest: 2.5, 'finetune': 5.0}
    got = {
        (unit, name): (budget.steps, budget.finetune_steps)
        for unit in study.units
        for name, run in study.runs.items()
        for budget in [share_out(study, run, unit, times)]
    }
    # 3 steps of 1 second and 4 of 3 are 7 steps, and 15 seconds; 2 steps of finetuning on top
    assert got == {
        ('steps', 'both'): ((3, 4), 2),
        ('steps', 'other'): ((7,), 2),
        ('steps', 'frames'): ((7,), 2),
        ('steps', 'scratch'): ((), 9),
        ('steps', 'random'): ((), 2),
        ('seconds', 'both'): ((3, 4), 2),
        ('seconds', 'other'): ((6,), 2),
        ('seconds', 'frames'): ((15,), 2),
        ('seconds', 'scratch'): ((), 5),
        ('seconds', 'random'): ((), 2),
    }
    assert share_out(study, study.runs['other'], 'seconds', times).seconds == 6 * 2.5 + 2 * 5
    times[ventral.digest] = 10.0
    times[joint.digest] = 0.1
    study.runs['late'] = type(study.runs['both'])('late', '', (ventral, other))
    times[other.digest] = 40.0
    with pytest.raises(ConfigError, match='use up the budget'):
        share_out(study, study.runs['late'], 'seconds', times)


def test_times_are_measured_in_turn():
    calls = []

    def timer(name, values):
        return lambda: calls.append(name) or values

    assert measure_in_turn(dict(a=timer('a', [1.0, 9.0, 2.0]), b=timer('b', [3.0]))) == dict(
        a=2.0, b=3.0
    )
    assert calls == ['a', 'b'] * 5


def test_long_steps_are_measured_in_fewer_rounds(monkeypatch):
    calls, said = [], []
    times = iter([0.0, 61.0])  # a clock of its own: a busy machine is not slow steps
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr('bimm_mm.studies.training.time', clock)
    assert measure_in_turn(dict(a=lambda: calls.append('a') or [2.0]), said.append) == dict(a=2.0)
    assert calls == ['a'] and said == ['measured in 1 of 5 rounds, as each takes 61 s']


@pytest.mark.parametrize(
    'stop, code, told',
    [(KeyboardInterrupt(), 130, 1), (SystemExit(75), 75, 1), (SystemExit(3), 3, 0)],
)
def test_a_study_that_is_stopped_says_how_it_goes_on(folder, monkeypatch, capsys, stop, code, told):
    def run(self, name, unit, seed):
        raise stop

    monkeypatch.setattr('bimm_mm.studies.training.ROUNDS', 1)
    monkeypatch.setattr(StudyRunner, 'run', run)
    tool = str(REPO / 'tools/ablate.py')
    monkeypatch.setattr('sys.argv', [tool, str(folder / 'small.py'), '--work-dir', str(folder)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(tool, run_name='__main__')
    assert ended.value.code == code
    assert capsys.readouterr().out.count('stopped; the same command goes on') == told


def test_a_study_is_run_resumed_and_reported(folder, monkeypatch, capsys):
    monkeypatch.setattr('bimm_mm.studies.training.ROUNDS', 1)
    tool = REPO / 'tools/ablate.py'

    def call(*arguments):
        words = [str(folder / 'small.py'), '--work-dir', str(folder / 'out'), *arguments]
        monkeypatch.setattr('sys.argv', [str(tool), *words])
        runpy.run_path(str(tool), run_name='__main__')
        printed = capsys.readouterr()
        assert ' - mmengine - ' not in printed.out + printed.err  # but for what it says itself
        lines = printed.out.splitlines()
        return [line.split('  ')[1] for line in lines if 'seed' in line]

    def trained():
        return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob('out/stages/*/last.pth')}

    assert len(call('--seeds', '1', '--runs', 'both', 'random')) == 4
    first = trained()
    assert len(first) == 2  # 'both' is the reference: equal in steps and seconds
    result = json.loads((folder / 'out/small/results/both-steps-seed0.json').read_text())
    assert result['budget']['steps'] == [3, 4]
    assert set(result['explained']) == {
        *('ventral_gabor', 'ventral_pixel', 'dorsal_gabor', 'dorsal_motion')
    }
    for kind in ('probe', 'probe_few', 'finetune'):
        assert set(result['scores'][kind]) == {'motion', 'shape'}
    state = torch.load(next(folder.glob('out/stages/joint-*/last.pth')), weights_only=True)
    assert state['meta']['iter'] == 4

    again = call('--seeds', '1')
    assert len(again) == 6 and not any(line.startswith(('both', 'random')) for line in again)
    assert first.items() <= trained().items()
    assert call('--seeds', '1') == []
    with pytest.raises(SystemExit, match='--report-only: .*other/small has no results yet'):
        call('--report-only', '--work-dir', str(folder / 'other'))

    report = (folder / 'out/small/report/report.md').read_text()
    for heading in ('# A small study', '## Equal steps', '## Equal seconds', '### What helps'):
        assert heading in report
    assert '| Both | Other | +2.5 |' in report and 'one seed, undecided' in report
    assert 'one seed, undecided |' not in report  # said once below a table
    assert (
        'on the same 24 test clips, of which each is 4.2 %: 50 % on them has a 95 % int' in report
    )
    assert '| Other | Random |' not in report  # nobody reported which is better
    for chart in ('accuracy', 'explained'):
        assert (folder / f'out/small/report/{chart}_steps.png').stat().st_size > 5_000

    # what was found for another config is not taken for this one
    text = (folder / 'joint.py').read_text()
    (folder / 'joint.py').write_text(text.replace('lr=0.01', 'lr=0.02'))
    runner = StudyRunner(read_study(folder / 'small.py'), folder / 'out', print)
    monkeypatch.setattr(type(runner), 'times', {**runner.times})
    assert runner.results('steps', 1)['both'] == []
    assert len(runner.results('steps', 1)['random']) == 1
    assert Report(runner, 1, folder / 'empty').write().is_file()


def test_who_is_ahead_is_told_from_the_others_by_seeds_and_clips():
    scores = dict(random=[0.2, 0.21], second=[0.6, 0.7], first=[0.69, 0.71], near=[0.64, 0.641])
    assert leaders(scores, 1000) == ['first', 'second']  # 0.671 is the end of the interval
    assert leaders(scores, 100) == ['first', 'second', 'near']
    assert leaders(dict(a=[0.99], b=[0.96]), 100) == ['a', 'b']  # one seed
    assert leaders(dict(a=[0.99], b=[0.86]), 100) == ['a']


def test_the_report_says_who_is_ahead_at_each_label(folder):
    def of(motion, shape):
        return [dict(scores={kind: dict(motion=motion, shape=shape) for kind in kinds})]

    study = read_study(folder / 'small.py')
    runner = SimpleNamespace(study=study, evaluation=SimpleNamespace(tested=lambda: 100))
    report = Report(runner, 1, folder)
    kinds = report.kinds
    said = report._ahead(dict(both=of(0.96, 0.2), random=of(0.99, 0.9), other=[]))
    assert '| motion | all alike | all alike | all alike |' in said
    assert '| shape | Random | Random | Random |' in said
    alone = report._ahead(dict(both=of(0.96, 0.2), random=[], other=[]))
    assert '| motion | Both | Both | Both |' in alone
    assert '| motion |  |  |  |' in report._ahead(dict(both=[], random=[], other=[]))


def test_results_of_other_settings_are_replaced_with_a_word(searching, folder, monkeypatch):
    said = []
    monkeypatch.setattr(StudyRunner, '_train', lambda *of: (None, {}))
    monkeypatch.setattr(StudyRunner, '_evaluate', lambda *of: {})
    runner = StudyRunner(searching, folder / 'out', said.append)
    run = searching.runs['random']
    runner.run(run, 'steps', 0)
    assert not any('replaced' in text for text in said)
    runner.run(run, 'steps', 0)
    assert sum('random-steps-seed0.json is of other settings and' in text for text in said) == 1


SEARCH = """
search = dict(rates=[0.01, 0.02], share=0.5, seed=7, test=dict(seed=9, length=16))
"""


@pytest.fixture
def searching(folder, monkeypatch):
    """A study that searches learning rates, with times that need no measuring."""
    text = (
        (folder / 'small.py')
        .read_text()
        .replace("units = ['steps', 'seconds']", "units = ['steps']")
    )
    (folder / 'small.py').write_text(text + SEARCH)
    study = read_study(folder / 'small.py')
    monkeypatch.setattr(
        StudyRunner,
        'times',
        {
            key: 1.0
            for key in [
                'finetune',
                *(stage.digest for run in study.runs.values() for stage in run.stages),
            ]
        },
    )
    return study


def test_the_best_learning_rate_is_taken_and_searched_once(searching, folder, monkeypatch):
    said, scores = [], iter([0.2, 0.3])
    monkeypatch.setattr(Evaluation, 'trial', lambda self, *given: next(scores))
    runner = StudyRunner(searching, folder / 'out', said.append)
    run = searching.runs['other']
    assert runner.tuned(run) is None and runner.result(run, 'steps', 0) is None
    result = runner.run(run, 'steps', 0)
    assert [line for line in said if 'trial' in line] == [
        'other, trial of lr 0.01: steps [4], 20.0 %',
        'other, trial of lr 0.02: steps [4], 30.0 %',
    ]
    (stage,) = runner.tuned(run).stages
    assert stage.cfg.optim_wrapper.optimizer.lr == 0.02
    assert stage.cfg.model.dorsal.masking.ratio == 0.25  # other overrides stay
    assert result['log'].endswith(train_folder(stage, 7, 0))
    again = StudyRunner(searching, folder / 'out', print)
    kept = again.result(run, 'steps', 0)
    assert kept['scores'] == result['scores'] and kept['key'] == result['key']
    report = Report(again, 1, folder / 'report').write().read_text()
    assert '| Other | 20.0 | 30.0 |' in report and 'tried with 50 % of its steps' in report
    # one rate is taken without a trial, and what was trained with it counts
    text = (folder / 'small.py').read_text().replace('[0.01, 0.02]', '[0.02]')
    (folder / 'small.py').write_text(text)
    alone = StudyRunner(read_study(folder / 'small.py'), folder / 'out', print)
    assert alone.result(alone.study.runs['other'], 'steps', 0) == kept


def train_folder(stage, steps, seed):
    return f'{stage.config.stem}-{digest([stage.digest, steps, seed, ""])}'


def test_trials_are_tested_on_other_samples(searching, folder, monkeypatch):
    evaluation = Evaluation(searching)
    tested = []

    def fit(train, test):
        tested.append((len(train[0]), len(test[0])))
        return fit_linear_probe(train, test)

    monkeypatch.setattr(evaluate, 'fit_linear_probe', fit)
    encoder = evaluation.encoder(searching.runs['random'], None, 0)
    score = evaluation.trial(encoder, searching.search.test, ['shape'])
    assert tested == [(24, 16)] and 0 <= score <= 1
    assert evaluation.cfg.probe_test.dataset.length == 24


def test_neighbors_and_an_attentive_probe_are_asked_for(folder):
    pytest.importorskip('mmaction', reason='the attentive head is a part of its models')
    text = (folder / 'small.py').read_text()
    more = 'knn=5, attentive=dict(steps=3, batch_size=8, lr=1e-3), probe_few=22'
    (folder / 'small.py').write_text(text.replace('probe_few=22', more))
    study = read_study(folder / 'small.py')
    evaluation = Evaluation(study)
    scores = evaluation.probe(evaluation.encoder(study.runs['random'], None, 0))
    assert list(scores) == ['probe', 'probe_few', 'knn', 'attentive']
    assert all(set(values) == {'motion', 'shape'} for values in scores.values())
    assert list(kinds_of(study.evaluation)) == [*scores, 'finetune']


def test_a_method_without_branches_is_evaluated(folder):
    model = 'dict(dorsal, type="MaskedPretrainer")'
    text = CONFIG.replace('MODEL', model).replace('FRAMES', '4')
    (folder / 'masked.py').write_text(text)
    study = (folder / 'small.py').read_text()
    study = study.replace(
        "frames=dict(label='Frames', stages=[dict(config='ventral.py')])",
        "frames=dict(label='Frames', stages=[dict(config='masked.py')])",
    )
    (folder / 'small.py').write_text(study)
    study = read_study(folder / 'small.py')
    run = study.runs['frames']
    checkpoint, _ = train_stage(run.stages[0], 2, 0, None, folder / 'out')
    encoder = Evaluation(study).encoder(run, checkpoint, 0)
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    torch.testing.assert_close(encoder.pos_embed, state['backbone.pos_embed'])
    key = 'blocks.1.attn.qkv.weight'
    torch.testing.assert_close(encoder.state_dict()[key], state[f'backbone.{key}'])


def test_a_run_is_finetuned_with_settings_of_its_own(folder, monkeypatch):
    text = (folder / 'small.py').read_text()
    own = "label='Random', finetune=dict(lr=2e-3, layer_decay=0.5, steps=3, batch_size=2),"
    (folder / 'small.py').write_text(text.replace("label='Random',", own))
    study = read_study(folder / 'small.py')
    times = {s.digest: 1.0 for s in study.runs['both'].stages} | dict(finetune=1.0)
    assert share_out(study, study.runs['random'], 'steps', times).finetune_steps == 3
    rates, sizes = [], []

    def step(self, model, optimizer, batch):
        sizes.append(len(batch['inputs']))
        rates.append(sorted({round(group['lr'], 6) for group in optimizer.param_groups}))

    monkeypatch.setattr(Evaluation, '_step', step)
    evaluation = Evaluation(study)
    encoder = evaluation.encoder(study.runs['random'], None, 0)
    evaluation.finetune(encoder, 1, 0, study.runs['random'].finetune)
    # two blocks, 0.5 each, and what is before them; the warm-up is one step
    assert rates == [[2.5e-4, 5e-4, 1e-3, 2e-3]]
    evaluation.finetune(encoder, 1, 0)
    assert rates[1] == [1e-3] and sizes == [2, 4]
    (folder / 'small.py').write_text(text.replace("label='Random',", 'finetune=dict(rate=1),'))
    with pytest.raises(ConfigError, match="run 'random': finetune=.* must be a dict with"):
        read_study(folder / 'small.py')


def test_an_encoder_is_finetuned_without_positions_in_time(folder):
    study = read_study(folder / 'small.py')
    evaluation = Evaluation(study)
    encoder = evaluation.encoder(study.runs['random'], None, 0)
    places = encoder.pos_embed.mean(1, keepdim=True).expand_as(encoder.pos_embed)
    assert not torch.equal(encoder.pos_embed, places)
    evaluation.finetune(encoder, 0, 0, dict(without_time=True))
    assert torch.allclose(encoder.pos_embed, places)


def test_a_run_starts_from_a_checkpoint_that_is_there(folder, monkeypatch):
    study = read_study(folder / 'small.py')
    checkpoint, _ = train_stage(study.runs['other'].stages[0], 2, 0, None, folder / 'out')
    named = checkpoint.rename(folder / 'of-seed-0.pth')
    text = (
        (folder / 'small.py')
        .read_text()
        .replace("units = ['steps', 'seconds']", "units = ['steps']")
    )
    own = f"stages=[], checkpoint='{folder}/of-seed-{{seed}}.pth')"
    text = text.replace(
        "random=dict(label='Random', stages=[])",
        f"random=dict(label='Random', {own}, "
        f"again=dict(label='Again', finetune=dict(lr=2e-3), {own}",
    )
    (folder / 'small.py').write_text(text)
    study = read_study(folder / 'small.py')
    times = {key: 1.0 for run in study.runs.values() for key in (s.digest for s in run.stages)}
    monkeypatch.setattr(StudyRunner, 'times', {**times, 'finetune': 1.0})
    probed = []

    def probe(self, encoder):
        probed.append(encoder.state_dict())
        return dict(probe=dict(motion=0.5, shape=0.5))

    monkeypatch.setattr(Evaluation, 'probe', probe)
    monkeypatch.setattr(
        Evaluation, 'finetune', lambda self, *given: dict(motion=given[3].get('lr', 0))
    )
    runner = StudyRunner(study, folder / 'out', print)
    scores = [runner.run(study.runs[name], 'steps', 0)['scores'] for name in ('random', 'again')]
    assert [score['finetune']['motion'] for score in scores] == [0, 2e-3]
    (loaded,) = probed  # once for both
    state = torch.load(named, weights_only=True)['state_dict']
    key = 'blocks.1.attn.qkv.weight'
    torch.testing.assert_close(loaded[key], state[f'dorsal.backbone.{key}'])
    with pytest.raises(ConfigError, match="run 'random': there is no checkpoint .*of-seed-1.pth"):
        runner.run(study.runs['random'], 'steps', 1)


def codebook(folder, codes='4'):
    """An entry of ``needs``."""
    return dict(
        tool='dataset_converters/make_codebook.py',
        config='joint.py',
        makes=str(folder / 'codes.pth'),
        arguments=['--patch-size', '8', '--num-codes', codes, '--samples', '6'],
    )


def test_what_a_run_needs_is_made_once_and_its_cost_told(folder):
    text = (folder / 'small.py').read_text()
    text = text.replace("label='Other',", f"label='Other', needs=[{codebook(folder)!r}],")
    (folder / 'small.py').write_text(text)
    said = []
    study = read_study(folder / 'small.py')
    runner = StudyRunner(study, folder / 'out', said.append)
    assert said == []  # a report does not need it
    runner.prepare(['random'], 1)
    assert said == [f'making {folder}/codes.pth'] and (folder / 'codes.pth').is_file()
    runner.prepare(study.runs, 1)
    assert len(said) == 1
    (cost,) = (need.seconds() for need in runner.study.runs['other'].needs)
    assert cost > 0
    (line,) = Report(runner, 1, folder / 'report')._costs()
    assert line.endswith(f'of the same clips: Other {cost:.0f} s.')
    # of other clips, it has to be made again
    joint = (folder / 'joint.py').read_text()
    (folder / 'joint.py').write_text(joint.replace('length=24', 'length=25'))
    changed = read_study(folder / 'small.py')
    assert changed.runs['other'].needs[0].seconds() is None


def test_what_was_trained_with_another_need_is_not_taken(folder, monkeypatch):
    monkeypatch.setattr('bimm_mm.studies.training.ROUNDS', 1)
    text = (folder / 'small.py').read_text()

    def study(codes):
        needs = [codebook(folder, codes)]
        changed = text.replace("label='Other',", f"label='Other', needs={needs!r},")
        (folder / 'small.py').write_text(changed)
        return read_study(folder / 'small.py')

    def train(*of):
        of[-1].mkdir()
        trained.append(of[-1].name)
        return {}

    trained, made = [], []
    monkeypatch.setattr('bimm_mm.studies.training._train', train)
    monkeypatch.setattr(Need, 'make', lambda self, say: made.append(self.arguments[3]))
    monkeypatch.setattr(StudyRunner, '_evaluate', lambda *of: {})
    runner = StudyRunner(study('4'), folder / 'out', print)
    runner.run(runner.study.runs['other'], 'steps', 0)
    assert runner.result(runner.study.runs['other'], 'steps', 0)
    runner = StudyRunner(study('5'), folder / 'out', print)
    assert runner.result(runner.study.runs['other'], 'steps', 0) is None
    runner.run(runner.study.runs['other'], 'steps', 0)
    assert len(set(trained)) == 2
    assert made == ['4', '5']  # again, as another study may have made its own there


def test_finetuning_for_other_labels_is_not_taken(searching, folder, monkeypatch):
    monkeypatch.setattr(StudyRunner, '_train', lambda *of: (None, {}))
    monkeypatch.setattr(Evaluation, 'probe', lambda self, encoder: {})
    asked = []
    monkeypatch.setattr(
        Evaluation, 'finetune', lambda self, *of: asked.append(self.labels) or dict(motion=0.5)
    )
    runner = StudyRunner(searching, folder / 'out', print)
    runner.run(searching.runs['random'], 'steps', 0)
    text = (folder / 'small.py').read_text()
    (folder / 'small.py').write_text(text.replace("labels=['motion', 'shape']", "labels=['shape']"))
    runner = StudyRunner(read_study(folder / 'small.py'), folder / 'out', print)
    runner.run(runner.study.runs['random'], 'steps', 0)
    assert asked == [('motion', 'shape'), ('shape',)]


def test_a_run_that_comes_later_leaves_the_budgets_as_they_are(folder, monkeypatch):
    def measure(timers, say):
        measured.append(set(timers))
        return {key: slow * (2.0 if key.startswith('finetune') else 1.0) for key in timers}

    def runner(**settings):
        return StudyRunner(read_study(folder / 'small.py'), folder / 'out', print, **settings)

    measured, slow = [], 1.0
    monkeypatch.setattr('bimm_mm.studies.runner.measure_in_turn', measure)
    assert runner(measure=False).times == {}
    first = runner()
    reference = first.study.runs['both'].stages[-1].digest
    assert first.times['finetune'] == 2.0 and len(measured[0]) == len(first.times)
    text = (folder / 'small.py').read_text()
    other_rate = dict(config='joint.py', options={'optim_wrapper.optimizer.lr': 1.0})
    new = f'new=dict(stages=[{other_rate}]),\n    scratch='
    (folder / 'small.py').write_text(text.replace('scratch=', new))
    report = runner(measure=False)
    assert report.times == first.times
    assert report.result(report.study.runs['new'], 'steps', 0) is None
    slow = 3.0  # as the machine is busy now
    added = report.study.runs['new'].stages[-1].digest
    assert runner().times == first.times | {added: 1.0}
    assert measured[1:] == [{added, reference}]
    # finetuning with other batches is another training
    text = (folder / 'small.py').read_text().replace('batch_size=4', 'batch_size=8')
    (folder / 'small.py').write_text(text)
    assert runner().times == first.times | {added: 1.0}
    assert len(measured) == 3 and len(measured[2] - {reference}) == 1


def test_a_process_waits_for_another_that_trains_the_same(folder, monkeypatch):
    stage = read_study(folder / 'small.py').runs['frames'].stages[0]
    began, go_on, said, trained = threading.Event(), threading.Event(), [], []

    def train(*of):
        of[-1].mkdir()
        trained.append(of[-1])
        began.set()
        assert go_on.wait(60)
        return {}

    def start(*settings):
        thread = threading.Thread(target=train_stage, args=settings, daemon=True)
        thread.start()
        return thread

    monkeypatch.setattr('bimm_mm.studies.training._train', train)
    settings = (stage, 3, 0, None, folder / 'stages', ())
    first = start(*settings)
    assert began.wait(60)
    second = start(*settings, said.append)
    while not said:
        assert second.is_alive()
        time.sleep(0.01)
    go_on.set()
    first.join(60)
    second.join(60)
    assert len(trained) == 1
    assert said == [f'waiting for {trained[0].name}, which another trains']


def test_evaluations_compute_with_the_threads_of_trainings(searching, folder, monkeypatch):
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('bimm_mm.engine.hooks.threads_hook.fastest', lambda *of: 1)
    monkeypatch.setattr('bimm_mm.engine.hooks.threads_hook._picked', {})
    monkeypatch.setattr('bimm_mm.engine.hooks.threads_hook.get_device', lambda: 'cpu')
    monkeypatch.setattr(StudyRunner, '_train', lambda *of: (None, {}))
    threads = []

    def note(self, *of):
        threads.append(torch.get_num_threads())
        return {}

    for name in ('probe', 'finetune'):
        monkeypatch.setattr(Evaluation, name, note)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        StudyRunner(searching, folder / 'out', print).run(searching.runs['random'], 'steps', 0)
        assert threads == [1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_ordering_is_settled_beyond_the_spread_only():
    gap, spread = difference([0.5, 0.6], [0.4, 0.4])
    assert gap == pytest.approx(0.15) and spread == pytest.approx(0.005**0.5)
    assert verdict(0.15, 0.1) == 'holds'
    assert verdict(-0.15, 0.1) == 'does not hold'
    assert verdict(-0.05, 0.1) == 'within the spread'
    assert difference([0.5], [0.4, 0.4])[1] is None
    assert verdict(0.5, None) == 'one seed, undecided'
    assert summary(['holds', 'does not hold', 'within the spread']) == (
        '1 of 3 orderings hold here, **1 does not**, 1 is undecided.'
    )


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("run='both'", "run='scratch'", "reference.run='scratch' must be a run with stages"),
        ('steps=4', 'steps=0', 'reference.steps=0'),
        ("'seconds']", "'hours']", "units=.*'hours'.* seconds, steps"),
        ("config='ventral.py', steps=3", "config='ventral.py'", 'but the last needs steps'),
        ("dict(config='joint.py')]", "dict(config='joint.py', steps=2)]", 'follow from the budget'),
        ("dict(config='joint.py')]", "dict(config='gone.py')]", 'not there: gone.py'),
        ('random=None', 'nobody=None', "'what helps' names no run: nobody"),
        ("title = 'A small study'", '', 'lacks title'),
        ('finetune_all=True', 'finetune=True', "run 'scratch': finetune=True must be a dict"),
        ('model.dorsal.masking.ratio', 'modle.ratio', "no 'modle'"),
        ("label='Other',", "label='Other', needs=[dict(tool='x')],", 'needs has tool; it takes'),
        ('questions =', 'search = dict(rates=[])\nquestions =', 'needs rates, numbers above 0'),
        (', steps=2, warmup=1', '', 'lacks evaluation.finetune.steps, evaluation.finetune.warmup'),
        ('probe_few=22,', '', 'lacks evaluation.probe_few'),
        ('probe_few=22,', 'probe_few=22, kn=5,', 'evaluation has kn; it takes config, labels'),
        ('warmup=1,', 'warmup=1, decay=1,', 'evaluation.finetune has decay; it takes dataset'),
        ('probe_few=22,', 'probe_few=22, attentive=dict(step=3),', 'attentive has step; it takes'),
        ('probe_few=22,', 'probe_few=22, attentive=dict(lr=1),', 'lacks .*attentive.steps'),
    ],
)
def test_mistakes_in_a_study_are_named(folder, old, new, message):
    text = (folder / 'small.py').read_text()
    assert old in text
    (folder / 'small.py').write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_study(folder / 'small.py')


def test_there_must_be_a_study(tmp_path):
    with pytest.raises(ConfigError, match='there is no study'):
        read_study(tmp_path / 'none.py')


def test_what_would_fail_later_is_told_before_anything_is_timed(folder, monkeypatch):
    text = (folder / 'small.py').read_text()
    (folder / 'small.py').write_text(text.replace('probe_blocks=[1, 2]', 'probe_blocks=[1, 3]'))
    with pytest.raises(ConfigError, match=r'probe_blocks=\[1, 3\] must be 1 to 2'):
        StudyRunner(read_study(folder / 'small.py'), folder / 'work')
    joint = (folder / 'joint.py').read_text()
    (folder / 'small.py').write_text(text)
    (folder / 'joint.py').write_text(joint.replace('probe_test = ', 'other = '))
    with pytest.raises(ConfigError, match='joint.py has no probe_test'):
        StudyRunner(read_study(folder / 'small.py'), folder / 'work')
    (folder / 'joint.py').write_text(joint.replace('lr=0.01)', 'lrr=0.01)'))
    with pytest.raises(ConfigError, match='lrr'):
        StudyRunner(read_study(folder / 'small.py'), folder / 'work').prepare([], 1)
    (folder / 'joint.py').write_text(joint)
    start = "start=dict(stages=[], checkpoint='{seed}.pth'),\n    scratch="
    (folder / 'small.py').write_text(text.replace('scratch=', start))
    monkeypatch.chdir(folder)
    (folder / '0.pth').touch()
    runner = StudyRunner(read_study(folder / 'small.py'), folder / 'work')
    runner.prepare(['start'], 1)
    with pytest.raises(ConfigError, match="run 'start': there is no checkpoint 1.pth"):
        runner.prepare(['start'], 2)
    more = 'attentive=dict(steps=3), probe_few=22'
    (folder / 'small.py').write_text(text.replace('probe_few=22', more))
    monkeypatch.setattr('bimm_mm.studies.runner.find_spec', lambda name: None)
    runner = StudyRunner(read_study(folder / 'small.py'), folder / 'work')  # enough for a report
    with pytest.raises(ConfigError, match='evaluation.attentive needs mmaction2'):
        runner.prepare([], 1)
    assert not (folder / 'work').exists()


def test_a_config_that_counts_epochs_is_made_to_count_steps():
    schedulers = [
        dict(type='LinearLR', by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=5, convert_to_iter_based=True),
    ]
    cfg = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=20), param_scheduler=schedulers))
    fit_schedule(cfg, 40)
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 40)
    assert [(s.by_epoch, s.begin, s.get('end')) for s in cfg.param_scheduler] == [
        (False, 0, 10),
        (False, 10, None),
    ]
    assert cfg.log_processor.by_epoch is False


def test_few_samples_of_a_sorted_list_have_all_classes():
    labels = dict(gt_label=torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    assert choose_few(labels, 5).tolist() == [0, 1, 3, 4, 6]
    assert choose_few(dict(gt_label=torch.tensor([2, 0, 1, 0])), 3).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match='take 3 to 9'):
        choose_few(labels, 2)


def test_a_studys_variables_are_set_from_outside():
    study = read_study('own_videos', dict(num_classes=7, img_size=64, steps=9))
    options = study.evaluation['options']
    assert (options['num_classes'], options['img_size']) == (7, 64)
    assert study.evaluation['probe_few'] == 14 and study.reference_steps == 9
    sizes = {s.cfg.model.dorsal.backbone.img_size for r in study.runs.values() for s in r.stages}
    assert sizes == {64}
