"""What goes wrong with filetracker 2.3.3 and its server, one by one, and does not here.

The numbers are those of the table in docs/filetracker.md. What is the client's part there is here
that of ``CachedStore`` over the profile ``filetracker``.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest

import kvstore
from kvstore import (
    FileSystemStore,
    IntegrityError,
    MemoryStore,
    SQLiteStore,
    StoreError,
    TransportError,
)
from kvstore.compose.cached import CachedStore
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.server import Limits, serve_background
from kvstore.transport.policy import Policy
from tests.cases import each, empty
from tests.server.sockets import Answer, Wire, ask

ROOT = Path(__file__).parents[2]
TEXT = b"the same line again\n" * 5_000
RANDOM = hashlib.shake_256(b"seed").digest(300_000)


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SQLiteStore, str]]:
    folder = tmp_path_factory.mktemp("served")
    store = SQLiteStore(folder / "store", durable=False, keep_versions=3)
    limits = Limits(requests=10**6)
    with store, serve_background(store, limits=limits, gateways=[FiletrackerGateway()]) as url:
        yield store, url


@pytest.fixture
def store(_served: tuple[SQLiteStore, str]) -> SQLiteStore:
    empty(_served[0])
    return _served[0]


@pytest.fixture
def url(_served: tuple[SQLiteStore, str], store: SQLiteStore) -> str:
    return _served[1]


def target(name: str, version: float) -> str:
    return f"/filetracker/files/{name}?last_modified={quote(formatdate(version))}"


def put(url: str, name: str, data: bytes, version: float, *lines: str) -> Answer:
    lines = (*lines, *(("Content-Length: 0",) if not data else ()))
    return ask(url, "PUT", target(name, version), *lines, body=data)


def get(url: str, name: str, *lines: str) -> Answer:
    return ask(url, "GET", f"/filetracker/files/{name}", *lines)


def begin(wire: Wire, name: str, data: bytes, *, sent: int) -> None:
    digest = f"SHA256-Checksum: {hashlib.sha256(data).hexdigest()}"
    wire.head("PUT", target(name, 1000), digest, f"Content-Length: {len(data)}")
    wire.send(data[:sent])


# -- the server ----------------------------------------------------------------------------------


@each("data", [RANDOM[:6023], RANDOM])
def test_01_a_body_that_is_cut_off_is_not_stored(url, store, data):
    store.delete("x") if store.exists("x") else None
    with Wire(url) as wire:
        begin(wire, "x", data, sent=500)
    assert get(url, "x").status == 404
    for name in ("x", "another"):
        assert put(url, name, data, 1000).status == 200
        assert get(url, name).body == data


def test_02_a_digest_is_not_believed(url):
    evil, honest = b"EVIL", b"honest"
    digest = f"SHA256-Checksum: {hashlib.sha256(honest).hexdigest()}"
    assert put(url, "evil", evil, 1000, digest).status == 400
    assert put(url, "honest", honest, 1000, digest).status == 200
    assert get(url, "honest").body == honest
    assert get(url, "evil").status == 404


def test_03_a_digest_is_no_path(url, store, tmp_path):
    for text in (str(tmp_path / "escaped"), "../../escaped", "ab/" + "0" * 61):
        assert put(url, "x", b"data", 1000, f"SHA256-Checksum: {text}").status == 400
    assert list(tmp_path.iterdir()) == []
    assert list(store.query_keys()) == []


@pytest.mark.parametrize("kind", ["memory", "sqlite", "folder"])
def test_04_readers_see_one_or_the_other(kind, tmp_path):
    stores = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "store", durable=False),
        "folder": lambda: FileSystemStore(tmp_path / "store"),
    }
    versions = [b"a" * 100_000, b"b" * 1_500, RANDOM]
    ended = threading.Event()
    seen: list[tuple[int, bytes]] = []

    def read(url: str) -> None:
        with Wire(url) as wire:
            while not ended.is_set():
                answer = wire.ask("GET", "/filetracker/files/x", "Accept-Encoding: gzip")
                body = answer.body
                if answer.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                seen.append((answer.status, body))

    with stores[kind]() as store:
        limits = Limits(requests=10**6)
        with serve_background(store, limits=limits, gateways=[FiletrackerGateway()]) as url:
            assert put(url, "x", versions[0], 1000).status == 200
            readers = [threading.Thread(target=read, args=(url,)) for _ in range(3)]
            for reader in readers:
                reader.start()
            with Wire(url) as wire:
                for turn in range(60):
                    path = target("x", 1001 + turn)
                    assert wire.ask("PUT", path, body=versions[turn % 3]).status == 200
            ended.set()
            for reader in readers:
                reader.join()
    assert {status for status, _ in seen} == {200}
    assert all(body in versions for _, body in seen)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_05_a_process_that_is_killed_takes_nothing_with_it(tmp_path):
    words = ["serve", f"sqlite:{tmp_path / 'store'}", "--port", "0", "--workers", "2"]
    command = [sys.executable, "-m", "kvstore", *words, "--gateway", "filetracker", "--log", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            for turn in range(30):
                if turn == 10:
                    os.kill(_workers(process.pid)[0], signal.SIGKILL)
                assert put(url, f"x/{turn}", b"data %d" % turn, 1000).status == 200
            for turn in range(30):
                assert get(url, f"x/{turn}").body == b"data %d" % turn
        finally:
            process.terminate()


def _workers(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            if int(fields[1]) == parent and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


def test_06_an_upload_that_stands_still_keeps_nobody_waiting(url):
    with Wire(url) as stalled:
        begin(stalled, "x", RANDOM, sent=1000)
        assert put(url, "x", b"meanwhile", 1001).status == 200
        assert get(url, "x").body == b"meanwhile"
        assert ask(url, "DELETE", target("x", 1002)).status == 200
        stalled.send(RANDOM[1000:])
        assert stalled.read("PUT").status == 200
    assert get(url, "x").body == RANDOM


@each("text", ["999999", "abc", "17", "-1", "18.0"])
def test_07_a_size_is_not_believed(url, text):
    assert put(url, "x", b"eighteen bytes....", 1000, f"Logical-Size: {text}").status == 400
    assert get(url, "x").status == 404


def test_08_gzip_is_looked_into(url, store):
    for body in (b"no gzip at all", gzip.compress(b"data")[:-3]):
        assert put(url, "x", body, 1000, "Content-Encoding: gzip").status == 400
    assert not store.exists("x")


def test_09_names_are_what_they_were(url, store):
    for name in ("ž", "日本", "new\nline"):
        assert put(url, quote(name), b"data", 1000).status == 200
    answer = ask(url, "GET", "/filetracker/list")
    assert answer.body.decode() == "ž\n日本\n"
    assert answer.headers["X-Keys-Omitted"] == "1"
    assert sorted(store.query_keys()) == ["new\nline", "ž", "日本"]


@each(
    "method,path",
    [
        ("PUT", "/files/x"),
        ("DELETE", "/files/x"),
        ("PUT", "/files/x?last_modified=1000"),
        ("GET", "/list/?last_modified=never"),
        ("POST", "/files/x"),
        ("DELETE", "/list/x"),
        ("PUT", "/files/"),
        ("GET", "/files/a/%2e%2e/b"),
        ("GET", "/files/none"),
    ],
)
def test_10_mistakes_of_clients_are_told_as_such(url, method, path):
    answer = ask(url, method, f"/filetracker{path}", "Content-Length: 0")
    assert 400 <= answer.status < 500
    told = answer.headers["X-Exception"]
    assert answer.body.decode() == f"{told}\n"
    for word in ("Traceback", "Oops", "/tmp", "/home", str(ROOT), ".py"):
        assert word not in told


def test_11_what_was_ignored_is_told_and_no_name_is_blocked(url, store):
    now = int(time.time())
    first = put(url, "x", b"first", now)
    answer = put(url, "x", b"older", now - 1)
    assert (answer.status, answer.headers["Last-Modified"]) == (200, formatdate(now, usegmt=True))
    answer = ask(url, "DELETE", target("x", now - 1))
    assert answer.headers["Last-Modified"] == formatdate(now, usegmt=True)
    # Within one second the later one wins. That they differ is told, and the first one is kept.
    second = put(url, "x", b"second", now)
    assert second.headers["Last-Modified"] == first.headers["Last-Modified"]
    assert second.headers["ETag"] != first.headers["ETag"]
    assert put(url, "x", b"lost", now, f"If-Match: {first.headers['ETag']}").status == 412
    revision = first.headers["ETag"].strip('"')
    assert store.get("x", version=revision).read() == b"first"
    answer = put(url, "x", b"from the future", now + 365 * 24 * 3600)
    assert (answer.status, "ahead" in answer.headers["X-Exception"]) == (400, True)
    assert put(url, "x", b"now", now + 1).status == 200
    assert get(url, "x").body == b"now"


def test_12_a_name_that_was_deleted_leaves_nothing(url, store):
    assert put(url, "d/a/b/c", b"data", 1000).status == 200
    assert put(url, "d/a", b"beside", 1000).status == 200
    assert ask(url, "DELETE", target("d/a/b/c", 1000)).status == 200
    assert put(url, "d/a/b", b"data", 1000).status == 200
    assert put(url, "d/a/b/c/d", b"data", 1000).status == 200
    assert list(store.query_keys()) == ["d/a", "d/a/b", "d/a/b/c/d"]


# -- the client ----------------------------------------------------------------------------------


class _Bad(BaseHTTPRequestHandler):
    """A server whose answers are wrong in the way that the name of the file says."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        name = self.path.rpartition("/")[2]
        body = gzip.compress(RANDOM[:6000], 1)
        if name == "cut":
            body = body[:485]
        if name == "other":
            body = gzip.compress(RANDOM[1:6001], 1)
        self.send_response(500 if name == "broken" else 200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Logical-Size", "6000")
        self.send_header("SHA256-Checksum", hashlib.sha256(RANDOM[:6000]).hexdigest())
        self.send_header("Last-Modified", formatdate(1000))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // (2 if name == "short" else 1)])
        self.close_connection = name == "short"


@pytest.fixture(scope="module")
def bad() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bad)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


QUICK = Policy(attempts=1)


@pytest.fixture
def far(bad: str) -> Iterator[kvstore.DynamicURLStore]:
    with kvstore.open(bad, profile="filetracker", policy=QUICK) as store:
        yield store


@pytest.fixture
def cached(url: str, tmp_path: Path) -> Iterator[CachedStore]:
    remote = kvstore.open(f"{url}/filetracker", profile="filetracker")
    local = SQLiteStore(tmp_path / "cache", durable=False)
    with CachedStore(remote, local, locks=tmp_path / "locks") as cached:
        yield cached


@each("name", ["cut", "short", "other"])
def test_13_and_20_what_is_not_whole_is_an_error_and_leaves_the_file_alone(far, tmp_path, name):
    path = tmp_path / "target"
    path.write_bytes(b"precious previous content")
    for read in (lambda: far.to_bytes(name), lambda: far.to_file(name, path)):
        with pytest.raises((IntegrityError, TransportError)):
            read()
    assert path.read_bytes() == b"precious previous content"
    assert list(tmp_path.iterdir()) == [path]


def test_13_what_is_whole_is_taken(far):
    assert far.to_bytes("good") == RANDOM[:6000]
    assert far.record("good").digest == f"sha256:{hashlib.sha256(RANDOM[:6000]).hexdigest()}"


def test_14_a_file_that_is_newer_is_overwritten_too(cached, tmp_path):
    cached.set("x", b"data", metadata={"version": 1000})
    cached.to_bytes("x")
    path = tmp_path / "target"
    path.write_bytes(b"stale other file")
    cached.to_file("x", path)
    assert path.read_bytes() == b"data"


def test_15_a_refresh_is_one(cached, store):
    cached.set("x", b"data", metadata={"version": 1000})
    assert cached.to_bytes("x") == b"data"
    record = cached.refresh("x")
    assert record.revision == "1000"
    store.set("x", b"new!", metadata={})  # by somebody else
    cached.refresh("x")
    assert cached.to_bytes("x") == b"new!"


def test_15_a_cache_that_is_damaged_is_noticed(cached, tmp_path):
    cached.set("x", RANDOM, metadata={"version": 1000})
    assert cached.to_bytes("x") == RANDOM
    [blob] = (tmp_path / "cache" / "blobs").rglob("*-*")
    blob.write_bytes(b"CORRUPT CACHE".ljust(len(RANDOM)))
    assert cached.to_bytes("x") == RANDOM
    assert cached.info()["cache"]["corrupt"] == 1


def test_16_a_file_that_was_got_may_be_edited(cached, tmp_path):
    for name, data in (("small", b"data"), ("large", RANDOM)):
        cached.set(name, data, metadata={"version": 1000})
        for path in (tmp_path / name, tmp_path / name):
            cached.to_file(name, path)
            path.write_bytes(b"USER EDIT!!!!")
        assert cached.to_bytes(name) == data
        cached.from_file(name, path)
        with path.open("ab") as file:
            file.write(b"more")
        assert cached.to_bytes(name) == b"USER EDIT!!!!"


def test_17_names_are_those_that_were_given(cached, tmp_path):
    cached.set("hh/a", b"data", metadata={"version": 500})
    for _ in range(2):
        assert cached.get("hh/a").key == "hh/a"
        assert (cached.record("hh/a").key, cached.record("hh/a").revision) == ("hh/a", "500")
    assert list(cached.query_keys()) == ["hh/a"]


def test_18_one_connection_a_time_limit_and_nothing_printed(bad, far, capfd):
    _Bad.connections.clear()
    for _ in range(5):
        far.to_bytes("good")
    assert len(_Bad.connections) == 1
    assert Policy().read_timeout <= 60
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        policy = Policy(attempts=1, read_timeout=0.1)
        with (
            kvstore.open(silent_url, profile="filetracker", policy=policy) as store,
            pytest.raises(TransportError),
        ):
            store.to_bytes("x")
    assert capfd.readouterr() == ("", "")


def test_19_errors_are_errors_and_streams_are_streams(far):
    with pytest.raises(StoreError):
        far.exists("broken")
    with far.get("good") as stream:
        assert stream.read(10) == RANDOM[:10]
        assert stream.read(-1) == RANDOM[10:6000]
        assert stream.read() == b""
    assert stream.closed


def test_21_a_damaged_blob_is_named_and_the_others_are_looked_at(tmp_path):
    with SQLiteStore(tmp_path / "store", durable=False) as store:
        for name in "abc":
            store.set_data(name, RANDOM + name.encode())
        blobs = sorted((tmp_path / "store" / "blobs").rglob("*-*"))
        blobs[1].write_bytes(blobs[1].read_bytes()[:-20])
        found = store.verify()
    assert (found.keys, len(found.problems)) == (3, 1)
    assert found.problems[0].key in {"a", "b", "c"}


def test_22_what_the_protocol_has_not(url, store):
    tag = put(url, "x", TEXT, 1000).headers["ETag"]
    assert get(url, "x", "Range: bytes=4-7").body == b"same"
    assert get(url, "x", f"If-None-Match: {tag}").status == 304
    assert ask(url, "GET", "/keys/x/metadata").status == 200
    put(url, "x", b"new", 1001)
    with kvstore.open(url) as ours:
        assert [version.size for version in ours.versions("x")][:2] == [3, len(TEXT)]
        assert ours.get_metadata("x")["filetracker"]["version"] == 1001
