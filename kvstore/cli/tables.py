"""Tables in a terminal, as wide as it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvstore.cli.spelling import Column

# A table is laid out with all its rows in memory; a long listing comes as several.
_ROWS = 500
_GAP = 2
_NARROW = 12


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a heading."""
    console = _console()
    rows = iter(rows)
    while batch := list(itertools.islice(rows, _ROWS)):
        console.print(as_table(columns, batch, console.width))


def as_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Return rows as a table of at most *width* characters; the first column is that of keys.

    Where that is too narrow keys are folded, so that they can still be copied, and all else is
    cut off.
    """
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold underline")
    widths = _fitted(columns, rows, width)
    for number, column in enumerate(columns):
        table.add_column(
            Text(column.name),
            justify="right" if column.right else "left",
            overflow="fold" if number == 0 else "ellipsis",
            no_wrap=number > 0,
            width=widths[number],
            style="cyan" if number == 0 else "",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the width of each column: that of its cells, or where this is too much less."""
    left = max(width - _GAP * (len(columns) - 1), len(columns))
    widths = [cell_len(column.name) for column in columns]
    for row in rows:
        widths = [max(known, cell_len(cell)) for known, cell in zip(widths, row, strict=True)]
    widths = [min(wanted, left) for wanted in widths]
    if sum(widths) > left:
        keys, widths[0] = widths[0], min(widths[0], left // 2)
        while sum(widths) > left:
            # The widest first, but keys only when there is nothing else to take from.
            others = (
                range(1, len(widths))
                if max(widths[1:], default=0) > _NARROW
                else range(len(widths))
            )
            widths[max(others, key=widths.__getitem__)] -= 1
        widths[0] = min(keys, widths[0] + left - sum(widths))
    return widths


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair below the other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", overflow="fold")
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(Text(name), Text(value))
    _console().print(grid)


def _console() -> Console:
    # What is printed is data: nothing in it is markup, an emoji's name or a number to colour.
    return Console(markup=False, emoji=False, highlight=False)
