"""Contract: connecting, what a store says about itself, pickling, the view as a mapping."""

from __future__ import annotations

import pickle
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from kvstore import InvalidKeyError, NotConnectedError, Store
from kvstore.testing.contract_base import ContractBase, authorizing, case, listing

#: Every operation that needs a connection.
OPERATIONS: dict[str, Callable[[Any], object]] = {
    "get": lambda store: store.get("key"),
    "get_data": lambda store: store.get_data("key"),
    "get_data_range": lambda store: store.get_data_range("key", 0, 1),
    "get_metadata": lambda store: store.get_metadata("key"),
    "exists": lambda store: store.exists("key"),
    "to_bytes": lambda store: store.to_bytes("key"),
    "to_file": lambda store: store.to_file("key", Path("must-not-appear")),
    "multiget": lambda store: list(store.multiget(["key"])),
    "query": lambda store: store.query(),
    "query_keys": lambda store: store.query_keys(),
    "count": lambda store: store.count(),
    "glob": lambda store: store.glob("*"),
    "set": lambda store: store.set("key", b""),
    "set_data": lambda store: store.set_data("key", b""),
    "set_metadata": lambda store: store.set_metadata("key", {}),
    "update_metadata": lambda store: store.update_metadata("key", {}),
    "delete": lambda store: store.delete("key"),
    "from_bytes": lambda store: store.from_bytes("key", b""),
    "multiset": lambda store: store.multiset(["key"], [b""]),
    "transaction": lambda store: store.transaction().__enter__(),
}


class LifecycleContract(ContractBase):
    """Connecting and describing."""

    def test_make_store_gives_empty_and_separate_stores(self, store: Store) -> None:
        """A new store is connected after ``with``, and holds nothing."""
        assert store.is_connected()
        assert listing(store) == []
        assert store.count() == 0

    def test_with_disconnects_at_the_end(self) -> None:
        """``with`` connects, gives the store itself, and disconnects."""
        store = self.make_store()
        with store as entered:
            assert entered is store
            assert store.is_connected()
        assert not store.is_connected()

    def test_disconnected_store_refuses(self, store: Store) -> None:
        """Every operation of a disconnected store is a NotConnectedError."""
        store.disconnect()
        for operation, call in OPERATIONS.items():
            with case(operation), pytest.raises(NotConnectedError):
                call(store)

    def test_disconnect_twice_and_connect_again(self, store: Store) -> None:
        """``disconnect`` is idempotent; what was stored is there after connecting again."""
        store.set("key", b"data", metadata={"a": 1})
        store.disconnect()
        store.disconnect()
        assert not store.is_connected()
        store.connect()
        assert store.is_connected()
        assert store.to_bytes("key") == b"data"
        assert store.get_metadata("key") == {"a": 1}

    def test_info_tells_the_capabilities(self, store: Store) -> None:
        """All documented entries are there, of the documented types."""
        info = store.info()
        assert info["type"] == type(store).__name__
        assert info["readonly"] is False
        flags = ("authorizing", "transactions", "atomic_set", "conditional", "events", "digests")
        assert {name: type(info[name]) for name in flags} == dict.fromkeys(flags, bool)
        assert info["durability"] in ("none", "process-crash", "power-loss")
        known = {"match", "where", "prefix", "glob", "order_by", "limit", "after"}
        assert set(info["queries"]) <= known

    def test_info_is_a_copy(self, store: Store) -> None:
        """Changing what ``info()`` returned changes no later answer."""
        before = store.info()
        changed = store.info()
        changed["readonly"] = None
        changed["queries"].clear()
        assert store.info() == before

    def test_repr_is_short_text(self, store: Store) -> None:
        """``repr`` works, connected or not, and fits a log line."""
        assert 0 < len(repr(store)) < 300
        store.disconnect()
        assert 0 < len(repr(store)) < 300

    def test_pickled_store_works(self, store: Store) -> None:
        """A clone of the configuration can be used, and leaves the original as usable."""
        try:
            pickled = pickle.dumps(store)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            pytest.skip(f"it does not pickle: {error}")
        clone: Store = pickle.loads(pickled)  # noqa: S301 - it was made two lines above
        assert type(clone) is type(store)
        assert clone.info() == store.info()
        if store.info()["authorizing"]:
            assert authorizing(clone).user_tag() == authorizing(store).user_tag()
        with clone:
            clone.set("of the clone", b"1", metadata={"a": 1})
            assert clone.to_bytes("of the clone") == b"1"
            clone.delete("of the clone")
        store.set("of the original", b"2")
        assert store.to_bytes("of the original") == b"2"


class MappingContract(ContractBase):
    """``mapping()``."""

    def test_mapping_is_a_mutable_mapping(self, store: Store) -> None:
        """The view reads and writes data under keys."""
        view = store.mapping()
        assert isinstance(view, MutableMapping)
        assert dict(view) == {}
        view["b"] = b"2"
        view["a"] = b"1"
        assert list(view) == ["a", "b"]
        assert len(view) == 2
        assert view == {"a": b"1", "b": b"2"}
        assert "a" in view
        assert "c" not in view
        assert view.pop("a") == b"1"
        assert view.get("a") is None
        assert listing(store) == ["b"]

    def test_mapping_keeps_metadata(self, store: Store) -> None:
        """Assigning data leaves the metadata of the key."""
        store.set("key", b"old", metadata={"a": 1})
        store.mapping()["key"] = b"new"
        assert store.to_bytes("key") == b"new"
        assert store.get_metadata("key") == {"a": 1}

    def test_mapping_of_what_is_not_there(self, store: Store) -> None:
        """Missing keys are KeyErrors; what cannot be a key is just not there."""
        view = store.mapping()
        with pytest.raises(KeyError):
            view["missing"]
        with pytest.raises(KeyError):
            del view["missing"]
        with pytest.raises(KeyError):
            view["../no key"]
        assert "../no key" not in view
        with pytest.raises(InvalidKeyError):
            view["../no key"] = b""
