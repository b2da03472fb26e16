from __future__ import annotations

import hashlib
import select
import threading
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.writes import Change, Written
from tests.cases import each, empty
from tests.corpora import Entry, entries
from tests.server.sockets import Wire, ask, chunked

MIB = 1 << 20
LARGE = bytes(range(256)) * 13_000


def sha256(data: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"


# -- digests -------------------------------------------------------------------------------


@each("entry", list(entries("digests")), ids=lambda e: f"{e['header']}: {e['value'][:30]}")
def test_digest_corpus(url: str, store: MemoryStore, entry: Entry) -> None:
    empty(store)
    answer = ask(url, "PUT", "/keys/a/data", f"{entry['header']}: {entry['value']}", body=b"hello")
    allowed = {
        "ok": {201},
        "reject": {400},
        "reject-or-ignore": {201, 400},
        "either": {201, 400},
    }
    assert answer.status in allowed[entry["expect"]]
    if answer.status == 201:
        assert store.to_bytes("a") == b"hello"
        assert answer.headers["Repr-Digest"] == sha256(b"hello")
    else:
        assert not store.exists("a")
        kinds = {"urn:kvstore:error:integrity", "urn:kvstore:error:invalid-request"}
        assert answer.problem["type"] in kinds


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
def test_digests_of_large_bodies(
    url: str, store: MemoryStore, web: requests.Session, name: str
) -> None:
    store.set_data("a", b"old")
    wrong = web.put(f"{url}/keys/a/data", data=LARGE, headers={name: sha256(LARGE[1:])})
    assert wrong.json()["type"] == "urn:kvstore:error:integrity"
    assert store.to_bytes("a") == b"old"
    right = web.put(f"{url}/keys/a/data", data=LARGE, headers={name: sha256(LARGE)})
    assert right.status_code == 204
    assert store.to_bytes("a") == LARGE


def test_every_digest_of_several_fields_must_hold(url: str, store: MemoryStore) -> None:
    right, wrong = sha256(b"hello"), sha256(b"bye")
    for lines in (
        [f"Content-Digest: {right}", f"Repr-Digest: {wrong}"],
        [f"Content-Digest: {right}", f"Content-Digest: {wrong}"],
    ):
        assert ask(url, "PUT", "/keys/a/data", *lines, body=b"hello").status == 400
    assert not store.exists("a")


@pytest.mark.parametrize("part", ["metadata", "auth"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_digests_of_documents(url: str, store: MemoryStore, part: str, method: str) -> None:
    store.set_metadata("a", {})
    body = b'{"owned": ["x"]}'
    wrong = ask(url, method, f"/keys/a/{part}", f"Content-Digest: {sha256(b'')}", body=body)
    assert wrong.problem["type"] == "urn:kvstore:error:integrity"
    right = ask(url, method, f"/keys/a/{part}", f"Content-Digest: {sha256(body)}", body=body)
    assert right.status == 204


# -- what is refused for its header --------------------------------------------------------


@pytest.mark.parametrize("part", ["data", "value", "metadata"])
def test_content_codings(url: str, store: MemoryStore, part: str) -> None:
    body = b'{"metadata": {}}\n' if part == "value" else b"{}"
    for coding in ("gzip", "br, gzip", "identity, gzip"):
        answer = ask(url, "PUT", f"/keys/a/{part}", f"Content-Encoding: {coding}", body=body)
        assert answer.problem["status"] == 415
        assert answer.headers["Accept-Encoding"] == "identity"
    assert not store.exists("a")
    assert ask(url, "PUT", f"/keys/a/{part}", "Content-Encoding: Identity", body=body).status == 201


def test_a_part_of_the_data_cannot_be_put(url: str, store: MemoryStore) -> None:
    answer = ask(url, "PUT", "/keys/a/data", "Content-Range: bytes 0-4/10", body=b"hello")
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"
    assert not store.exists("a")


# -- Expect: 100-continue ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_bodies_are_asked_for(url: str, store: MemoryStore, size: int) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", f"Content-Length: {size}", "Expect: 100-continue")
        if size:
            assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            wire.send(b"x" * size)
        assert wire.read("PUT").status == 201
    assert store.to_bytes("a") == b"x" * size


def test_a_client_need_not_wait_to_be_asked(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", "Content-Length: 5", "Expect: 100-continue")
        wire.send(b"hello")
        assert wire.socket.recv(25, 0x100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # MSG_WAITALL
        assert wire.read("PUT").status == 201
    assert store.to_bytes("a") == b"hello"


@pytest.mark.parametrize(
    ("target", "line", "status"),
    [
        ("/keys/a/data", "Content-Length: 99999999999999", 413),
        ("/keys/a/value", "Content-Length: 99999999999999", 413),
        ("/keys/a/metadata", "Content-Length: 99999999", 413),
        ("/keys/a/auth", "Content-Length: 99999999", 413),
        ("/keys/../data", "Content-Length: 5", 400),
        ("/keys/%FF/data", "Content-Length: 5", 400),
        ("/keys/a/nothing", "Content-Length: 5", 404),
        ("/query", "Content-Length: 5", 405),
        ("/keys/a/data", "Content-Length: 5\r\nContent-Digest: nonsense", 400),
        ("/keys/a/data", "Content-Length: 5\r\nContent-Encoding: gzip", 415),
        ("/keys/a/auth", "Content-Length: 5", 404),
    ],
)
def test_what_is_refused_is_not_asked_for(
    url: str, store: MemoryStore, target: str, line: str, status: int
) -> None:
    with Wire(url) as wire:
        wire.head("PUT", target, line, "Expect: 100-continue")
        answer = wire.read("PUT")
        assert answer.problem["status"] == status
        assert answer.headers["Connection"] == "close"
        assert wire.is_closed()


# -- limits --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore()
    with store, serve_background(store, limits=Limits(data=3 * MIB)) as url:
        yield store, url


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("above", [-1, 0, 1, MIB])
def test_the_limit_of_data(
    narrow: tuple[MemoryStore, str], web: requests.Session, above: int, is_chunked: bool
) -> None:
    store, url = narrow
    body = b"x" * (3 * MIB + above)
    sent: Any = (body[i : i + 1000] for i in range(0, len(body), 1000)) if is_chunked else body
    answer = web.put(f"{url}/keys/{above}{is_chunked}/data", data=sent)
    if above > 0:
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:kvstore:error:too-large"
        assert is_chunked or answer.headers["Connection"] == "close"
    else:
        assert answer.status_code == 201
    assert store.exists(f"{above}{is_chunked}") == (above <= 0)


def test_a_refusal_reaches_a_client_that_goes_on_sending(
    narrow: tuple[MemoryStore, str],
) -> None:
    """Without reading on, the server would reset the connection, and the answer with it."""
    _, url = narrow
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", f"Content-Length: {7 * MIB}")
        for _ in range(7):
            wire.send(bytes(MIB))
        assert wire.read("PUT").problem["status"] == 413
        assert wire.is_closed()


def test_a_client_that_never_stops_is_left(narrow: tuple[MemoryStore, str]) -> None:
    _, url = narrow
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", "Transfer-Encoding: chunked")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                wire.send(chunked(bytes(MIB)))


def test_unread_bodies_of_reads_end_the_connection(url: str, store: MemoryStore) -> None:
    store.set_data("a", b"data")
    store.set_data("b", LARGE)
    for key, data in (("a", b"data"), ("b", LARGE)):
        with Wire(url) as wire:
            wire.head("GET", f"/keys/{key}/data", "Content-Length: 200000")
            wire.send(bytes(200_000))
            answer = wire.read()
            assert (answer.status, answer.body) == (200, data)
            assert answer.headers["Connection"] == "close"


# -- clients that stop or go away ----------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 5000000", LARGE),
        ("Content-Length: 10", b"hello"),
        ("Transfer-Encoding: chunked", chunked(LARGE)),
        ("Transfer-Encoding: chunked", b"5\r\nhel"),
    ],
)
def test_a_body_that_breaks_off_stores_nothing(
    url: str, store: MemoryStore, head: str, body: bytes
) -> None:
    store.set("a", b"old", metadata={"old": 1})
    before = store.get("a").record
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", head)
        wire.send(body)
    # The same server answers afterwards, so the connection that was lost is known by then.
    assert ask(url, "GET", "/keys/a/data").body == b"old"
    assert store.get("a").record == before


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"])
def test_chunks_that_are_none_store_nothing(url: str, store: MemoryStore, body: bytes) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", "Transfer-Encoding: chunked")
        wire.send(body)
        assert wire.read("PUT").problem["status"] == 400
        assert wire.is_closed()
    assert not store.exists("a")


@pytest.mark.parametrize(
    "limits", [Limits(idle_time=0.05), Limits(idle_time=0.05, workers=1, streams=1)]
)
@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_body_that_stands_still_is_given_up(limits: Limits, size: int) -> None:
    with MemoryStore() as store, serve_background(store, limits=limits) as url:
        with Wire(url) as wire:
            wire.head("PUT", "/keys/a/data", f"Content-Length: {size}")
            wire.send(b"hello")
            assert wire.read("PUT").problem["status"] == 408
        assert not store.exists("a")


class StubbornStore(MemoryStore):
    """Stops reading at the first piece of data, or looks at none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 1

    def _write(self, key: str, change: Change) -> Written:
        assert change.data is not None
        for _, _ in zip(range(self.reads), change.data, strict=False):
            pass
        raise OSError("/secret/disk is full of errors")


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_a_store_that_fails_while_it_reads(reads: int, caplog: pytest.LogCaptureFixture) -> None:
    store = StubbornStore()
    store.reads = reads
    with store, serve_background(store) as url:
        for size in (10, 6 * MIB):
            answer = ask(url, "PUT", "/keys/a/data", body=bytes(size))
            assert answer.problem == {
                "type": "about:blank",
                "title": "Internal Server Error",
                "status": 500,
                "request_id": answer.headers["X-Request-Id"],
            }
    assert "/secret/disk" in caplog.text


def test_slow_uploads_do_not_keep_others_waiting() -> None:
    limits = Limits(workers=1, streams=4)
    with MemoryStore() as store, serve_background(store, limits=limits) as url:
        store.set_data("a", b"data")
        wires = [Wire(url) for _ in range(8)]
        try:
            for number, wire in enumerate(wires):
                wire.head("PUT", f"/keys/{number}/data", "Transfer-Encoding: chunked")
                wire.send(chunked(b"x"))
            assert ask(url, "GET", "/keys/a/data").body == b"data"
            assert ask(url, "PUT", "/keys/a/data", body=b"new").status == 204
            for wire in wires:
                wire.send(b"0\r\n\r\n")
            assert [wire.read("PUT").status for wire in wires] == [201] * 8
        finally:
            for wire in wires:
                wire.socket.close()


class SlowStore(MemoryStore):
    """Takes one piece of data and then waits."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def _write(self, key: str, change: Change) -> Written:
        assert change.data is not None
        next(iter(change.data))
        self.goes_on.wait(20)
        raise OSError("enough")


def test_a_slow_store_holds_the_client_back() -> None:
    """What the store does not take must not pile up in memory."""
    with SlowStore() as store, serve_background(store) as url, Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", f"Content-Length: {1 << 30}")
        wire.socket.setblocking(False)
        sent = 0
        # A send buffer that stays full for long is one that nobody empties.
        while sent < 200 * MIB and select.select([], [wire.socket], [], 1.0)[1]:
            sent += wire.socket.send(bytes(MIB))
        store.goes_on.set()
        assert sent < 30 * MIB
