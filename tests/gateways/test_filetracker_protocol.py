"""The protocol of filetracker, request by request, without a client."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote

import pytest

from kvstore import FileSystemStore, MemoryStore, SQLiteStore
from kvstore.errors import ConflictError
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.gateways.filetracker.versions import parse_version
from kvstore.server import Limits, serve_background
from kvstore.values import Value
from kvstore.writes import Change, Written
from tests.cases import each, empty
from tests.server.sockets import Answer, Wire, ask, chunked

MIB = 1 << 20
LIMIT = 8 * MIB
TEXT = b"the same line again\n" * 5_000


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore()
    limits = Limits(data=LIMIT, requests=10**6)
    with store, serve_background(store, limits=limits, gateways=[FiletrackerGateway()]) as url:
        yield store, url


@pytest.fixture
def store(_served: tuple[MemoryStore, str]) -> MemoryStore:
    """The store behind `url`, empty."""
    empty(_served[0])
    return _served[0]


@pytest.fixture
def url(_served: tuple[MemoryStore, str], store: MemoryStore) -> str:
    """URL of a server over `store`."""
    return _served[1]


def dated(version: float) -> str:
    return quote(formatdate(version), safe="")


def put(url: str, name: str, data: bytes, version: float, *lines: str) -> Answer:
    target = f"/filetracker/files/{name}?last_modified={dated(version)}"
    return ask(url, "PUT", target, *(lines or ("Content-Length: 0",) * (not data)), body=data)


def get(url: str, name: str, *lines: str) -> Answer:
    return ask(url, "GET", f"/filetracker/files/{name}", *lines)


def delete(url: str, name: str, version: float) -> Answer:
    return ask(url, "DELETE", f"/filetracker/files/{name}?last_modified={dated(version)}")


def version_of(answer: Answer) -> int:
    return parse_version(answer.headers["Last-Modified"])


def test_the_version_of_the_protocol(url):
    for path in ("/filetracker/version", "/filetracker/version/"):
        answer = ask(url, "GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.body == b'{"protocol_versions":[2]}'
        assert ask(url, "HEAD", path).status == 200


def test_what_is_put_can_be_got(url, store):
    answer = put(url, "a/b.txt", b"data", 1000)
    assert (answer.status, answer.body, version_of(answer)) == (200, b"", 1000)
    answer = get(url, "a/b.txt")
    assert (answer.status, answer.body, version_of(answer)) == (200, b"data", 1000)
    assert answer.headers["Last-Modified"] == "Thu, 01 Jan 1970 00:16:40 GMT"
    assert answer.headers["Logical-Size"] == answer.headers["Content-Length"] == "4"
    assert answer.headers["SHA256-Checksum"] == hashlib.sha256(b"data").hexdigest()
    assert answer.headers["Content-Disposition"] == "attachment"
    head = ask(url, "HEAD", "/filetracker/files/a/b.txt")
    assert (head.status, head.body, version_of(head)) == (200, b"", 1000)
    assert head.headers["Content-Length"] == "4"
    record = store.record("a/b.txt")
    assert record.metadata == {"filetracker": {"version": 1000, "digest": record.digest}}
    assert store.to_bytes("a/b.txt") == b"data"


def test_newer_or_equal_wins(url):
    for version, data, now, content in (
        (1000, b"first", 1000, b"first"),
        (999, b"older", 1000, b"first"),
        (1000, b"equal", 1000, b"equal"),
        (1001, b"newer", 1001, b"newer"),
        (0, b"oldest", 1001, b"newer"),
    ):
        answer = put(url, "name", data, version)
        assert (answer.status, version_of(answer)) == (200, now)
        assert get(url, "name").body == content


def test_delete(url, store):
    put(url, "name", b"data", 1000)
    answer = delete(url, "name", 999)
    assert (answer.status, version_of(answer)) == (200, 1000)
    assert store.exists("name")
    answer = delete(url, "name", 1000)
    assert (answer.status, answer.body) == (200, b"")
    assert "Last-Modified" not in answer.headers
    assert not store.exists("name")
    assert delete(url, "name", 1000).status == 404


def test_what_others_write_has_the_time_as_its_version(url, store):
    put(url, "name", b"data", 1000)
    store.set_metadata("name", {**store.get_metadata("name"), "note": 1})
    assert version_of(get(url, "name")) == 1000
    store.set_data("name", b"by others")
    changed = int(store.record("name").modified)
    assert version_of(get(url, "name")) == changed
    assert put(url, "name", b"older", 2000).status == 200
    assert get(url, "name").body == b"by others"
    # The metadata of others stay; what is about the bytes is that of the new ones.
    assert version_of(put(url, "name", b"newer", changed + 1)) == changed + 1
    assert store.get_metadata("name")["note"] == 1
    for odd in (
        None,
        5,
        {},
        {"version": "x"},
        {"version": True},
        {"version": -1},
        {"version": 1e9},
    ):
        own = odd if not isinstance(odd, dict) else {**odd, "digest": store.record("name").digest}
        store.set_metadata("name", {"filetracker": own})
        assert version_of(get(url, "name")) == int(store.record("name").modified)


def test_protocol_1_has_the_version_in_a_field(url, store):
    line = f"Last-Modified: {formatdate(1234)}"
    answer = ask(url, "PUT", "/filetracker/files/x", line, body=b"data")
    assert (answer.status, version_of(answer)) == (200, 1234)
    assert version_of(ask(url, "DELETE", "/filetracker/files/x", f"Last-Modified: {formatdate(1)}"))
    assert store.exists("x")
    assert ask(url, "DELETE", "/filetracker/files/x", line).status == 200
    assert not store.exists("x")


@each(
    "text",
    [
        "Thu, 01 Jan 1970 00:16:40 -0000",
        "Thu, 01 Jan 1970 00:16:40 GMT",
        "Thu, 01 Jan 1970 01:16:40 +0100",
        "1 Jan 1970 00:16:40",
    ],
)
def test_dates(text):
    assert parse_version(text) == 1000


@each(
    "text",
    ["", "1000", "yesterday", "Thu, 01 Jan 1969 00:00:00 GMT", "Thu, 99 Xyz 1970 00:16:40 GMT"],
)
def test_what_is_no_date_is_refused(url, text):
    for method, path in (("PUT", "files/x"), ("DELETE", "files/x"), ("GET", "list/")):
        target = f"/filetracker/{path}?last_modified={quote(text)}"
        lines = ("Content-Length: 0",) if method == "PUT" else ()
        answer = ask(url, method, target, *lines)
        assert answer.status == 400
        assert "version" in answer.headers["X-Exception"]


@each(
    "query", ["", "?", "?version=5", "?last_modified", "?last_modified=&last_modified=", "?x=%0a"]
)
def test_a_write_without_one_version_is_refused(url, store, query):
    for method in ("PUT", "DELETE"):
        answer = ask(url, method, f"/filetracker/files/x{query}", "Content-Length: 0")
        assert answer.status == 400
        assert "\n" not in answer.headers["X-Exception"]
    assert list(store.query_keys()) == []


# -- bodies --------------------------------------------------------------------------------------


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


@each("size", [0, 1, 1000, 100_000, 3 * MIB])
def test_gzip_comes_in_and_is_stored_plain(url, store, size):
    data = (TEXT * 40)[:size]
    digest = hashlib.sha256(data).hexdigest()
    lines = ("Content-Encoding: gzip", f"SHA256-Checksum: {digest}", f"Logical-Size: {size}")
    assert put(url, "x", packed(data), 1000, *lines).status == 200
    assert store.to_bytes("x") == data
    assert get(url, "x").body == data


def test_gzip_of_several_members(url, store):
    body = packed(b"one ") + packed(b"") + packed(b"two ") + packed(TEXT)
    assert put(url, "x", body, 1000, "Content-Encoding: x-gzip").status == 200
    assert store.to_bytes("x") == b"one two " + TEXT
    body = packed(b"") * 60_000  # of which zlib would copy the rest each time
    assert put(url, "x", body, 1001, "Content-Encoding: gzip").status == 200
    assert store.to_bytes("x") == b""


@each(
    "body",
    [
        b"no gzip",
        packed(TEXT)[:-1],
        packed(TEXT)[:20],
        packed(TEXT) + b"more",
        packed(TEXT)[:-8] + b"\0\0\0\0" + packed(TEXT)[-4:],
        packed(TEXT)[:-4] + b"\0\0\0\0",
        b"",
    ],
)
def test_damaged_gzip_is_refused(url, store, body):
    store.set_data("x", b"before")
    lines = ["Content-Encoding: gzip", "Content-Length: 0"][: 1 + (not body)]
    answer = put(url, "x", body, time.time(), *lines)
    assert answer.status == 400, answer.body
    assert store.to_bytes("x") == b"before"


def test_a_bomb_ends_at_the_limit(url, store):
    bomb = packed(bytes(LIMIT + 1))
    assert len(bomb) < 20_000
    assert put(url, "x", bomb, 1000, "Content-Encoding: gzip").status == 413
    lines = ("Content-Encoding: gzip", "Logical-Size: 5")
    assert put(url, "x", bomb, 1000, *lines).status == 400
    assert put(url, "x", packed(b"x"), 1000, f"Logical-Size: {LIMIT + 1}").status == 413
    assert put(url, "x", bytes(LIMIT + 1), 1000).status == 413
    assert list(store.query_keys()) == []


@each(
    "status,lines",
    [
        (400, ("SHA256-Checksum: " + "0" * 64,)),
        (400, ("SHA256-Checksum: /etc/passwd",)),
        (400, ("SHA256-Checksum: " + "0" * 63,)),
        (400, ("Logical-Size: 5",)),
        (400, ("Logical-Size: 3",)),
        (400, ("Logical-Size: abc",)),
        (400, ("Logical-Size: -4",)),
        (400, ("Logical-Size: 4", "Logical-Size: 4")),
        (400, ("Content-Range: bytes 0-3/8",)),
        (415, ("Content-Encoding: br",)),
        (415, ("Content-Encoding: gzip, gzip",)),
    ],
)
def test_what_is_not_as_announced_is_refused(url, store, status, lines):
    store.set_data("x", b"before")
    answer = put(url, "x", b"data", time.time(), *lines)
    assert answer.status == status
    assert answer.headers["X-Exception"]
    assert store.to_bytes("x") == b"before"


def test_large_bodies_are_checked_and_leave_nothing_behind(url, store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = bytes(range(256)) * (3 * MIB // 256)
    good = hashlib.sha256(data).hexdigest()
    assert put(url, "x", data, 1000, f"SHA256-Checksum: {good.upper()}").status == 200
    assert put(url, "x", data, 1001, f"SHA256-Checksum: {'0' * 64}").status == 400
    assert put(url, "x", data[1:], 1001, f"Logical-Size: {len(data)}").status == 400
    assert put(url, "x", data, 1001, f"Logical-Size: {len(data) - 1}").status == 400
    assert store.to_bytes("x") == data
    assert version_of(get(url, "x")) == 1000
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_nothing_is_changed(url, store, tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    module = "kvstore.gateways.filetracker.receiving"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(f"{module}._FLUSHED", MIB)
    store.set_data("x", b"before")
    for name in ("write_all", "os.fsync"):
        with monkeypatch.context() as broken:
            broken.setattr(f"{module}.{name}", full)
            answer = put(url, "x", bytes(3 * MIB), time.time())
        assert (answer.status, str(tmp_path) in answer.headers["X-Exception"]) == (507, False)
        assert store.to_bytes("x") == b"before"
        assert list(tmp_path.iterdir()) == []
    assert put(url, "x", bytes(3 * MIB), time.time()).status == 200


def test_chunked_bodies(url, store):
    with Wire(url) as wire:
        target = f"/filetracker/files/x?last_modified={dated(1000)}"
        wire.head("PUT", target, "Transfer-Encoding: chunked")
        wire.send(chunked(b"some ", b"data") + b"0\r\n\r\n")
        assert wire.read("PUT").status == 200
    assert store.to_bytes("x") == b"some data"


def test_the_media_type_is_kept(url, store):
    put(url, "x", b"data", 1000, "Content-Type: text/plain")
    assert store.record("x").mimetype == "text/plain"
    assert get(url, "x").headers["Content-Type"] == "text/plain"
    put(url, "x", b"data", 1001)
    assert store.record("x").mimetype == "application/octet-stream"


# -- answers -------------------------------------------------------------------------------------


@each(
    "offer,is_packed",
    [
        (None, False),
        ("identity", False),
        ("gzip", True),
        ("gzip, deflate", True),
        ("x-gzip", True),
        ("*", True),
        ("br, *;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip ; q=0.5", True),
        ("identity;q=1, gzip;q=0.000", False),
    ],
)
@each("data", [TEXT, TEXT * 40])
def test_gzip_goes_out_to_who_takes_it(url, store, data, offer, is_packed):
    if not store.exists("x") or store.record("x").size != len(data):
        put(url, "x", data, 1000)
    lines = () if offer is None else (f"Accept-Encoding: {offer}",)
    answer = get(url, "x", *lines)
    assert answer.headers["Vary"] == "accept-encoding"
    assert answer.headers["Logical-Size"] == str(len(data))
    if is_packed:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["ETag"].startswith("W/")
        assert gzip.decompress(answer.body) == data
        assert len(answer.body) < len(data) or len(data) > MIB
    else:
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Length"] == str(len(data))
        assert answer.body == data


def test_what_gzip_does_not_shorten_goes_out_plain(url):
    random = hashlib.shake_256(b"seed").digest(2 * MIB)
    for data in (b"x" * 1000, random[:5000], random, TEXT[:20_000] + random[: MIB // 2]):
        put(url, "x", data, 1000)
        answer = get(url, "x", "Accept-Encoding: gzip")
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Length"] == str(len(data))
        assert answer.body == data


def test_a_client_of_http_1_0_gets_no_chunks(url):
    put(url, "x", TEXT * 40, 1000)
    with Wire(url) as wire:
        wire.send(b"GET /filetracker/files/x HTTP/1.0\r\nAccept-Encoding: gzip\r\n")
        wire.send(f"Host: {wire.host}\r\n\r\n".encode())
        answer = wire.read()
    assert "Transfer-Encoding" not in answer.headers
    assert answer.body == TEXT * 40


def test_ranges(url):
    put(url, "x", b"0123456789", 1000)
    answer = get(url, "x", "Range: bytes=2-4", "Accept-Encoding: gzip")
    assert (answer.status, answer.body) == (206, b"234")
    assert answer.headers["Content-Range"] == "bytes 2-4/10"
    assert get(url, "x", "Range: bytes=20-").status == 416
    tag = answer.headers["ETag"]
    assert get(url, "x", "Range: bytes=2-4", f"If-Range: {tag}").status == 206
    assert get(url, "x", "Range: bytes=2-4", 'If-Range: "other"').body == b"0123456789"


def test_conditional_requests(url, store):
    tag = put(url, "x", TEXT, 1000).headers["ETag"]
    weak = get(url, "x", "Accept-Encoding: gzip").headers["ETag"]
    assert weak == f"W/{tag}"
    for line in (f"If-None-Match: {tag}", f"If-None-Match: {weak}"):
        assert get(url, "x", line).status == 304
        assert ask(url, "HEAD", "/filetracker/files/x", line).status == 304
    assert get(url, "x", f"If-Modified-Since: {formatdate(1000, usegmt=True)}").status == 304
    assert get(url, "x", f"If-Modified-Since: {formatdate(999, usegmt=True)}").status == 200
    assert get(url, "x", 'If-Match: "other"').status == 412
    assert put(url, "x", b"new", 1001, 'If-Match: "other"').status == 412
    assert put(url, "x", b"new", 1001, "If-None-Match: *").status == 412
    assert put(url, "x", b"new", 1001, f"If-Match: {tag}").status == 200
    assert store.to_bytes("x") == b"new"
    target = f"/filetracker/files/x?last_modified={dated(2000)}"
    assert ask(url, "DELETE", target, f"If-Match: {tag}").status == 412
    assert store.exists("x")


# -- lists ---------------------------------------------------------------------------------------


def listed(url: str, path: str = "", query: str = "") -> list[str]:
    answer = ask(url, "GET", f"/filetracker/list{path}{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    *names, last = answer.body.decode().split("\n")
    assert last == ""
    return names


def test_lists(url):
    for name, version in {"a/1": 1000, "a/b/2": 2000, "ab": 3000, "a": 4000}.items():
        put(url, name, b"", version)
    for path in ("", "/"):
        assert listed(url, path) == ["a", "a/1", "a/b/2", "ab"]
    for path in ("/a", "/a/"):
        assert listed(url, path) == ["1", "b/2"]
    assert listed(url, "/a/b") == ["2"]
    assert listed(url, "", f"?last_modified={dated(2000)}") == ["a/1", "a/b/2"]
    assert listed(url, "", f"?last_modified={dated(1999)}") == ["a/1"]
    assert listed(url, "/a/b", f"?last_modified={dated(1999)}") == []
    head = ask(url, "HEAD", "/filetracker/list/a")
    assert (head.status, head.headers["Content-Length"]) == (200, "6")


def test_an_empty_store_has_an_empty_list_and_no_folders(url):
    assert listed(url) == []
    for path in ("/a", "/a/b/"):
        answer = ask(url, "GET", f"/filetracker/list{path}")
        assert (answer.status, answer.headers["X-Exception"]) == (
            400,
            f"There is no folder '{path[1:]}'.",
        )


def test_a_file_is_no_folder(url):
    put(url, "a", b"", 1000)
    assert ask(url, "GET", "/filetracker/list/a").status == 400


def test_names_of_any_language_and_those_that_cannot_stand_in_a_line(url, store):
    names = ["ž/ünïcode", "日本/ 語", "a//b", "sp ace/%41", "q?#&+=", "back\\slash"]
    for name in [*names, "two\nlines", "two\rlines", "folder/"]:
        assert put(url, quote(name, safe="/"), name.encode(), 1000).status == 200
        assert get(url, quote(name, safe="")).body == name.encode()
        assert store.to_bytes(name) == name.encode()
    assert listed(url) == sorted([*names, "folder/"])
    answer = ask(url, "GET", "/filetracker/list")
    assert answer.headers["X-Keys-Omitted"] == "2"
    assert ask(url, "GET", "/filetracker/list/folder").headers["X-Keys-Omitted"] == "1"
    assert listed(url, "/a/") == ["/b"]


# -- errors --------------------------------------------------------------------------------------


@each(
    "method,path,status",
    [
        ("GET", "", 404),
        ("GET", "/", 404),
        ("GET", "/other", 404),
        ("GET", "/files", 404),
        ("GET", "/files/", 400),
        ("GET", "/files/none", 404),
        ("HEAD", "/files/none", 404),
        ("GET", "/files/a/../b", 400),
        ("GET", "/files/a/%2e%2e/b", 400),
        ("GET", "/files/..%2f..%2fetc/passwd", 400),
        ("GET", "/files/%00", 400),
        ("GET", "/files/%ff", 400),
        ("GET", "/files/%4", 400),
        ("GET", "/list/%ff", 400),
        ("POST", "/files/x", 405),
        ("PUT", "/list/x", 405),
        ("DELETE", "/list/x", 405),
        ("PUT", "/version", 405),
        ("GET", "/version/x", 404),
        ("GET", "/list/x?other=1", 400),
    ],
)
def test_errors_are_one_line_of_text(url, method, path, status):
    answer = ask(url, method, f"/filetracker{path}", "Content-Length: 0")
    assert answer.status == status
    told = answer.headers["X-Exception"]
    assert told
    assert told.isascii()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body == (b"" if method == "HEAD" else f"{told}\n".encode())
    assert "Traceback" not in told
    assert "/work" not in told
    if status == 405:
        assert "OPTIONS" in answer.headers["Allow"]


def test_an_error_cannot_bring_fields_of_its_own(url):
    for path in ("files/a%0d%0aSet-Cookie:%20x=1", "list/a%0d%0aSet-Cookie:%20x=1"):
        answer = ask(url, "GET", f"/filetracker/{path}")
        assert answer.status in (400, 404)
        assert "Set-Cookie" not in answer.headers
        assert "\\r\\n" in answer.headers["X-Exception"]


def test_options(url):
    for path, methods in {
        "files/x": "GET, HEAD, PUT, DELETE, OPTIONS",
        "list": "GET, HEAD, OPTIONS",
        "version": "GET, HEAD, OPTIONS",
    }.items():
        answer = ask(url, "OPTIONS", f"/filetracker/{path}")
        assert (answer.status, answer.headers["Allow"]) == (204, methods)


def test_a_failing_store_tells_no_paths(tmp_path, caplog):
    class Failing(MemoryStore):
        def _get(self, key: str) -> object:
            raise OSError(5, "broken", "/secret/path")

    with serve_background(Failing(), gateways=[FiletrackerGateway()]) as url:
        answer = get(url, "x")
    assert answer.status == 500
    assert answer.headers["X-Exception"] == "Internal Server Error"
    assert b"secret" not in answer.body


# -- other stores --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SQLiteStore, FileSystemStore])
def test_over_stores_on_disk(kind, tmp_path):
    store = kind(tmp_path / "store")
    with store, serve_background(store, gateways=[FiletrackerGateway()]) as url:
        data = hashlib.shake_256(b"seed").digest(2 * MIB)
        assert version_of(put(url, "a/b", data, 1000)) == 1000
        assert version_of(put(url, "a/b", b"older", 999)) == 1000
        assert get(url, "a/b").body == data
        assert listed(url, "/a", f"?last_modified={dated(1000)}") == ["b"]
        assert delete(url, "a/b", 1000).status == 200
        assert listed(url) == []


def test_over_a_store_without_conditions_and_digests():
    class Plain(MemoryStore):
        capabilities: ClassVar[dict[str, Any]] = {
            **MemoryStore.capabilities,
            "conditional": False,
            "digests": False,
        }

        def _record(self, key: str) -> object:
            return replace(super()._record(key), digest=None, revision=None)

        def _write(self, key: str, change: Change) -> Written:
            assert not change.condition
            return Written(None, existed=super()._write(key, change).existed)

    store = Plain()
    with store, serve_background(store, gateways=[FiletrackerGateway()]) as url:
        now = time.time()
        answer = put(url, "x", b"data", now + 100)
        assert answer.status == 200
        # Nobody could tell whether it is still the version of these bytes: it is the time.
        assert 0 <= version_of(answer) - int(now) < 60
        assert delete(url, "x", now + 60).status == 200


def test_a_store_that_can_only_be_read(tmp_path):
    from kvstore.compose import ReadOnly

    inner = MemoryStore()
    inner.connect()
    inner.set_data("x", b"data")
    with serve_background(ReadOnly(inner), gateways=[FiletrackerGateway()]) as url:
        assert get(url, "x").body == b"data"
        assert put(url, "x", b"new", time.time()).status == 501
        assert delete(url, "x", time.time()).status == 501
    assert inner.to_bytes("x") == b"data"


def test_damaged_data_are_never_sent_as_if_they_were_whole(tmp_path):
    store = SQLiteStore(tmp_path / "store", durable=False)
    with store, serve_background(store, gateways=[FiletrackerGateway()]) as url:
        for data in (TEXT, TEXT * 40):
            put(url, "x", data, 1000)
            [blob] = (tmp_path / "store" / "blobs").rglob("*-*")
            blob.write_bytes(data[:-20] + b"damaged at the end..")
            for coding in ("gzip", "identity"):
                if len(data) < MIB:
                    answer = get(url, "x", f"Accept-Encoding: {coding}")
                    assert (answer.status, b"damaged" in answer.body) == (500, False)
                else:
                    with pytest.raises(http.client.IncompleteRead):
                        get(url, "x", f"Accept-Encoding: {coding}")
            store.delete("x")


def test_a_read_that_others_come_between_is_tried_again(url, store, monkeypatch):
    real = MemoryStore._get
    raced: list[str] = []

    def racing(self: MemoryStore, key: str) -> Value:
        def opener(start: int | None, end: int | None) -> BinaryIO:
            if len(raced) < most:
                raced.append(key)
                raise ConflictError("it was changed", key=key)
            return value.range(start, end)

        value = real(self, key)
        return Value(value.record, opener)

    store.set_data("x", b"data")
    monkeypatch.setattr(MemoryStore, "_get", racing)
    most = 3
    assert get(url, "x").body == b"data"
    assert len(raced) == 3
    most = 100
    assert get(url, "x").status == 412


# -- who may do what -----------------------------------------------------------------------------


def test_a_write_that_others_come_before_is_tried_again(url, store, monkeypatch):
    real = MemoryStore._write
    raced: list[str] = []

    def racing(self: MemoryStore, key: str, change: Change) -> Written:
        if len(raced) < 3 and key == "x":
            raced.append(key)
            real(self, key, Change(metadata={"turn": len(raced)}))
        return real(self, key, change)

    monkeypatch.setattr(MemoryStore, "_write", racing)
    for data in (b"data", bytes(2 * MIB)):
        raced.clear()
        assert put(url, "x", data, time.time() + 10).status == 200
        assert store.to_bytes("x") == data
        assert store.get_metadata("x")["turn"] == 3
        assert len(raced) == 3


def test_one_that_never_comes_through_is_told_to_come_later(url, store, monkeypatch):
    def never(self: MemoryStore, key: str, change: Change) -> Written:
        raise ConflictError("somebody was faster", key=key)

    store.set_data("x", b"data")
    monkeypatch.setattr(MemoryStore, "_write", never)
    monkeypatch.setattr(MemoryStore, "_delete", never)
    answer = put(url, "x", b"new", time.time() + 10)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert delete(url, "x", time.time() + 10).status == 503
