"""The event hub: who is called, in what order, and what cannot go wrong while it happens."""

from __future__ import annotations

import functools
import gc
import logging
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvstore.hub import Event, EventHub


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Happened(Event):
    key: str = ""
    detail: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Finished(Happened):
    result: Any = None


class Aside(Event):
    pass


class Unreadable(Happened):
    @property
    def broken(self) -> Any:
        raise ValueError("cannot be read")


class Recorder:
    """Has a method to connect; equal to all others of its class, and without a hash."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recorder)

    __hash__ = None  # type: ignore[assignment]

    def on_event(self, event: Event) -> None:
        self.calls.append(self.name)


class Vague:
    """Compares like a numpy array: without a truth."""

    def __eq__(self, other: object) -> Any:
        return Untrue()

    __hash__ = None  # type: ignore[assignment]


class Untrue:
    def __bool__(self) -> bool:
        raise ValueError("the truth of this is ambiguous")


Errors = list[tuple[Event, Callable[..., object], Exception]]


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def errors() -> Errors:
    return []


@pytest.fixture
def hub(errors: Errors) -> Iterator[EventHub]:
    """A hub whose errors make the test fail, unless it takes them out of ``errors``."""
    yield EventHub(on_error=lambda *error: errors.append(error))
    assert errors == []


def named(name: str, calls: list[str]) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        calls.append(name)

    return listener


def in_time(target: Callable[[], object]) -> bool:
    """Run in a thread, and fail if it does not come back; True, for use in conditions."""
    failed: list[BaseException] = []

    def body() -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "deadlock"
    if failed:
        raise failed[0]
    return True


# -- events --------------------------------------------------------------------------------


def test_an_event_has_a_source_and_a_time() -> None:
    event = Happened("me", key="a", time=12.5)
    assert (event.source, event.time, event.key, event.handled) == ("me", 12.5, "a", False)


def test_the_time_is_now_and_the_source_nobody_by_default() -> None:
    first, second = Event(), Event()
    assert first.source is None
    assert 1.7e9 < first.time <= second.time


def test_an_event_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Happened(key="a").key = "b"  # type: ignore[misc]


def test_an_event_equals_only_itself_and_can_be_hashed_whatever_it_carries() -> None:
    event = Happened(detail={}, time=1.0)
    assert event != Happened(detail={}, time=1.0)
    assert event in {event}


def test_the_repr_shows_fields_but_not_the_innards_of_the_source() -> None:
    class Source:
        def __repr__(self) -> str:
            raise AssertionError("shown")

    shown = repr(Happened(Source(), key="a", detail={"b": 1}, time=1.5))
    assert shown.endswith("Source>, time=1.5, key='a', detail={'b': 1})")
    assert shown.startswith("Happened(source=<")


def test_the_repr_of_a_handled_event_without_source() -> None:
    event = Event(time=1.5)
    event.mark_as_handled()
    assert repr(event) == "Event(source=None, time=1.5, handled=True)"


def test_the_repr_cuts_long_values() -> None:
    assert len(repr(Happened(key="k" * 10_000, detail=list(range(10_000))))) < 300


# -- classes and order ---------------------------------------------------------------------


def test_an_event_reaches_listeners_of_its_class_and_of_base_classes(
    hub: EventHub, calls: list[str]
) -> None:
    for event_type in (Finished, Happened, Event, Aside):
        hub.connect(event_type, named(event_type.__name__, calls))
    hub.emit(Happened())
    assert calls == ["Happened", "Event"]


def test_a_class_with_two_bases_is_heard_under_both_and_once_by_each(
    hub: EventHub, calls: list[str]
) -> None:
    class Left(Event):
        pass

    class Right(Event):
        pass

    class Both(Left, Right):
        pass

    for event_type in (Right, Event, Left):
        hub.connect(event_type, named(event_type.__name__, calls))
    hub.emit(Both())
    assert calls == ["Right", "Event", "Left"]


def test_priority_comes_first_then_the_order_of_connection_across_classes(
    hub: EventHub, calls: list[str]
) -> None:
    hub.connect(Happened, named("a0", calls))
    hub.connect(Event, named("base5", calls), priority=5)
    hub.connect(Happened, named("a9", calls), priority=9, filter={"key": "k"})
    hub.connect(Event, named("base0", calls))
    hub.connect(Finished, named("late0", calls), filter={"result": 1})
    hub.connect(Event, named("last", calls), priority=-sys.maxsize)
    hub.emit(Finished(key="k", result=1))
    assert calls == ["a9", "base5", "a0", "base0", "late0", "last"]


def test_indexed_and_other_listeners_keep_the_order_among_each_other(
    hub: EventHub, calls: list[str]
) -> None:
    filters: list[Any] = [{"key": "k"}, None, {"detail": 1}, {"key": "k", "detail": 1}, {}]
    filters += [lambda event: True, {"detail": 1, "key": "k"}, {"key": "k"}]
    for number, wanted in enumerate(filters):
        hub.connect(Happened, named(str(number), calls), wanted)
    hub.emit(Happened(key="k", detail=1))
    assert calls == list("01234567")


def test_the_same_listener_on_a_class_and_its_base_is_called_for_both(
    hub: EventHub, calls: list[str]
) -> None:
    listener = named("x", calls)
    hub.connect(Event, listener)
    hub.connect(Happened, listener)
    hub.emit(Happened())
    assert calls == ["x", "x"]


def test_connecting_again_replaces_filter_priority_and_place(
    hub: EventHub, calls: list[str]
) -> None:
    first, second = named("first", calls), named("second", calls)
    hub.connect(Event, first, filter={"key": "never"}, priority=9)
    hub.connect(Event, second)
    hub.connect(Event, first)
    hub.emit(Happened())
    assert calls == ["second", "first"]
    hub.disconnect(Event, first)
    hub.emit(Happened())
    assert calls == ["second", "first", "second"]


def test_mark_as_handled_stops_the_rest_also_in_another_hub(
    hub: EventHub, calls: list[str]
) -> None:
    hub.connect(Happened, named("low", calls), priority=-1)
    hub.connect(Happened, Event.mark_as_handled)
    hub.connect(Event, named("high", calls), priority=1)
    hub.connect(Happened, named("equal", calls))
    event = Happened()
    hub.emit(event)
    assert calls == ["high"]
    assert event.handled
    other = EventHub()
    other.connect(Event, named("other", calls))
    other.emit(event)
    assert calls == ["high"]


# -- connecting and disconnecting ----------------------------------------------------------


def test_a_disconnected_listener_is_not_called(hub: EventHub, calls: list[str]) -> None:
    listener = named("x", calls)
    hub.connect(Event, listener)
    hub.emit(Event())
    hub.disconnect(Event, listener)
    hub.emit(Event())
    assert calls == ["x"]


@pytest.mark.parametrize("event_type", [Happened, Finished])
def test_disconnect_needs_the_class_that_was_connected(
    hub: EventHub, event_type: type[Event]
) -> None:
    hub.connect(Event, print)
    with pytest.raises(KeyError, match=f"print.* is not connected to {event_type.__name__}"):
        hub.disconnect(event_type, print)


def test_disconnecting_twice_is_a_key_error(hub: EventHub) -> None:
    hub.connect(Event, print)
    hub.disconnect(Event, print)
    with pytest.raises(KeyError):
        hub.disconnect(Event, print)


def test_methods_of_builtin_objects_can_be_disconnected_though_each_access_makes_another(
    hub: EventHub,
) -> None:
    first: list[Event] = []
    second: list[Event] = []
    event = Event()
    hub.connect(Event, first.append)
    hub.connect(Event, second.append)
    hub.connect(Event, first.append)
    hub.emit(event)
    hub.disconnect(Event, first.append)
    hub.emit(event)
    assert (first, second) == ([event], [event, event])


def test_a_special_method_of_a_builtin_object_can_be_disconnected(hub: EventHub) -> None:
    seen: list[Event] = []
    hub.connect(Event, seen.__eq__)
    hub.disconnect(Event, seen.__eq__)
    assert not hub.has_listeners(Event)


@pytest.mark.parametrize("bad", [None, "x", 1])
def test_a_listener_must_be_callable(hub: EventHub, bad: Any) -> None:
    with pytest.raises(TypeError, match=repr(bad)):
        hub.connect(Event, bad)
    assert not hub.has_listeners(Event)


@pytest.mark.parametrize("bad", [int, None, "Event", Event()])
@pytest.mark.parametrize("method", ["connect", "disconnect", "disable", "enable", "has_listeners"])
def test_an_event_class_must_be_one(hub: EventHub, method: str, bad: Any) -> None:
    arguments = (bad, print) if "connect" in method else (bad,)
    with pytest.raises(TypeError, match="Event"):
        getattr(hub, method)(*arguments)


def test_what_is_emitted_must_be_an_event(hub: EventHub) -> None:
    with pytest.raises(TypeError, match="str"):
        hub.emit("event")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["1", 1.5, None])
def test_a_priority_must_be_an_int(hub: EventHub, bad: Any) -> None:
    with pytest.raises(TypeError, match=repr(bad)):
        hub.connect(Event, print, priority=bad)


@pytest.mark.parametrize("bad", ["key", 5, ["key"], False])
def test_a_filter_must_be_a_mapping_or_callable(hub: EventHub, bad: Any) -> None:
    with pytest.raises(TypeError, match="filter"):
        hub.connect(Event, print, filter=bad)
    assert not hub.has_listeners(Event)


@pytest.mark.parametrize("path", ["", ".", "source.", ".key", "a..b", 1, None])
def test_a_filter_has_attribute_paths_as_keys(hub: EventHub, path: Any) -> None:
    with pytest.raises(ValueError, match=repr(path)):
        hub.connect(Event, print, filter={"key": 1, path: 1})
    assert not hub.has_listeners(Event)


def test_connected_to_connects_for_the_block(hub: EventHub) -> None:
    seen: list[Event] = []
    with hub.connected_to(Happened, seen.append, {"key": "a"}, 5):
        inside = Happened(key="a")
        hub.emit(inside)
        hub.emit(Happened(key="b"))
    hub.emit(Happened(key="a"))
    assert seen == [inside]


def test_connected_to_disconnects_after_an_exception(hub: EventHub) -> None:
    with pytest.raises(ZeroDivisionError), hub.connected_to(Event, print):
        raise ZeroDivisionError
    assert not hub.has_listeners(Event)


def test_connected_to_does_not_mind_a_listener_disconnected_in_the_block(hub: EventHub) -> None:
    with hub.connected_to(Event, print):
        hub.disconnect(Event, print)
    assert not hub.has_listeners(Event)


# -- changes while an event is under way ---------------------------------------------------


def test_a_listener_disconnected_during_an_emit_is_still_called_by_it(
    hub: EventHub, calls: list[str]
) -> None:
    late = named("late", calls)
    hub.connect(Event, lambda event: hub.disconnect(Event, late))
    hub.connect(Event, late)
    hub.emit(Event())
    assert calls == ["late"]


def test_a_listener_connected_during_an_emit_hears_the_next_event(
    hub: EventHub, calls: list[str]
) -> None:
    late = named("late", calls)
    hub.connect(Event, lambda event: hub.connect(Event, late))
    hub.emit(Event())
    assert calls == []
    hub.emit(Event())
    assert calls == ["late"]


def test_listeners_may_emit(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Happened, lambda event: hub.emit(Aside()))
    hub.connect(Happened, named("outer", calls))
    hub.connect(Aside, named("inner", calls))
    hub.emit(Happened())
    assert calls == ["inner", "outer"]


def test_disabling_during_an_emit_counts_from_the_next_one(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Event, lambda event: hub.disable(Event))
    hub.connect(Event, named("x", calls))
    hub.emit(Event())
    hub.emit(Event())
    assert calls == ["x"]


# -- weak references -----------------------------------------------------------------------


def test_a_bound_method_is_held_weakly_and_forgotten_with_its_object(
    hub: EventHub, calls: list[str]
) -> None:
    recorder = Recorder("x", calls)
    hub.connect(Event, recorder.on_event)
    gc.collect()
    hub.emit(Event())
    assert calls == ["x"]
    alive = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert alive() is None
    assert not hub.has_listeners(Event)
    hub.emit(Event())
    assert calls == ["x"]


def test_an_object_in_a_cycle_is_collected_too(hub: EventHub, calls: list[str]) -> None:
    recorder = Recorder("x", calls)
    recorder.me = recorder  # type: ignore[attr-defined]
    hub.connect(Event, recorder.on_event)
    del recorder
    gc.collect()
    assert not hub.has_listeners(Event)


def test_functions_are_held_strongly(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Event, named("function", calls))
    hub.connect(Event, lambda event: calls.append("lambda"))
    hub.connect(Event, functools.partial(lambda name, event: calls.append(name), "partial"))
    gc.collect()
    hub.emit(Event())
    assert calls == ["function", "lambda", "partial"]


def test_a_disconnected_listener_is_let_go(hub: EventHub, calls: list[str]) -> None:
    listener = named("x", calls)
    hub.connect(Event, listener, filter={"key": 1})
    hub.emit(Happened())
    hub.disconnect(Event, listener)
    alive = weakref.ref(listener)
    del listener
    gc.collect()
    assert alive() is None


def test_methods_of_equal_or_unhashable_objects_are_different_listeners(
    hub: EventHub, calls: list[str]
) -> None:
    first, second = Recorder("first", calls), Recorder("second", calls)
    hub.connect(Event, first.on_event)
    hub.connect(Event, second.on_event)
    hub.connect(Event, second.on_event)
    hub.emit(Event())
    assert calls == ["first", "second"]
    hub.disconnect(Event, first.on_event)
    hub.emit(Event())
    assert calls == ["first", "second", "second"]


def test_a_class_method_can_listen(hub: EventHub) -> None:
    class Counter:
        count = 0

        @classmethod
        def on_event(cls, event: Event) -> None:
            cls.count += 1

    hub.connect(Event, Counter.on_event)
    hub.connect(Event, Counter.on_event)
    hub.emit(Event())
    assert Counter.count == 1


def test_an_object_without_weak_references_is_refused(hub: EventHub) -> None:
    class Slotted:
        __slots__ = ()

        def on_event(self, event: Event) -> None: ...

    with pytest.raises(TypeError, match=r"weak reference to .*Slotted"):
        hub.connect(Event, Slotted().on_event)
    assert not hub.has_listeners(Event)


@pytest.mark.parametrize("wanted", ["own value", "own value in vain", "own method"])
def test_a_filter_does_not_keep_the_object_of_the_listener_alive(
    hub: EventHub, wanted: str
) -> None:
    calls: list[Event] = []

    class Own:
        def on_event(self, event: Event) -> None:
            calls.append(event)

        def wants(self, event: Event) -> bool:
            return event.source is self

    own = Own()
    filters: dict[str, Any] = {
        "own value": {"source": own},
        "own value in vain": {"source": own, "detail": None, "key": []},
        "own method": own.wants,
    }
    hub.connect(Happened, own.on_event, filters.pop(wanted))
    filters.clear()
    hub.emit(Happened())
    hub.emit(Happened(own))
    assert [event.source is own for event in calls] == [True] * (wanted != "own value in vain")
    calls.clear()
    alive = weakref.ref(own)
    del own
    gc.collect()
    assert alive() is None
    assert not hub.has_listeners(Happened)


def test_a_filter_method_of_another_object_is_held_strongly(
    hub: EventHub, calls: list[str]
) -> None:
    class Wanted:
        key = "a"

        def match(self, event: Happened) -> bool:
            return event.key == self.key

    recorder = Recorder("x", calls)
    hub.connect(Happened, recorder.on_event, Wanted().match)
    hub.connect(Happened, named("f", calls), Wanted().match)
    gc.collect()
    hub.emit(Happened(key="a"))
    hub.emit(Happened(key="b"))
    assert calls == ["x", "f"]


def test_a_listener_collected_during_an_emit_is_skipped_silently(
    hub: EventHub, calls: list[str]
) -> None:
    objects = {"x": Recorder("x", calls)}
    hub.connect(Event, lambda event: objects.clear() or gc.collect())
    hub.connect(Event, objects["x"].on_event)
    hub.connect(Event, named("after", calls))
    hub.emit(Event())
    assert calls == ["after"]


def test_the_filter_of_a_collected_listener_is_not_asked(hub: EventHub, calls: list[str]) -> None:
    objects = {"x": Recorder("x", calls)}
    hub.connect(Event, lambda event: objects.clear())
    hub.connect(Event, objects["x"].on_event, lambda event: calls.append("asked"))  # type: ignore[arg-type, return-value]
    hub.emit(Event())
    assert calls == []


def test_a_listener_may_drop_its_own_object(hub: EventHub) -> None:
    objects: list[Any] = []
    calls: list[str] = []

    class Once:
        def on_event(self, event: Event) -> None:
            calls.append("x")
            objects.clear()

    objects.append(Once())
    hub.connect(Event, objects[0].on_event)
    hub.emit(Event())
    hub.emit(Event())
    assert calls == ["x"]


def test_a_hub_is_freed_without_the_help_of_the_collector(calls: list[str]) -> None:
    recorder = Recorder("x", calls)
    hub = EventHub()
    hub.connect(Event, recorder.on_event)
    hub.emit(Event())
    alive = weakref.ref(hub)
    gc.disable()
    try:
        del hub
        assert alive() is None
    finally:
        gc.enable()


# -- filters -------------------------------------------------------------------------------


class Source:
    def __init__(self, name: Any) -> None:
        self.name = name


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        (None, True),
        ({}, True),
        ({"key": "a"}, True),
        ({"key": "b"}, False),
        ({"key": "a", "detail": 1}, True),
        ({"key": "a", "detail": 2}, False),
        ({"key": "b", "detail": 1}, False),
        ({"detail": True}, True),
        ({"detail": 1.0}, True),
        ({"detail": "1"}, False),
        ({"detail": None}, False),
        ({"detail": [1]}, False),
        ({"source.name": "s"}, True),
        ({"source.name": "t"}, False),
        ({"source.name.nothing": None}, False),
        ({"absent": None}, False),
        ({"source.absent.name": None}, False),
        ({"key": "a", "absent": None}, False),
        ({"key": "a", "absent": []}, False),
        ({"__class__": Happened}, True),
        (lambda event: event.key == "a", True),
        (lambda event: event.key == "b", False),
        (lambda event: [], False),
        (lambda event: "yes", True),
    ],
)
def test_filters(hub: EventHub, calls: list[str], wanted: Any, heard: bool) -> None:
    hub.connect(Event, named("x", calls), wanted)
    hub.emit(Happened(Source("s"), key="a", detail=1))
    assert calls == ["x"] * heard


@pytest.mark.parametrize("value", [1, True, 1.0])
@pytest.mark.parametrize("wanted", [1, True, 1.0, 0, False, 1.5])
def test_numbers_match_as_they_are_equal(
    hub: EventHub, calls: list[str], wanted: Any, value: Any
) -> None:
    hub.connect(Happened, named("x", calls), {"detail": wanted})
    hub.connect(Happened, named("y", calls), {"detail": (wanted,)})
    hub.emit(Happened(detail=value))
    hub.emit(Happened(detail=(value,)))
    assert calls == ["x", "y"] * (wanted == 1)


def test_a_nan_matches_nothing_not_even_itself(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Happened, named("x", calls), {"detail": math.nan})
    hub.connect(Happened, named("y", calls), {"detail": 1})
    hub.emit(Happened(detail=math.nan))
    assert calls == []


@pytest.mark.parametrize(
    ("wanted", "value", "heard"),
    [
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": [1]}, {"a": [2]}, False),
        ([1], (1,), False),
        (frozenset("a"), {"a"}, True),
        (b"a", bytearray(b"a"), True),
        (bytearray(b"a"), b"a", True),
        (1, [1], False),
    ],
)
def test_unhashable_values_are_compared(
    hub: EventHub, calls: list[str], wanted: Any, value: Any, heard: bool
) -> None:
    hub.connect(Happened, named("x", calls), {"detail": wanted})
    hub.connect(Happened, named("y", calls), {"key": "k", "detail": wanted})
    hub.emit(Happened(key="k", detail=value))
    hub.emit(Happened(key="l", detail=value))
    assert calls == ["x", "y", "x"] if heard else calls == []


def test_the_filter_is_copied(hub: EventHub, calls: list[str]) -> None:
    wanted = {"key": "a"}
    hub.connect(Happened, named("x", calls), wanted)
    wanted["key"] = "b"
    hub.emit(Happened(key="a"))
    assert calls == ["x"]


def test_a_callable_filter_is_asked_at_its_turn_and_not_once_the_event_is_handled(
    hub: EventHub, calls: list[str]
) -> None:
    def asked(event: Event) -> bool:
        calls.append("asked")
        return True

    hub.connect(Event, named("listener", calls), asked)
    hub.connect(Event, named("first", calls), priority=1)
    hub.emit(Event())
    assert calls == ["first", "asked", "listener"]
    hub.connect(Event, Event.mark_as_handled, priority=2)
    hub.emit(Event())
    assert calls == ["first", "asked", "listener"]


def test_listeners_that_do_not_match_are_not_even_compared(hub: EventHub) -> None:
    compared: list[str] = []

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return str.__eq__(self, other)

    for number in range(10_000):
        hub.connect(Happened, named("x", []), {"key": Key(number)})
    hub.emit(Happened())
    compared.clear()
    hub.emit(Happened(key="other"))
    assert len(compared) <= 3  # values whose hashes happen to agree in a few bits: none, mostly


def test_an_attribute_is_read_once_for_all_listeners_also_if_it_is_missing(hub: EventHub) -> None:
    reads: list[str] = []

    class Counting(Happened):
        @property
        def there(self) -> int:
            reads.append("there")
            return 1

        @property
        def missing(self) -> int:
            reads.append("missing")
            raise AttributeError

    for number in range(2, 100):
        hub.connect(Happened, named("x", []), {"there": number})
        hub.connect(Happened, named("x", []), {"missing": number})
    hub.emit(Counting())
    assert sorted(reads) == ["missing", "there"]


def test_a_value_that_cannot_be_looked_up_keeps_the_order(hub: EventHub, calls: list[str]) -> None:
    class Anything:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    for number, wanted in enumerate([0, 1, 0, 1]):
        hub.connect(Happened, named(str(number), calls), {"detail": wanted})
    hub.emit(Happened(detail=Anything()))
    assert calls == ["0", "1", "2", "3"]


# -- errors --------------------------------------------------------------------------------


def test_a_listener_that_raises_stops_neither_the_emit_nor_the_others(
    hub: EventHub, calls: list[str], errors: Errors
) -> None:
    error = RuntimeError("no")

    def failing(event: Event) -> None:
        raise error

    hub.connect(Event, failing)
    hub.connect(Event, named("x", calls))
    event = Event()
    hub.emit(event)
    assert calls == ["x"]
    assert errors == [(event, failing, error)]
    errors.clear()


def test_the_hook_gets_a_method_as_it_was_connected(errors: Errors, hub: EventHub) -> None:
    class Failing:
        def on_event(self, event: Event) -> None:
            raise RuntimeError

    failing = Failing()
    hub.connect(Event, failing.on_event, {"source": None})
    hub.emit(Event())
    assert [listener for _, listener, _ in errors] == [failing.on_event]
    errors.clear()


@pytest.mark.parametrize(
    "wanted",
    [
        lambda event: 1 / 0,
        {"broken": 1},
        {"broken": []},
        {"broken": 1, "key": "a"},
        {"key": "a", "broken": 1},
        {"broken.deeper": 1},
        {"detail": Vague()},
        {"detail": Vague(), "key": "a"},
        {"key": "a", "detail": Vague()},
    ],
)
def test_a_filter_that_raises_is_no_match_and_is_reported(
    hub: EventHub, calls: list[str], errors: Errors, wanted: Any
) -> None:
    listener = named("x", calls)
    hub.connect(Event, listener, wanted)
    hub.connect(Event, named("y", calls))
    event = Unreadable(key="a", detail=1)
    hub.emit(event)
    assert calls == ["y"]
    assert [(error[0], error[1]) for error in errors] == [(event, listener)]
    assert isinstance(errors[0][2], (ValueError, ZeroDivisionError))
    errors.clear()


def test_an_attribute_that_raises_is_not_reported_where_the_rest_decides_already(
    hub: EventHub, calls: list[str]
) -> None:
    hub.connect(Event, named("x", calls), {"key": "b", "broken": 1})
    hub.connect(Event, named("y", calls), {"absent": 1, "broken": 1})
    hub.emit(Unreadable(key="a"))
    assert calls == []


def test_an_event_value_that_cannot_be_compared_is_reported_for_each_listener(
    hub: EventHub, calls: list[str], errors: Errors
) -> None:
    listeners = [named("x", calls), named("y", calls)]
    for number, listener in enumerate(listeners):
        hub.connect(Happened, listener, {"detail": number})
    for _ in range(2):
        hub.emit(Happened(detail=Vague()))
        assert [listener for _, listener, _ in errors] == listeners
        errors.clear()
    assert calls == []


class Clashing:
    """Values of one hash whose comparison raises."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise self.error("not to be compared")


@pytest.mark.parametrize("error", [ValueError, AttributeError])
def test_hashable_values_whose_comparison_raises(
    hub: EventHub, calls: list[str], errors: Errors, error: type[Exception]
) -> None:
    values = [Clashing(error), Clashing(error)]
    listeners = [named("x", calls), named("y", calls)]
    for listener, value in zip(listeners, values, strict=True):
        hub.connect(Happened, listener, {"detail": value})
    for value in values:
        hub.emit(Happened(detail=value))
    assert calls == ["x", "y"]
    assert [listener for _, listener, _ in errors] == [listeners[1], listeners[0]]
    errors.clear()
    hub.emit(Happened(detail=Clashing(error)))
    assert [listener for _, listener, _ in errors] == listeners
    assert {type(raised) for _, _, raised in errors} == {error}
    errors.clear()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes_through(
    hub: EventHub, calls: list[str], error: type[BaseException]
) -> None:
    def interrupted(event: Event) -> None:
        raise error

    hub.connect(Event, interrupted)
    hub.connect(Event, named("x", calls))
    with pytest.raises(error):
        hub.emit(Event())
    assert calls == []


def test_errors_are_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    hub = EventHub()

    class Listener:
        def __repr__(self) -> str:
            raise AssertionError("shown")

        def on_event(self, event: Event) -> None:
            raise RuntimeError("no")

        def __call__(self, event: Event) -> None:
            raise RuntimeError("never")

    listener = Listener()
    hub.connect(Event, listener.on_event)
    hub.connect(Event, listener)
    hub.emit(Happened(key="a"))
    first, second = caplog.records
    assert first.name == second.name == "kvstore.events"
    assert first.levelno == second.levelno == logging.ERROR
    assert "Listener.on_event failed on Happened(source=None" in first.getMessage()
    assert "Listener failed on" in second.getMessage()
    assert first.exc_info is not None
    assert str(first.exc_info[1]) == "no"


def test_a_hook_that_raises_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture, calls: list[str]
) -> None:
    def hook(event: Event, listener: Callable[..., object], error: Exception) -> None:
        raise LookupError("in the hook")

    hub = EventHub(on_error=hook)
    hub.connect(Event, lambda event: 1 / 0)
    hub.connect(Event, named("x", calls))
    hub.emit(Event())
    assert calls == ["x"]
    (record,) = caplog.records
    assert "ZeroDivisionError" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "in the hook"


# -- disabling -----------------------------------------------------------------------------


def test_disable_covers_subclasses_and_nothing_else(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Event, lambda event: calls.append(type(event).__name__))
    hub.disable(Happened)
    for event_type in (Event, Happened, Finished, Aside):
        hub.emit(event_type())
    assert calls == ["Event", "Aside"]
    hub.enable(Happened)
    hub.emit(Finished())
    assert calls == ["Event", "Aside", "Finished"]


def test_disabling_is_counted(hub: EventHub, calls: list[str]) -> None:
    hub.connect(Event, named("x", calls))
    hub.disable(Event)
    hub.disable(Event)
    hub.disable(Happened)
    hub.enable(Event)
    hub.emit(Happened())
    hub.enable(Event)
    hub.emit(Happened())
    assert calls == []
    hub.emit(Event())
    hub.enable(Happened)
    hub.emit(Happened())
    assert calls == ["x", "x"]


def test_enabling_what_is_not_disabled_is_an_error(hub: EventHub) -> None:
    hub.disable(Event)
    with pytest.raises(RuntimeError, match="Happened is not disabled"):
        hub.enable(Happened)
    hub.enable(Event)
    with pytest.raises(RuntimeError, match="Event is not disabled"):
        hub.enable(Event)


def test_disabled_lasts_for_the_block_also_nested_and_after_an_exception(
    hub: EventHub, calls: list[str]
) -> None:
    hub.connect(Event, named("x", calls))
    with pytest.raises(ZeroDivisionError), hub.disabled(Event):
        with hub.disabled(Event):
            hub.emit(Event())
        hub.emit(Event())
        raise ZeroDivisionError
    assert calls == []
    hub.emit(Event())
    assert calls == ["x"]


# -- has_listeners -------------------------------------------------------------------------


def test_has_listeners_knows_classes_filters_apart(hub: EventHub) -> None:
    assert not hub.has_listeners(Happened)
    hub.connect(Happened, print, filter={"key": "never"})
    assert [hub.has_listeners(c) for c in (Event, Happened, Finished)] == [False, True, True]
    with hub.disabled(Finished):
        assert [hub.has_listeners(c) for c in (Happened, Finished)] == [True, False]
    with hub.disabled(Event):
        assert not hub.has_listeners(Happened)
    hub.disconnect(Happened, print)
    assert not hub.has_listeners(Finished)


# -- no deadlocks, many threads ------------------------------------------------------------


def test_an_object_collected_while_listeners_are_selected(hub: EventHub, calls: list[str]) -> None:
    objects: list[Recorder] = []

    class Dropping(Happened):
        @property
        def drops(self) -> int:
            objects.clear()
            gc.collect()
            return 1

    def body() -> None:
        for number in range(20):
            objects.append(Recorder(str(number), calls))
            hub.connect(Happened, objects[-1].on_event, {"drops": 1})
        hub.emit(Dropping())

    in_time(body)
    assert calls == []
    assert not hub.has_listeners(Happened)


@pytest.mark.parametrize("action", ["connect", "disconnect", "emit", "disable", "has_listeners"])
def test_filters_may_use_the_hub(hub: EventHub, calls: list[str], action: str) -> None:
    used: list[str] = []

    def listener(event: Event) -> None:
        calls.append("x")

    actions: dict[str, Callable[[], object]] = {
        "connect": lambda: hub.connect(Aside, print),
        "disconnect": lambda: hub.disconnect(Happened, listener),
        "emit": lambda: hub.emit(Aside()),
        "disable": lambda: hub.disable(Aside),
        "has_listeners": lambda: hub.has_listeners(Aside),
    }

    def act() -> bool:
        used.append(action)
        with suppress(KeyError):
            actions[action]()
        return True

    class Acting(Happened):
        @property
        def acts(self) -> bool:
            return act()

    class Comparing:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return act()

    filters: list[Any] = [
        {"acts": True},
        {"acts": Comparing()},
        {"detail": Comparing()},
        lambda event: act(),
    ]
    for wanted in filters:
        hub.connect(Happened, listener, wanted)
        in_time(lambda: hub.emit(Acting()))
    assert calls == ["x"] * 4
    assert used == [action] * 5


def test_another_thread_may_use_the_hub_while_user_code_runs(
    hub: EventHub, calls: list[str]
) -> None:
    """The user's code waits for a thread that connects, emits, disconnects and disables."""

    def use() -> None:
        other = named("other", calls)
        hub.connect(Aside, other)
        hub.emit(Aside())
        hub.disconnect(Aside, other)
        with hub.disabled(Aside):
            hub.emit(Aside())

    class Reading(Happened):
        @property
        def reads(self) -> bool:
            return in_time(use)

    class Hashing:
        def __hash__(self) -> int:
            in_time(use)
            return 1

        def __eq__(self, other: object) -> bool:
            return in_time(use)

    class Dying:
        def on_event(self, event: Event) -> None: ...

        def __del__(self) -> None:
            in_time(use)

    hub.connect(Happened, lambda event: in_time(use))
    hub.connect(Happened, named("asked", calls), lambda event: in_time(use))
    hub.connect(Happened, named("read", calls), {"reads": True})
    hub.connect(Happened, named("hashed", calls), {"detail": Hashing()})
    hub.connect(Happened, named("hashed", calls), {"detail": Hashing()})
    hub.connect(Happened, Dying().on_event)
    dying = Dying()
    hub.connect(Happened, dying.on_event, {"detail": None})
    del dying
    hub.emit(Reading(detail=Hashing()))
    assert [call for call in calls if call != "other"] == ["asked", "read", "hashed", "hashed"]


def test_replacing_a_listener_lets_go_of_the_old_filter_without_a_lock(hub: EventHub) -> None:
    freed: list[str] = []

    class Value:
        def __del__(self) -> None:
            in_time(lambda: hub.connect(Aside, print))
            freed.append("old")

    def listener(event: Event) -> None: ...

    hub.connect(Event, listener, {"source": Value()})
    hub.emit(Event())
    hub.connect(Event, listener)
    gc.collect()
    assert freed == ["old"]


def test_threads_that_connect_disconnect_disable_and_emit_at_once(errors: Errors) -> None:
    hub = EventHub(on_error=lambda *error: errors.append(error))
    always: list[Event] = []
    hub.connect(Happened, always.append)
    barrier = threading.Barrier(6)
    failed: list[BaseException] = []
    rounds = 300

    def emitting() -> None:
        for number in range(rounds):
            hub.emit(Finished(key=str(number % 7)))

    def connecting() -> None:
        for number in range(rounds):
            heard: list[Event] = []
            recorder = Recorder("x", [])
            hub.connect(Happened, heard.append, {"key": "mine"})
            hub.connect(Event, recorder.on_event, {"key": str(number % 7)})
            mine = Happened(key="mine")
            hub.emit(mine)
            assert mine in heard
            hub.disconnect(Happened, heard.append)
            hub.emit(Happened(key="mine"))
            assert heard == [event for event in heard if event.key == "mine"]
            assert mine is heard[0] or len(heard) > 1

    def disabling() -> None:
        for _ in range(rounds):
            with hub.disabled(Aside), hub.disabled(Aside):
                assert not hub.has_listeners(Aside)

    def started(body: Callable[[], None]) -> None:
        barrier.wait(20)
        try:
            body()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    bodies = [emitting, emitting, connecting, connecting, disabling, disabling]
    threads = [threading.Thread(target=started, args=(b,), daemon=True) for b in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []
    assert errors == []
    assert sum(isinstance(event, Finished) for event in always) == 2 * rounds
    hub.disconnect(Happened, always.append)
    gc.collect()
    assert not hub.has_listeners(Finished)
    assert hub.has_listeners(Aside) is False


def test_a_snapshot_built_during_a_change_is_not_kept(hub: EventHub, calls: list[str]) -> None:
    """A filter value is hashed while the snapshot is built; connecting just then must count."""
    late = named("late", calls)

    class Hashing:
        connects = False

        def __hash__(self) -> int:
            if Hashing.connects:
                Hashing.connects = False
                hub.connect(Happened, late)
            return 1

    hub.connect(Happened, named("x", calls), {"detail": Hashing()})
    Hashing.connects = True
    hub.emit(Happened())
    hub.emit(Happened())
    assert calls == ["late"]


@pytest.mark.parametrize("change", ["connect", "disconnect", "disable", "enable"])
def test_an_emit_in_the_middle_of_a_change_does_not_outlive_it(
    hub: EventHub, calls: list[str], change: str
) -> None:
    """The hash of the event class is where other code can run then, as another thread could."""
    inside: list[Callable[[], object]] = []

    class Meta(type):
        def __hash__(cls) -> int:
            if inside:
                inside.pop()()
            return 1

    class Odd(Event, metaclass=Meta):
        pass

    listener = named("x", calls)
    if change != "connect":
        hub.connect(Odd, listener)
    if change == "enable":
        hub.disable(Odd)
    inside.append(lambda: hub.has_listeners(Odd))
    arguments = (Odd, listener) if "connect" in change else (Odd,)
    getattr(hub, change)(*arguments)
    assert inside == []
    assert hub.has_listeners(Odd) == (change in ("connect", "enable"))


# -- the index and a plain reading of the rules agree --------------------------------------


def reference(listeners: list[tuple[Any, ...]], event: Event) -> list[Any]:
    """Who is called and who is reported, in order, by the rules alone."""
    outcome: list[Any] = []
    for number, _, wanted, _, effect in sorted(
        (entry for entry in listeners if isinstance(event, entry[1])),
        key=lambda entry: (-entry[3], entry[0]),
    ):
        if isinstance(wanted, Mapping):
            answers = [answer(equal, event, path, value) for path, value in wanted.items()]
        else:
            answers = [wanted is None or answer(wanted, event)]
        if False in answers:
            outcome += [("may be reported", number)] * (ValueError in answers)
        elif ValueError in answers:
            outcome.append(("reported", number))
        else:
            outcome.append(("called", number))
            if effect == "raises":
                outcome.append(("reported", number))
            if effect == "handles":
                break
    return outcome


def answer(question: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return bool(question(*arguments))
    except AttributeError:
        return False
    except ValueError:
        return ValueError


def equal(event: Event, path: str, value: Any) -> Any:
    return functools.reduce(getattr, path.split("."), event) == value


def fails(event: Event) -> bool:
    raise ValueError


atoms = st.sampled_from([0, 1, True, False, 1.0, None, "a", "1", math.nan, (1,), (True,), b"a"])
values = atoms | st.sampled_from([[1], [1.0], {"a": 1}, {1}, frozenset([1]), bytearray(b"a")])
vague = values | st.builds(Vague)
paths = st.sampled_from(["key", "detail", "result", "source", "source.name", "absent", "broken"])
filters = (
    st.none()
    | st.sampled_from([lambda event: True, lambda event: event.detail == 1, fails])
    | st.dictionaries(paths, vague, max_size=3)
)


class Broken(Finished):
    @property
    def broken(self) -> Any:
        raise ValueError


happened = st.builds(Happened, key=values, detail=vague, source=st.builds(Source, vague))
finished = st.builds(Finished, detail=values, result=vague, source=values)
broken = st.builds(Broken, key=values, detail=values, source=st.builds(Source, values))
listeners = st.lists(
    st.tuples(
        st.sampled_from([Happened, Finished]),
        filters,
        st.integers(-1, 1),
        st.sampled_from(["", "", "", "raises", "handles"]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(listeners, st.lists(happened | finished | broken, min_size=1, max_size=4))
@example([(Happened, {"detail": 1}, 0, "")] * 2, [Happened(detail=True), Happened(detail=[1])])
@example([(Finished, {"broken": 1, "key": 1}, 0, "")], [Broken(key=1), Broken(key=0)])
def test_the_index_agrees_with_the_rules(
    connected: list[tuple[Any, ...]], events: list[Event]
) -> None:
    outcome: list[Any] = []
    numbers: dict[Any, int] = {}
    hub = EventHub(on_error=lambda event, who, error: outcome.append(("reported", numbers[who])))
    described = []

    def listener_for(number: int, effect: str) -> Callable[[Event], None]:
        def listener(event: Event) -> None:
            outcome.append(("called", number))
            if effect == "handles":
                event.mark_as_handled()
            if effect == "raises":
                raise ValueError

        return listener

    for number, (event_type, wanted, priority, effect) in enumerate(connected):
        listener = listener_for(number, effect)
        numbers[listener] = number
        hub.connect(event_type, listener, wanted, priority)
        described.append((number, event_type, wanted, priority, effect))
    for event in events:
        outcome.clear()
        hub.emit(event)
        expected = reference(described, event)
        free = [("reported", number) for kind, number in expected if kind == "may be reported"]
        certain = [entry for entry in expected if entry[0] != "may be reported"]
        assert [entry for entry in outcome if entry not in free] == certain
