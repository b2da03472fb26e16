"""Answers that are given again, and never when anything could have changed them."""

from __future__ import annotations

import http.client
import io
import itertools
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from kvstore.server import Limits, create_app, serve_background
from kvstore.server.running.run import running
from kvstore.server.shortcut import Shortcut
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.values import Value
from tests.cases import each
from tests.server.access import Lab, lab_of
from tests.server.sockets import Answer, Wire, ask

PARTS = ("data", "metadata", "value")
#: So little that nothing is kept.
NOTHING = Limits(kept=1)


@pytest.fixture
def given_again(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The targets of requests that went the short way."""
    targets: list[bytes] = []
    answer = Shortcut.answer

    def noted(self: Shortcut, target: bytes, *rest: Any, **more: Any) -> bytes | None:
        found = answer(self, target, *rest, **more)
        if found is not None:
            targets.append(target)
        return found

    monkeypatch.setattr(Shortcut, "answer", noted)
    return targets


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_of(SQLiteStore(tmp_path / "store"), tmp_path) as lab:
        yield lab


def told(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """What is the same in two answers to one question."""
    fields = [field for field in answer.headers.items() if field[0] not in ("date", "x-request-id")]
    return answer.status, fields, answer.body


# -- what is given again -------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_a_second_answer_is_the_first_one_again(
    journaled: tuple[MemoryStore | SQLiteStore, str], part: str, given_again: list[bytes]
) -> None:
    store, url = journaled
    store.set("k", (b"data", {"a": 1}), mimetype="text/plain")
    first, second, third = (ask(url, "GET", f"/keys/k/{part}") for _ in range(3))
    assert given_again == [f"/keys/k/{part}".encode()] * 2
    assert first.status == 200
    assert told(first) == told(second) == told(third)
    assert len({answer.headers["X-Request-Id"] for answer in (first, second, third)}) == 3
    assert second.headers["Date"]


@each(
    "line",
    [
        "Range: bytes=1-2",
        "If-Match: *",
        'If-None-Match: "other"',
        "If-None-Match: *",
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "If-Modified-Since: never",
        "Content-Length: 0",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Connection: close",
        "Authorization: Bearer nothing",
        "Host: elsewhere",
        "Accept: text/plain;q=0",
        "X-Forwarded-For: 1.2.3.4",
        "Unheard-Of: x",
    ],
)
def test_what_else_a_request_says_is_heard_as_before(
    url: str, store: MemoryStore, line: str
) -> None:
    store.set("k", (b"data", {"a": 1}))
    with serve_background(store, limits=NOTHING) as slow:
        for _ in range(2):
            answers = []
            for where in (url, slow):
                with Wire(where) as wire:
                    wire.head("GET", "/keys/k/data", line)
                    answers.append(wire.read())
            short, long = answers
            if short.status >= 400:  # problem documents name their requests
                assert short.status == long.status
            else:
                assert told(short) == told(long)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_none_of_its_business(
    url: str, store: MemoryStore, given_again: list[bytes], method: str
) -> None:
    store.set_data("k", b"data")
    for _ in range(2):
        ask(url, "GET", "/keys/k/data")
    assert given_again
    given_again.clear()
    ask(url, method, "/keys/k/data")
    assert not given_again


@pytest.mark.parametrize("more", ["?x=1", "?version=0", "#f", "/", "?"])
def test_other_targets_are_other_questions(
    url: str, store: MemoryStore, given_again: list[bytes], more: str
) -> None:
    store.set_data("k", b"data")
    ask(url, "GET", "/keys/k/data")
    ask(url, "GET", f"/keys/k/data{more}")
    ask(url, "GET", f"/keys/k/data{more}")
    assert not given_again


def test_a_cache_is_told_that_it_has_the_answer(
    url: str, store: MemoryStore, given_again: list[bytes]
) -> None:
    store.set("k", (b"data", {"a": 1}))
    first = ask(url, "GET", "/keys/k/data")
    asked = (
        f"If-None-Match: {first.headers['ETag']}",
        f"If-Modified-Since: {first.headers['Last-Modified']}",
    )
    again = ask(url, "GET", "/keys/k/data", *asked)
    assert again.status == 304
    assert given_again == [b"/keys/k/data"]
    with serve_background(store, limits=NOTHING) as slow:
        assert told(again) == told(ask(slow, "GET", "/keys/k/data", *asked))
    store.set_data("k", b"new")
    assert ask(url, "GET", "/keys/k/data", *asked).body == b"new"


def test_requests_in_a_row_are_answered_in_their_order(
    url: str, store: MemoryStore, given_again: list[bytes]
) -> None:
    for key in "abc":
        store.set_data(key, key.encode())
    for key in "abc":
        ask(url, "GET", f"/keys/{key}/data")
    with Wire(url) as wire:
        targets = ["a/data", "b/data", "missing/data", "c/data", "a/data", "b/metadata", "b/data"]
        for target in targets * 20:
            wire.head("GET", f"/keys/{target}")
        with wire.socket.makefile("rb") as stream:
            answers = [_answer(stream) for _ in targets * 20]
    bodies = {"a/data": b"a", "b/data": b"b", "c/data": b"c", "b/metadata": b"{}"}
    for target, (status, body) in zip(targets * 20, answers, strict=True):
        assert (status, body) == (200, bodies[target]) if target in bodies else status == 404
    assert given_again


def _answer(stream: io.BufferedReader) -> tuple[int, bytes]:
    status = int(stream.readline().split()[1])
    fields = http.client.parse_headers(stream)
    return status, stream.read(int(fields["Content-Length"]))


def test_a_connection_has_as_many_requests_as_it_may(given_again: list[bytes]) -> None:
    store = MemoryStore()
    with store, serve_background(store, limits=Limits(requests=4)) as url, Wire(url) as wire:
        store.set_data("k", b"data")
        answers = [wire.ask("GET", "/keys/k/data") for _ in range(4)]
        assert [answer.headers["Connection"] for answer in answers] == [None, None, None, "close"]
        assert wire.is_closed()
    assert len(given_again) == 2


def test_old_clients_get_the_end_of_the_connection(url: str, store: MemoryStore) -> None:
    store.set_data("k", b"data")
    ask(url, "GET", "/keys/k/data")
    with Wire(url) as wire:
        wire.send(b"GET /keys/k/data HTTP/1.0\r\n\r\n")
        assert wire.read().body == b"data"
        assert wire.is_closed()


def test_a_long_answer_behind_one_that_was_kept_has_its_time(given_again: list[bytes]) -> None:
    limits = Limits(keep_alive=0.1, heartbeat=0.02)
    with MemoryStore() as store, serve_background(store, limits=limits) as url, Wire(url) as wire:
        store.set_data("k", b"data")
        assert ask(url, "GET", "/keys/k/data").status == 200
        feed = f"GET /changes HTTP/1.1\r\nHost: {wire.host}\r\nAccept: text/event-stream\r\n\r\n"
        wire.send(f"GET /keys/k/data HTTP/1.1\r\nHost: {wire.host}\r\n\r\n{feed}".encode())
        with wire.socket.makefile("rb") as stream:
            assert _answer(stream) == (200, b"data")
            beats = itertools.islice((line for line in stream if b"heartbeat" in line), 30)
            assert len(list(beats)) == 30
    assert given_again


@pytest.mark.parametrize("target", ["/keys/k/data", "/keys/missing/data"])
def test_clients_that_go_amid_their_requests_are_no_fault(
    url: str, store: MemoryStore, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    store.set_data("k", bytes(60_000))
    ask(url, "GET", "/keys/k/data")
    for _ in range(20):
        with Wire(url) as wire:
            request = f"GET {target} HTTP/1.1\r\nHost: {wire.host}\r\n\r\n"
            wire.send(request.encode() * 300)
            wire.socket.recv(1)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(url, "GET", "/keys/k/data").status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class Counting(MemoryStore):
    """Counts how often a key is looked up, and the state."""

    looked = stamped = 0

    def _stamp(self) -> object:
        self.stamped += 1
        return super()._stamp()

    def _get(self, key: str) -> Value:
        self.looked += 1
        return super()._get(key)


@each("before, looks", [(b"", 5), (b"\r\n", 5)])
def test_what_comes_behind_another_request_is_later_than_the_look_for_that(
    before: bytes, looks: int, given_again: list[bytes]
) -> None:
    store = Counting()
    with store, serve_background(store) as url, Wire(url) as wire:
        store.set_data("k", b"data")
        for _ in "ab":
            wire.ask("GET", "/keys/k/data")
        store.stamped = 0
        given_again.clear()
        wire.send(before + b"GET /keys/k/data HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
        with wire.socket.makefile("rb") as stream:
            assert [_answer(stream) for _ in range(5)] == [(200, b"data")] * 5
        assert len(given_again) == 5
        assert store.stamped == looks


def test_within_another_application_the_store_is_not_asked_again() -> None:
    store = Counting()
    app = Starlette(routes=[Mount("/deep/er", create_app(store))])
    with store, running(app) as url:
        store.set_data("k", b"data")
        answers = [ask(url, "GET", "/deep/er/keys/k/data", "X-Forwarded-For: ::1") for _ in "abc"]
        assert store.looked == 1
        assert told(answers[0]) == told(answers[1]) == told(answers[2])
        assert ask(url, "GET", "/deep/er/keys/k/data", "Range: bytes=1-2").body == b"at"
        store.set_data("k", b"new")
        assert ask(url, "GET", "/deep/er/keys/k/data").body == b"new"


# -- when it is not ------------------------------------------------------------------------


@each(
    "change, status",
    [
        (lambda store: store.set_data("k", b"new"), 200),
        (lambda store: store.set_metadata("k", {"new": 1}), 200),
        (lambda store: store.update_metadata("k", {"new": 1}), 200),
        (lambda store: store.set("k", (b"new", {"new": 1})), 200),
        (lambda store: store.delete("k"), 404),
    ],
)
@pytest.mark.parametrize("part", PARTS)
def test_nothing_old_is_told_after_a_change(
    journaled: tuple[MemoryStore | SQLiteStore, str], part: str, change: Any, status: int
) -> None:
    store, url = journaled
    store.set("k", (b"data", {"a": 1}))
    with Wire(url) as wire:
        before = [wire.ask("GET", f"/keys/k/{part}") for _ in range(2)]
        change(store)
        after = wire.ask("GET", f"/keys/k/{part}")
    assert after.status == status
    assert after.headers["ETag"] != before[1].headers["ETag"]
    if status == 200:
        assert after.headers["ETag"] == f'"{store.record("k").revision}"'


def test_changes_of_other_processes_are_seen_at_once(
    tmp_path: Path, given_again: list[bytes]
) -> None:
    with SQLiteStore(tmp_path) as store, serve_background(store) as url, Wire(url) as wire:
        store.set_data("k", b"0")
        script = (
            "import sys, kvstore\nwith kvstore.open(sys.argv[1]) as s:\n  for l in sys.stdin:\n"
        )
        script += "    s.set_data('k', l.strip().encode()); print(flush=True)"
        command = [sys.executable, "-c", script, f"sqlite:{tmp_path}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as other:  # type: ignore[call-overload]
            assert other.stdin is not None
            assert other.stdout is not None
            for number in range(1, 30):
                other.stdin.write(f"{number}\n")
                other.stdin.flush()
                other.stdout.readline()
                said = [wire.ask("GET", "/keys/k/data").body for _ in range(3)]
                assert said == [b"%d" % number] * 3
    assert len(given_again) == 29 * 2


def test_a_change_while_the_store_is_read_is_not_missed(tmp_path: Path) -> None:
    """What was read before it is given to who asked then, and to nobody after it."""

    class Changing(SQLiteStore):
        def _get(self, key: str) -> Value:
            found = super()._get(key)
            if changing:
                self.set_data(key, changing.pop())
            return found

    changing: list[bytes] = []
    with Changing(tmp_path) as store, serve_background(store) as url:
        store.set_data("k", b"old")
        changing.append(b"new")
        assert ask(url, "GET", "/keys/k/data").body == b"old"
        assert ask(url, "GET", "/keys/k/data").body == b"new"


def test_what_is_rolled_back_was_never_there(
    journaled: tuple[MemoryStore | SQLiteStore, str],
) -> None:
    store, url = journaled
    store.set_data("k", b"old")
    ask(url, "GET", "/keys/k/data")
    with pytest.raises(KeyError), store.transaction():
        store.set_data("k", b"new")
        assert ask(url, "GET", "/keys/k/data").body == b"old"
        raise KeyError
    assert ask(url, "GET", "/keys/k/data").body == b"old"


def test_stores_that_cannot_tell_are_asked_each_time(
    tmp_path: Path, given_again: list[bytes]
) -> None:
    with FileSystemStore(tmp_path) as store, serve_background(store) as url:
        store.set_data("k", b"data")
        for _ in range(3):
            assert ask(url, "GET", "/keys/k/data").body == b"data"
    assert not given_again


def test_a_store_that_was_disconnected_has_no_answers(journaled: Any) -> None:
    store, url = journaled
    store.set_data("k", b"data")
    for _ in range(2):
        ask(url, "GET", "/keys/k/data")
    store.disconnect()
    assert ask(url, "GET", "/keys/k/data").status == 500
    store.connect()
    assert ask(url, "GET", "/keys/k/data").status == 200


def test_what_was_changed_while_a_store_was_disconnected_is_told(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path) as store, serve_background(store) as url:
        store.set_data("k", b"0")
        for number in range(1, 6):
            ask(url, "GET", "/keys/k/data")
            store.disconnect()
            with SQLiteStore(tmp_path) as other:
                other.set_data("k", b"%d" % number)
            store.connect()
            assert ask(url, "GET", "/keys/k/data").body == b"%d" % number


# -- who is given it -----------------------------------------------------------------------


def test_each_reader_is_looked_at_by_the_store_first(lab: Lab, given_again: list[bytes]) -> None:
    lab.put("alice", "k")
    for _ in range(3):
        assert lab.ask("alice", "GET", "/keys/k/data").status == 200
        assert lab.ask("bob", "GET", "/keys/k/data").status == 404
        assert lab.ask(None, "GET", "/keys/k/data").status == 401
    assert len(given_again) == 2


@pytest.mark.parametrize("part", PARTS)
def test_two_readers_share_what_is_the_same_for_both(
    lab: Lab, given_again: list[bytes], part: str
) -> None:
    lab.put("alice", "k")
    lab.store.update_permissions("k", {"read": ["bob"]})
    for _ in range(3):
        alice, bob = (lab.ask(name, "GET", f"/keys/k/{part}") for name in ("alice", "bob"))
        assert (alice.status, bob.status) == (200, 200)
        assert told(alice) == told(bob)
    assert len(given_again) == 4


def test_rights_that_are_taken_away_are_gone(lab: Lab) -> None:
    lab.put("alice", "k")
    lab.store.update_permissions("k", {"read": ["bob"]})
    for _ in range(2):
        assert lab.ask("bob", "GET", "/keys/k/data").status == 200
    lab.store.set_permissions("k", {"owned": ["alice"]})
    assert lab.ask("bob", "GET", "/keys/k/data").status == 404
    assert lab.ask("alice", "GET", "/keys/k/data").status == 200


def test_credentials_that_are_revoked_are_worth_nothing(lab: Lab, given_again: list[bytes]) -> None:
    lab.put("alice", "k")
    for _ in range(2):
        assert lab.ask("alice", "GET", "/keys/k/data").status == 200
    assert given_again
    lab.tokens.revoke("alice")
    assert lab.ask("alice", "GET", "/keys/k/data").status == 401


def test_credentials_for_other_things_are_not_enough(lab: Lab) -> None:
    lab.put("alice", "k")
    lab.token("writer", user="alice", scopes=["write"])
    for _ in range(2):
        assert lab.ask("alice", "GET", "/keys/k/data").status == 200
    assert lab.ask("writer", "GET", "/keys/k/data").status == 403


def test_the_first_token_ends_what_everybody_could_read(tmp_path: Path) -> None:
    store = MemoryStore()
    with lab_of(store, tmp_path, closed=(tmp_path / "tokens.json").exists) as lab:
        store.set_data("k", b"data")
        for _ in range(2):
            assert lab.ask(None, "GET", "/keys/k/data").status == 200
        lab.token("alice")
        assert lab.ask(None, "GET", "/keys/k/data").status == 401


# -- what is told of it --------------------------------------------------------------------


def test_it_is_counted_and_logged_as_any_other(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    with caplog.at_level(logging.INFO, "kvstore.access"), store, serve_background(store) as url:
        store.set_data("k", b"data")
        for name in ("one", "two"):
            ask(url, "GET", "/keys/k/data", f"X-Request-Id: {name}", "User-Agent: me")
        metrics = requests.get(f"{url}/metrics", timeout=10).text
    lines = [vars(record) for record in caplog.records if record.name == "kvstore.access"][:2]
    names = ("method", "path", "status", "outcome", "bytes_in", "bytes_out", "client", "user_agent")
    assert [lines[0][name] for name in names] == [lines[1][name] for name in names]
    assert [line["request_id"] for line in lines] == ["one", "two"]
    assert 'kvstore_requests_total{method="GET",route="data",status="2xx"} 2.0' in metrics
    assert 'kvstore_sent_bytes_total{route="data"} 8.0' in metrics
    assert 'kvstore_request_seconds_count{method="GET",route="data"} 2.0' in metrics


# -- the law -------------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b"])
_STEPS = st.one_of(
    st.tuples(st.just("get"), _KEYS, st.sampled_from(PARTS), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("set"), _KEYS, st.sampled_from(["alice", "bob"]), st.integers(0, 3)),
    st.tuples(st.just("share"), _KEYS, st.sampled_from([[], ["bob"], ["alice", "bob"]])),
    st.tuples(st.just("delete"), _KEYS),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    """One store with two servers, of which one keeps nothing."""
    folder = tmp_path_factory.mktemp("pair")
    store = MemoryStore()
    with lab_of(store, folder) as short, lab_of(store, folder, limits=NOTHING) as long:
        long.known = short.known
        yield short, long


@given(steps=st.lists(_STEPS, min_size=5, max_size=25))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_server_that_keeps_answers_says_what_one_says_that_does_not(
    pair: tuple[Lab, Lab], steps: list[tuple[Any, ...]]
) -> None:
    short, long = pair
    short.store.connect()
    for key in list(short.store.query_keys()):
        short.store.delete(key)
    for name, key, *rest in steps:
        if name == "get":
            part, who = rest
            answers = [lab.ask(who, "GET", f"/keys/{key}/{part}") for lab in (short, short, long)]
            assert len({answer.status for answer in answers}) == 1
            if answers[0].status == 200:
                assert told(answers[0]) == told(answers[1]) == told(answers[2])
        elif name == "set":
            short.ask(rest[0], "PUT", f"/keys/{key}/data", body=b"x" * rest[1])
        elif short.store.exists(key):
            if name == "share":
                short.store.update_permissions(key, {"read": rest[0]})
            else:
                short.store.delete(key)
