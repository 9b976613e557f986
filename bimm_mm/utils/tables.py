"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], align: str = '') -> str:
    """Format a Markdown table.

    Args:
        head: Titles of the columns.
        rows: The cells of each row, as many as there are titles.
        align: One of 'l', 'c' and 'r' for each column; left where there is none.

    Raises:
        ValueError: A row has another number of cells than ``head``.
    """
    rules = dict(l='---', c=':-:', r='---:')
    marks = [rules[mark] for mark in align.ljust(len(head), 'l')]
    lines = [list(head), marks]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f'a row has {len(row)} cells, the head {len(head)}: {row}')
        lines.append(row)
    return '\n'.join(f'| {" | ".join(map(str, cells))} |' for cells in lines)
