"""The store's events, and the reports of transfers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from kvstore import events
from kvstore.events import (
    Progress,
    StoreDeleteEvent,
    StoreEvent,
    StoreKeyEvent,
    StoreModificationEvent,
    StoreProgressEndEvent,
    StoreProgressEvent,
    StoreProgressStartEvent,
    StoreProgressStepEvent,
    StoreSetEvent,
    StoreTransactionEndEvent,
    StoreTransactionEvent,
    StoreTransactionStartEvent,
    StoreUpdateEvent,
)
from kvstore.hub import Event, EventHub
from tests.cases import each


@pytest.fixture
def hub() -> EventHub:
    return EventHub()


def heard_by(hub: EventHub, event_type: type[Event] = StoreProgressEvent) -> list[Any]:
    seen: list[Any] = []
    hub.connect(event_type, seen.append)
    return seen


# -- the classes ---------------------------------------------------------------------------


@each(
    "event_type, base",
    [
        (StoreEvent, Event),
        (StoreTransactionEvent, StoreEvent),
        (StoreTransactionStartEvent, StoreTransactionEvent),
        (StoreTransactionEndEvent, StoreTransactionEvent),
        (StoreKeyEvent, StoreEvent),
        (StoreModificationEvent, StoreKeyEvent),
        (StoreSetEvent, StoreModificationEvent),
        (StoreUpdateEvent, StoreSetEvent),
        (StoreDeleteEvent, StoreModificationEvent),
        (StoreProgressEvent, StoreEvent),
        (StoreProgressStartEvent, StoreProgressEvent),
        (StoreProgressStepEvent, StoreProgressEvent),
        (StoreProgressEndEvent, StoreProgressEvent),
    ],
)
def test_the_hierarchy_is_as_the_module_draws_it(event_type: type, base: type) -> None:
    assert event_type.__bases__ == (base,)
    assert f"── {event_type.__name__}\n" in events.__doc__.replace("        the key existed", "")


@pytest.mark.parametrize(
    ("event_type", "action"),
    [(StoreSetEvent, "set"), (StoreUpdateEvent, "update"), (StoreDeleteEvent, "delete")],
)
def test_a_modification_tells_its_action(
    hub: EventHub, event_type: type[StoreModificationEvent], action: str
) -> None:
    event = event_type(source="store", key="k", metadata={"a": 1}, revision="7")
    assert (event.action, event.key, event.metadata) == (action, "k", {"a": 1})
    assert (event.revision, event.origin, event.source) == ("7", "local", "store")
    seen: list[Event] = []
    for wanted in ("set", "update", "delete"):
        with hub.connected_to(StoreModificationEvent, seen.append, {"action": wanted}):
            hub.emit(event)
    assert seen == [event]


def test_a_modification_by_others_says_so() -> None:
    event = StoreDeleteEvent(key="k", metadata={}, origin="remote")
    assert (event.origin, event.revision) == ("remote", None)


def test_a_listener_for_set_events_hears_updates_too(hub: EventHub) -> None:
    seen = heard_by(hub, StoreSetEvent)
    update = StoreUpdateEvent(key="k", metadata={})
    hub.emit(update)
    hub.emit(StoreDeleteEvent(key="k", metadata={}))
    assert seen == [update]


def test_events_are_frozen_and_have_no_room_for_other_attributes() -> None:
    event = StoreSetEvent(key="k", metadata={})
    for name in ("key", "action", "handled", "unknown"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(event, name, "x")
    assert not hasattr(event, "__dict__")


def test_what_tells_of_a_key_needs_the_key() -> None:
    with pytest.raises(TypeError, match="key"):
        StoreSetEvent(metadata={})  # type: ignore[call-arg]


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_events_can_be_copied_and_pickled(duplicate: Any) -> None:
    event = StoreUpdateEvent(source="s", key="k", metadata={"a": [1]}, revision="r", time=2.5)
    event.mark_as_handled()
    shown = repr(duplicate(event))
    assert shown == repr(event)
    assert shown.startswith("StoreUpdateEvent(source=<str>, time=2.5, key='k', metadata={'a': [1]}")
    assert shown.endswith("origin='local', revision='r', handled=True)")


def test_transaction_events_carry_the_notes() -> None:
    start = StoreTransactionStartEvent(notes="import")
    end = StoreTransactionEndEvent(state="failed", notes="import")
    assert (start.notes, end.notes, end.state) == ("import", "import", "failed")
    assert StoreTransactionStartEvent().notes is None


# -- progress ------------------------------------------------------------------------------


def test_progress_tells_start_steps_and_end(hub: EventHub) -> None:
    seen = heard_by(hub)
    with Progress(hub, "store", "k", "set k", 30) as progress:
        progress.step(10)
        progress.step(30)
    start, first, second, end = seen
    assert [type(event) for event in seen] == [
        StoreProgressStartEvent,
        StoreProgressStepEvent,
        StoreProgressStepEvent,
        StoreProgressEndEvent,
    ]
    assert (start.steps, first.step, second.step, end.exit_state) == (30, 10, 30, "normal")
    assert {(e.source, e.key, e.message) for e in seen} == {("store", "k", "set k")}
    assert len({event.operation_id for event in seen}) == 1


def test_each_transfer_has_an_id_of_its_own(hub: EventHub) -> None:
    seen = heard_by(hub)
    progress = Progress(hub, None, None, "twice")
    for _ in range(2):
        with progress:
            pass
    assert [event.steps for event in seen[::2]] == [-1, -1]
    assert len({event.operation_id for event in seen}) == 2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("broken"), "broken"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_exception_ends_the_transfer_and_goes_on(
    hub: EventHub, error: BaseException, message: str
) -> None:
    seen = heard_by(hub)
    with pytest.raises(type(error)) as raised, Progress(hub, "store", "k", "set k"):
        raise error
    assert raised.value is error
    assert [type(event) for event in seen] == [StoreProgressStartEvent, StoreProgressEndEvent]
    assert (seen[1].exit_state, seen[1].message) == ("exception", message)


def test_the_callback_gets_done_and_total_in_bytes(hub: EventHub) -> None:
    calls: list[tuple[int, int]] = []
    for total in (30, -1):
        with Progress(hub, None, "k", "", total, lambda *numbers: calls.append(numbers)) as bar:
            bar.step(10)
    assert calls == [(10, 30), (10, -1)]


def test_an_exception_of_the_callback_ends_the_operation(hub: EventHub) -> None:
    seen = heard_by(hub)

    def cancel(done: int, total: int) -> None:
        raise RuntimeError("cancelled by the user")

    with (
        pytest.raises(RuntimeError, match="cancelled"),
        Progress(hub, None, "k", "set k", callback=cancel) as progress,
    ):
        progress.step(1)
        pytest.fail("went on")
    assert (seen[-1].exit_state, seen[-1].message) == ("exception", "cancelled by the user")


def test_an_exception_of_a_listener_does_not(caplog: pytest.LogCaptureFixture) -> None:
    hub = EventHub()
    hub.connect(StoreProgressEvent, lambda event: 1 / 0)
    with Progress(hub, None, "k", "set k") as progress:
        progress.step(1)
    assert len(caplog.records) == 3


@pytest.mark.parametrize("bad", [1, "f", ()])
def test_the_callback_must_be_callable(hub: EventHub, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"progress must be callable as f\(done, total\), not"):
        Progress(hub, None, "k", "", callback=bad)


@pytest.mark.parametrize(
    "event_type",
    [Event, StoreProgressStartEvent, StoreProgressStepEvent, StoreProgressEndEvent],
)
def test_a_listener_for_any_of_the_events_is_enough(hub: EventHub, event_type: type[Event]) -> None:
    seen = heard_by(hub, event_type)
    with Progress(hub, None, "k", "") as progress:
        assert progress.active
        progress.step(1)
    assert len(seen) == (3 if event_type is Event else 1)


def test_without_listeners_nothing_is_emitted(
    hub: EventHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_by(hub, StoreSetEvent)
    monkeypatch.setattr(hub, "emit", lambda event: pytest.fail("emitted"))
    with Progress(hub, None, "k", "") as progress:
        assert not progress.active
        progress.step(1)
    with Progress(hub, None, "k", "", callback=lambda done, total: None) as progress:
        assert progress.active
        progress.step(1)


def test_who_listens_is_asked_once_on_entering(hub: EventHub) -> None:
    early: list[Event] = []
    with Progress(hub, None, "k", "") as progress:
        seen = heard_by(hub)
        progress.step(1)
    assert seen == []
    hub.connect(StoreProgressEvent, early.append)
    with Progress(hub, None, "k", "") as progress:
        hub.disconnect(StoreProgressEvent, early.append)
        progress.step(1)
    assert len(early) == 1
    assert len(seen) == 3


def test_a_step_after_the_end_tells_nobody(hub: EventHub) -> None:
    seen = heard_by(hub)
    with Progress(hub, None, "k", "") as progress:
        pass
    progress.step(1)
    assert len(seen) == 2
    assert not progress.active
