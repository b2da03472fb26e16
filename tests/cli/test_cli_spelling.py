from __future__ import annotations

import json
import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from kvstore.cli.spelling import escaped, iso_time, json_text, plain, show_size, show_time
from tests.cases import each

TEXT = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from("\x00\n\r\t\x1b\x7f\x9b\u2028\u202e\u2066")
)


@each(
    "text, shown",
    [
        ("a/b c", "a/b c"),
        ("é\U0001f600", "é\U0001f600"),
        ("a\\n", "a\\n"),
        ("a\nb", "a\\nb"),
        ("\r\t\0", "\\r\\t\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u2028\u202e\ufeff", "\\u2028\\u202e\\ufeff"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, shown):
    assert escaped(text) == shown


@given(TEXT)
def test_what_is_shown_is_one_line_without_controls(text):
    shown = escaped(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    if shown == text:
        assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


@given(
    st.dictionaries(TEXT, TEXT | st.floats(allow_nan=False) | st.lists(TEXT)),
    st.sampled_from([None, 2]),
)
def test_json_says_exactly_what_is_there_and_hides_controls(document, indent):
    text = json_text(document, indent)
    assert json.loads(text) == document
    lines = text.split("\n")
    assert indent is not None or len(lines) == 1
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for line in lines for c in line)


def test_json_is_ascii_where_the_output_is_not_utf8(monkeypatch):
    class Latin:
        encoding = "iso-8859-1"

    monkeypatch.setattr("sys.stdout", Latin())
    assert json_text({"é": "\U0001f600"}) == '{"\\u00e9":"\\ud83d\\ude00"}'


@each(
    "size, shown",
    [
        (-1, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2 * 10**15, "2000.0 TB"),
    ],
)
def test_sizes_are_short(size, shown):
    assert show_size(size) == shown


def test_times_are_exact_for_programs_and_local_for_people():
    assert iso_time(1297728840.006) == "2011-02-15T00:14:00.006Z"
    assert re.fullmatch(r"2011-02-1[45] \d\d:14|2011-02-1[45] \d\d:\d\d", show_time(1297728840.006))


@each("value, text", [(None, ""), ("a b", "a b"), (1.5, "1.5"), (True, "true"), (["a"], '["a"]')])
def test_values_are_text_or_json(value, text):
    assert plain(value) == text
