from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import RangeError, TransportError
from kvstore.profiles.conditions import if_range_matches
from kvstore.profiles.ranges import (
    ByteSpan,
    Unsatisfiable,
    format_range,
    parse_content_range,
    parse_range,
    parse_unsatisfied,
)
from tests.cases import each
from tests.corpora import entries

SIZE = 1000
CORPUS = list(entries("ranges"))


def answer(entry: dict[str, Any]) -> tuple[int, list[list[int]] | None]:
    """Status and spans (inclusive, as in the corpus) of the answer to an entry's request."""
    whole = (200, [[0, SIZE - 1]])
    if entry.get("method", "GET") != "GET":
        return whole
    revision = "r1"
    if "if_range" in entry:
        condition = entry["if_range"].replace("CURRENT", f'"{revision}"')
        if not if_range_matches(condition, revision, 0.0):
            return whole
    asked = parse_range(entry["range"], SIZE)
    if asked is None:
        return whole
    if isinstance(asked, Unsatisfiable):
        assert asked.content_range == f"bytes */{SIZE}"
        return 416, None
    assert asked.content_range == f"bytes {asked.start}-{asked.end - 1}/{SIZE}"
    return 206, [[asked.start, asked.end - 1]]


@each("entry", CORPUS, ids=[f"{i}:{e['range'][:40]!a}" for i, e in enumerate(CORPUS)])
def test_corpus(entry: dict[str, Any]) -> None:
    status, spans = answer(entry)
    assert status in entry["status"]
    if status == 206 and entry["spans"] is not None:
        assert spans == entry["spans"]
    # A satisfiable single range is served, never ignored.
    if entry["status"] == [206, 200] and len(entry["spans"]) == 1:
        assert status == 206
    if entry["status"] == [416, 200]:
        assert status == 416


@each(
    "header, size, span",
    [
        ("bytes=0-0", 1, (0, 1)),
        ("bytes=1-", 3, (1, 3)),
        ("bytes=-2", 3, (1, 3)),
        ("bytes=-9", 3, (0, 3)),
        ("bytes=1-9", 3, (1, 3)),
        ("bytes=0-" + "9" * 5000, 3, (0, 3)),
        ("bytes=-" + "9" * 5000, 3, (0, 3)),
        ("bytes=" + "0" * 5000 + "1-", 3, (1, 3)),
        ("bytes=\t1-2 , ,", 3, (1, 3)),
        ("bytes=1-2,1-2,1-5", 3, (1, 3)),
        ("bytes=0-0,7-9,-0", 3, (0, 1)),
    ],
)
def test_a_span(header: str, size: int, span: tuple[int, int]) -> None:
    asked = parse_range(header, size)
    assert asked == ByteSpan(*span, size)
    assert asked.length == span[1] - span[0]


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-0", "bytes=5-9,7-"])
def test_nothing_of_empty_data(header: str) -> None:
    assert parse_range(header, 0) == Unsatisfiable(0)


@pytest.mark.parametrize("header", ["bytes=-1", "bytes=-" + "9" * 5000, "bytes=0-,-1"])
def test_the_last_bytes_of_empty_data_are_all_of_it(header: str) -> None:
    assert parse_range(header, 0) is None


def test_a_first_byte_beyond_any_size() -> None:
    assert parse_range("bytes=" + "9" * 5000 + "-", SIZE) == Unsatisfiable(SIZE)


@each(
    "header",
    ["", "bytes=", "bytes=,", "bytes=0-1,x", "bytes=0-9\n", "bytes=٠-٩", "items=0-1", "bytes=5-4"],
)
def test_malformed_is_ignored(header: str) -> None:
    assert parse_range(header, SIZE) is None


@given(st.integers(0, 50), st.integers(0, 60), st.none() | st.integers(0, 60))
def test_both_ends_agree(size: int, start: int, end: int | None) -> None:
    data = bytes(range(size))
    if end is not None and end <= start:
        with pytest.raises(RangeError):
            format_range(start, end)
        return
    asked = parse_range(format_range(start, end), size)
    if start >= size:
        assert asked == Unsatisfiable(size)
        assert parse_unsatisfied(asked.content_range) == size
    else:
        assert isinstance(asked, ByteSpan)
        assert data[asked.start : asked.end] == data[start:end]
        assert parse_content_range(asked.content_range) == (asked.start, asked.end, size)


@given(st.text("0123456789-, bytes=") | st.from_regex(r"bytes=[0-9,\- ]*", fullmatch=True))
def test_any_field_gives_bytes_that_exist(header: str) -> None:
    asked = parse_range(header, 7)
    if isinstance(asked, ByteSpan):
        assert 0 <= asked.start < asked.end <= 7


@each("start, end", [(-1, None), (-5, 3), (3, 3), (4, 3), (0, 0)])
def test_a_range_that_http_cannot_ask_for(start: int, end: int | None) -> None:
    with pytest.raises(RangeError, match=f"from {start} up to {end}"):
        format_range(start, end)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("bytes 0-9/1000", (0, 10, 1000)),
        ("bytes 999-999/1000", (999, 1000, 1000)),
        ("Bytes 5-9/*", (5, 10, None)),
    ],
)
def test_content_range(value: str, result: tuple[int, int, int | None]) -> None:
    assert parse_content_range(value) == result


@each(
    "value",
    [
        "",
        "bytes */1000",
        "bytes 0-9",
        "bytes 0-9/",
        "bytes 9-0/1000",
        "bytes 0-1000/1000",
        "bytes 0-0/0",
        "bytes=0-9/1000",
        "items 0-9/1000",
        "bytes  0-9/1000",
        "bytes 0-9/1000 ",
        "bytes 0-9/1000\n",
        "bytes +0-9/1000",
        "bytes -9/1000",
        "bytes ٠-٩/1000",
        "bytes 0-9/1_000",
        "bytes 0-" + "9" * 5000 + "/*",
    ],
)
def test_a_bad_content_range_is_named(value: str) -> None:
    with pytest.raises(TransportError) as caught:
        parse_content_range(value)
    assert repr(value)[:100] in str(caught.value)


@each(
    "value, size",
    [
        ("bytes */1000", 1000),
        ("bytes */0", 0),
        ("bytes */*", None),
        ("bytes 0-9/1000", None),
        ("", None),
    ],
)
def test_the_size_that_a_416_tells(value: str, size: int | None) -> None:
    assert parse_unsatisfied(value) == size
