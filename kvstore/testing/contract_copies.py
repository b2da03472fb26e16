"""Contract: what goes in and what comes out are copies."""

from __future__ import annotations

from typing import Any

from kvstore import Event, Store, Value
from kvstore.testing.contract_base import ContractBase, authorizing, recorded


def _nested() -> dict[str, Any]:
    return {"list": [1, {"a": 1}], "object": {"b": [2]}, "text": "c"}


def _spoil(metadata: Any) -> None:
    metadata["list"][1]["a"] = "spoilt"
    metadata["list"].append("spoilt")
    metadata["object"]["b"].clear()
    metadata["new"] = "spoilt"
    del metadata["text"]


class CopiesContract(ContractBase):
    """Nothing is shared."""

    def test_what_was_given_may_be_changed(self, store: Store) -> None:
        """Nested parts, too."""
        given = [_nested() for _ in range(4)]
        store.set("set", b"", metadata=given[0])
        store.set("pair", (b"", given[1]))
        store.set_metadata("set_metadata", given[2])
        store.set("update_metadata", b"")
        store.update_metadata("update_metadata", given[3])
        for metadata in given:
            _spoil(metadata)
        for key in ("set", "pair", "set_metadata", "update_metadata"):
            assert store.get_metadata(key) == _nested()

    def test_what_was_returned_may_be_changed(self, store: Store) -> None:
        """By every method that returns metadata."""
        store.set("key", b"", metadata=_nested())
        values: list[Value] = [store.get("key"), *store.multiget(["key"])]
        _spoil(store.get_metadata("key"))
        _spoil(store.get_metadata("key", select=["list", "object", "text"]))
        for value in values:
            _spoil(value.metadata)
            value.close()
        for _, metadata in store.query():
            _spoil(metadata)
        for _, metadata in store.query(["list", "object", "text"], where={"text": "c"}):
            _spoil(metadata)
        for metadata in store.multiget_metadata(["key"]):
            _spoil(metadata)
        assert store.get_metadata("key") == _nested()
        assert dict(store.query()) == {"key": _nested()}
        assert list(store.query_keys(text="c")) == ["key"]

    def test_changed_value_sets_what_it_became(self, store: Store) -> None:
        """A value's metadata is its own: changed, and given to ``set``, the change is stored."""
        store.set("key", b"data", metadata={"a": 1})
        value = store.get("key")
        value.metadata["a"] = 2
        assert value.metadata == {"a": 2}
        store.set("copy", value)
        assert store.get_metadata("copy") == {"a": 2}
        assert store.get_metadata("key") == {"a": 1}

    def test_listeners_may_change_what_they_are_told(self, store: Store) -> None:
        """The metadata in an event belongs to the event."""

        def listener(event: Event) -> None:
            metadata = getattr(event, "metadata", None)
            if metadata:
                _spoil(metadata)

        with recorded(store), store.events.connected_to(Event, listener):
            store.set("key", b"", metadata=_nested())
            assert store.get_metadata("key") == _nested()
            store.set_data("key", b"data")
            store.update_metadata("key", {"text": "c"})
        assert store.get_metadata("key") == _nested()

    def test_permissions_are_copies(self, store: Store) -> None:
        """Given and returned."""
        store_ = authorizing(store)
        store_.set("key", b"")
        me = store_.user_tag()
        given = {"owned": {me}, "read": {"a"}}
        store_.set_permissions("key", given)
        given["read"].add("spoilt")
        given["owned"].clear()
        returned = store_.get_permissions("key")
        returned["read"].add("spoilt")
        returned["owned"].clear()
        value = store_.get("key")
        value.permissions["read"].add("spoilt")
        value.close()
        assert store_.get_permissions("key") == {"owned": {me}, "read": {"a"}}
