from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from tests.server.sockets import Wire, ask, chunked

MIB = 1 << 20


@contextlib.contextmanager
def serving(**limits: float) -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore()
    with store, serve_background(store, limits=Limits(**limits)) as url:  # type: ignore[arg-type]
        store.set_data("a", b"data")
        yield store, url


# -- the size of headers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["X: y"] * 99, 200),
        (["X: y"] * 100, 431),
        (["X: y"] * 10_000, 431),
        ([f"X: {'y' * 65_000}"], 200),
        ([f"X: {'y' * 66_000}"], 431),
        ([f"X: {'y' * MIB}"], 431),
        ([f"{'X' * MIB}: y"], 431),
        ([f"X{number}: {'y' * 10_000}" for number in range(100)], 431),
    ],
)
def test_the_size_of_the_header(
    url: str, store: MemoryStore, lines: list[str], status: int
) -> None:
    store.set_data("a", b"data")
    with Wire(url) as wire:
        wire.head("GET", "/keys/a/data", *lines)
        answer = wire.read()
        assert answer.status == status
        if status == 431:
            assert answer.problem["title"] == "Request Header Fields Too Large"
            assert answer.headers["Connection"] == "close"
            assert wire.is_closed()


def test_a_header_that_never_ends_is_not_collected(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        wire.send(b"GET /keys/a/data HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                wire.send(b"y" * MIB)


@pytest.mark.parametrize("size", [8192, 8193, 100_000, MIB])
def test_the_size_of_the_target(url: str, store: MemoryStore, size: int) -> None:
    target = "/query?$prefix="
    target += "x" * (size - len(target))
    with Wire(url) as wire:
        wire.head("GET", target)
        answer = wire.read()
        if size <= 8192:
            assert answer.status == 200
        else:
            assert answer.problem["status"] == 414
            assert answer.problem["title"] == HTTPStatus(414).phrase
            assert wire.is_closed()


def test_a_header_in_many_pieces(url: str, store: MemoryStore) -> None:
    store.set_data("a", b"data")
    with Wire(url) as wire:
        for byte in f"GET /keys/a/data HTTP/1.1\r\nHost: {wire.host}\r\n\r\n".encode():
            wire.send(bytes([byte]))
        assert wire.read().body == b"data"


# -- what comes behind and between chunks --------------------------------------------------


def test_trailers_are_no_header(url: str, store: MemoryStore) -> None:
    store.set_data("a", b"old")
    for trailer in ("If-None-Match: *", "Host: evil.example", "Content-Digest: nonsense"):
        with Wire(url) as wire:
            wire.head("PUT", "/keys/a/data", "Transfer-Encoding: chunked")
            wire.send(chunked(b"new") + f"0\r\n{trailer}\r\n\r\n".encode())
            assert wire.read("PUT").status == 204
            assert wire.ask("GET", "/keys/a/data").body == b"new"


@pytest.mark.parametrize(
    "tail",
    [
        b"0\r\n" + b"X: y\r\n" * 200_000,
        b"0\r\nX: " + b"y" * MIB,
        b"5;" + b"x" * MIB,
    ],
)
def test_endless_trailers_store_nothing(url: str, store: MemoryStore, tail: bytes) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", "Transfer-Encoding: chunked")
        wire.send(chunked(b"new") + tail)
        assert wire.read("PUT").problem["status"] == 431
        assert wire.is_closed()
    assert not store.exists("a")


# -- what is no request of HTTP/1.1 --------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /keys/a/data\r\n\r\n", 505),
        (b"GET /keys/a/data HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /keys/a/data HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /keys/a/data HTTP/1.1\r\nHost: localhost\r\n Folded: x\r\n\r\n", 400),
        (b"GET /keys/a\x00/data HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /keys/\xff/data HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"PUT /keys/a/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /keys/a/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        (
            (
                b"PUT /keys/a/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
    ],
)
def test_what_is_no_request(url: str, store: MemoryStore, request_: bytes, status: int) -> None:
    with Wire(url) as wire:
        wire.send(request_)
        answer = wire.read()
        assert answer.problem["status"] == status
        assert wire.is_closed()
    assert list(store.query_keys()) == []


def test_nonsense_behind_a_request_does_not_spoil_its_answer(url: str, store: MemoryStore) -> None:
    data = bytes(5 * MIB)
    store.set_data("a", data)
    with Wire(url) as wire:
        wire.send(
            f"GET /keys/a/data HTTP/1.1\r\nHost: {wire.host}\r\n\r\nnonsense\r\n\r\n".encode()
        )
        assert wire.read().body == data
        assert wire.is_closed()


def test_http_1_0(url: str, store: MemoryStore) -> None:
    store.set_data("a", b"data")
    with Wire(url) as wire:
        wire.send(b"GET /keys/a/data HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert wire.read().body == b"data"
        assert wire.is_closed()


# -- other protocols -----------------------------------------------------------------------

UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAAA")


def test_an_upgrade_is_not_done(url: str, store: MemoryStore) -> None:
    store.set_data("a", b"data")
    for upgrade in (UPGRADE, ("Connection: Upgrade", "Upgrade: websocket")):
        with Wire(url) as wire:
            answer = wire.ask("GET", "/keys/a/data", *upgrade)
            assert (answer.status, answer.body) == (200, b"data")
            assert answer.headers["Connection"] == "close"
            assert wire.is_closed()


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
def test_a_body_behind_an_upgrade_is_not_lost_silently(
    url: str, store: MemoryStore, framing: str
) -> None:
    store.set_data("a", b"old")
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/data", *UPGRADE, framing)
        wire.send(b"new" if "Length" in framing else chunked(b"new") + b"0\r\n\r\n")
        assert wire.read("PUT").problem["status"] == 400
    assert store.to_bytes("a") == b"old"


# -- how many, and how long ----------------------------------------------------------------


def test_requests_on_one_connection() -> None:
    with serving(requests=3) as (_, url), Wire(url) as wire:
        for number in range(3):
            answer = wire.ask("GET", "/keys/a/data")
            assert (answer.status, answer.body) == (200, b"data")
            assert (answer.headers["Connection"] == "close") == (number == 2)
        assert wire.is_closed()


def test_pipelined_requests_beyond_the_limit_are_dropped() -> None:
    with serving(requests=3) as (store, url), Wire(url) as wire:
        head = f"Host: {wire.host}\r\nContent-Length: 1\r\n\r\nx"
        requests = [f"PUT /keys/{number}/data HTTP/1.1\r\n{head}" for number in range(50)]
        wire.send("".join(requests).encode())
        received = b""
        while part := wire.socket.recv(10_000):
            received += part
        assert received.count(b"HTTP/1.1 201") == 3
        assert list(store.query_keys()) == ["0", "1", "2", "a"]


def test_connections_beyond_the_limit_are_told_so() -> None:
    with serving(connections=2) as (_, url):
        with Wire(url) as first, Wire(url) as second:
            assert first.ask("GET", "/keys/a/data").status == 200
            assert second.ask("GET", "/keys/a/data").status == 200
            with Wire(url) as third:
                answer = third.ask("GET", "/keys/a/data")
                assert answer.problem["status"] == 503
                assert answer.headers["Retry-After"] == "1"
                assert third.is_closed()
            assert first.ask("GET", "/keys/a/data").status == 200
        while ask(url, "GET", "/keys/a/data").status != 200:
            pass  # until the server has seen that the two are gone


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET", 408),
        (b"GET /keys/a/data HTTP/1.1\r\nHost: localhost\r\n", 408),
    ],
)
def test_a_header_that_does_not_come(sent: bytes, status: int | None) -> None:
    with serving(header_time=0.05) as (_, url):
        with Wire(url) as wire:
            wire.send(sent)
            if status is not None:
                assert wire.read().problem["status"] == status
            assert wire.is_closed()
        with Wire(url) as wire:  # the same on a connection that was used
            assert wire.ask("GET", "/keys/a/data").status == 200
            wire.send(sent or b"\r\n")
            if status is not None:
                assert wire.read().problem["status"] == status
            assert wire.is_closed()


def test_an_idle_connection_is_closed() -> None:
    with serving(keep_alive=0.05) as (_, url), Wire(url) as wire:
        assert wire.ask("GET", "/keys/a/data").status == 200
        assert wire.is_closed()


def test_time_for_the_header_is_not_time_for_the_answer() -> None:
    """The next request may wait half sent while a long answer is under way."""
    data = bytes(30 * MIB)
    with serving(header_time=0.5, idle_time=60) as (store, url):
        store.set_data("b", data)
        with Wire(url) as wire:
            head = f"Host: {wire.host}\r\n\r\n".encode()
            wire.send(b"GET /keys/b/data HTTP/1.1\r\n" + head + b"GET /keys/a/data HTTP/1.1\r\n")
            for _ in range(500):
                ask(url, "GET", "/keys/a/data")
            with http.client.HTTPResponse(wire.socket) as response:
                response.begin()
                assert response.read() == data


def test_a_client_that_does_not_read_is_left() -> None:
    with serving(idle_time=0.05) as (store, url):
        store.set_data("b", bytes(100 * MIB))
        with Wire(url) as wire:
            wire.head("GET", "/keys/b/data")
            for _ in range(200):  # as long as the server needs to give up, whatever that is
                ask(url, "GET", "/keys/a/data")
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                wire.read()
