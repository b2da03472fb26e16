from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.routing import Mount

from kvstore.errors import TransportError
from kvstore.history import JournalEntry
from kvstore.profiles.wire import entry_line, parse_entry
from kvstore.server import Limits, create_app, serve_background
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.server.events import Stream, until
from tests.server.sockets import ask

Served = tuple[MemoryStore | SQLiteStore, str]

KEYS = ["a", "a/b", "ü\u2028\n\r", '"\\', "/", "😀"]


def told(answer: requests.Response) -> list[JournalEntry]:
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n") or not answer.content
    return [parse_entry(line) for line in answer.content.split(b"\n")[:-1]]


def change(store: MemoryStore | SQLiteStore) -> None:
    for number, key in enumerate(KEYS):
        store.set(key, b"data", metadata={"n": number, "text": key})
    store.set_metadata("a", {})
    store.set_permissions("a", {"owned": {"x"}})
    store.delete("a/b")


def fill(store: MemoryStore | SQLiteStore) -> list[JournalEntry]:
    change(store)
    return [replace(entry, permissions=None) for entry in store.changes()]  # these stay there


# -- lines ---------------------------------------------------------------------------------


def test_changes_are_told_in_their_order(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    entries = fill(store)
    answer = web.get(f"{url}/changes")
    assert told(answer) == entries
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert answer.headers["Kvstore-Sequence"] == str(store.sequence())
    assert answer.headers["Cache-Control"] == "no-store"
    for since in range(len(entries) + 1):
        assert told(web.get(f"{url}/changes?since={since}")) == entries[since:]
        assert told(web.get(f"{url}/changes?since={since}&limit=2")) == entries[since : since + 2]


def test_an_entry_is_these_members(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    revision = store.set("k", b"x", metadata={"a": [1.5, None]})
    document: dict[str, Any] = json.loads(web.get(f"{url}/changes").content)
    assert document.pop("time") == store.record("k").modified
    assert document == {
        "seq": 1,
        "action": "set",
        "key": "k",
        "revision": revision,
        "metadata": {"a": [1.5, None]},
    }


def test_an_empty_journal(journaled: Served, web: requests.Session) -> None:
    answer = web.get(f"{journaled[1]}/changes?since=0")
    assert told(answer) == []
    assert answer.headers["Kvstore-Sequence"] == "0"


def test_the_sequence_alone(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    fill(store)
    answer = web.get(f"{url}/changes?limit=0")
    assert told(answer) == []
    assert answer.headers["Kvstore-Sequence"] == str(store.sequence())


def test_the_sequence_is_told_though_the_beginning_is_forgotten(web: requests.Session) -> None:
    with MemoryStore(keep_changes=2) as store, serve_background(store) as url:
        change(store)
        answer = web.get(f"{url}/changes?limit=0")
        assert answer.status_code == 200
        assert answer.headers["Kvstore-Sequence"] == str(store.sequence())


def test_a_transaction_that_is_undone_is_not_told(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    with pytest.raises(KeyError, match="enough"), store.transaction():
        store.set("a", b"x")
        raise KeyError("enough")
    assert told(web.get(f"{url}/changes")) == []


def test_a_server_gives_so_many_at_a_time(web: requests.Session) -> None:
    with MemoryStore() as store, serve_background(store, limits=Limits(changes=4)) as url:
        entries = fill(store)
        found: list[JournalEntry] = []
        while page := told(web.get(f"{url}/changes?since={found[-1].seq if found else 0}")):
            assert len(page) <= 4
            found += page
        assert found == entries
        assert told(web.get(f"{url}/changes?limit=100")) == entries[:4]


def test_large_entries_end_an_answer_before_there_are_too_many(
    journaled: Served, web: requests.Session
) -> None:
    store, url = journaled
    for number in range(30):
        store.set_metadata(f"{number}", {"text": "x" * 1_000_000})
    found: list[JournalEntry] = []
    sizes = []
    while page := told(answer := web.get(f"{url}/changes?since={len(found)}")):
        found += page
        sizes.append(len(answer.content))
    assert [entry.seq for entry in found] == list(range(1, 31))
    assert max(sizes) < 20 << 20


@pytest.mark.parametrize("since", [0, 5, 6])
def test_what_is_forgotten_is_said_to_be(web: requests.Session, since: int) -> None:
    with MemoryStore(keep_changes=2) as store, serve_background(store) as url:
        change(store)
        newest = store.sequence()
        for headers in ({}, {"Accept": "text/event-stream"}):
            answer = web.get(f"{url}/changes?since={since}", headers=headers)
            assert answer.status_code == 410
            problem = answer.json()
            assert problem["type"] == "urn:kvstore:error:changes-lost"
            assert problem["oldest"] == newest - 1
        assert len(told(web.get(f"{url}/changes?since={newest - 2}"))) == 2


def test_a_number_of_another_journal(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    fill(store)
    answer = web.get(f"{url}/changes?since={store.sequence() + 1}")
    assert answer.status_code == 410
    assert answer.json()["oldest"] == 1


@pytest.mark.parametrize(
    "query",
    [
        *("since=-1", "since=x", "since=", "since", "since=%31%FF", "since=1&since=1", "since=1e3"),
        *("since=%C2%B2", "since=9999999999999999999", "limit=1.5", "limit=-1"),
        *("after=1", "$limit=1"),
    ],
)
def test_parameters_that_make_no_sense(url: str, store: MemoryStore, query: str) -> None:
    answer = ask(url, "GET", f"/changes?{query}")
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_methods(url: str, store: MemoryStore, method: str) -> None:
    answer = ask(url, method, "/changes")
    assert answer.problem["status"] == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    options = ask(url, "OPTIONS", "/changes")
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


def test_head(journaled: Served, web: requests.Session) -> None:
    store, url = journaled
    fill(store)
    for accept, length in (("application/x-ndjson", True), ("text/event-stream", False)):
        head = web.head(f"{url}/changes", headers={"Accept": accept})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == accept
        assert head.headers["Kvstore-Sequence"] == str(store.sequence())
        assert ("Content-Length" in head.headers) == length
    assert web.head(f"{url}/changes?since=99").status_code == 410


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"seq":-1,"action":"set","key":"a","revision":"r","metadata":{},"time":1}',
        b'{"seq":1,"action":"made","key":"a","revision":"r","metadata":{},"time":1}',
        b'{"seq":1,"action":["set"],"key":"a","revision":"r","metadata":{},"time":1}',
        b'{"seq":true,"action":"set","key":"a","revision":"r","metadata":{},"time":1}',
        b'{"seq":1,"action":"set","key":1,"revision":"r","metadata":{},"time":1}',
        b'{"seq":1,"action":"set","key":"a","revision":null,"metadata":{},"time":1}',
        b'{"seq":1,"action":"set","key":"a","revision":"r","metadata":[],"time":1}',
        b'{"seq":1,"action":"set","key":"a","revision":"r","metadata":{},"time":"now"}',
        b'{"seq":1,"action":"set","key":"a","revision":"r","metadata":{}}',
    ],
)
def test_what_is_no_entry(line: bytes) -> None:
    with pytest.raises(TransportError, match="a change that is none"):
        parse_entry(line)


def test_entries_come_back_as_they_were() -> None:
    entry = JournalEntry(7, "delete", "ü\n", "r", {"a": {"b": [1, 2.5, "x"]}}, 12.25)
    assert parse_entry(entry_line(entry)) == entry
    assert b"\n" not in entry_line(entry)
    whole = entry_line(entry).replace(b"12.25", b"12")
    assert parse_entry(whole).time == 12.0


# -- live ----------------------------------------------------------------------------------


def test_changes_are_told_as_they_happen(journaled: Served) -> None:
    store, url = journaled
    store.set("before", b"x")
    with Stream(url) as stream:
        header = stream.begin()
        assert header["Content-Type"] == "text/event-stream"
        assert header["Kvstore-Sequence"] == "1"
        assert header["Cache-Control"] == "no-store"
        for entry in fill(store)[1:]:
            assert stream.event() == (entry.seq, entry_line(entry))
        with store.transaction():
            store.set("t", b"1")
            store.set("t", b"2")
        assert [stream.event()[0] for _ in range(2)] == [store.sequence() - 1, store.sequence()]


@pytest.mark.parametrize("lines", [[], ["Last-Event-ID: 3"]])
def test_a_feed_begins_where_it_is_told_to(journaled: Served, lines: list[str]) -> None:
    store, url = journaled
    entries = fill(store)
    begin = 3 if lines else 2
    with Stream(url, *lines, target="/changes?since=2") as stream:
        stream.begin()
        for entry in entries[begin:]:
            assert stream.event() == (entry.seq, entry_line(entry))
        store.delete("a")
        assert stream.event()[0] == len(entries) + 1


def test_what_another_process_changes_is_told(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path) as store, serve_background(store) as url, Stream(url) as stream:
        stream.begin()
        with SQLiteStore(tmp_path) as other:
            other.set("a", b"x")
        seq, data = stream.event()
        assert (seq, parse_entry(data).key) == (1, "a")


def test_silence_has_a_heartbeat() -> None:
    with MemoryStore() as store, serve_background(store, limits=Limits(heartbeat=0.01)) as url:
        with Stream(url) as stream:
            stream.begin()
            assert [stream.block() for _ in range(3)] == [[b": heartbeat"]] * 3
            store.set("a", b"x")
            assert stream.event()[0] == 1


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("/changes?limit=5", "X: y"),
        ("/changes", "Last-Event-ID: x"),
        ("/changes", "Last-Event-ID:"),
        ("/changes", "Last-Event-ID: 1\r\nLast-Event-ID: 1"),
        ("/changes?since=x", "X: y"),
    ],
)
def test_feeds_that_make_no_sense(url: str, store: MemoryStore, target: str, line: str) -> None:
    answer = ask(url, "GET", target, "Accept: text/event-stream", line)
    assert answer.problem["status"] == 400


def test_a_feed_ends_with_the_server() -> None:
    with MemoryStore() as store:
        with serve_background(store) as url:
            streams = [Stream(url) for _ in range(5)]
            for stream in streams:
                stream.begin()
        for stream in streams:
            assert stream.rest() == b""
            stream.close()


def test_a_feed_ends_with_the_server_of_another_application() -> None:
    with MemoryStore() as store:
        outer = Starlette(routes=[Mount("/x", create_app(store))])
        with running(outer) as url:
            stream = Stream(url, target="/x/changes")
            stream.begin()
            store.set("a", b"x")
            assert stream.event()[0] == 1
        assert stream.rest() == b""
        stream.close()


def test_a_page_of_another_site_cannot_hold_a_feed_through_a_name_of_its_own(
    url: str, store: MemoryStore
) -> None:
    answer = ask(url, "GET", "/changes", "Accept: text/event-stream", "Host: evil.example")
    assert answer.problem["status"] == 400


def test_the_rest_of_a_feed_that_broke_off_comes_with_its_last_number(journaled: Served) -> None:
    store, url = journaled
    with Stream(url) as stream:
        stream.begin()
        store.set("a", b"1")
        last, _ = stream.event()
    for number in range(10):
        store.set(f"{number}", b"2")
    with Stream(url, f"Last-Event-ID: {last}") as stream:
        stream.begin()
        assert [stream.event()[0] for _ in range(10)] == list(range(last + 1, last + 11))
    until(url, lambda: True)
