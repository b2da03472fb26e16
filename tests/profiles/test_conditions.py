from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import InvalidRequestError
from kvstore.profiles.conditions import (
    ETag,
    ETags,
    Verdict,
    evaluate,
    format_etag,
    format_http_date,
    if_range_matches,
    parse_etag,
    parse_etags,
    parse_http_date,
)
from tests.cases import each
from tests.corpora import entries

CORPUS = list(entries("conditionals"))
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
SECONDS = 784111777
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"


def answer(entry: dict[str, Any]) -> str:
    """What is done about a corpus entry: "do" or a status, as a server maps the verdict."""

    def lines(name: str) -> list[str] | None:
        return None if entry[name] is None else [entry[name]]

    method, current = entry["method"], "e1" if entry["exists"] else None
    try:
        verdict = evaluate(
            method, current, if_match=lines("if_match"), if_none_match=lines("if_none_match")
        )
    except InvalidRequestError:
        return "400"
    if verdict is Verdict.PROCEED:
        return "do" if current is not None or method == "PUT" else "404"
    return "304" if verdict is Verdict.NOT_MODIFIED else "412"


@each(
    "entry",
    CORPUS,
    ids=[
        f"{i}:{e['method']}-{str(e['if_match'])[:20]!a}-{e['if_none_match']}-{e['exists']}"
        for i, e in enumerate(CORPUS)
    ],
)
def test_corpus(entry: dict[str, Any]) -> None:
    assert answer(entry) in str(entry["expect"]).split("|")


@each(
    "value, etags",
    [
        ("*", ETags(star=True)),
        (" *\t", ETags(star=True)),
        ('"a"', ETags(False, (ETag(False, "a"),))),
        ('W/"a"', ETags(False, (ETag(True, "a"),))),
        ('""', ETags(False, (ETag(False, ""),))),
        ('"a" ,\t"b","c,d"', ETags(False, tuple(ETag(False, tag) for tag in ("a", "b", "c,d")))),
        (', "a",, ,"b",', ETags(False, (ETag(False, "a"), ETag(False, "b")))),
        ('"*"', ETags(False, (ETag(False, "*"),))),
        ('"a\\"', ETags(False, (ETag(False, "a\\"),))),
        ('"\xe9"', ETags(False, (ETag(False, "\xe9"),))),
    ],
)
def test_parsing(value: str, etags: ETags) -> None:
    assert parse_etags(value) == etags


@each(
    "value",
    [
        "",
        " ",
        ",",
        "a",
        '"a',
        'a"',
        "'a'",
        'w/"a"',
        'W/ "a"',
        "W/a",
        "W/*",
        '"a" "b"',
        '"a""b"',
        '"a";"b"',
        '*, "a"',
        '"a", *',
        "*,",
        "*, *",
        '"a b"',
        '"a\\"b"',
        '"a"\0',
        '"a"\n',
        '"\u0100"',
    ],
)
def test_a_malformed_list_is_named(value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_etags(value)
    assert repr(value) in str(caught.value)
    with pytest.raises(InvalidRequestError):
        evaluate("PUT", None, if_match=[value])
    with pytest.raises(InvalidRequestError):
        evaluate("GET", None, if_none_match=[value])


REVISIONS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF).filter(
        lambda char: char != '"' and not "\x7e" < char < "\x80"
    )
)


@given(REVISIONS, st.lists(REVISIONS))
def test_a_written_tag_is_read_back(revision: str, others: list[str]) -> None:
    assert parse_etag(format_etag(revision)) == ETag(weak=False, opaque=revision)
    assert str(parse_etag(f'W/"{revision}"')) == f'W/"{revision}"'
    tags = parse_etags(", ".join(map(format_etag, [*others, revision])))
    assert [tag.opaque for tag in tags.tags] == [*others, revision]
    assert tags.matches_strongly(revision)
    assert tags.matches_weakly(revision)


@each("revision", ['a"b', "a b", "a\n", "\x7f", "\u0100", '"a"'])
def test_a_revision_that_no_tag_can_hold_is_named(revision: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        format_etag(revision)
    assert repr(revision) in str(caught.value)


@each("value", ["", "a", "*", '"a", "b"', '"a"x', '"a"\n'])
def test_what_is_no_tag_is_named(value: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_etag(value)
    assert repr(value) in str(caught.value)


def test_the_lines_of_a_field_are_one_list() -> None:
    assert evaluate("PUT", "b", if_match=['"a"', '"b"']) == "proceed"
    assert evaluate("GET", "b", if_none_match=['"a"', 'W/"b"']) == "not-modified"
    with pytest.raises(InvalidRequestError):
        evaluate("PUT", "b", if_match=["*", '"b"'])


def test_no_lines_are_no_condition() -> None:
    assert evaluate("PUT", "a", if_match=[], if_none_match=[], if_unmodified_since=[]) == "proceed"
    assert evaluate("GET", "a") == "proceed"
    assert evaluate("DELETE", None) == "proceed"


@each(
    "method, field, date, verdict",
    [
        ("GET", "if_modified_since", EARLIER, "proceed"),
        ("GET", "if_modified_since", DATE, "not-modified"),
        ("HEAD", "if_modified_since", LATER, "not-modified"),
        ("PUT", "if_modified_since", LATER, "proceed"),
        ("PUT", "if_unmodified_since", EARLIER, "failed"),
        ("PUT", "if_unmodified_since", DATE, "proceed"),
        ("GET", "if_unmodified_since", EARLIER, "failed"),
        ("DELETE", "if_unmodified_since", LATER, "proceed"),
        ("PUT", "if_unmodified_since", "garbage", "proceed"),
        ("GET", "if_modified_since", "garbage", "proceed"),
        ("GET", "if_modified_since", f"{DATE}, {DATE}", "proceed"),
    ],
)
def test_dates(method: str, field: str, date: str, verdict: str) -> None:
    fields: Any = {field: [date]}
    assert evaluate(method, "a", last_modified=SECONDS + 0.9, **fields) == verdict
    assert evaluate(method, "a", **fields) == "proceed"
    fields[field] = [date, date]
    assert evaluate(method, "a", last_modified=SECONDS + 0.9, **fields) == "proceed"


def test_a_tag_outranks_a_date() -> None:
    stale: Any = {"last_modified": SECONDS, "if_unmodified_since": [EARLIER]}
    assert evaluate("PUT", "a", if_match=['"a"'], **stale) == "proceed"
    assert evaluate("PUT", "a", if_match=['"b"'], **stale) == "failed"
    same: Any = {"last_modified": SECONDS, "if_modified_since": [DATE]}
    assert evaluate("GET", "a", if_none_match=['"b"'], **same) == "proceed"
    assert evaluate("GET", "a", if_none_match=['"a"'], **same) == "not-modified"


def test_both_dates_are_asked() -> None:
    dates: Any = {"if_unmodified_since": [DATE], "if_modified_since": [DATE]}
    assert evaluate("GET", "a", last_modified=SECONDS, **dates) == "not-modified"
    assert evaluate("GET", "a", last_modified=SECONDS + 1, **dates) == "failed"


@each(
    "value, seconds",
    [
        (DATE, SECONDS),
        ("Sunday, 06-Nov-94 08:49:37 GMT", SECONDS),
        ("Sun Nov  6 08:49:37 1994", SECONDS),
        ("Sun Nov 16 08:49:37 1994", SECONDS + 864000),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("", None),
        ("garbage", None),
        ("784111777", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 +0200", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0094 08:49:37 GMT", None),
        ("Sun, ٠٦ Nov 1994 08:49:37 GMT", None),
        (f"{DATE}\n", None),
        (f"{DATE}, {DATE}", None),
    ],
)
def test_http_dates(value: str, seconds: int | None) -> None:
    assert parse_http_date(value) == seconds


@given(st.floats(-1e9, 2e11))
def test_a_written_date_is_read_back_in_whole_seconds(seconds: float) -> None:
    date = format_http_date(seconds)
    assert date.endswith(" GMT")
    read = parse_http_date(date)
    assert read is not None
    assert read <= seconds < read + 1


@each(
    "value, revision, last_modified, matches",
    [
        ('"a"', "a", None, True),
        (' "a" ', "a", None, True),
        ('"b"', "a", None, False),
        ('W/"a"', "a", None, False),
        ('"a"', None, SECONDS, False),
        ("*", "a", None, False),
        ("garbage", "a", SECONDS, False),
        ("garbage", None, SECONDS, False),
        ('"a", "a"', "a", None, False),
        (DATE, "a", SECONDS, False),
        (DATE, None, SECONDS + 0.5, True),
        (EARLIER, None, SECONDS, False),
        (LATER, None, SECONDS, False),
        (DATE, None, None, False),
    ],
)
def test_if_range(
    value: str, revision: str | None, last_modified: float | None, matches: bool
) -> None:
    assert if_range_matches(value, revision, last_modified) is matches
