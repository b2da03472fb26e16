"""The index of a SQLiteStore answers as the pure meaning of queries does, whatever is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import MemoryStore, SQLiteStore, field
from kvstore.query import Query, run
from kvstore.stores._sqlite import ordered, search, terms
from kvstore.stores._sqlite.plan import text_after
from kvstore.testing import strategies
from kvstore.where import MISSING, lookup

FIELDS = ("a", "b", "a.b", "c.d", "")
LONG = "x" * (terms.TEXT_LIMIT - 1)
BIG = terms.BIG

#: Values that the index holds cut off or rounded, close to each other.
AWKWARD = st.sampled_from(
    [
        *(LONG + end for end in ("", "a", "ab", "b", "a\0c")),
        *(BIG, BIG + 1, BIG - 1, float(BIG), -BIG, -BIG - 1, 10**400, -(10**400), 1e308),
        *("\0", "a\0b", "a\0", "\U0010ffff", "\ud7ff", "\ue000", "\u00e9"),
        *(-0.0, 0, 0.5, 1, 1.0, True, False, None, "1", "a", "ab", "b"),
        [LONG + "a"],
        [LONG + "b"],
        ["a", 1, None, [1], {"b": 1}],
        list(range(300)),
        {"b": 1, "a": 1.0},
        {"a": 1, "b": 1},
        {"b": {"c": "a"}},
    ]
)
#: Of these the index cannot tell some apart.
CUT = st.sampled_from(
    [
        *(LONG + end for end in ("", "a", "ab", "ac", "a\0", "b")),
        *(BIG - 1, BIG, BIG + 1, float(BIG), 10**400, 10**400 + 1, 1.7e308),
        *([LONG + end] for end in ("a", "ab", "b")),
    ]
)
VALUES = (
    AWKWARD
    | st.lists(AWKWARD, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "c", "b.c", ""]), AWKWARD, max_size=3)
)
DOCUMENTS = st.lists(
    st.dictionaries(st.sampled_from([*FIELDS, "c"]), VALUES, max_size=4), max_size=12
)
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "contains"]), VALUES),
    st.tuples(st.just("in"), st.lists(VALUES, max_size=4)),
    st.tuples(st.just("prefix"), st.sampled_from(["", "a", "a\0", LONG, LONG + "a", "\U0010ffff"])),
    st.tuples(st.just("exists"), st.booleans()),
)
CLAUSES = st.dictionaries(
    st.sampled_from(FIELDS), st.lists(OPERATIONS, min_size=1, max_size=2).map(dict), max_size=2
)
FILTERS = strategies.filters(FIELDS) | st.recursive(
    CLAUSES,
    lambda parts: (
        st.lists(parts, max_size=3).map(lambda some: {"all": some})
        | st.lists(parts, max_size=3).map(lambda some: {"any": some})
        | parts.map(lambda part: {"not": part})
    ),
    max_leaves=4,
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "where": FILTERS,
        "match": st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=2),
        "prefix": st.sampled_from(["", "k", "k1", "\u00e9", "\U0010ffff"]),
        "glob": st.sampled_from(["*", "k?", "k1*", "*2", "[!k]*"]),
        "order_by": st.sampled_from([name for f in (*FIELDS, "none") for name in (f, f"-{f}")]),
        "limit": st.integers(0, 6),
    },
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path_factory.mktemp("queries")) as store:
        yield store


@pytest.fixture(params=["large pages", "small pages"])
def _pages(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "large pages":
        yield
        return
    with (
        mock.patch.multiple(search, _CAPS=(1, 3), _BROAD=2, _LOOKS=(1, 2), _PAGES=(1, 2, 3)),
        mock.patch.multiple(search, _RECORDS=2),
        mock.patch.multiple(ordered, _PAGES=(1, 2, 3)),
    ):
        yield


def fill(store: SQLiteStore, documents: list[dict[str, Any]]) -> None:
    with store.transaction():
        for key in list(store.query_keys()):
            store.delete(key)
        for number, document in enumerate(documents):
            key = "\u00e9\U0010ffff"[number % 2] if number > 9 else f"k{number * 7 % 12}"
            store.set_metadata(key, document)


def expected(store: SQLiteStore, query: Query) -> list[tuple[str, str]]:
    with MemoryStore() as pure:
        for key, metadata in store.query():
            pure.set_metadata(key, metadata)
        return [
            (record.key, json.dumps(record.metadata))
            for record in run(query, pure._records("", None))
        ]


def check(store: SQLiteStore, query: Query) -> None:
    wanted = expected(store, query)
    keys = [key for key, _ in wanted]
    found = list(store._query(query))
    assert [(record.key, json.dumps(record.metadata)) for record in found] == wanted
    assert [record.key for record in store._query_keys(query)] == keys
    if query.limit is None and query.order_by is None:
        assert store._count(query) == len(wanted)
    # In a transaction no index is made, and those there are show what was not committed.
    with store.transaction():
        assert [record.key for record in store._query(query)] == keys


@pytest.mark.usefixtures("_pages")
@settings(max_examples=200)
@given(documents=DOCUMENTS, questions=st.lists(QUERIES, min_size=1, max_size=4))
def test_the_index_and_the_predicate_agree(stores, documents, questions):
    fill(stores, documents)
    for question in questions:
        check(stores, Query(**question))


@pytest.mark.usefixtures("_pages")
@settings(max_examples=100)
@given(
    values=st.lists(CUT, max_size=8),
    operation=st.tuples(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "prefix"]), CUT),
    order=st.sampled_from([None, "a", "-a"]),
)
def test_they_agree_on_values_that_the_index_cannot_tell_apart(stores, values, operation, order):
    fill(stores, [{"a": value} for value in values])
    operator, operand = operation
    if operator == "prefix" and not isinstance(operand, str):
        operator = "contains"
    check(stores, Query(where={"a": {operator: operand}}, order_by=order))
    check(stores, Query(where={"not": {"a": {operator: operand}}}, order_by=order))


@pytest.mark.usefixtures("_pages")
@settings(max_examples=100)
@given(documents=DOCUMENTS, question=QUERIES, size=st.integers(1, 3))
def test_pages_by_cursor_make_up_the_whole(stores, documents, question, size):
    fill(stores, documents)
    question = {name: value for name, value in question.items() if name not in ("limit", "match")}
    whole = [key for key, _ in expected(stores, Query(**question))]
    keys: list[str] = []
    after = None
    while True:
        page = stores.query(**question, limit=size, after=after)
        told = [key for key, _ in page]
        keys += told
        if len(told) < size:
            break
        after = page.cursor
    assert keys == whole


@given(document=st.dictionaries(st.sampled_from([*FIELDS, "c", "c.d.e"]), VALUES, max_size=4))
def test_names_are_those_that_lookup_knows(document):
    names = list(terms.names_of(document))
    assert len(set(names)) == len(names)
    for name in names:
        assert lookup(document, name) is not MISSING
    for name in ("a", "b", "c", "a.b", "a.c", "b.c", "c.d", "c.a", "a.b.c", "c.d.e", "", "a."):
        assert (name in names) == (lookup(document, name) is not MISSING), name


@given(a=VALUES, b=VALUES)
def test_what_is_stored_is_in_the_order_of_the_values(a, b):
    """Or the same, where the index holds it cut off."""
    order = search.Query and ordered.Order("x")
    first, second = (terms.stored(value) for value in (a, b))
    before = order.place_of((first[0], *_position(a))) < order.place_of((second[0], *_position(b)))
    if before:
        assert first <= second
    if first == second and terms.is_exact(first[1]):
        assert not before


def _position(value: Any) -> tuple[Any, str]:
    from kvstore.query import position

    return position(value, "")[1:]


@given(text=st.text(st.sampled_from("ab\U0010ffff\ud7ff\ue000"), max_size=4), more=st.text())
def test_text_after_all_that_begins_with_it(text, more):
    end = text_after(text)
    if end is None:
        assert text == "\U0010ffff" * len(text)
    else:
        assert text + more < end
        assert not end.startswith(text)


def test_python_spelling(stores):
    store = stores
    fill(store, [{"exposure": 1}, {"exposure": 20, "filter": "B"}, {"exposure": 30}])
    wanted = (field("exposure") >= 10) & ~(field("filter") == "B")
    assert [metadata for _, metadata in store.query(where=wanted)] == [{"exposure": 30}]


def test_fields_are_indexed_when_they_are_asked_for(tmp_path: Path):
    def indexed() -> list[str]:
        with store._engine().reading() as connection:
            return sorted(connection.execute("SELECT name FROM field WHERE state = 2").fetchall())

    with SQLiteStore(tmp_path) as store:
        store.set_metadata("k", {"a": 1, "b": {"c": 2}, "d": 3})
        assert list(store.query_keys(prefix="k")) == ["k"]
        assert indexed() == []
        assert list(store.query_keys(where={"b.c": 2})) == ["k"]
        assert indexed() == [("b.c",)]
        assert list(store.query_keys(none=1)) == []
        assert indexed() == [("b.c",)]
        store.set_metadata("k", {"b": {"c": 4}})
        assert list(store.query_keys(where={"b.c": 2})) == []
        assert list(store.query_keys(where={"b.c": 4})) == ["k"]
        store.delete("k")
        with store._engine().reading() as connection:
            assert connection.execute("SELECT count(*) FROM term").fetchone() == (0,)


def test_an_index_in_the_making_is_finished_by_whoever_asks(tmp_path: Path):
    from kvstore.stores._sqlite import fields

    with SQLiteStore(tmp_path) as store, mock.patch.object(fields, "_CHUNK", 2):
        for number in range(7):
            store.set_metadata(f"k{number}", {"n": number})
        engine = store._engine()
        with engine.reading() as connection:
            [number] = engine.fields.find(engine, ["n"]).values()
        assert number < 0
        for _ in range(3):  # marked, and two chunks
            assert not engine.writer.run(lambda step: engine.fields._advance(step, [-number]))
        store.set_metadata("k0", {"n": 100})
        store.set_metadata("k6", {"n": 100})
        store.set_metadata("k9", {"n": 100})
        store.delete("k5")
        assert list(store.query_keys(n=100)) == ["k0", "k6", "k9"]
        assert list(store.query_keys(where={"n": {"lt": 50}})) == ["k1", "k2", "k3", "k4"]
        with engine.reading() as connection:
            count = connection.execute("SELECT count(*) FROM term").fetchone()
        assert count == (7,)
