"""Contract: ``watch``, by which a store tells what others do."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kvstore import (
    InvalidRequestError,
    Store,
    StoreDeleteEvent,
    StoreModificationEvent,
    StoreSetEvent,
    StoreUpdateEvent,
)
from kvstore.testing.contract_base import ContractBase, needs

#: Seconds after which what was waited for has not come.
_BOUND = 30.0
_INTERVAL = 0.05


class _Heard:
    """The events of a store, as they come."""

    def __init__(self) -> None:
        self._events: queue.Queue[StoreModificationEvent] = queue.Queue()

    def take(self, event: StoreModificationEvent) -> None:
        self._events.put(event)

    def next(self) -> StoreModificationEvent:
        """Return the next one, waiting for it."""
        return self._events.get(timeout=_BOUND)

    def until(self, key: str) -> list[StoreModificationEvent]:
        """Return those up to the first about *key*."""
        seen: list[StoreModificationEvent] = []
        while not seen or seen[-1].key != key:
            seen.append(self.next())
        return seen


@contextmanager
def _watched(store: Store, **options: Any) -> Iterator[_Heard]:
    needs(store, "events")
    heard = _Heard()
    with (
        store.events.connected_to(StoreModificationEvent, heard.take),
        store.watch(interval=_INTERVAL, **options),
    ):
        yield heard


class WatchContract(ContractBase):
    """Changes by others."""

    def make_second_store(self, store: Store) -> Store:
        """Return another store object with the content of *store*. Optional."""
        pytest.skip("make_second_store() is not given")

    @pytest.fixture
    def other(self, store: Store) -> Iterator[Store]:
        """Somebody else who uses what the store under test uses, connected."""
        with self.make_second_store(store) as other:
            yield other

    def test_what_others_do_is_told(self, store: Store, other: Store) -> None:
        """As the same events, which say where they come from."""
        with _watched(store) as heard:
            revision = other.set("a", b"data", metadata={"n": [1]})
            event = heard.next()
            assert type(event) is StoreSetEvent
            assert (event.key, event.origin, event.source) == ("a", "remote", store)
            assert (event.metadata, event.revision) == ({"n": [1]}, revision)
            other.update_metadata("a", {"m": 2})
            event = heard.next()
            assert type(event) is StoreUpdateEvent
            assert (event.key, event.metadata) == ("a", {"n": [1], "m": 2})
            other.delete("a")
            event = heard.next()
            assert (type(event), event.key, event.origin) == (StoreDeleteEvent, "a", "remote")

    def test_ones_own_changes_are_told_once(self, store: Store, other: Store) -> None:
        """As they are without a watch; those of others come between them."""
        with _watched(store) as heard:
            store.set("mine", b"")
            store.update_metadata("mine", {"a": 1})
            store.multiset(["x", "y", "y"], [b"1", b"2", b"3"])
            store.delete("x")
            other.set("theirs", b"")
            events = heard.until("theirs")
            store.delete("mine")
            other.set("last", b"")
            events += heard.until("last")
        told = {(event.key, event.action, event.origin) for event in events}
        assert told == {
            ("mine", "set", "local"),
            ("mine", "update", "local"),
            ("mine", "delete", "local"),
            ("x", "set", "local"),
            ("x", "delete", "local"),
            ("y", "set", "local"),
            ("y", "update", "local"),
            ("theirs", "set", "remote"),
            ("last", "set", "remote"),
        }
        assert len(events) == len(told)

    def test_it_ends(self, store: Store, other: Store) -> None:
        """And tells nothing any more, also when the store is disconnected."""
        heard = _Heard()
        with store.events.connected_to(StoreModificationEvent, heard.take):
            watch = store.watch(interval=_INTERVAL)
            running = [watch.is_running]
            watch.stop()
            watch.stop()
            assert [*running, watch.is_running] == [True, False]
            other.set("unheard", b"")
            again = store.watch(interval=_INTERVAL)
            other.set("heard", b"")
            assert [event.key for event in heard.until("heard")] == ["heard"]
            store.disconnect()
            assert not again.is_running
            assert again.failure is None

    def test_going_on_where_a_watch_stopped(self, store: Store, other: Store) -> None:
        """Where there is a journal nothing is missed between."""
        needs(store, "changes")
        with store.watch(interval=_INTERVAL) as watch:
            pass
        other.set("between", b"")
        with _watched(store, since=watch.sequence) as heard:
            assert heard.next().key == "between"

    def test_what_cannot_be_watched(self, store: Store) -> None:
        """Is refused at once."""
        wrong: list[dict[str, Any]] = [{"interval": 0}, {"interval": "1"}]
        for arguments in [*wrong, {"since": -1}, {"since": "1"}]:
            with pytest.raises(InvalidRequestError):
                store.watch(**arguments)
