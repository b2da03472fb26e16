"""Contract: what each write changes, what it keeps, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvstore import (
    Change,
    Condition,
    ConflictError,
    InvalidMetadataError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    Source,
    Store,
    StoreModificationEvent,
    StoreSetEvent,
    StoreUpdateEvent,
)
from kvstore.testing.contract_base import ContractBase, case, content, facts, listing, recorded

#: Writes to an existing key, each changing it.
WRITES: dict[str, Callable[[Any], str | None]] = {
    "set": lambda store: store.set("key", b"new", metadata={"new": 1}),
    "set with the same": lambda store: store.set("key", b"old", metadata={"a": 1}),
    "set_data": lambda store: store.set_data("key", b"new"),
    "set_metadata": lambda store: store.set_metadata("key", {"new": 1}),
    "update_metadata": lambda store: store.update_metadata("key", {"new": 1}),
    "from_bytes": lambda store: store.from_bytes("key", b"new"),
}


class WritingContract(ContractBase):
    """Single writes."""

    def test_set_makes_and_replaces(self, store: Store) -> None:
        """Data and metadata together; nothing of the old pair remains."""
        store.set("key", b"a long first value", metadata={"a": 1, "b": {"c": 2}})
        assert store.to_bytes("key") == b"a long first value"
        assert store.get_metadata("key") == {"a": 1, "b": {"c": 2}}
        store.set("key", b"short", metadata={"d": 3})
        assert store.to_bytes("key") == b"short"
        assert store.get_metadata("key") == {"d": 3}
        store.set("key", b"bare")
        assert store.get_metadata("key") == {}
        assert listing(store) == ["key"]

    def test_set_data_keeps_metadata(self, store: Store) -> None:
        """A new key has ``{}``."""
        store.set("key", b"old", metadata={"a": 1})
        store.set_data("key", b"new")
        store.set_data("other", b"data")
        assert (store.to_bytes("key"), store.get_metadata("key")) == (b"new", {"a": 1})
        assert (store.to_bytes("other"), store.get_metadata("other")) == (b"data", {})

    def test_set_metadata_keeps_data(self, store: Store) -> None:
        """It replaces all fields; a new key has no data."""
        store.set("key", b"data", metadata={"a": 1, "b": 2}, mimetype="text/plain")
        store.set_metadata("key", {"b": 3})
        store.set_metadata("other", {"c": 4})
        assert (store.to_bytes("key"), store.get_metadata("key")) == (b"data", {"b": 3})
        assert (store.to_bytes("other"), store.get_metadata("other")) == (b"", {"c": 4})
        assert facts(store, "other").size == 0
        assert listing(store) == ["key", "other"]

    def test_update_metadata_adds_and_replaces_fields(self, store: Store) -> None:
        """As ``dict.update``: fields not named stay, values are replaced whole, data stay."""
        store.set("key", b"data", metadata={"a": 1, "b": {"x": 1}, "c": None})
        store.update_metadata("key", {"b": {"y": 2}, "d": [4]})
        assert store.get_metadata("key") == {"a": 1, "b": {"y": 2}, "c": None, "d": [4]}
        store.update_metadata("key", {"a": None})
        store.update_metadata("key", {})
        assert store.get_metadata("key") == {"a": None, "b": {"y": 2}, "c": None, "d": [4]}
        assert store.to_bytes("key") == b"data"

    def test_revision_is_new_after_every_write(self, store: Store) -> None:
        """The write returns it, ``get`` tells it; also where nothing became different."""
        for name, write in WRITES.items():
            with case(name):
                first = store.set("key", b"old", metadata={"a": 1})
                second = write(store)
                assert facts(store, "key").revision == second
                if store.info()["conditional"]:
                    assert isinstance(first, str)
                    assert isinstance(second, str)
                    assert first != second

    def test_revisions_never_come_again(self, store: Store) -> None:
        """Not for equal content, nor for a key that was deleted and made again."""
        revisions = []
        for _ in range(3):
            revisions.append(store.set("key", b"same", metadata={"a": 1}))
            revisions.append(store.set("key", b"same", metadata={"a": 1}))
            revisions.append(store.set("key", b"other", metadata={"a": 1}))
            revisions.append(store.set_metadata("key", {"a": 1}))
            store.delete("key")
        if revisions[0] is not None:
            assert len(set(revisions)) == len(revisions)

    def test_reading_changes_nothing(self, store: Store) -> None:
        """All that is told of a key stays the same while nobody writes."""
        store.set("key", b"data", metadata={"a": 1})
        before = content(store, "key")
        store.get_metadata("key", select=["a"])
        list(store.query(a=1))
        assert store.exists("key")
        assert content(store, "key") == before

    def test_created_stays_and_modified_does_not_go_back(self, store: Store) -> None:
        """Where the store tells these times."""
        for name, write in WRITES.items():
            with case(name):
                store.set("key", b"old", metadata={"a": 1})
                old = facts(store, "key")
                write(store)
                new = facts(store, "key")
                assert new.created == old.created
                if old.modified is not None and new.modified is not None:
                    assert new.modified >= old.modified
                    assert new.created is None or new.modified >= new.created

    def test_mimetype_goes_with_the_data(self, store: Store) -> None:
        """Kept while the data are; new data without one are unknown bytes."""
        store.set("key", b"<p>", mimetype="text/html")
        store.set_metadata("key", {"a": 1})
        store.update_metadata("key", {"b": 1})
        assert facts(store, "key").mimetype == "text/html"
        store.set_data("key", b"{}", mimetype="application/json")
        assert facts(store, "key").mimetype == "application/json"
        store.set_data("key", b"\x00")
        assert facts(store, "key").mimetype == "application/octet-stream"
        store.from_bytes("key", b"a,b", mimetype="text/csv")
        assert facts(store, "key").mimetype == "text/csv"

    def test_keys_do_not_touch_each_other(self, store: Store) -> None:
        """A write changes its key alone, be its name the beginning of others."""
        names = ["a", "a/", "a/b", "aa", "b"]
        for name in names:
            store.set(name, name.encode(), metadata={"name": name})
        others = {name: content(store, name) for name in names if name != "a"}
        store.set("a", b"new", metadata={})
        store.update_metadata("a", {"b": 1})
        store.delete("a")
        assert {name: content(store, name) for name in others} == others
        assert listing(store) == names[1:]

    def test_metadata_schema(self) -> None:
        """Metadata that does not fit the store's schema is refused, by updates as a whole."""
        schema = {
            "type": "object",
            "properties": {"n": {"type": "integer", "maximum": 9}, "s": {"type": "string"}},
            "required": ["n"],
        }
        with self.make_store_with_schema(schema) as store:
            store.set("key", b"data", metadata={"n": 1})
            before = content(store, "key")
            refused: list[Callable[[], object]] = [
                lambda: store.set("key", b"new", metadata={"n": 10}),
                lambda: store.set("key", b"new", metadata={"s": "no n"}),
                lambda: store.set("key", b"new"),
                lambda: store.set_metadata("key", {"n": "1"}),
                lambda: store.update_metadata("key", {"n": None}),
                lambda: store.update_metadata("key", {"s": 1}),
                lambda: store.set_data("new", b"data without metadata"),
            ]
            for write in refused:
                with pytest.raises(InvalidMetadataError):
                    write()
            assert content(store, "key") == before
            assert listing(store) == ["key"]
            with pytest.raises(InvalidMetadataError) as caught:
                store.update_metadata("key", {"n": 99})
            assert caught.value.pointer == "/n"
            store.update_metadata("key", {"s": "fits"})
            store.set_data("key", b"new data")
            assert store.get_metadata("key") == {"n": 1, "s": "fits"}

    def test_write_does_all_that_a_change_says(self, store: Store) -> None:
        """Data, metadata and permissions in one step; what it does not name stays."""
        made = store.write("key", Change(data=Source(b"data"), metadata={"a": (1, 2)}))
        assert (made.existed, made.revision) == (False, store.record("key").revision)
        assert store.to_bytes("key") == b"data"
        more = store.write("key", Change(metadata={"b": 1}, merge=True))
        assert more.existed
        assert store.get_metadata("key") == {"a": [1, 2], "b": 1}
        assert store.to_bytes("key") == b"data"
        with pytest.raises(KeyNotFoundError):
            store.write("missing", Change(metadata={"b": 1}, merge=True))

    def test_write_checks_what_it_is_given(self, store: Store) -> None:
        """As the methods for people do."""
        store.set("key", b"old", metadata={"a": 1})
        wrong = [Change(metadata={"a": float("nan")}), Change(metadata=[])]  # type: ignore[arg-type]
        for change in wrong:
            with pytest.raises(InvalidMetadataError):
                store.write("key", change)
        with pytest.raises(InvalidRequestError):
            store.write("key", Change(data=Source(b""), mimetype="\n"))
        if store.info()["authorizing"]:
            with pytest.raises(InvalidPermissionsError):
                store.write("key", Change(permissions={"read": {"a"}}))
        if store.info()["conditional"]:
            with pytest.raises(ConflictError):
                store.write("key", Change(metadata={}, condition=Condition(create_only=True)))
        assert (store.to_bytes("key"), store.get_metadata("key")) == (b"old", {"a": 1})

    def test_write_is_told(self, store: Store) -> None:
        """By the same events as any other change."""
        with recorded(store, StoreModificationEvent) as events:
            store.write("key", Change(data=Source(b"data"), metadata={"n": 1}))
            store.write("key", Change(metadata={"n": 2}))
        assert [(type(event), event.key, event.metadata) for event in events] == [
            (StoreSetEvent, "key", {"n": 1}),
            (StoreUpdateEvent, "key", {"n": 2}),
        ]
