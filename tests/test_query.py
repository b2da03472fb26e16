"""What a query finds and in what order, told by tables, by laws and by a second interpreter."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.documents import dump_json, parse_json
from kvstore.errors import InvalidRequestError, StoreError, TooLargeError
from kvstore.matches import Matches
from kvstore.query import (
    MAX_GLOB,
    Query,
    check_select,
    glob_matcher,
    run,
    trim,
)
from kvstore.values import Record
from kvstore.where import compile_where, json_equal, lookup
from tests.cases import each
from tests.corpora import entries
from tests.corpora import keys as corpus_keys

patient = settings(deadline=None)


def record(key: str, **metadata: Any) -> Record:
    return Record(key=key, metadata=metadata, size=0)


def found(query: Query, *records: Record) -> list[str]:
    return [r.key for r in run(query, sorted(records, key=lambda r: r.key))]


def holds(where: Any, **metadata: Any) -> bool:
    """Tell whether a filter holds, after the trip over the wire that it must survive."""
    sent = parse_json(dump_json(where))
    answer = compile_where(where)(metadata)
    assert found(Query(where=sent), record("k", **metadata)) == ["k"] * answer
    return answer


# -- operators -------------------------------------------------------------------------------

A: list[Any] = [None, False, True, 0, 1, 1.5, "", "1", "a", [], [1], [1, 2], {}, {"a": 1}, {"b": 1}]


@each("operand", A, ids=repr)
@each("value", A, ids=repr)
def test_equality_is_that_of_json(value: Any, operand: Any) -> None:
    same = dump_json(value) == dump_json(operand)
    assert json_equal(value, operand) is same
    assert holds({"f": {"eq": operand}}, f=value) is same
    assert holds({"f": {"ne": operand}}, f=value) is not same
    assert holds({"f": {"in": [operand]}}, f=value) is same
    assert holds({"f": {"in": ["other", operand, [9]]}}, f=value) is same
    assert holds({"f": {"contains": operand}}, f=["x", value]) is same
    assert found(Query(match={"f": operand}), record("k", f=value)) == ["k"] * same
    if not isinstance(operand, dict):  # an object holds operators
        assert holds({"f": operand}, f=value) is same


@each(
    "a, b",
    [
        (1, 1.0),
        (0, -0.0),
        (2**53, 2.0**53),
        (10**300, 10**300),
        ([1, [2.0]], [1.0, [2]]),
        ({"a": 1, "b": 2.0}, {"b": 2, "a": 1.0}),
    ],
)
def test_equal(a: Any, b: Any) -> None:
    assert json_equal(a, b)
    assert json_equal(b, a)
    assert holds({"f": {"in": [b]}}, f=a)


@each(
    "a, b",
    [
        (True, 1),
        (False, 0),
        (None, False),
        (None, 0),
        ("1", 1),
        ([True], [1]),
        ({"a": False}, {"a": 0}),
        (2**53 + 1, 2.0**53),
        ("é", "e\u0301"),
        ("a", "A"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ({"a": 1}, {"a": 1, "b": None}),
        ([], {}),
        ({}, None),
    ],
)
def test_not_equal(a: Any, b: Any) -> None:
    assert not json_equal(a, b)
    assert not json_equal(b, a)
    assert not holds({"f": {"in": [b]}}, f=a)


ORDER = ["lt", "le", "gt", "ge"]


@each(
    "value, operand, expected",
    [
        (1, 2, ["lt", "le"]),
        (2, 2, ["le", "ge"]),
        (2, 2.0, ["le", "ge"]),
        (2.5, 2, ["gt", "ge"]),
        (-1, 0.0, ["lt", "le"]),
        (2**53 + 1, 2.0**53, ["gt", "ge"]),
        ("a", "b", ["lt", "le"]),
        ("b", "b", ["le", "ge"]),
        ("a", "", ["gt", "ge"]),
        ("Z", "a", ["lt", "le"]),
        ("\ue000", "😀", ["lt", "le"]),  # by code point, where UTF-16 says the contrary
        # Other types are never in order, with themselves or with others.
        (True, False, []),
        (True, True, []),
        (True, 0, []),
        (1, True, []),
        (1, "2", []),
        ("1", 2, []),
        (None, None, []),
        (None, 0, []),
        ([1], [2], []),
        ({}, {}, []),
        ("a", ["b"], []),
    ],
)
def test_order(value: Any, operand: Any, expected: list[str]) -> None:
    assert [name for name in ORDER if holds({"f": {name: operand}}, f=value)] == expected


@each(
    "where, metadata, expected",
    [
        ({"f": {"prefix": "ab"}}, {"f": "abc"}, True),
        ({"f": {"prefix": "ab"}}, {"f": "ab"}, True),
        ({"f": {"prefix": "ab"}}, {"f": "a"}, False),
        ({"f": {"prefix": "ab"}}, {"f": "ABc"}, False),
        ({"f": {"prefix": ""}}, {"f": "x"}, True),
        ({"f": {"prefix": ""}}, {"f": 1}, False),
        ({"f": {"prefix": "a"}}, {"f": ["a"]}, False),
        ({"f": {"contains": "b"}}, {"f": "abc"}, True),
        ({"f": {"contains": ""}}, {"f": ""}, True),
        ({"f": {"contains": "B"}}, {"f": "abc"}, False),
        ({"f": {"contains": 1}}, {"f": "1"}, False),
        ({"f": {"contains": "a"}}, {"f": ["b", "a"]}, True),
        ({"f": {"contains": "a"}}, {"f": ["ab"]}, False),
        ({"f": {"contains": 1}}, {"f": [True, "1", [1]]}, False),
        ({"f": {"contains": [1]}}, {"f": [[1.0]]}, True),
        ({"f": {"contains": "a"}}, {"f": {"a": 1}}, False),
        ({"f": {"contains": None}}, {"f": [None]}, True),
        ({"f": {"contains": None}}, {"f": None}, False),
        ({"f": {"in": []}}, {"f": []}, False),
        ({"f": {"exists": True}}, {"f": None}, True),
        ({"f": {"exists": True}}, {"g": 1}, False),
        ({"f": {"exists": False}}, {"f": None}, False),
        ({"f": {"exists": False}}, {"g": 1}, True),
        ({"f": {"exists": False, "eq": 1}}, {}, False),
        ({"f": {"ge": 1, "lt": 3}}, {"f": 2}, True),
        ({"f": {"ge": 1, "lt": 3}}, {"f": 3}, False),
        ({}, {}, True),
        ({"f": 1, "g": 2}, {"f": 1, "g": 2}, True),
        ({"f": 1, "g": 2}, {"f": 1, "g": 3}, False),
        ({"all": []}, {}, True),
        ({"any": []}, {}, False),
        ({"not": {}}, {}, False),
        ({"all": [{"f": 1}, {"g": 2}]}, {"f": 1, "g": 2}, True),
        ({"any": [{"f": 1}, {"g": 2}]}, {"g": 2}, True),
        ({"any": [{"f": 1}, {"g": 2}]}, {"f": 2, "g": 1}, False),
        ({"not": {"f": 1}}, {"f": 1}, False),
        ({"not": {"f": 1}}, {}, True),
        ({"not": {"f": {"ne": 1}}}, {}, True),
        ({"f": 1, "any": [{"g": 1}, {"g": 2}]}, {"f": 1, "g": 2}, True),
        # Fields that are called as the words that combine.
        ({"all": "x"}, {"all": "x"}, True),
        ({"any": {"eq": [1]}}, {"any": [1]}, True),
        ({"not": 1}, {"not": 1}, True),
        ({"$where": 1}, {"$where": 1}, True),
        ({"": None}, {"": None}, True),
    ],
)
def test_filters(where: Any, metadata: dict[str, Any], expected: bool) -> None:
    assert holds(where, **metadata) is expected


@each("operator", ["eq", "ne", "lt", "le", "gt", "ge", "in", "contains"])
def test_no_operator_holds_for_a_field_that_is_not_there(operator: str) -> None:
    operand = [None] if operator == "in" else None
    assert not holds({"f": {operator: operand}}, g=1)


@each(
    "name, metadata, value",
    [
        ("a", {"a": 1}, 1),
        ("a.b", {"a": {"b": 1}}, 1),
        ("a.b", {"a.b": 2, "a": {"b": 1}}, 2),
        ("a.b.c", {"a": {"b": {"c": None}}}, None),
        (".", {"": {"": 3}}, 3),
        ("a.", {"a": {"": 4}}, 4),
        ("$.a", {"$": {"a": 5}}, 5),
    ],
)
def test_dots_reach_into_objects(name: str, metadata: dict[str, Any], value: Any) -> None:
    assert lookup(metadata, name) == value
    assert holds({name: {"eq": value}}, **metadata)


@each(
    "name, metadata",
    [
        ("a.b", {"a": 1}),
        ("a.b", {"a": [{"b": 1}]}),
        ("a.0", {"a": [1]}),
        ("a.b.c", {"a.b": {"c": 1}}),
        ("a.b", {"a": {"c": 1}}),
        ("a[0]", {"a": [1]}),
        ("", {"a": 1}),
    ],
)
def test_what_dots_do_not_reach(name: str, metadata: dict[str, Any]) -> None:
    assert not holds({name: {"exists": True}}, **metadata)


def test_keyword_arguments_do_not_reach_into_objects() -> None:
    assert found(Query(match={"a.b": 1}), record("k", a={"b": 1})) == []
    assert found(Query(match={"a.b": 1}), record("k", **{"a.b": 1})) == ["k"]


# -- a second interpreter --------------------------------------------------------------------


def normal(value: Any) -> Any:
    """Return a value that compares in Python as the JSON value should."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean", value)
        case int() | float():
            return ("number", Fraction(value))
        case str():
            return ("string", value)
        case list():
            return ("array", *map(normal, value))
    return ("object", frozenset((name, normal(item)) for name, item in value.items()))


def naive_field(metadata: dict[str, Any], name: str) -> list[Any]:
    """Return the value of a field in a list, an empty one if it is not there."""
    if name in metadata:
        return [metadata[name]]
    head, dot, rest = name.partition(".")
    if not dot or not isinstance(metadata.get(head), dict):
        return []
    inner = metadata[head]
    while "." in rest:  # a name with dots counts only in the outermost object
        head, _, rest = rest.partition(".")
        if not isinstance(inner.get(head), dict):
            return []
        inner = inner[head]
    return [inner[rest]] if rest in inner else []


def naive(where: dict[str, Any], metadata: dict[str, Any]) -> bool:
    for name, operand in where.items():
        if name == "all":
            result = [naive(part, metadata) for part in operand].count(False) == 0
        elif name == "any":
            result = [naive(part, metadata) for part in operand].count(True) > 0
        elif name == "not":
            result = not naive(operand, metadata)
        else:
            operators = operand if isinstance(operand, dict) else {"eq": operand}
            field = naive_field(metadata, name)
            result = all(naive_operator(op, field, arg) for op, arg in operators.items())
        if not result:
            return False
    return True


def naive_operator(operator: str, field: list[Any], operand: Any) -> bool:
    if operator == "exists":
        return (len(field) == 1) == operand
    if not field:
        return False
    mine, other = normal(field[0]), normal(operand)
    comparable = mine[0] == other[0] and mine[0] in ("number", "string")
    match operator:
        case "eq":
            return bool(mine == other)
        case "ne":
            return bool(mine != other)
        case "lt":
            return comparable and bool(mine[1] < other[1])
        case "le":
            return comparable and bool(mine[1] <= other[1])
        case "gt":
            return comparable and bool(mine[1] > other[1])
        case "ge":
            return comparable and bool(mine[1] >= other[1])
        case "in":
            return mine in [normal(item) for item in operand]
        case "prefix":
            return mine[0] == "string" and mine[1][: len(operand)] == operand
        case "contains":
            if mine[0] == "string":
                return other[0] == "string" and other[1] in mine[1]
            return mine[0] == "array" and other in mine[1:]
    raise AssertionError(operator)


numbers = st.sampled_from([-1, 0, 1, 2, -0.0, 0.5, 1.0, 2.0, 2**53, 2**53 + 1, 2.0**53, 1e300])
atoms = st.none() | st.booleans() | numbers | st.text("ab", max_size=2)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = ["a", "b", "a.b", "a.b.a", ""]
metadatas = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3)
operations = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "contains"]), values),
    st.tuples(st.just("in"), st.lists(values, max_size=3)),
    st.tuples(st.just("prefix"), st.text("ab", max_size=2)),
    st.tuples(st.just("exists"), st.booleans()),
)
conditions = values.filter(lambda value: not isinstance(value, dict)) | st.lists(
    operations, min_size=1, max_size=2
).map(dict)
filters = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), conditions, max_size=2),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "all": st.lists(inner, max_size=2),
            "any": st.lists(inner, max_size=2),
            "not": inner,
            "a": conditions,
        },
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=300)
@given(filters, st.lists(metadatas, min_size=1, max_size=4))
def test_agrees_with_a_naive_interpreter(where: Any, metadata: list[dict[str, Any]]) -> None:
    predicate = compile_where(where)
    for document in metadata:
        assert predicate(document) is naive(where, document)
    records = [record(f"k{i}", **document) for i, document in enumerate(metadata)]
    expected = [r.key for r in records if naive(where, r.metadata)]
    assert found(Query(where=where), *records) == expected
    assert found(Query(where={"not": where}), *records) == [
        r.key for r in records if r.key not in expected
    ]


@patient
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=2), metadatas)
def test_keyword_arguments_agree_with_a_naive_interpreter(
    match: dict[str, Any], metadata: dict[str, Any]
) -> None:
    expected = all(
        name in metadata and normal(metadata[name]) == normal(value)
        for name, value in match.items()
    )
    assert found(Query(match=match), record("k", **metadata)) == ["k"] * expected


@patient
@given(values, values)
def test_equality_agrees_with_a_naive_one(a: Any, b: Any) -> None:
    assert json_equal(a, b) is (normal(a) == normal(b))
    assert json_equal(a, a)


# -- order -----------------------------------------------------------------------------------

RANKED: list[Any] = [
    *(None, False, True, -1, 0, 0.5, 1, 2**53, 2**53 + 1, 1e300),
    *("", "A", "a", "aa", "b", "é", "\ue000", "😀"),
]


@pytest.mark.parametrize("order_by", ["f", "-f", "o.f", "-o.f"])
def test_order_by_goes_by_type_and_value(order_by: str) -> None:
    name = order_by.removeprefix("-")

    def document(value: Any) -> dict[str, Any]:
        return {"f": value} if name == "f" else {"o": {"f": value}}

    records = [record(f"k{99 - i}", **document(value)) for i, value in enumerate(RANKED)]
    missing = [record("a"), record("z", o=1)]
    nested = [record("n1", **document([1])), record("n2", **document({"a": 1}))]
    upwards = [r.key for r in (*records, *nested)]
    expected = upwards[::-1] if order_by.startswith("-") else upwards
    assert found(Query(order_by=order_by), *records, *nested, *missing) == [*expected, "a", "z"]


@each("order_by", ["f", "-f"])
@each("same", [[1, 1.0], [0, -0.0], [[1], [1.0]], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], [None]])
def test_ties_go_by_key(order_by: str, same: list[Any]) -> None:
    records = [record(key, f=same[i % len(same)]) for i, key in enumerate("cbaedf")]
    assert found(Query(order_by=order_by), *records) == list("abcdef")


def test_a_field_that_begins_with_a_minus() -> None:
    records = [record("a", **{"-f": 1}), record("b", **{"-f": 2})]
    assert found(Query(order_by="--f"), *records) == ["b", "a"]


def test_long_arrays_with_quotes_have_a_place_too() -> None:
    value: Any = "'\"\\"
    for _ in range(60):
        value = [value]
    assert found(Query(order_by="f"), record("a", f=value), record("b", f={})) == ["a", "b"]


documents = st.dictionaries(
    st.text("abé/", min_size=1, max_size=3), metadatas | st.just({}), max_size=12
)


def by_key(docs: dict[str, Any]) -> list[Record]:
    return [record(key, **docs[key]) for key in sorted(docs)]


@patient
@given(documents, st.sampled_from(["a", "b", "a.b"]))
def test_order_is_total_and_its_reverse_is_the_reverse(docs: dict[str, Any], name: str) -> None:
    records = by_key(docs)
    up = list(run(Query(order_by=name), records))
    down = list(run(Query(order_by=f"-{name}"), records))
    assert sorted(r.key for r in up) == sorted(docs)
    there = [r for r in up if naive_field(r.metadata, name)]
    assert up == there + [r for r in records if r not in there]
    assert down[len(there) :] == up[len(there) :]

    def groups(ordered: list[Record]) -> list[tuple[Any, list[str]]]:
        result: list[tuple[Any, list[str]]] = []
        for r in ordered:
            value = normal(naive_field(r.metadata, name)[0])
            if not result or result[-1][0] != value:
                result.append((value, []))
            result[-1][1].append(r.key)
        return result

    upwards, downwards = groups(up[: len(there)]), groups(down[: len(there)])
    assert upwards == downwards[::-1]
    assert all(keys == sorted(keys) for _, keys in upwards)
    assert len({value for value, _ in upwards}) == len(upwards)


# -- pages -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    documents,
    st.sampled_from([None, "a", "-a", "b", "-a.b"]),
    st.integers(1, 5),
    st.none() | filters,
    st.sampled_from(["", "a"]),
)
def test_pages_make_the_whole(
    docs: dict[str, Any], order_by: str | None, size: int, where: Any, prefix: str
) -> None:
    records = by_key(docs)
    whole = list(run(Query(where=where, prefix=prefix, order_by=order_by), records))
    pages: list[Record] = []
    after = None
    while True:
        query = Query(where=where, prefix=prefix, order_by=order_by, limit=size, after=after)
        page = list(run(query, records))
        assert len(page) == min(size, len(whole) - len(pages))
        pages += page
        if not page:
            break
        after = query.cursor(page[-1])
    assert pages == whole


@patient
@given(documents, st.sampled_from([None, "a", "-a"]), st.integers(0, 20))
def test_a_cursor_goes_on_behind_each_place(
    docs: dict[str, Any], order_by: str | None, limit: int
) -> None:
    records = by_key(docs)
    whole = list(run(Query(order_by=order_by), records))
    assert list(run(Query(order_by=order_by, limit=limit), records)) == whole[:limit]
    for place, last in enumerate(whole, 1):
        query = Query(order_by=order_by)
        rest = Query(order_by=order_by, after=query.cursor(last))
        # The record of the cursor may be gone by then.
        for others in (records, [r for r in records if r != last]):
            assert list(run(rest, others)) == whole[place:]


def test_the_cursor_in_order_of_keys_is_a_key() -> None:
    records = by_key({"a": {}, "b": {}, "c": {}})
    assert found(Query(after="aa"), *records) == ["b", "c"]
    assert found(Query(after="b"), *records) == ["c"]
    assert Query().cursor(records[1]) == "b"


@each("after", ["", "a", "[]", "[1]", '["a",1,2]', '{"a":1}', "null", "[", '["a",NaN]'])
def test_no_cursor_of_an_ordered_query(after: str) -> None:
    with pytest.raises(InvalidRequestError, match="no cursor of an ordered query"):
        Query(order_by="f", after=after)
    Query(after=after)


def test_limits() -> None:
    records = by_key({"a": {}, "b": {}})
    for order_by in (None, "f"):
        for limit, count in ((0, 0), (1, 1), (3, 2), (sys.maxsize + 1, 2), (10**30, 2)):
            assert len(found(Query(limit=limit, order_by=order_by), *records)) == count


# -- globs -----------------------------------------------------------------------------------

patterns = st.text("ab/.*?[]!-^\\&~|", max_size=10)


@settings(deadline=None, max_examples=500)
@given(patterns, st.lists(st.text("ab/.[]!-^\\\n", max_size=6), min_size=1, max_size=5))
def test_globs_are_those_of_fnmatch(pattern: str, keys: list[str]) -> None:
    matches = glob_matcher(pattern)
    prefix = Query(glob=pattern).key_prefix()
    for key in keys:
        expected = fnmatch.fnmatchcase(key, pattern)
        assert matches(key) is expected
        assert not expected or key.startswith(prefix)


def naive_glob(pattern: str, key: str) -> bool:
    """Match ``*`` and ``?`` one letter at a time."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = set(range(min(reached), len(key) + 1)) if reached else set()
        else:
            reached = {i + 1 for i in reached if i < len(key) and sign in ("?", key[i])}
    return len(key) in reached


@settings(deadline=None, max_examples=300)
@given(st.text("ab/*?\n", max_size=8), st.text("ab/\n", max_size=8))
def test_wildcards_cross_slashes_and_lines(pattern: str, key: str) -> None:
    assert glob_matcher(pattern)(key) is naive_glob(pattern, key)


@each(
    "pattern, key, expected",
    [
        ("*", "", True),
        ("*", "a/b\nc", True),
        ("a*", "A", False),
        ("a/?", "a/😀", True),
        ("[a-c]", "b", True),
        ("[!a-c]", "b", False),
        ("[^a]", "^", True),
        ("[z-a]", "m", False),
        ("[]]", "]", True),
        ("[", "[", True),
        ("{a,b}", "a", False),
        ("{a,b}", "{a,b}", True),
        ("\\*", "\\abc", True),
        ("[*]", "*", True),
        ("[*]", "a", False),
        ("(a+)+$", "(a+)+$", True),
        ("..", "ab", False),
    ],
)
def test_globs(pattern: str, key: str, expected: bool) -> None:
    assert glob_matcher(pattern)(key) is expected
    assert found(Query(glob=pattern), record(key)) == [key] * expected


@each(
    "glob, prefix, expected",
    [
        (None, "", ""),
        (None, "a/", "a/"),
        ("a/b", "", "a/b"),
        ("a/*", "", "a/"),
        ("a?b", "", "a"),
        ("a[b]", "", "a"),
        ("*a", "", ""),
        ("a\\*", "", "a\\"),
        ("a*", "ab", "ab"),
    ],
)
def test_key_prefix(glob: str | None, prefix: str, expected: str) -> None:
    assert Query(glob=glob, prefix=prefix).key_prefix() == expected


HARD_KEYS = ["a" * 1024, "a" * 1023 + "b", "ab" * 512, "/" * 1024, "😀" * 256, "." * 1024]


@each("pattern", [entry["value"] for entry in entries("queries") if entry["kind"] == "glob"])
def test_hard_globs_come_to_an_end(pattern: str) -> None:
    keys = sorted({*HARD_KEYS, *(key for _, key in corpus_keys() if 0 < len(key) <= 1024)})
    if len(pattern) > MAX_GLOB:
        with pytest.raises(InvalidRequestError, match="at most 1024 characters"):
            Query(glob=pattern)
        return
    expected = [key for key in keys if fnmatch.fnmatchcase(key, pattern)]
    assert found(Query(glob=pattern), *map(record, keys)) == expected


# -- malformed requests ----------------------------------------------------------------------


@each(
    "where, culprit",
    [
        ([], r"A filter is an object, not \[\]"),
        ("a=1", "A filter is an object, not 'a=1'"),
        ({"f": {}}, "names no operator for 'f'"),
        ({"f": {"$gt": 1}}, r"no filter operator '\$gt' \(for 'f'\); one of contains, eq, exists"),
        ({"f": {"eq": 1, "like": "x"}}, "no filter operator 'like'"),
        ({"f": {"a": 1}}, r"no filter operator 'a' \(for 'f'\)"),
        ({"f": {"in": "abc"}}, "'in' takes a list of values, not 'abc'"),
        ({"f": {"in": {"a": 1}}}, "'in' takes a list of values, not {'a': 1}"),
        ({"f": {"in": None}}, "'in' takes a list of values, not None"),
        ({"f": {"prefix": 1}}, "'prefix' takes a string, not 1"),
        ({"f": {"prefix": None}}, "'prefix' takes a string, not None"),
        ({"f": {"exists": 1}}, "'exists' takes true or false, not 1"),
        ({"f": {"exists": "yes"}}, "'exists' takes true or false, not 'yes'"),
        ({"all": [{"f": 1}, "x"]}, "A filter is an object, not 'x'"),
        ({"any": [[]]}, r"A filter is an object, not \[\]"),
        ({"any": [{"all": [{"not": {"f": {"lik": 1}}}]}]}, "no filter operator 'lik'"),
    ],
)
def test_a_malformed_filter_names_the_culprit(where: Any, culprit: str) -> None:
    with pytest.raises(InvalidRequestError, match=culprit) as caught:
        compile_where(where)
    assert len(caught.value.message) < 400
    if isinstance(where, dict):
        with pytest.raises(InvalidRequestError, match=culprit):
            run(Query(where=where), [])  # at once, not when the first record is asked for


@each(
    "where, culprit",
    [
        ({1: 2}, "at '/1': Names in metadata are str"),
        ({"f": {"in": {1, 2}}}, "at '/f/in': .*set"),
        ({"f": {"eq": float("nan")}}, "at '/f/eq': .*nan"),
        ({"f": "\ud800"}, "at '/f': .*lone surrogate"),
        ({"f": b"x"}, "at '/f': .*bytes"),
        ([], "A filter is an object"),
    ],
)
def test_a_filter_is_json(where: Any, culprit: str) -> None:
    with pytest.raises(InvalidRequestError, match=culprit):
        Query(where=where)
    if isinstance(where, dict):
        with pytest.raises(InvalidRequestError, match=culprit):
            Query(match=where)


def test_filters_of_python_values() -> None:
    where = MappingProxyType({"f": {"in": (1, (2,))}})
    assert found(Query(where=where), record("k", f=[2])) == ["k"]  # type: ignore[arg-type]
    assert compile_where({"f": {"in": {1, 2}}})({"f": 2.0})
    assert compile_where(MappingProxyType({"any": (where,)}))({"f": 1})


def test_at_most_64_levels() -> None:
    def nested(levels: int) -> dict[str, Any]:
        where: dict[str, Any] = {"f": 1}
        for _ in range(levels - 1):
            where = {"not": where}
        return where

    assert found(Query(where=nested(64)), record("a", f=1), record("b", f=2)) == ["b"]
    for levels in (65, 10_000):
        with pytest.raises(InvalidRequestError, match="at most 64 levels"):
            Query(where=nested(levels))
    with pytest.raises(TooLargeError):
        Query(where={"f": {"in": list(range(1_000_000))}})


def test_a_query_keeps_what_it_was_given() -> None:
    where = {"f": {"in": [1]}}
    query = Query(where=where)
    where["f"]["in"].append(2)
    assert found(query, record("a", f=1), record("b", f=2)) == ["a"]


@each(
    "arguments, culprit",
    [
        ({"prefix": None}, "prefix is a str, not None"),
        ({"prefix": b"a"}, "prefix is a str, not b'a'"),
        ({"glob": 1}, "glob is a str, not 1"),
        ({"order_by": ["a"]}, r"order_by is a str, not \['a'\]"),
        ({"after": 1}, "after is a str, not 1"),
        ({"limit": -1}, "limit is an integer from 0, not -1"),
        ({"limit": 1.0}, "limit is an integer from 0, not 1.0"),
        ({"limit": "1"}, "limit is an integer from 0, not '1'"),
        ({"limit": True}, "limit is an integer from 0, not True"),
        ({"limit": False}, "limit is an integer from 0, not False"),
        ({"glob": "*" * 1025}, "at most 1024 characters"),
        ({"match": None}, "A filter is an object, not None"),
    ],
)
def test_malformed_arguments(arguments: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InvalidRequestError, match=culprit):
        Query(**arguments)


@each("text", [entry["value"] for entry in entries("queries") if entry["kind"] == "query-json"])
def test_odd_filters_are_answered_or_refused(text: str) -> None:
    samples = [{}, {"a": 1}, {"a": "x" * 1000}, {"a": [1, 2], "k0": 0}, {"a": 9007199254740993}]
    try:
        where = parse_json(text.encode("utf-8", "surrogatepass"))
        answers = [
            [found(query, record("k", **sample)) for sample in samples]
            for query in (Query(where=where), Query(match=where))
        ]
    except StoreError as error:
        refusal: str | None = error.message
    else:
        refusal = None
        assert all(answer in ([], ["k"]) for both in answers for answer in both)
    assert refusal is None or len(refusal) < 400


# -- select, trim, matches -------------------------------------------------------------------


def test_select() -> None:
    assert check_select(None) is None
    assert check_select(["a", "b", "a"]) == {"a", "b"}
    assert check_select(iter("ab")) == {"a", "b"}
    assert check_select([]) == frozenset()
    for wrong in ("ab", b"ab", [1], ["a", None], [["a"]], 5, True):
        with pytest.raises(InvalidRequestError, match="select is an iterable of names, not "):
            check_select(wrong)  # type: ignore[arg-type]


def test_trim() -> None:
    metadata = {"a": 1, "b": 2}
    assert trim(metadata, None) == metadata
    assert trim(metadata, frozenset({"b", "c"})) == {"b": 2}
    assert trim(metadata, frozenset()) == {}


class Listing:
    """Records one by one, with what was read of them."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = iter(records)
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        self.read += 1
        return next(self._records)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("order_by", [None, "f"])
def test_records_are_closed(order_by: str | None) -> None:
    records = by_key({"a": {}, "b": {}, "c": {}})
    for query in (Query(order_by=order_by), Query(order_by=order_by, limit=2)):
        listing = Listing(records)
        assert list(run(query, listing)) == records[: query.limit]
        assert listing.closed

        listing = Listing(records)
        matches = Matches(query, run(query, listing), lambda r: r.key)
        assert listing.read == 0
        assert next(matches) == "a"
        assert not (order_by is None and listing.closed)
        matches.close()
        assert listing.closed
        assert list(matches) == []


def test_in_order_of_keys_one_record_at_a_time_is_read() -> None:
    listing = Listing(by_key({"a": {}, "b": {}, "c": {}}))
    first = next(run(Query(), listing))
    assert (first.key, listing.read) == ("a", 1)


def test_matches() -> None:
    query = Query(order_by="-f")
    records = by_key({"a": {"f": 1}, "b": {"f": 2}, "c": {}})
    matches = Matches(query, run(query, records), lambda r: r.key.upper())
    assert iter(matches) is matches
    assert matches.cursor is None
    assert next(matches) == "B"
    assert matches.cursor == '["b",2]'
    assert list(matches) == ["A", "C"]
    assert matches.cursor == '["c"]'
    assert next(matches, None) is None
    assert matches.cursor == '["c"]'
    matches.close()
    Matches(query, iter(records), lambda r: r.key).close()  # which holds nothing


def test_matches_of_nothing() -> None:
    matches = Matches(Query(), run(Query(), []), lambda r: r)
    assert list(matches) == []
    assert matches.cursor is None


def test_the_key_is_no_field() -> None:
    assert found(Query(match={"key": "k"}), record("k")) == []
    assert found(Query(where={"key": {"exists": True}}), record("k")) == []


@pytest.mark.parametrize("argument", ["prefix", "glob", "order_by", "after"])
def test_lone_surrogates_are_refused(argument):
    with pytest.raises(InvalidRequestError, match=argument):
        Query(**{argument: "a\udcff"})
