"""Callers who mean harm, or do it unknowingly."""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from kvstore.errors import InvalidRequestError
from kvstore.query import Query
from kvstore.server import serve_background
from kvstore.server.limits import Limits
from kvstore.server.workers import Disconnected
from kvstore.stores.memory import MemoryStore
from kvstore.where import compile_where
from tests.server.access import lab_of
from tests.server.events import Stream
from tests.server.sockets import Wire, ask
from tests.server.tus import TUS, named


def test_a_feed_in_silence_ends_with_the_token(tmp_path: Path) -> None:
    # Long before its next sign of life, and with nothing that is changed meanwhile.
    with lab_of(MemoryStore(), tmp_path, limits=Limits(heartbeat=10_000)) as lab:
        with Stream(lab.url, lab.line("bob")) as stream:
            stream.begin()
            lab.tokens.revoke("bob")
            assert stream.rest() == b""
        assert lab.ask("bob", "GET", "/changes").status == 401


def test_an_upload_that_could_not_be_stored_is_not_begun(tmp_path: Path) -> None:
    with lab_of(MemoryStore(), tmp_path) as lab:
        lab.put("ann", "hidden")
        lab.ask("ann", "PUT", "/keys/shown/value", body=b"{}\n")
        lab.ask("ann", "POST", "/keys/shown/auth", body=b'{"read": ["bob"], "write": ["eve"]}')
        mine = {"permissions": {"owned": ["eve"]}}
        for name, key, value, status in (
            ("bob", "hidden", {}, 403),
            ("bob", "shown", {}, 403),
            ("bob", "new", mine, 201),
            ("eve", "shown", {}, 201),
            ("eve", "shown", mine, 403),
            ("ann", "shown", mine, 201),
        ):
            told = named(key, value=json.dumps(value).encode())
            lines = (TUS, "Upload-Length: 4", told)
            assert lab.ask(name, "POST", "/uploads", *lines).status == status, (name, key)


class _Counting(MemoryStore):
    """Counts for as long as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Semaphore(0)
        self.go = threading.Event()

    def _count(self, query: Query) -> int:
        self.began.release()
        assert self.go.wait(60)
        return super()._count(query)


def test_who_counts_for_long_keeps_nobody_else_waiting() -> None:
    store = _Counting()
    with store, serve_background(store, limits=Limits(workers=1)) as url:
        store.set("a", b"data")
        answers = []

        def count() -> None:
            answers.append(ask(url, "GET", "/query?$count=true").body)

        threads = [threading.Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert store.began.acquire(timeout=60)
        assert ask(url, "GET", "/keys/a/data").body == b"data"
        store.go.set()
        for thread in threads:
            thread.join()
        assert answers == [b'{"count":1}'] * 3


@pytest.mark.parametrize(
    ("value", "operand", "holds"),
    [
        ([1, True], True, True),
        ([1], True, False),
        ([True], 1, False),
        ([0, ""], None, False),
        ([True, 1.0], 1, True),
        ([[1], {"a": True}], {"a": 1}, False),
        ([[1], {"a": True}], {"a": True}, True),
        ([[1.0]], [1], True),
        ("text", "ex", True),
        ("1", 1, False),
    ],
)
def test_an_array_contains_what_is_equal_as_json(value, operand, holds) -> None:
    assert compile_where({"field": {"contains": operand}})({"field": value}) is holds


def test_a_filter_on_long_arrays_may_be_long() -> None:
    # As long as a URL may be; each part is another look at each element.
    where = {"all": [{"not": {"a": {"contains": n}}} for n in range(1000, 1150)]}
    with MemoryStore() as store, serve_background(store) as url:
        for n in range(100):
            store.set_metadata(f"{n:03}", {"a": list(range(n % 3, 1000))})
        store.set_metadata("other", {"a": [1001]})
        found = ask(url, "GET", f"/query?$where={quote(json.dumps(where, separators=(',', ':')))}")
        assert found.status == 414
        text = quote(json.dumps(where, separators=(",", ":")), safe='{}[]:,"')
        assert len(ask(url, "GET", f"/query?$where={text}").body.split()) == 100


@pytest.mark.parametrize("accept", ["text/plain", "application/x-ndjson"])
@pytest.mark.parametrize("asked", ["", "&$count=true", "&$limit=5", "&$delimiter=/"])
def test_a_query_that_finds_nothing_for_long_is_given_up(accept: str, asked: str) -> None:
    where = quote(json.dumps({"n": {"gt": 5}}))
    with MemoryStore() as store, serve_background(store, limits=Limits(query_time=1e-9)) as url:
        store.set_metadata("key", {"n": 1})
        answer = ask(url, "GET", f"/query?$where={where}{asked}", f"Accept: {accept}")
        assert answer.status == 400
        assert "seconds" in json.loads(answer.body)["detail"]


class _Endless(MemoryStore):
    """Looks at one key for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.ended = threading.Event()
        self.reason: BaseException | None = None

    def _count(self, query: Query) -> int:
        found = query.predicate()
        record = self._record("key")
        self.began.set()
        try:
            while True:
                found(record)
        except BaseException as error:
            self.reason = error
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("is_reset", [True, False])
def test_a_query_ends_when_its_client_has_gone(is_reset: bool) -> None:
    limits = Limits(query_time=10_000)
    with _Endless() as store, serve_background(store, limits=limits) as url:
        store.set("key", b"")
        with Wire(url) as wire:
            wire.head("GET", "/query?$count=true")
            assert store.began.wait(60)
            if is_reset:
                linger = struct.pack("ii", 1, 0)
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        assert store.ended.wait(60)
        assert isinstance(store.reason, Disconnected if is_reset else InvalidRequestError)


def test_who_sends_no_more_may_still_wait_for_a_short_query() -> None:
    with MemoryStore() as store, serve_background(store) as url, Wire(url) as wire:
        store.set("key", b"")
        wire.head("GET", "/query?$count=true")
        wire.socket.shutdown(socket.SHUT_WR)
        assert json.loads(wire.read().body) == {"count": 1}


def test_what_is_put_off_on_purpose_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with MemoryStore() as store, serve_background(store, limits=Limits(uploads=1)) as url:
        lines = (TUS, "Upload-Length: 4", named("key"))
        assert ask(url, "POST", "/uploads", *lines).status == 201
        assert ask(url, "POST", "/uploads", *lines).status == 503
    records = [record for record in caplog.records if record.name == "kvstore.server"]
    assert [(record.levelname, record.exc_info) for record in records] == [("WARNING", None)]
