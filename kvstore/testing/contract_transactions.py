"""Contract: transactions, where ``info()`` says so; and what ``transaction`` means where not."""

# ruff: noqa: PT012 - what is tested is that an error leaves a block of several statements

from __future__ import annotations

import threading
from typing import Any

import pytest

from kvstore import (
    InvalidMetadataError,
    KeyNotFoundError,
    Store,
    StoreDeleteEvent,
    StoreModificationEvent,
    StoreProgressEvent,
    StoreSetEvent,
    StoreTransactionEndEvent,
    StoreTransactionStartEvent,
    StoreUpdateEvent,
)
from kvstore.testing.contract_base import (
    ContractBase,
    authorizing,
    content,
    facts,
    listing,
    needs,
    recorded,
)


class _StoppedError(Exception):
    """What leaves a block in these tests."""


def _change_everything(store: Store) -> None:
    store.set("new", b"new", metadata={"new": 1})
    store.set("key", b"changed", metadata={"changed": 1})
    store.update_metadata("key", {"more": 1})
    store.set_data("other", b"changed")
    store.delete("gone")
    store.delete("again")
    store.set("again", b"made again")


class TransactionsContract(ContractBase):
    """``transaction``."""

    def test_commit(self, store: Store) -> None:
        """What was done in the block stays; ``with`` gives the store; reads inside see it."""
        store.set("gone", b"")
        with store.transaction("why") as inside:
            assert inside is store
            store.set("key", b"1", metadata={"a": 1})
            store.delete("gone")
            assert store.to_bytes("key") == b"1"
            assert listing(store) == ["key"]
            assert list(store.query_keys(a=1)) == ["key"]
            store.update_metadata("key", {"b": 2})
        assert dict(store.query()) == {"key": {"a": 1, "b": 2}}
        store.set("after", b"")
        assert listing(store) == ["after", "key"]

    def test_rollback_restores_everything(self, store: Store) -> None:
        """Data, metadata, types, times, revisions and permissions; the exception comes through."""
        needs(store, "transactions")
        for key in ("again", "gone", "key", "other"):
            store.set(key, key.encode(), metadata={"name": key}, mimetype="text/plain")
        if store.info()["authorizing"]:
            me = authorizing(store).user_tag()
            authorizing(store).set_permissions("key", {"owned": {me}, "read": {"a"}})
        before = {key: content(store, key) for key in listing(store)}
        with pytest.raises(_StoppedError), store.transaction():
            _change_everything(store)
            if store.info()["authorizing"]:
                authorizing(store).update_permissions("key", {"read": {"b"}})
            raise _StoppedError
        assert {key: content(store, key) for key in listing(store)} == before
        assert list(store.query_keys(new=1)) == []
        assert list(store.query_keys(name="gone")) == ["gone"]

    def test_rollback_by_an_error_of_the_store(self, store: Store) -> None:
        """A refused write that nobody catches undoes the writes before it."""
        needs(store, "transactions")
        with pytest.raises(KeyNotFoundError), store.transaction():
            store.set("key", b"")
            store.delete("missing")
        assert listing(store) == []
        with pytest.raises(InvalidMetadataError):
            store.multiset_metadata(["a", "b"], [{}, {"nan": float("nan")}])
        assert listing(store) == []

    def test_caught_error_undoes_nothing(self, store: Store) -> None:
        """A refused write that is caught inside is no reason to undo the others."""
        with store.transaction():
            store.set("key", b"")
            with pytest.raises(KeyNotFoundError):
                store.delete("missing")
        assert listing(store) == ["key"]

    def test_store_works_after_a_rollback(self, store: Store) -> None:
        """Also in the next transaction, and conditions speak of what is stored."""
        needs(store, "transactions")
        store.set("key", b"old")
        before = facts(store, "key").revision
        with pytest.raises(_StoppedError), store.transaction():
            inside = store.set("key", b"new")
            raise _StoppedError
        assert facts(store, "key").revision == before != inside
        with store.transaction():
            store.set("key", b"newer", if_match=before)
        assert store.to_bytes("key") == b"newer"

    def test_nested_blocks_are_one_transaction(self, store: Store) -> None:
        """Only the outermost counts, for commit, rollback and events."""
        needs(store, "transactions")
        with pytest.raises(_StoppedError), store.transaction("outer"):
            store.set("a", b"")
            with store.transaction("inner"):
                store.set("b", b"")
            store.multiset(["c"], [b""])
            raise _StoppedError
        assert listing(store) == []
        with recorded(store) as events, store.transaction("outer"):
            with pytest.raises(_StoppedError), store.transaction("inner"):
                store.set_metadata("a", {})
                raise _StoppedError
            store.set_metadata("b", {})
        assert listing(store) == ["a", "b"]
        assert [(type(event), getattr(event, "notes", None)) for event in events] == [
            (StoreTransactionStartEvent, "outer"),
            (StoreTransactionEndEvent, "outer"),
            (StoreSetEvent, None),
            (StoreSetEvent, None),
        ]

    def test_events_of_a_commit(self, store: Store) -> None:
        """Start; End when it is done; then the changes, in the order in which they were made."""
        needs(store, "transactions")
        with recorded(store) as events:
            with store.transaction("why"):
                revision = store.set("key", b"data", metadata={"a": 1})
                store.update_metadata("key", {"b": 2})
                store.delete("key")
            count = len(events)
            store.set_metadata("later", {})
        assert len(events) == count + 1
        rest = [event for event in events[:count] if not isinstance(event, StoreProgressEvent)]
        start, end, *changes = rest
        assert (type(start), start.notes) == (StoreTransactionStartEvent, "why")
        assert (type(end), end.notes, end.state) == (StoreTransactionEndEvent, "why", "done")
        assert events[0] is start
        assert start.source is end.source is store
        assert [(type(event), event.metadata) for event in changes] == [
            (StoreSetEvent, {"a": 1}),
            (StoreUpdateEvent, {"a": 1, "b": 2}),
            (StoreDeleteEvent, {"a": 1, "b": 2}),
        ]
        assert changes[0].revision == revision
        progress = [event for event in events if isinstance(event, StoreProgressEvent)]
        assert all(events.index(event) < events.index(end) for event in progress)
        assert progress

    def test_events_of_a_rollback(self, store: Store) -> None:
        """Start and End, and no change."""
        needs(store, "transactions")
        store.set("key", b"")
        with recorded(store) as events, pytest.raises(_StoppedError), store.transaction():
            store.set_metadata("key", {"a": 1})
            store.delete("key")
            raise _StoppedError
        assert [type(event) for event in events] == [
            StoreTransactionStartEvent,
            StoreTransactionEndEvent,
        ]
        assert events[-1].state == "failed"
        assert store.get_metadata("key") == {}

    def test_listener_of_a_commit_finds_what_was_committed(self, store: Store) -> None:
        """Events come when everything is stored, and a listener may write."""
        needs(store, "transactions")
        needs(store, "events")
        seen: list[Any] = []

        def listener(event: StoreModificationEvent) -> None:
            if event.key in ("a", "b"):
                seen.append((event.key, listing(store)))
                store.set_metadata(f"seen {event.key}", {})

        with store.events.connected_to(StoreModificationEvent, listener), store.transaction():
            store.set_metadata("a", {})
            store.set_metadata("b", {})
        assert seen == [("a", ["a", "b"]), ("b", ["a", "b", "seen a"])]
        assert listing(store) == ["a", "b", "seen a", "seen b"]

    def test_rollback_spares_the_writes_of_other_threads(self, store: Store) -> None:
        """A thread that writes meanwhile, or waits until it may, loses nothing."""
        needs(store, "transactions")

        def write() -> None:
            store.set("theirs", b"theirs", metadata={"a": 1})

        thread = threading.Thread(target=write)
        with pytest.raises(_StoppedError), store.transaction():
            store.set("mine", b"mine")
            thread.start()
            raise _StoppedError
        thread.join(30)
        assert not thread.is_alive()
        assert dict(store.query()) == {"theirs": {"a": 1}}

    def test_multi_operations_are_transactions(self, store: Store) -> None:
        """An error in the middle undoes the whole."""
        needs(store, "transactions")
        store.set("a", b"old")
        with recorded(store, StoreModificationEvent) as events:
            with pytest.raises(ValueError):
                store.multiset(["a", "b", "../c"], [b"1", b"2", b"3"])
            with pytest.raises(KeyNotFoundError):
                store.multiupdate_metadata(["a", "missing"], [{"n": 1}, {"n": 2}])
        assert dict(store.mapping()) == {"a": b"old"}
        assert store.get_metadata("a") == {}
        assert events == []

    def test_without_the_capability_nothing_is_grouped(self, store: Store) -> None:
        """Each change and its event happen at once and stay; Start and End are told even so."""
        if store.info()["transactions"]:
            pytest.skip("info() says 'transactions': True")
        with recorded(store) as events, pytest.raises(_StoppedError), store.transaction("why"):
            store.set_metadata("a", {"a": 1})
            with store.transaction("inner"):
                store.set_metadata("b", {"b": 1})
            assert len(events) == 3
            raise _StoppedError
        assert [type(event) for event in events] == [
            StoreTransactionStartEvent,
            StoreSetEvent,
            StoreSetEvent,
            StoreTransactionEndEvent,
        ]
        assert events[-1].state == "failed"
        assert listing(store) == ["a", "b"]
