"""The journal of a server, and its live feed, as a store sees them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kvstore
from kvstore import (
    ChangesLostError,
    MemoryStore,
    StoreModificationEvent,
    StoreResynchronizedEvent,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.profiles.wire import SEQUENCE_FIELD
from kvstore.testing import live_server
from tests.cases import each
from tests.transport.clients import HASTY, announced, client
from tests.transport.wire_server import BOUND, Step, Wire, WireServer, answer, as_json, refused_port

LINES = "application/x-ndjson"
FOLLOWED = announced(
    "changes",
    "value",
    "conditional",
    profile={"base": "/keys", "query": "/query", "changes": "/changes"},
)


def entry(seq: int, key: str = "key", action: str = "set") -> dict[str, Any]:
    told = {"seq": seq, "action": action, "key": key, "revision": f"r{seq}"}
    return {**told, "metadata": {"n": seq}, "time": 1.5}


def lines(*entries: dict[str, Any], newest: int = 0) -> bytes:
    body = b"".join(json.dumps(each).encode() + b"\n" for each in entries)
    fields = {SEQUENCE_FIELD.replace("-", "_"): newest}
    return answer(200, body, Content_Type=LINES, **fields)


def feed(*events: bytes, then: Any = Wire.hang) -> Step:
    """An answer that goes on, in chunks."""

    def step(wire: Wire) -> None:
        head = answer(
            Content_Length=None, Transfer_Encoding="chunked", Content_Type="text/event-stream"
        )
        wire.send(head)
        for event in (b": open\n\n", *events):
            wire.send(b"%x\r\n%b\r\n" % (len(event), event))
        then(wire)

    return step


def told(each: dict[str, Any]) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (each["seq"], json.dumps(each).encode())


class Heard:
    def __init__(self, store: kvstore.Store) -> None:
        self._events: queue.Queue[Any] = queue.Queue()
        store.events.connect(StoreModificationEvent, self._take)
        store.events.connect(StoreResynchronizedEvent, self._take)

    def _take(self, event: Any) -> None:
        self._events.put(event)

    def next(self) -> Any:
        return self._events.get(timeout=BOUND)


# -- the list --------------------------------------------------------------------------------


def test_pages_are_followed_to_the_end():
    steps = [lines(entry(1), entry(2)), lines(entry(5)), lines()]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        assert [each.seq for each in store.changes()] == [1, 2, 5]
    assert server.told == ["GET /changes?since=0", "GET /changes?since=2", "GET /changes?since=5"]


def test_a_limit_is_shared_by_the_pages():
    steps = [lines(entry(4), entry(5)), lines(entry(6))]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        [*_, last] = store.changes(3, 3)
    assert (last.key, last.revision, last.metadata, last.time) == ("key", "r6", {"n": 6}, 1.5)
    assert server.told == ["GET /changes?since=3&limit=3", "GET /changes?since=5&limit=1"]


def test_what_is_forgotten_is_told_at_once():
    problem = {"type": "urn:kvstore:error:changes-lost", "status": 410, "oldest": 7}
    with WireServer([as_json(problem, 410)], service=FOLLOWED) as server, client(server) as store:
        with pytest.raises(ChangesLostError) as caught:
            store.changes(1)
    assert caught.value.oldest == 7


@each(
    "step",
    [
        lines(entry(2), entry(2)),
        lines(entry(3), entry(2)),
        lines(entry(1)),
        lines({**entry(2), "action": "burn"}),
        lines({**entry(2), "seq": "2"}),
        answer(200, b'{"seq":2,', Content_Type=LINES),
    ],
)
def test_a_list_that_is_none(step: bytes):
    with WireServer([step], service=FOLLOWED) as server, client(server) as store:
        with pytest.raises(TransportError):
            list(store.changes(1))


def test_the_number_of_the_newest_change():
    steps = [lines(newest=123), answer(200), lines(newest="-1")]  # type: ignore[arg-type]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        assert store.sequence() == 123
        for _ in range(2):
            with pytest.raises(TransportError):
                store.sequence()
    assert server.told == ["GET /changes?limit=0"] * 3


def test_a_server_without_a_journal_is_asked_nothing():
    with WireServer([], service=announced("value")) as server, client(server) as store:
        assert store.info()["changes"] is False
        with pytest.raises(UnsupportedOperationError):
            store.changes()


# -- the feed --------------------------------------------------------------------------------


def test_a_feed_that_breaks_off_is_taken_up_where_it_was():
    reset = [told(entry(11)), told(entry(12, "other", "update"))[:40]]
    steps = [
        lines(newest=10),
        feed(*reset, then=Wire.reset),
        feed(told(entry(12, "other", "update")), told(entry(13, "other", "delete"))),
    ]
    with WireServer(steps, service=FOLLOWED) as server, client(server, HASTY) as store:
        heard = Heard(store)
        with store.watch(interval=0.01) as watch:
            events = [heard.next() for _ in range(3)]
        assert watch.sequence == 13
    assert [(event.key, event.action, event.revision) for event in events] == [
        ("key", "set", "r11"),
        ("other", "update", "r12"),
        ("other", "delete", "r13"),
    ]
    assert {event.origin for event in events} == {"remote"}
    assert [seen.headers.get("last-event-id") for seen in server.seen] == [None, "10", "11"]


def test_a_feed_that_ends_is_asked_for_again():
    def end(wire: Wire) -> None:
        wire.send(b"0\r\n\r\n")

    steps = [lines(newest=1), feed(told(entry(2)), then=end), feed(told(entry(3)))]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        heard = Heard(store)
        with store.watch(interval=0.01):
            assert [heard.next().revision for _ in range(2)] == ["r2", "r3"]


def test_an_event_may_be_written_in_other_ways():
    data = json.dumps(entry(2)).encode()
    odd = b"retry: 5\r\nid:2\r\ndata:" + data[:9] + b"\r\ndata: " + data[9:] + b"\r\n\r\n"
    other = b"event: later\ndata: what is not known\n\n"
    steps = [lines(newest=1), feed(b"\n\n", b":\n", other, odd)]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        heard = Heard(store)
        with store.watch():
            assert heard.next().revision == "r2"


@pytest.mark.parametrize(
    "lost",
    [
        as_json({"type": "urn:kvstore:error:changes-lost", "status": 410, "oldest": 40}, 410),
        feed(b'event: lost\ndata: {"oldest": 40}\n\n'),
    ],
    ids=["at once", "later"],
)
def test_changes_that_are_forgotten_are_told_to_be_missed(lost: Step):
    steps = [lines(newest=1), lost, lines(newest=50), feed(told(entry(51)))]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        heard = Heard(store)
        with store.watch(interval=0.01):
            missed = heard.next()
            assert type(missed) is StoreResynchronizedEvent
            assert (missed.since, missed.sequence, missed.source) == (1, 50, store)
            assert heard.next().revision == "r51"


def test_what_is_no_feed_ends_nothing():
    steps = [lines(newest=1), answer(200, b"<html>"), feed(told(entry(2)))]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        heard = Heard(store)
        with store.watch(interval=0.01):
            assert heard.next().revision == "r2"


def test_credentials_that_do_not_hold_any_more_end_the_watch():
    steps = [lines(newest=1), as_json({}, 401)]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        watch = store.watch()
        watch._thread.join(BOUND)
        assert not watch.is_running
        assert isinstance(watch.failure, kvstore.AuthenticationError)
        watch.stop()


def test_a_write_whose_entry_comes_before_its_answer_is_ones_own():
    is_sent, may_answer = threading.Event(), threading.Event()

    def put(wire: Wire) -> None:
        wire.body()
        is_sent.set()
        assert may_answer.wait(BOUND)
        wire.send(answer(201, ETag='"r2"'))

    def give(wire: Wire) -> None:
        assert is_sent.wait(BOUND)
        feed(told(entry(2)), told(entry(3, "theirs")), then=lambda _: may_answer.set())(wire)
        wire.hang()

    def either(wire: Wire) -> None:
        (put if wire.seen.method == "PUT" else give)(wire)

    steps = [lines(newest=1), either, either]
    with WireServer(steps, service=FOLLOWED) as server, client(server) as store:
        heard = Heard(store)
        with store.watch():
            thread = threading.Thread(target=store.set, args=("key", b""))
            thread.start()
            first, second = heard.next(), heard.next()
            thread.join(BOUND)
    told_of = {(event.key, event.origin) for event in (first, second)}
    assert told_of == {("key", "local"), ("theirs", "remote")}


@pytest.fixture
def backing() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        yield store


def test_a_server_that_is_started_anew_is_followed_on(backing: MemoryStore):
    with live_server(backing) as url:
        port = int(url.rpartition(":")[2])
        store = kvstore.open(url)
        heard = Heard(store)
        watch = store.watch(interval=0.01)
        backing.set("before", b"")
        assert heard.next().key == "before"
    backing.set("between", b"")
    with live_server(backing, port=port):
        backing.set("after", b"")
        assert [heard.next().key for _ in range(2)] == ["between", "after"]
        watch.stop()
        store.disconnect()


def test_a_watch_of_a_server_that_is_not_there():
    store = kvstore.DynamicURLStore(*[f"http://127.0.0.1:{refused_port()}/x"] * 2, policy=HASTY)
    with store, pytest.raises(TransportError):
        store.watch()
