"""Large data that the kernel sends: the same bytes, and no end where they are not all there."""

from __future__ import annotations

import http.client
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvstore
from kvstore.errors import StoreError
from kvstore.server import Gateway, Limits, create_app, serve_background
from kvstore.server import sendfile as module
from kvstore.server.answers import Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.limits import Reads
from kvstore.server.running.run import running
from kvstore.server.site import Site
from kvstore.stores.filesystem import FileSystemStore
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.cases import each
from tests.server.sockets import Wire, ask

SIZE = 3 * (1 << 20) + 17
DATA = os.urandom(SIZE)
PLAIN: Reads = "plain"
#: A connection that is closed so is reset.
LINGER_NOT = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module", params=["sqlite", "file"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sendfile") / request.param
    with store_in(folder) as store:
        store.set_data("k", DATA)
        store.set_data("small", b"small")
    return folder


def store_in(folder: Path) -> SQLiteStore | FileSystemStore:
    return SQLiteStore(folder) if folder.name == "sqlite" else FileSystemStore(folder)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the kernel was asked to send."""
    asked: list[tuple[int, int]] = []
    send = module.FileSender._send

    async def noted(self: module.FileSender, socket: int, span: module.FileSpan, *rest: object):  # type: ignore[no-untyped-def]
        asked.append((span.start, span.end))
        await send(self, socket, span, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module.FileSender, "_send", noted)
    return asked


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    with store_in(folder) as store, running(create_app(store, reads=PLAIN)) as url:
        yield url


def test_the_same_bytes_on_one_connection(url: str, spans: list[tuple[int, int]]) -> None:
    with Wire(url) as wire:
        for _ in range(3):
            assert wire.ask("GET", "/keys/k/data").body == DATA
            assert wire.ask("GET", "/keys/small/data").body == b"small"
            assert wire.ask("HEAD", "/keys/k/data").headers["Content-Length"] == str(SIZE)
        framed = wire.ask("GET", "/keys/k/value").body
        assert framed.endswith(DATA)
        part = wire.ask("GET", "/keys/k/data", "Range: bytes=11-2000010")
        assert (part.status, part.body) == (206, DATA[11:2000011])
    assert spans == [*[(0, SIZE)] * 4, (11, 2000011)]


def test_requests_sent_ahead_are_answered_in_order(url: str) -> None:
    with Wire(url) as wire:
        for target in ("/keys/k/data", "/keys/small/data", "/keys/k/data"):
            wire.head("GET", target)
        # One buffer for all of them: `read` makes a new one each time, and loses what came with it.
        stream = wire.socket.makefile("rb")
        for data in (DATA, b"small", DATA):
            header = b"".join(iter(stream.readline, b"\r\n"))
            assert header.startswith(b"HTTP/1.1 200 ")
            assert stream.read(len(data)) == data
        stream.close()


def test_checked_reads_are_hashed(folder: Path, spans: list[tuple[int, int]]) -> None:
    with store_in(folder) as store, serve_background(store) as url:
        assert ask(url, "GET", "/keys/k/data").body == DATA
        assert spans == []
        assert ask(url, "GET", "/keys/k/data", f"Range: bytes=0-{SIZE - 2}").body == DATA[:-1]
        assert spans == [(0, SIZE - 1)]


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The file of a key that a server sends unread; in other stores it would be a new value."""
    with SQLiteStore(tmp_path / "sqlite") as store:
        store.set_data("k", DATA)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        with running(create_app(store, reads=PLAIN)) as url:
            yield max(files, key=lambda file: file.stat().st_size), url


def test_a_file_that_is_too_short_breaks_the_answer_off(damaged: tuple[Path, str]) -> None:
    file, url = damaged
    os.truncate(file, SIZE - 5)
    with pytest.raises(http.client.IncompleteRead):
        ask(url, "GET", "/keys/k/data")


def test_damage_is_the_clients_to_find(damaged: tuple[Path, str]) -> None:
    file, url = damaged
    file.write_bytes(b"?" + DATA[1:])
    assert ask(url, "GET", "/keys/k/data").body == b"?" + DATA[1:]
    with kvstore.open(url) as store, pytest.raises(StoreError, match="sha256"):
        store.to_bytes("k")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open(url: str, spans: list[tuple[int, int]]) -> None:
    with Wire(url) as wire:
        assert wire.ask("GET", "/keys/k/data").body == DATA
    before = descriptors()
    for _ in range(5):
        with Wire(url) as wire:
            wire.head("GET", "/keys/k/data")
            assert wire.socket.recv(1000)  # and goes away in the middle
    for _ in range(5):
        assert ask(url, "GET", "/keys/k/data").body == DATA
    assert len(spans) == 11
    assert descriptors() <= before + 5  # connections that are not ended yet


def test_who_takes_nothing_is_given_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(idle_time=0.2)
    with store_in(folder) as store:
        store.set_data("large", b"x" * (24 << 20))
        try:
            with running(create_app(store, reads=PLAIN, limits=limits), limits=limits) as url:
                with Wire(url) as wire:
                    wire.head("GET", "/keys/large/data")
                    metrics = ""
                    while 'outcome="gone"' not in metrics:
                        metrics = ask(url, "GET", "/metrics").body.decode()
                    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                        wire.read()
        finally:
            store.delete("large")
    # Any client may go away, or bring this about: it is no error of the server.
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_who_resets_the_connection_is_no_error(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store_in(folder) as store:
        store.set_data("large", b"x" * (24 << 20))
        try:
            with running(create_app(store, reads=PLAIN)) as url:
                with Wire(url) as wire:
                    wire.head("GET", "/keys/large/data")
                    assert wire.socket.recv(1000)
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
                while 'outcome="gone"' not in ask(url, "GET", "/metrics").body.decode():
                    continue
        finally:
            store.delete("large")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


class Odd(Gateway):
    """Answers with a field as it is told."""

    name = "odd"
    prefix = "/odd"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        value = bytes.fromhex(path.removeprefix("/"))
        return Reply(200, [(b"x-odd", value), length_field(4)], b"data")


@each("value", [b"a\r\nSet-Cookie: x", b"a\nb", b"a\rb", b"a\0b", b"\r\n\r\n<html>"])
def test_a_field_is_one_line(value: bytes) -> None:
    with serve_background(MemoryStore(), gateways=[Odd()]) as url:
        assert ask(url, "GET", f"/odd/{b'fine'.hex()}").headers["X-Odd"] == "fine"
        answer = ask(url, "GET", f"/odd/{value.hex()}")
        assert answer.status == 500
        assert "Set-Cookie" not in answer.headers
        assert b"html" not in answer.body


def test_a_store_without_files_sends_as_ever(spans: list[tuple[int, int]]) -> None:
    store = MemoryStore()
    with store, running(create_app(store, reads=PLAIN)) as url:
        store.set_data("k", DATA)
        assert ask(url, "GET", "/keys/k/data").body == DATA
    assert spans == []
