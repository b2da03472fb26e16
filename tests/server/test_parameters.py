from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.documents import dump_json
from kvstore.errors import InvalidRequestError
from kvstore.query import Query
from kvstore.server.handlers.parameters import parse_parameters
from tests.cases import each

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_nothing_is_asked() -> None:
    for text in (b"", b"&", b"&&"):
        asked = parse_parameters(text)
        assert (asked.query, asked.select, asked.is_count) == (Query(), None, False)


def test_everything_is_asked() -> None:
    asked = parse_parameters(
        b"$select=a,b&$where=%7B%22n%22:1%7D&$prefix=p+q&$glob=*.fits&$order=-n&$limit=5"
        b"&$after=%5B%22k%22%5D&name=%22x%22&x.y=null&"
    )
    assert asked.query == Query(
        match={"name": "x", "x.y": None},
        where={"n": 1},
        prefix="p q",
        glob="*.fits",
        order_by="-n",
        limit=5,
        after='["k"]',
    )
    assert asked.select == {"a", "b"}
    assert not asked.is_count


@each("word, is_count", [("", True), ("1", True), ("true", True), ("0", False), ("false", False)])
def test_count(word: str, is_count: bool) -> None:
    assert parse_parameters(f"$count={word}".encode()).is_count is is_count


def test_bytes_that_stand_for_themselves_are_utf8_too() -> None:
    assert parse_parameters('é="ü"'.encode()).query.match == {"é": "ü"}
    with pytest.raises(InvalidRequestError, match=r"is no UTF-8"):
        parse_parameters('é="ü"'.encode("latin-1"))


@given(
    match=st.dictionaries(TEXT.filter(lambda name: name[:1] != "$"), TEXT | st.integers()),
    prefix=TEXT,
    cursors=st.lists(TEXT, min_size=1),
)
def test_the_next_page_asks_the_same_from_there_on(
    match: dict[str, object], prefix: str, cursors: list[str]
) -> None:
    pairs = [(name, dump_json(value).decode()) for name, value in match.items()]
    asked = parse_parameters(urlencode([*pairs, ("$prefix", prefix), ("$limit", "3")]).encode())
    assert asked.query == Query(match=match, prefix=prefix, limit=3)
    for cursor in cursors:
        url = asked.next_page(cursor)
        assert url[0] == "?"
        assert url.isascii()
        asked = parse_parameters(url[1:].encode())
        assert asked.query == Query(match=match, prefix=prefix, limit=3, after=cursor)
