"""The notebook of the documentation runs from its first cell to its last, on fewer clips."""

import csv
from pathlib import Path

import pytest

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')
pytest.importorskip('ipykernel')
pytest.importorskip('mmaction', reason='finetunes with mmaction2')
pytest.importorskip('mmpretrain', reason='RandAugment is mmpretrains')
pytest.importorskip('decord', reason='decodes the videos')

NOTEBOOK = Path(__file__).parents[1] / 'docs' / 'tutorial.ipynb'
LARGEST = 200_000  # bytes
SMALLER = {
    'clips_per_class = 20': 'clips_per_class = 5',
    'max_epochs=10': 'max_epochs=2',
    'max_epochs=30': 'max_epochs=2',
}


def test_the_notebook_runs_on_fewer_clips_and_for_fewer_epochs(tmp_path, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for before, after in SMALLER.items():
        (cell,) = (cell for cell in notebook.cells if before in cell.source)
        cell.source = cell.source.replace(before, after)
    resources = dict(metadata=dict(path=str(tmp_path)))
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name='python3', resources=resources
    ).execute()

    with (tmp_path / 'tutorial' / 'new.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {row['prediction'] for row in rows} <= {'blood orange', 'green lime', 'dark plum'}
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if {'image/png', 'image/jpeg'} & output.get('data', {}).keys()
    ]
    assert len(pictures) == 4  # clips, curves, reconstructions, confusion


def test_the_notebook_shows_what_a_whole_run_gave_and_stays_small():
    assert NOTEBOOK.stat().st_size < LARGEST
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if 'outputs' in cell]
    # run once, from the top
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    types = {output.output_type for cell in cells for output in cell.outputs}
    assert types == {'stream', 'execute_result'}  # and no error
