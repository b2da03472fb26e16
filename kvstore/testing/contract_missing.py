"""Contract: what is not there, and what cannot be a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore import InvalidKeyError, KeyNotFoundError, Store, StoreError
from kvstore.testing.contract_base import ContractBase, authorizing, case, facts, listing

#: Operations on a key that must exist.
ON_EXISTING: dict[str, Callable[[Any, str], object]] = {
    "get": lambda store, key: store.get(key),
    "get_data": lambda store, key: store.get_data(key),
    "get_data_range": lambda store, key: store.get_data_range(key, 0, 1),
    "get_data_range of all": lambda store, key: store.get_data_range(key),
    "get_metadata": lambda store, key: store.get_metadata(key),
    "get_metadata of some": lambda store, key: store.get_metadata(key, select=["a"]),
    "to_bytes": lambda store, key: store.to_bytes(key),
    "multiget": lambda store, key: list(store.multiget([key])),
    "multiget_data": lambda store, key: list(store.multiget_data([key])),
    "multiget_metadata": lambda store, key: list(store.multiget_metadata([key])),
    "update_metadata": lambda store, key: store.update_metadata(key, {"a": 1}),
    "multiupdate_metadata": lambda store, key: store.multiupdate_metadata([key], [{"a": 1}]),
    "delete": lambda store, key: store.delete(key),
}
PERMISSION_OPERATIONS: dict[str, Callable[[Any, str], object]] = {
    "get_permissions": lambda store, key: store.get_permissions(key),
    "set_permissions": lambda store, key: store.set_permissions(key, {"owned": {"a"}}),
    "update_permissions": lambda store, key: store.update_permissions(key, {"read": {"a"}}),
}
#: Operations that may make a key.
MAKING: dict[str, Callable[[Any, str], object]] = {
    "exists": lambda store, key: store.exists(key),
    "set": lambda store, key: store.set(key, b"1"),
    "set_data": lambda store, key: store.set_data(key, b"1"),
    "set_metadata": lambda store, key: store.set_metadata(key, {"a": 1}),
    "from_bytes": lambda store, key: store.from_bytes(key, b"1"),
    "multiset": lambda store, key: store.multiset([key], [b"1"]),
    "multiset_data": lambda store, key: store.multiset_data([key], [b"1"]),
    "multiset_metadata": lambda store, key: store.multiset_metadata([key], [{"a": 1}]),
}
#: What no store takes as a key.
NO_KEYS: dict[str, Any] = {
    "empty": "",
    "dot": ".",
    "two dots": "..",
    "dot segment": "a/./b",
    "upwards": "a/../b",
    "up at the start": "../a",
    "up at the end": "a/..",
    "NUL": "a\0b",
    "lone surrogate": "a\ud800",
    "too long": "k" * 1025,
    "too long in bytes": "\u00e9" * 513,
    "bytes": b"key",
    "int": 7,
    "None": None,
}
_MISSING = "missing key/50% #1 \u00e9"


class MissingContract(ContractBase):
    """Missing and impossible keys."""

    def test_missing_key(self, store: Store) -> None:
        """It is a KeyNotFoundError, a KeyError too, with the key as it was given."""
        for operation, call in ON_EXISTING.items():
            with case(operation):
                with pytest.raises(KeyNotFoundError) as caught:
                    call(store, _MISSING)
                assert isinstance(caught.value, KeyError)
                assert isinstance(caught.value, StoreError)
                assert caught.value.key == _MISSING
                assert listing(store) == []

    def test_missing_key_permissions(self, store: Store) -> None:
        """The same for permissions."""
        authorizing(store)
        for operation, call in PERMISSION_OPERATIONS.items():
            with case(operation):
                with pytest.raises(KeyNotFoundError) as caught:
                    call(store, _MISSING)
                assert caught.value.key == _MISSING
                assert listing(store) == []

    def test_missing_key_exists_not(self, store: Store) -> None:
        """``exists`` is a bool; a key that begins or ends another is another."""
        assert store.exists("a/b") is False
        store.set("a/b", b"")
        assert store.exists("a/b") is True
        assert [key for key in ("a", "a/", "/a/b", "a/b/", "A/B", "b") if store.exists(key)] == []

    def test_to_file_of_a_missing_key_leaves_the_target(self, store: Store, folder: Path) -> None:
        """The file keeps its content, and nothing else appears beside it."""
        target = folder / "target"
        target.write_bytes(b"precious")
        with pytest.raises(KeyNotFoundError) as caught:
            store.to_file(_MISSING, target)
        assert caught.value.key == _MISSING
        assert target.read_bytes() == b"precious"
        assert [path.name for path in folder.iterdir()] == ["target"]
        with pytest.raises(KeyNotFoundError):
            store.to_file(_MISSING, folder / "new")
        assert [path.name for path in folder.iterdir()] == ["target"]

    def test_deleted_key_is_gone(self, store: Store) -> None:
        """After ``delete`` the key is missing everywhere, and deleting it again is an error."""
        store.set("key", b"data", metadata={"a": 1})
        store.set("other", b"")
        assert store.delete("key") is None  # type: ignore[func-returns-value]
        assert store.exists("key") is False
        assert listing(store) == ["other"]
        assert list(store.query_keys(a=1)) == []
        for operation in ("get", "get_data", "get_metadata", "delete"):
            with pytest.raises(KeyNotFoundError):
                ON_EXISTING[operation](store, "key")

    def test_key_made_again_begins_anew(self, store: Store) -> None:
        """Nothing of a deleted key comes back with its name."""
        store.set("key", b"data", metadata={"a": 1}, mimetype="text/plain")
        store.delete("key")
        store.set_metadata("key", {"b": 2})
        assert store.to_bytes("key") == b""
        assert store.get_metadata("key") == {"b": 2}
        assert facts(store, "key").mimetype == "application/octet-stream"

    def test_invalid_key(self, store: Store) -> None:
        """Every operation refuses what cannot be a key, and no key comes to be."""
        store.set("b", b"kept", metadata={"kept": True})
        operations = {**ON_EXISTING, **MAKING}
        if store.info()["authorizing"]:
            operations.update(PERMISSION_OPERATIONS)
        for name, key in NO_KEYS.items():
            for operation, call in operations.items():
                with case((name, operation)), pytest.raises(InvalidKeyError):
                    pytest.fail(f"{operation} returned {call(store, key)!r}")
            with case(name):
                assert listing(store) == ["b"]
                assert store.to_bytes("b") == b"kept"
                assert store.get_metadata("b") == {"kept": True}

    def test_invalid_key_is_a_value_error(self, store: Store) -> None:
        """Callers may catch what they would catch of any library."""
        with pytest.raises(ValueError, match="segment"):
            store.set("../key", b"")
