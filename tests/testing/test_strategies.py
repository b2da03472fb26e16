from __future__ import annotations

import json
from typing import Any

from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from kvstore import check_key
from kvstore.documents import check_metadata
from kvstore.testing import ODD_KEYS, strategies
from kvstore.testing.oracle import equal, holds
from kvstore.where import compile_where, json_equal

FIELDS = ("a", "b", "c.d", "", "$e", "\u00e9")


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=2) | st.dictionaries(st.just("a"), values)


@given(strategies.keys())
def test_keys_are_legal(key: str) -> None:
    assert check_key(key) == key


@given(strategies.metadata())
def test_metadata_are_legal_json(metadata: dict[str, Any]) -> None:
    assert check_metadata(metadata) == metadata
    assert json.loads(json.dumps(metadata)) == metadata


@given(strategies.metadata(fields=("a", "b")))
def test_metadata_of_fields(metadata: dict[str, Any]) -> None:
    assert set(metadata) <= {"a", "b"}


@given(strategies.data())
def test_data_are_bytes(data: bytes) -> None:
    assert type(data) is bytes


def test_strategies_reach_the_odd_cases() -> None:
    quick = settings(max_examples=2000, database=None, phases=[Phase.generate])
    find(strategies.keys(), lambda key: "%" in key and not key.isascii(), settings=quick)
    find(strategies.keys(), lambda key: key.startswith("/"), settings=quick)
    find(strategies.data(), lambda data: len(data) == 4097, settings=quick)
    find(strategies.filters(), lambda where: "not" in where, settings=quick)


@given(strategies.filters(FIELDS), strategies.metadata(fields=FIELDS))
def test_oracle_and_query_mean_the_same_by_filters(
    where: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """Two implementations that share no code; where they differ one of them is wrong."""
    assert compile_where(where)(metadata) == holds(where, metadata)


@given(st.data())
def test_oracle_and_query_mean_the_same_by_equality(data: st.DataObject) -> None:
    values = st.sampled_from(
        [None, False, True, 0, 1, 1.0, -0.0, "", "1", 2**53, 2.0**53, 2**53 + 1]
    )
    nested = st.recursive(values, _some, max_leaves=5)
    a, b = data.draw(nested), data.draw(nested)
    assert json_equal(a, b) == equal(a, b)


def test_odd_keys() -> None:
    keys = list(ODD_KEYS.values())
    assert len(keys) >= 60
    assert len(set(keys)) == len(keys)
    assert [key for key in keys if check_key(key) != key] == []
    assert max(len(key.encode()) for key in keys) == 1024
