"""What a test of a classifier comes to."""

import csv
import io

import numpy as np
import pytest

from bimm_mm.evaluation.functional.classification import ClassificationReport, share_of


@pytest.fixture
def report() -> ClassificationReport:
    labels = np.array([0, 0, 0, 1])
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    return ClassificationReport(labels, scores, ['cat nap', 'dog'], ['a.mp4', 'b,c.mp4', 'd', 'e'])


def test_confusions_count_label_by_prediction(report):
    assert report.confusion.tolist() == [[2, 1], [1, 0]]


def test_the_text_has_the_interval_and_each_class_by_name(report):
    first, _, cat, dog = report.text().splitlines()
    assert 'Accuracy 50.0% of 4 (95 % interval 15.0% to 85.0%)' in first
    assert 'mean of the classes 33.3%' in first and 'largest class alone would give 75.0%' in first
    assert cat.split()[:4] == ['cat', 'nap', '3', '67%'] and cat.endswith('dog (1)')
    assert dog.split()[:3] == ['dog', '1', '0%'] and dog.endswith('cat nap (1)')


def test_of_many_classes_the_worst_are_shown():
    labels = np.arange(30)
    scores = np.eye(30)
    scores[7] = np.eye(30)[8]
    names = [f'class {k}' for k in labels]
    text = ClassificationReport(labels, scores, names, names).text()
    assert len(text.splitlines()) == 23 and 'class 7 ' in text.splitlines()[3]


def test_every_file_has_its_label_prediction_and_scores(report):
    rows = list(csv.DictReader(io.StringIO(report.csv())))
    assert [row['file'] for row in rows] == ['a.mp4', 'b,c.mp4', 'd', 'e']
    assert rows[2] == {
        'file': 'd',
        'label': 'cat nap',
        'prediction': 'dog',
        'score': '0.700000',
        'score cat nap': '0.300000',
        'score dog': '0.700000',
    }


def test_the_interval_is_wilsons():
    # Brown, Cai and DasGupta, 2001: 0 of 10 gives 0 to 0.278
    assert share_of(0, 10) == pytest.approx((0.0, 0.0, 0.2775), abs=1e-3)
    assert share_of(10, 10) == pytest.approx((1.0, 0.7225, 1.0), abs=1e-3)


def test_lengths_must_fit():
    with pytest.raises(ValueError, match='do not fit scores of shape'):
        ClassificationReport(np.array([0]), np.zeros((2, 2)), ['a', 'b'], ['x', 'y'])
