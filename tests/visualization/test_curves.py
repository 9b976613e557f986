"""Curves: what is read of a run, and what is drawn."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from bimm_mm.visualization.curves import draw_curves, read_run

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/plot_logs.py'


def write(folder, start, steps, text=''):
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [
        dict(
            step=step,
            loss=1.0,
            loss_dorsal_motion=0.5 / step,
            explained_dorsal_motion=0.01 * step,
            lr=1e-3,
            grad_norm=2.0,
            grad_norm_shared=1.0,
            time=float(start),
        )
        for step in steps
    ]
    path.write_text('\n'.join(map(json.dumps, lines)) + '\n' + text)
    return path


def test_a_resumed_run_is_joined_and_its_later_figures_count(tmp_path):
    write(tmp_path, '1', (10, 20, 30, 40), text='{"step": 5')  # killed while it wrote
    write(tmp_path, '2', (30, 50), text='{"some": 1, "step": 50}\n')  # of validation
    run = read_run(tmp_path)
    steps, times = run['time']
    assert steps.tolist() == [10, 20, 30, 50] and times.tolist() == [1, 1, 2, 2]
    assert [values.tolist() for values in run['some']] == [[50], [1]]


def test_a_finetuning_shows_loss_accuracies_and_the_rate_of_the_head(tmp_path):
    path = tmp_path / '1' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [
        dict(step=3, epoch=1, loss=1.6, loss_cls=1.6, top1_acc=0.25, base_lr=1e-3, lr=1e-5),
        {'step': 1, 'acc/top1': 0.4, 'time': 9.0},
        dict(step=6, epoch=2, loss=1.2, loss_cls=1.2, top1_acc=0.5, base_lr=5e-4, lr=5e-6),
        {'step': 2, 'acc/top1': 0.6, 'time': 9.0, 'odd/thing': 3},
    ]
    path.write_text('\n'.join(map(json.dumps, lines)))
    figure = draw_curves(dict(run=read_run(tmp_path)))
    drawn = {
        axes.get_title(): {
            line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
            for line in axes.lines
            if not line.get_label().startswith('_')
        }
        for axes in figure.axes
        if axes.get_title()
    }
    assert drawn == {
        'loss': {'loss': ([3, 6], [1.6, 1.2])},  # loss_cls is all of it
        'accuracy in training': {'top1': ([3, 6], [25, 50])},
        'accuracy in validation': {'top1': ([3, 6], [40, 60])},
        'learning rate': {'head': ([3, 6], [1e-3, 5e-4]), 'first layer': ([3, 6], [1e-5, 5e-6])},
        'odd/thing': {'odd/thing': ([6], [3])},
    }


def test_no_curve_lies_below_its_panel(tmp_path):
    steps = np.arange(3.0)
    run = dict(
        explained_dorsal_gabor=(steps, np.array([-8.0, -2.0, -1.5])),
        explained_dorsal_motion=(steps, np.array([0.1, 0.2, 0.3])),
    )
    (panel,) = [axes for axes in draw_curves(dict(run=run)).axes if axes.get_title()]
    assert -800 < panel.get_ylim()[0] <= -150


def test_what_lies_far_below_flattens_nothing(tmp_path):
    early = np.array([-150.0, -0.2, 0.05])  # as fractions: 15,000 % below the mean, at first
    (panel,) = draw_curves(dict(run=dict(explained_pixel=(np.arange(3.0), early)))).axes[:1]
    bottom, top = panel.get_ylim()
    assert bottom == -20
    assert 5 < top < 10


def test_a_panel_of_curves_below_zero_shows_the_best_of_each():
    runs = dict(run=dict(explained_pixel=(np.arange(3.0), np.array([-9.0, -0.6, -0.4]))))
    bottom, top = draw_curves(runs).axes[0].get_ylim()
    assert bottom == -60 and 0 < top < 10


def test_numbers_of_a_logarithmic_axis_are_plain():
    figure = draw_curves(dict(run=dict(loss=(np.arange(3.0), np.array([20.0, 2.0, 0.3])))))
    figure.canvas.draw()
    axis = figure.axes[0].yaxis
    texts = [label.get_text() for label in axis.get_ticklabels()]
    assert {'0.5', '1', '2', '5', '10'} <= set(texts)
    assert not any(label.get_text() for label in axis.get_ticklabels(minor=True))


def test_an_axis_without_a_power_of_ten_is_linear():
    steps = np.arange(3.0)
    for values, scale in (([2.6, 2.5, 2.4], 'linear'), ([100.0, 1.0, 0.1], 'log')):
        panel = draw_curves(dict(run=dict(loss=(steps, np.array(values))))).axes[0]
        assert panel.get_yscale() == scale


def test_panels_show_all_kinds_of_scalars(tmp_path):
    run = read_run(write(tmp_path, '1', (10, 20, 30)))
    figure = draw_curves(dict(one=run, two=run))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == [
        'losses of the dorsal branch',
        'explained variance, dorsal',
        'loss',
        'learning rate',
        'gradient norm',
        'time per step',
    ]
    lines = [
        line for line in panels['explained variance, dorsal'].lines if len(line.get_xdata()) > 2
    ]
    assert [line.get_label() for line in lines] == ['motion, one', 'motion, two']
    np.testing.assert_allclose(lines[0].get_ydata(), [10, 20, 30])
    assert len(panels['gradient norm'].lines) == 4


def test_the_tool_draws_runs_and_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr('sys.argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    write(tmp_path / 'first', '1', (10, 20))
    call(tmp_path / 'first', '--out', tmp_path / 'new' / 'curves.png')
    assert (tmp_path / 'new' / 'curves.png').stat().st_size > 10_000
    call(tmp_path / 'first')
    assert (tmp_path / 'first' / 'curves.png').is_file()
    (tmp_path / 'broken.json').write_text('{\n{"step": 1}\n')
    (tmp_path / 'empty.json').write_text('')
    for name, message in (
        ('nothing', 'nothing is no scalars.json'),
        ('broken.json', 'line 1 of .*broken.json is no JSON'),
        ('empty.json', 'no scalars of training'),
    ):
        with pytest.raises(SystemExit, match=message):
            call(tmp_path / name)
    with pytest.raises(SystemExit):
        call(tmp_path / 'first', tmp_path / 'first')
    assert '2 different ones are needed' in capsys.readouterr().err
