"""Markdown tables."""

import pytest

from bimm_mm.utils.tables import markdown_table


def test_columns_are_aligned_as_asked():
    table = markdown_table(['run', 'value'], [['a', 1], ['b', 2.5]], 'lr')
    assert table == '| run | value |\n| --- | ---: |\n| a | 1 |\n| b | 2.5 |'


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match='a row has 1 cells, the head 2'):
        markdown_table(['run', 'value'], [['a']])
