from __future__ import annotations

import hashlib
import http.client
import io
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from kvstore.errors import ConflictError, IntegrityError
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.values import Value
from tests.cases import each, empty
from tests.corpora import Entry, entries
from tests.server.sockets import Wire, ask, chunked

LARGE = bytes(range(256)) * 13_000  # 3.3 MB: several pieces


def repr_digest(data: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"


# -- whole data ----------------------------------------------------------------------------


def test_put_creates_and_then_replaces(url: str, store: MemoryStore, web: requests.Session) -> None:
    created = web.put(f"{url}/keys/a/data", data=b"one")
    assert (created.status_code, created.content) == (201, b"")
    store.set_metadata("a", {"kept": True})
    replaced = web.put(f"{url}/keys/a/data", data=b"two")
    assert (replaced.status_code, replaced.content) == (204, b"")
    assert store.to_bytes("a") == b"two"
    assert store.get_metadata("a") == {"kept": True}


@pytest.mark.parametrize("data", [b"", b"x", b"\0\r\n\xff" * 100, LARGE])
def test_data_comes_back_as_it_was_sent(url: str, web: requests.Session, data: bytes) -> None:
    web.put(f"{url}/keys/a/data", data=data)
    answer = web.get(f"{url}/keys/a/data")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.content == data


@pytest.mark.parametrize("pieces", [[], [b"x"], [b"ab", b"cd"], [LARGE, b"end"], [b"z"] * 500])
def test_chunked_bodies_are_stored(
    url: str, store: MemoryStore, web: requests.Session, pieces: list[bytes]
) -> None:
    assert web.put(f"{url}/keys/a/data", data=iter(pieces)).status_code == 201
    assert store.to_bytes("a") == b"".join(pieces)


def test_put_without_a_body_stores_nothing_as_data(url: str, store: MemoryStore) -> None:
    assert ask(url, "PUT", "/keys/a/data").status == 201
    assert store.to_bytes("a") == b""


def test_answers_to_put_tell_revision_time_and_digest(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    for data in (b"one", LARGE):
        answer = web.put(f"{url}/keys/a/data", data=data)
        assert answer.headers["ETag"] == f'"{store.get("a").revision}"'
        assert answer.headers["Repr-Digest"] == repr_digest(data)
        read = web.get(f"{url}/keys/a/data")
        assert read.headers["Last-Modified"] == answer.headers["Last-Modified"]


def test_head_equals_get(url: str, store: MemoryStore, web: requests.Session) -> None:
    for data in (b"", b"x" * 1000, LARGE):
        store.set("a", data, metadata={}, mimetype="text/html; charset=utf-8")
        get, head = web.get(f"{url}/keys/a/data"), web.head(f"{url}/keys/a/data")
        assert head.status_code == 200
        assert head.content == b""
        ignored = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in get.headers.items() if k not in ignored
        }


def test_missing_keys(url: str, store: MemoryStore, web: requests.Session) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        target = "/keys/a" if method == "DELETE" else "/keys/a/data"
        answer = web.request(method, url + target)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
    problem = web.get(f"{url}/keys/a/data").json()
    assert problem == {
        "type": "urn:kvstore:error:key-not-found",
        "title": "There is no such key",
        "status": 404,
        "detail": "There is no key 'a'.",
        "key": "a",
        "request_id": "test",
    }


def test_delete(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set_data("a/data", b"x")
    store.set_data("a", b"x")
    # All behind the base is the key, be it like the URL of a part.
    assert web.delete(f"{url}/keys/a/data").status_code == 204
    assert list(store.query_keys()) == ["a"]
    assert web.delete(f"{url}/keys/a").status_code == 204
    assert list(store.query_keys()) == []


# -- the media type ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (None, "application/octet-stream"),
        ("", "application/octet-stream"),
        ("application/x-www-form-urlencoded", "application/octet-stream"),
        ("image/fits", "image/fits"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ('multipart/mixed; boundary="a b;\\"c"', 'multipart/mixed; boundary="a b;\\"c"'),
    ],
)
def test_the_type_is_kept(url: str, store: MemoryStore, sent: str | None, stored: str) -> None:
    lines = [] if sent is None else [f"Content-Type: {sent}"]
    assert ask(url, "PUT", "/keys/a/data", *lines, body=b"x").status == 201
    assert store.get("a").mimetype == stored
    assert ask(url, "GET", "/keys/a/data").headers["Content-Type"] == stored


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: text/h\xe9"],
        [f"Content-Type: text/{'x' * 300}"],
        ["Content-Type: text/plain", "Content-Type: text/html"],
    ],
)
def test_what_is_no_type_is_refused(url: str, store: MemoryStore, lines: list[str]) -> None:
    answer = ask(url, "PUT", "/keys/a/data", *lines, body=b"x")
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"
    assert not store.exists("a")


@pytest.mark.parametrize(
    ("mimetype", "is_shown"),
    [
        ("text/html", False),
        ("image/svg+xml", False),
        ("application/octet-stream", False),
        ("application/pdf", False),
        ("text/plain; charset=utf-8", True),
        ("image/png", True),
    ],
)
def test_browsers_run_nothing_that_is_stored(
    url: str, store: MemoryStore, web: requests.Session, mimetype: str, is_shown: bool
) -> None:
    store.set_data("a", b"<script>alert(1)</script>", mimetype=mimetype)
    for headers in ({}, {"Range": "bytes=0-5"}):
        answer = web.get(f"{url}/keys/a/data", headers=headers)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        disposition = answer.headers.get("Content-Disposition")
        assert disposition == (None if is_shown else "attachment")


class LooseStore(MemoryStore):
    """Tells of a type that no header can carry."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        return Value(replace(value.record, mimetype="text/html\r\nSet-Cookie: a=b"), value.range)


def test_a_type_that_no_header_can_carry_is_not_sent(web: requests.Session) -> None:
    with LooseStore() as store, serve_background(store) as url:
        store.set_data("a", b"x")
        answer = web.get(f"{url}/keys/a/data")
        assert (answer.status_code, answer.content) == (200, b"x")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "Set-Cookie" not in answer.headers


# -- ranges --------------------------------------------------------------------------------

DATA = bytes(range(250)) * 4


@each("entry", list(entries("ranges")), ids=lambda entry: ascii(entry["range"])[:40])
def test_range_corpus(url: str, store: MemoryStore, entry: Entry) -> None:
    empty(store)
    revision = store.set_data("a", DATA)
    lines = [f"Range: {entry['range']}"]
    if "if_range" in entry:
        lines.append(
            f"If-Range: {entry['if_range'].replace('CURRENT', f'{chr(34)}{revision}{chr(34)}')}"
        )
    method = entry.get("method", "GET")
    target = "/keys/a" if method == "DELETE" else "/keys/a/data"
    answer = ask(url, method, target, *lines, body=b"new" if method == "PUT" else b"")
    assert answer.status in entry["status"]
    assert len(answer.body) <= entry.get("max_bytes", 10_000)
    if answer.status == 206:
        first, last = (
            answer.headers["Content-Range"].removeprefix("bytes ").split("/")[0].split("-")
        )
        assert [int(first), int(last)] in (entry["spans"] or [[0, 999]])
        assert answer.headers["Content-Range"].endswith("/1000")
        assert answer.body == DATA[int(first) : int(last) + 1]
        assert answer.headers["Repr-Digest"] == repr_digest(DATA)
    elif answer.status == 416:
        assert answer.headers["Content-Range"] == "bytes */1000"
        assert answer.headers["ETag"] == f'"{revision}"'
        assert answer.problem["size"] == 1000
    elif method == "GET" and answer.status == 200:
        assert answer.body == DATA
    elif method == "PUT":
        assert store.to_bytes("a") == b"new"


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=-10", 990, 999),
        ("bytes=500-5000", 500, 999),
        ("bytes=7-", 7, 999),
    ],
)
def test_ranges_are_served(
    url: str, store: MemoryStore, web: requests.Session, field: str, first: int, last: int
) -> None:
    store.set_data("a", DATA)
    answer = web.get(f"{url}/keys/a/data", headers={"range": field})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/1000"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.content == DATA[first : last + 1]


def test_a_large_range_comes_in_pieces(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set_data("a", LARGE)
    answer = web.get(f"{url}/keys/a/data", headers={"Range": "bytes=5-3000004"})
    assert (answer.status_code, len(answer.content)) == (206, 3_000_000)
    assert answer.content == LARGE[5:3_000_005]


def test_head_ignores_ranges_and_two_range_fields_are_none(url: str, store: MemoryStore) -> None:
    store.set_data("a", DATA)
    head = ask(url, "HEAD", "/keys/a/data", "Range: bytes=0-9")
    assert (head.status, head.headers["Content-Length"]) == (200, "1000")
    both = ask(url, "GET", "/keys/a/data", "Range: bytes=0-9", "Range: bytes=0-9")
    assert (both.status, both.body) == (200, DATA)


def test_if_range_with_a_date_says_nothing_where_there_are_revisions(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    store.set_data("a", DATA)
    date = web.head(f"{url}/keys/a/data").headers["Last-Modified"]
    answer = web.get(f"{url}/keys/a/data", headers={"Range": "bytes=0-9", "If-Range": date})
    assert (answer.status_code, answer.content) == (200, DATA)


# -- what can go wrong on the way out ------------------------------------------------------


class OddStore(MemoryStore):
    """Gives out values whose data are opened by `open_data`."""

    def open_data(self, value: Value) -> io.BufferedIOBase:
        raise NotImplementedError

    def _get(self, key: str) -> Value:
        value = super()._get(key)

        def opener(start: int | None, end: int | None) -> Any:
            if end is not None:
                return value.range(start, end)
            return self.open_data(value)

        return Value(value.record, opener)


class ChangingStore(OddStore):
    tries = 0

    def open_data(self, value: Value) -> Any:
        self.tries += 1
        if self.tries < self.fails:
            super(MemoryStore, self).set_data("a", b"newer %d" % self.tries)
            raise ConflictError("The key has been changed meanwhile.", key="a")
        return value.open()

    fails = 3


def test_a_key_that_is_changed_meanwhile_is_looked_up_again(web: requests.Session) -> None:
    store = ChangingStore()
    with store, serve_background(store) as url:
        store.set_data("a", b"old")
        answer = web.get(f"{url}/keys/a/data")
        assert (answer.status_code, answer.content) == (200, b"newer 2")
        store.fails, store.tries = 10**6, 0
        assert web.get(f"{url}/keys/a/data").status_code == 412
        assert store.tries < 10


class DamagedStore(OddStore):
    def open_data(self, value: Value) -> Any:
        raise IntegrityError("/secret/path has other bytes.", key="a")


def test_damaged_data_is_an_error_of_the_server(
    web: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with DamagedStore() as store, serve_background(store) as url:
        store.set_data("a", b"x")
        answer = web.get(f"{url}/keys/a/data")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:kvstore:error:integrity"
    assert "secret" not in answer.text
    assert "/secret/path has other bytes." in caplog.text


class ShortStore(OddStore):
    """Its streams end too early, or with an error."""

    error: Exception | None = None

    def open_data(self, value: Value) -> Any:
        whole, error = value.read(), self.error

        class Stream(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                piece = super().read(size)
                if not piece and error is not None:
                    raise error
                return piece

        return Stream(whole[: len(whole) - 1])


@pytest.mark.parametrize("error", [None, IntegrityError("damaged"), RuntimeError("odd")])
def test_a_stream_that_fails_breaks_the_connection(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    store = ShortStore()
    store.error = error
    with store, serve_background(store) as url:
        store.set_data("a", LARGE)
        with Wire(url) as wire:
            wire.head("GET", "/keys/a/data")
            with pytest.raises(http.client.IncompleteRead):
                wire.read()
    assert "GET '/keys/a/data' failed" in caplog.text


class RevisionlessStore(MemoryStore):
    """Knows no revision, time or digest, as a store on a plain web server does."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        record = replace(value.record, revision=None, modified=None, digest=None)
        return Value(
            record, lambda start, end: value.open() if end is None else value.range(start, end)
        )


def test_what_a_store_does_not_know_is_not_told(web: requests.Session) -> None:
    with RevisionlessStore() as store, serve_background(store) as url:
        store.set_data("a", b"x")
        answer = web.get(f"{url}/keys/a/data")
        assert answer.status_code == 200
        assert not {"ETag", "Last-Modified", "Repr-Digest"} & set(answer.headers)
        part = web.get(f"{url}/keys/a/data", headers={"Range": "bytes=0-0"})
        assert (part.status_code, part.content) == (206, b"x")
        line = web.get(f"{url}/keys/a/value").content.split(b"\n")[0]
        assert json.loads(line)["revision"] is None


def test_a_connection_serves_one_request_after_the_other(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        for number in range(5):
            body = b"%d" % number
            assert wire.ask("PUT", f"/keys/{number}/data", body=body).status == 201
            assert wire.ask("GET", f"/keys/{number}/data").body == body
        wire.head("PUT", "/keys/x/data", "Transfer-Encoding: chunked")
        wire.send(chunked(b"ab", b"c") + b"0\r\n\r\n")
        assert wire.read().status == 201
        assert wire.ask("GET", "/keys/x/data").body == b"abc"


def test_pipelined_requests_are_answered_in_order(url: str, store: MemoryStore) -> None:
    for number in range(50):
        store.set_data(str(number), b"%d" % number)
    with Wire(url) as wire:
        for number in range(50):
            wire.head("GET", f"/keys/{number}/data")
        assert list(_answers(wire, 50)) == [b"%d" % number for number in range(50)]


def _answers(wire: Wire, count: int) -> Iterator[bytes]:
    # http.client reads ahead of an answer's end, so that the next ones must be read from one file.
    with wire.socket.makefile("rb") as stream:
        for _ in range(count):
            length = 0
            while line := stream.readline().strip():
                name, _, value = line.partition(b": ")
                length = int(value) if name.lower() == b"content-length" else length
            yield stream.read(length)
