"""Contract: what listeners are told, in which order, and what ``progress=`` is told."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    Event,
    InvalidKeyError,
    InvalidMetadataError,
    KeyNotFoundError,
    Store,
    StoreDeleteEvent,
    StoreModificationEvent,
    StoreProgressEndEvent,
    StoreProgressStartEvent,
    StoreProgressStepEvent,
    StoreSetEvent,
    StoreUpdateEvent,
)
from kvstore.testing.contract_base import (
    ContractBase,
    authorizing,
    case,
    facts,
    listing,
    needs,
    recorded,
)
from kvstore.testing.faults import SourceBrokenError, broken_pieces

#: Writes that carry data, of ten bytes each; they report progress.
DATA_WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda store: store.set("key", b"0123456789", metadata={"a": 1}),
    "set_data": lambda store: store.set_data("key", b"0123456789"),
    "from_bytes": lambda store: store.from_bytes("key", b"0123456789"),
    "set of pieces": lambda store: store.set("key", iter([b"01234", b"56789"])),
}


def transfer(events: list[Any], total: int, done: int, state: str = "normal") -> list[Any]:
    """Check the progress events that *events* begin with, and return those that follow.

    One start that tells the *total*, steps that grow up to *done*, one end in *state*; all of the
    same transfer.
    """
    assert type(events[0]) is StoreProgressStartEvent
    assert events[0].steps == total
    steps = list(
        itertools.takewhile(lambda event: type(event) is StoreProgressStepEvent, events[1:])
    )
    end = events[1 + len(steps)]
    assert type(end) is StoreProgressEndEvent
    assert end.exit_state == state
    counts = [event.step for event in steps]
    assert counts == sorted(set(counts))
    assert (counts or [0])[-1] == done
    assert len({event.operation_id for event in (events[0], *steps, end)}) == 1
    assert {event.key for event in (events[0], *steps, end)} == {"key"}
    return events[2 + len(steps) :]


def told(event: Any) -> tuple[Any, ...]:
    """Return what a modification event tells, for comparing."""
    assert isinstance(event, StoreModificationEvent)
    return type(event), event.key, event.metadata, event.revision


class EventsContract(ContractBase):
    """Events of single operations, each exactly once."""

    def test_writing_data(self, store: Store) -> None:
        """Progress from start to end, then one Set for a new key, one Update for an old one."""
        for name, write in DATA_WRITES.items():
            for kind in (StoreSetEvent, StoreUpdateEvent):
                with case((name, kind)):
                    with recorded(store) as events:
                        revision = write(store)
                    [event] = transfer(events, -1 if name == "set of pieces" else 10, 10)
                    metadata = {"a": 1} if name == "set" else {}
                    assert told(event) == (kind, "key", metadata, revision)
                    assert event.source is store
                    assert event.origin == "local"
            store.delete("key")

    def test_from_file(self, store: Store, folder: Path) -> None:
        """The size of a file is known from the start."""
        source = folder / "source"
        source.write_bytes(b"x" * 5000)
        store.set("key", b"", metadata={"a": 1})
        with recorded(store) as events:
            revision = store.from_file("key", source, 1000)
        [event] = transfer(events, 5000, 5000)
        assert told(event) == (StoreUpdateEvent, "key", {"a": 1}, revision)

    def test_no_data(self, store: Store) -> None:
        """Nothing travels from start to end."""
        with recorded(store) as events:
            revision = store.set("key", b"")
        [event] = transfer(events, 0, 0)
        assert told(event) == (StoreSetEvent, "key", {}, revision)

    def test_metadata(self, store: Store) -> None:
        """No progress; the metadata told are the whole that is stored now."""
        with recorded(store) as events:
            revisions = [
                store.set_metadata("key", {"a": 1}),
                store.set_metadata("key", {"a": 2, "b": 2}),
                store.update_metadata("key", {"b": 3}),
                store.update_metadata("key", {}),
            ]
        assert [told(event) for event in events] == [
            (StoreSetEvent, "key", {"a": 1}, revisions[0]),
            (StoreUpdateEvent, "key", {"a": 2, "b": 2}, revisions[1]),
            (StoreUpdateEvent, "key", {"a": 2, "b": 3}, revisions[2]),
            (StoreUpdateEvent, "key", {"a": 2, "b": 3}, revisions[3]),
        ]

    def test_delete(self, store: Store) -> None:
        """One Delete with the last metadata; a key made again is new."""
        store.set("key", b"data", metadata={"a": {"b": 1}})
        with recorded(store) as events:
            store.delete("key")
            store.set_metadata("key", {"c": 1})
        assert [(type(event), event.key, event.metadata) for event in events] == [
            (StoreDeleteEvent, "key", {"a": {"b": 1}}),
            (StoreSetEvent, "key", {"c": 1}),
        ]

    def test_events_come_after_the_change(self, store: Store) -> None:
        """A listener that looks finds what it was told."""
        found: list[Any] = []

        def look(event: Any) -> None:
            exists = store.exists(event.key)
            found.append(store.to_bytes(event.key) if exists else None)
            if exists:
                assert store.get_metadata(event.key) == event.metadata
                assert facts(store, event.key).revision == event.revision

        needs(store, "events")
        with store.events.connected_to(StoreModificationEvent, look):
            store.set("key", b"1", metadata={"a": 1})
            store.set_data("key", b"2")
            store.update_metadata("key", {"b": 1})
            store.delete("key")
        assert found == [b"1", b"2", b"2", None]

    def test_listener_of_sets_hears_updates(self, store: Store) -> None:
        """An update is a set of a key that existed."""
        with recorded(store, StoreSetEvent) as sets, recorded(store, StoreUpdateEvent) as updates:
            store.set("key", b"1")
            store.set("key", b"2")
            store.delete("key")
        assert [type(event) for event in sets] == [StoreSetEvent, StoreUpdateEvent]
        assert [type(event) for event in updates] == [StoreUpdateEvent]

    def test_reading_is_silent(self, store: Store) -> None:
        """Listings, metadata and streams tell nobody."""
        store.set("key", b"data", metadata={"a": 1})
        with recorded(store) as events:
            with store.get("key") as stream:
                stream.read()
            with store.get_data("key") as stream, store.get_data_range("key", 1, 2) as part:
                stream.read()
                part.read()
            store.get_metadata("key")
            store.exists("key")
            list(store.query(a=1))
            store.count()
        assert events == []

    def test_permissions_are_no_data(self, store: Store) -> None:
        """Changing them changes neither data nor metadata."""
        store_ = authorizing(store)
        store_.set("key", b"data")
        with recorded(store) as events:
            store_.update_permissions("key", {"read": {"a"}})
        assert events == []

    def test_failed_writes_tell_no_change(self, store: Store, folder: Path) -> None:
        """A transfer that began ends with ``exception``."""
        store.set("key", b"old", metadata={"a": 1})
        with recorded(store) as events, pytest.raises(SourceBrokenError):
            store.set("key", broken_pieces(b"01234", b"56789"), metadata={"a": 2})
        assert type(events[0]) is StoreProgressStartEvent
        assert type(events[-1]) is StoreProgressEndEvent
        assert events[-1].exit_state == "exception"
        assert {type(event) for event in events[1:-1]} <= {StoreProgressStepEvent}
        with recorded(store, StoreModificationEvent) as changes:
            with pytest.raises(FileNotFoundError):
                store.from_file("key", folder / "missing")
            with pytest.raises(InvalidKeyError):
                store.set("../key", b"")
            with pytest.raises(InvalidMetadataError):
                store.set("key", b"", metadata={"a": float("nan")})
            with pytest.raises(KeyNotFoundError):
                store.delete("missing")
            with pytest.raises(KeyNotFoundError):
                store.update_metadata("missing", {})
        assert changes == []
        needs(store, "conditional")
        with recorded(store, StoreModificationEvent) as changes, pytest.raises(ConflictError):
            store.set("key", b"", if_none_match="*")
        assert changes == []

    def test_downloads_report_progress(self, store: Store, folder: Path) -> None:
        """``to_bytes`` and ``to_file`` do, in bytes."""
        store.set("key", b"x" * 1000)
        for buffer_size in (300, 1 << 20):
            with case(buffer_size):
                with recorded(store) as events:
                    store.to_bytes("key", buffer_size)
                assert transfer(events, 1000, 1000) == []
                with recorded(store) as events:
                    store.to_file("key", folder / "file", buffer_size)
                assert transfer(events, 1000, 1000) == []

    def test_multiset(self, store: Store) -> None:
        """One modification for each key, in order."""
        with recorded(store, StoreModificationEvent) as events:
            store.multiset(["a", "b", "b"], [b"1", b"2", b"3"])
            store.multiupdate_metadata(["b", "a"], [{"n": 1}, {"n": 2}])
        assert [(type(event), event.key) for event in events] == [
            (StoreSetEvent, "a"),
            (StoreSetEvent, "b"),
            (StoreUpdateEvent, "b"),
            (StoreUpdateEvent, "b"),
            (StoreUpdateEvent, "a"),
        ]

    def test_failing_listener_disturbs_nothing(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither the operation nor other listeners; the failure is logged."""

        def fail(event: Event) -> None:
            raise RuntimeError("the listener failed")

        with (
            caplog.at_level(logging.CRITICAL, "kvstore.events"),
            recorded(store, StoreModificationEvent) as events,
            store.events.connected_to(Event, fail, priority=1),
        ):
            store.set("key", b"data", metadata={"a": 1})
            store.delete("key")
        assert [type(event) for event in events] == [StoreSetEvent, StoreDeleteEvent]
        assert listing(store) == []

    def test_each_store_has_its_own_listeners(self, store: Store) -> None:
        """What happens in another store is not told here."""
        with recorded(store) as events, self.make_store() as other:
            other.set("key", b"data")
        assert events == []
