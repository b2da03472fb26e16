"""The mapping view of a store, by CPython's own tests for mappings and by what is special to it."""

from __future__ import annotations

import unittest
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from kvstore.errors import (
    InvalidKeyError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    UnsupportedOperationError,
)
from kvstore.mapping import StoreMapping
from kvstore.readonly import ReadOnlyStore
from kvstore.stores.memory import MemoryStore
from kvstore.values import Record, Value
from kvstore.writes import missing

try:
    from test import mapping_tests  # the module: the class alone would be collected as it is
except ImportError:  # some distributions ship Python without its tests
    mapping_tests = None


def connected() -> MemoryStore:
    store = MemoryStore()
    store.connect()
    return store


class EncodingMapping(StoreMapping):
    """The view, for tests some of which set texts; what is read is always bytes."""

    def __setitem__(self, key: str, data: Any) -> None:
        super().__setitem__(key, data.encode() if isinstance(data, str) else data)


if mapping_tests is not None:

    class TestMappingOfCPython(mapping_tests.BasicTestMappingProtocol):
        def _reference(self) -> dict[str, bytes]:
            return {"1": b"2", "key1": b"value1", "key2": b"\0\1\2"}

        def _empty_mapping(self) -> StoreMapping:
            return EncodingMapping(connected())

else:  # pragma: no cover

    class TestMappingOfCPython(unittest.TestCase):
        @unittest.skip("this Python has no test package")
        def test_mapping(self) -> None: ...


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        yield store


@pytest.fixture
def view(store: MemoryStore) -> StoreMapping:
    return store.mapping()


def test_is_a_view(store: MemoryStore, view: StoreMapping) -> None:
    assert isinstance(view, MutableMapping)
    store.set_data("k", b"one")
    assert view["k"] == b"one"
    view["k"] = b"two"
    assert store.to_bytes("k") == b"two"
    del view["k"]
    assert not store.exists("k")
    assert repr(view) == "StoreMapping(<MemoryStore of 0 keys>)"


def test_metadata_stays(store: MemoryStore, view: StoreMapping) -> None:
    store.set("k", b"one", metadata={"a": 1})
    view["k"] = b"two"
    assert store.get_metadata("k") == {"a": 1}
    view["new"] = b""
    assert store.get_metadata("new") == {}


def test_iteration_is_in_the_order_of_keys(view: StoreMapping) -> None:
    view.update({"b": b"2", "a": b"1", "B": b"3"})
    assert list(view) == ["B", "a", "b"]
    assert list(view.items()) == [("B", b"3"), ("a", b"1"), ("b", b"2")]
    assert view == {"a": b"1", "b": b"2", "B": b"3"}


@pytest.mark.parametrize("key", ["", "a/../b", "a\0", "\ud800", "x" * 1025, 5, None, b"k", ("k",)])
def test_what_no_key_can_be_is_not_in_it(view: StoreMapping, key: Any) -> None:
    assert key not in view
    assert view.get(key, b"default") == b"default"
    assert view.pop(key, b"default") == b"default"
    for look_up in (view.__getitem__, view.__delitem__, view.pop):
        with pytest.raises(KeyError) as caught:
            look_up(key)
        assert caught.value.args == (key,)
        assert isinstance(caught.value.__cause__, InvalidKeyError)
    with pytest.raises(InvalidKeyError):
        view[key] = b"data"
    assert len(view) == 0


def test_a_missing_key_is_the_error_of_the_store(view: StoreMapping) -> None:
    for look_up in (view.__getitem__, view.__delitem__, view.pop):
        with pytest.raises(KeyNotFoundError):
            look_up("k")


def test_a_text_is_no_data(view: StoreMapping) -> None:
    with pytest.raises(InvalidRequestError, match="not str"):
        view["k"] = "text"  # type: ignore[assignment]
    assert len(view) == 0


def test_keys_may_go_while_it_is_iterated(view: StoreMapping) -> None:
    view.update({str(i): b"" for i in range(100)})
    for key in view:
        del view[key]
    assert dict(view) == {}


class CountingStore(MemoryStore):
    listings = 0

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        self.listings += 1
        return super()._records(prefix, after)


def test_clear_lists_once() -> None:
    with CountingStore() as store:
        view = store.mapping()
        view.update({str(i): b"x" for i in range(50)})
        view.clear()
        assert store.listings == 1
        assert len(view) == 0


def test_clear_does_not_mind_who_else_deletes() -> None:
    class Rival(MemoryStore):
        def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
            for record in super()._records(prefix, after):
                self._entries.pop(record.key)
                yield record

    with Rival() as store:
        store.mapping().update({"a": b"", "b": b""})
        store.mapping().clear()
        assert store.count() == 0


class Constant(ReadOnlyStore):
    """A store that can only be read, and has nothing in it."""

    def _get(self, key: str) -> Value:
        raise missing(key)

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return iter(())

    def __repr__(self) -> str:
        return "<Constant>"


def test_a_read_only_store_has_a_view_too() -> None:
    with Constant() as store:
        view = store.mapping()
        assert list(view) == []
        assert "k" not in view
        with pytest.raises(UnsupportedOperationError, match="<Constant> is read-only"):
            view["k"] = b""
        with pytest.raises(UnsupportedOperationError, match="<Constant> is read-only"):
            del view["k"]


def test_an_unconnected_store_is_no_empty_mapping() -> None:
    view = MemoryStore().mapping()
    for use in (len, list, lambda v: "k" in v, lambda v: v["k"], lambda v: v.pop("k", None)):
        with pytest.raises(NotConnectedError):
            use(view)
