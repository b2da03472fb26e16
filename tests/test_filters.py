"""Filters as Python expressions build the documents that stores take, and fit what these fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import Field, Filter, InvalidRequestError, MemoryStore, field
from kvstore.where import compile_where
from tests.cases import each

x, y = field("x"), field("y")


@each(
    "built, document",
    [
        (x == 1, {"x": {"eq": 1}}),
        (x == {"a": 1}, {"x": {"eq": {"a": 1}}}),
        (x == None, {"x": {"eq": None}}),  # noqa: E711 - that is how it is spelled
        (x != "a", {"x": {"ne": "a"}}),
        (x < 1, {"x": {"lt": 1}}),
        (x <= 1, {"x": {"le": 1}}),
        (x > 1, {"x": {"gt": 1}}),
        (x >= 1, {"x": {"ge": 1}}),
        (x.is_in(n for n in (1, 2)), {"x": {"in": [1, 2]}}),
        (x.startswith("a"), {"x": {"prefix": "a"}}),
        (x.contains("a"), {"x": {"contains": "a"}}),
        (x.exists(), {"x": {"exists": True}}),
        (~x.exists(), {"not": {"x": {"exists": True}}}),
        ((x == 1) & (y == 2), {"all": [{"x": {"eq": 1}}, {"y": {"eq": 2}}]}),
        ((x == 1) | (y == 2), {"any": [{"x": {"eq": 1}}, {"y": {"eq": 2}}]}),
        (field("all") == 1, {"all": {"eq": 1}}),
        (field("a.b") > 0, {"a.b": {"gt": 0}}),
    ],
)
def test_documents(built: Filter, document: dict[str, Any]) -> None:
    assert dict(built) == document
    compile_where(built)


def test_chains_are_flat() -> None:
    parts = [field(name) == 1 for name in "abc"]
    a, b, c = map(dict, parts)
    assert dict(parts[0] & parts[1] & parts[2]) == {"all": [a, b, c]}
    assert dict(parts[0] & (parts[1] & parts[2])) == {"all": [a, b, c]}
    assert dict((parts[0] | parts[1]) & parts[2]) == {"all": [{"any": [a, b]}, c]}
    assert dict(~(parts[0] & parts[1])) == {"not": {"all": [a, b]}}


def test_the_field_named_all_is_no_chain() -> None:
    odd = field("all") == 1
    assert dict(odd & (x == 2)) == {"all": [{"all": {"eq": 1}}, {"x": {"eq": 2}}]}


@pytest.mark.parametrize(
    "mistake", [lambda: (x > 1) and (y > 1), lambda: 1 < x < 3, lambda: not x > 1]
)
def test_python_words_are_refused(mistake: Any) -> None:
    with pytest.raises(TypeError, match="neither true nor false"):
        mistake()


@pytest.mark.parametrize("name", ["not", 5, None])
def test_fields_that_no_filter_can_ask_for(name: Any) -> None:
    with pytest.raises(InvalidRequestError):
        field(name)


def test_combining_with_something_else() -> None:
    with pytest.raises(TypeError):
        (x == 1) & {"y": 2}  # type: ignore[operator]


def test_they_cannot_be_changed_from_outside() -> None:
    built = x.is_in([1])
    built["x"]["in"].append(2)
    assert dict(built) == {"x": {"in": [1]}}
    with pytest.raises(TypeError):
        hash(x)
    assert repr(x) == "field('x')"
    assert repr(x == 1) == "Filter({'x': {'eq': 1}})"
    assert isinstance(x, Field)


def test_a_store_takes_them() -> None:
    with MemoryStore() as store:
        for number in range(5):
            store.set_metadata(f"k{number}", {"x": number, "y": {"z": "a" * number}})
        assert list(store.query_keys(where=(x >= 1) & ~(x == 3))) == ["k1", "k2", "k4"]
        assert store.count(where=(x < 1) | field("y.z").startswith("aaa")) == 3
        assert [key for key, _ in store.query(where=x.is_in([0, 4]), order_by="-x")] == ["k4", "k0"]


NUMBERS = st.none() | st.integers(0, 3)


@given(
    a=st.integers(0, 3),
    b=st.integers(0, 3),
    metadata=st.fixed_dictionaries({}, optional={"x": NUMBERS, "y": NUMBERS}),
)
def test_they_mean_what_they_look_like(a: int, b: int, metadata: dict[str, Any]) -> None:
    def holds(built: Filter) -> bool:
        return compile_where(built)(metadata)

    one, two = x == a, y >= b
    assert holds(one) == (metadata.get("x", "none") == a)
    assert holds(one & two) == (holds(one) and holds(two))
    assert holds(one | two) == (holds(one) or holds(two))
    assert holds(~one) == (not holds(one))
