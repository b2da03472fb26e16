from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from kvstore.cli.spelling import Column
from kvstore.cli.tables import as_table

COLUMNS = [Column("key"), Column("size", right=True), Column("title")]
WORD = st.text("abé漢 -", max_size=60)


def printed(columns, rows, width):
    file = io.StringIO()
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    console.print(as_table(columns, rows, width))
    return file.getvalue().splitlines()


def test_where_there_is_room_everything_is_shown():
    assert printed(COLUMNS, [["a/b", "1 B", "One"], ["c", "20 kB", "[bold]:smile: 5"]], 80) == [
        "key   size  title          ",
        "a/b    1 B  One            ",
        "c    20 kB  [bold]:smile: 5",
    ]


def test_where_there_is_little_room_keys_are_folded_and_the_rest_is_cut():
    rows = [["climate/series/co2_mauna_loa.csv", "34.0 kB", "Weekly carbon dioxide"]]
    assert printed(COLUMNS, rows, 40) == [
        "key                   size  title       ",
        "climate/series/co  34.0 kB  Weekly carb…",
        "2_mauna_loa.csv                         ",
    ]


@given(st.lists(st.tuples(WORD, WORD, WORD), max_size=4), st.integers(20, 120))
def test_no_line_is_wider_than_the_terminal(rows, width):
    assert all(cell_len(line) <= width for line in printed(COLUMNS, rows, width))


@given(st.text("abc/", min_size=1, max_size=300), st.integers(20, 120))
def test_keys_are_always_complete(key, width):
    lines = printed(COLUMNS, [[key, "1 B", "t" * 50]], width)
    room = as_table(COLUMNS, [[key, "1 B", "t" * 50]], width).columns[0].width
    assert "".join(line[:room].strip() for line in lines[1:]) == key


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_terminal_too_narrow_for_any_table_is_no_error(width):
    assert printed(COLUMNS, [["key", "1 B", "title"]], width)
