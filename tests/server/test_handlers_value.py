from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import requests

from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import each, empty
from tests.server.sockets import Wire, ask, chunked

VALUE = "application/vnd.kvstore.value"
LARGE = bytes(range(256)) * 13_000


def framed(data: bytes = b"", **head: Any) -> bytes:
    return json.dumps(head).encode() + b"\n" + data


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def content_digest(data: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("data", [b"", b"x", b"\n\n{}\n", LARGE])
def test_get_gives_record_and_data(
    url: str, store: MemoryStore, web: requests.Session, data: bytes
) -> None:
    store.set("a/b", data, metadata={"é": ["\n", 1]}, mimetype="image/fits")
    answer = web.get(f"{url}/keys/a/b/value")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == VALUE
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert "Repr-Digest" not in answer.headers
    line, _, rest = answer.content.partition(b"\n")
    record = store.get("a/b").record
    assert rest == data
    assert json.loads(line) == {
        "key": "a/b",
        "metadata": {"é": ["\n", 1]},
        "size": len(data),
        "created": record.created,
        "modified": record.modified,
        "mimetype": "image/fits",
        "revision": record.revision,
        "digest": sha256(data),
    }
    head = web.head(f"{url}/keys/a/b/value")
    assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}


def test_conditions_hold_for_values(url: str, store: MemoryStore, web: requests.Session) -> None:
    revision = store.set_data("a", b"x")
    etag = f'"{revision}"'
    assert web.get(f"{url}/keys/a/value", headers={"If-None-Match": etag}).status_code == 304
    assert web.get(f"{url}/keys/a/value", headers={"If-Match": '"other"'}).status_code == 412
    body = framed(b"new", metadata={})
    lost = web.put(f"{url}/keys/a/value", data=body, headers={"If-Match": '"other"'})
    assert (lost.status_code, lost.headers["ETag"]) == (412, etag)
    assert store.to_bytes("a") == b"x"
    won = web.put(f"{url}/keys/a/value", data=body, headers={"If-Match": etag})
    assert (won.status_code, store.to_bytes("a")) == (204, b"new")


def test_ranges_do_not_hold_for_values(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set_data("a", b"x" * 100)
    answer = web.get(f"{url}/keys/a/value", headers={"Range": "bytes=0-1"})
    assert answer.status_code == 200
    assert answer.content.endswith(b"x" * 100)


@pytest.mark.parametrize("data", [b"", b"\n", b"small", LARGE])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_put_stores_everything_at_once(
    url: str, store: MemoryStore, web: requests.Session, data: bytes, is_chunked: bool
) -> None:
    body = framed(
        data,
        metadata={"n": 1},
        permissions={"owned": ["alice"], "read": ["bob", "public"]},
        digest=sha256(data),
        mimetype="text/csv",
    )
    sent: Any = iter([body[:10], body[10:]]) if is_chunked else body
    answer = web.put(f"{url}/keys/a/value", data=sent, headers={"Content-Type": VALUE})
    assert answer.status_code == 201
    assert answer.headers["Repr-Digest"] == content_digest(data)
    assert answer.headers["ETag"] == f'"{store.get("a").revision}"'
    assert store.to_bytes("a") == data
    value = store.get("a")
    assert (value.metadata, value.mimetype) == ({"n": 1}, "text/csv")
    assert value.permissions == {"owned": {"alice"}, "read": {"bob", "public"}}


def test_what_the_line_does_not_name_stays(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    store.set("a", b"old", metadata={"n": 1}, mimetype="text/csv")
    store.update_permissions("a", {"read": {"bob"}})
    for head in ({}, {"metadata": None, "permissions": None}):
        assert web.put(f"{url}/keys/a/value", data=framed(b"new", **head)).status_code == 204
        value = store.get("a")
        assert (value.read(), value.metadata) == (b"new", {"n": 1})
        assert value.permissions == {"owned": {"alice"}, "read": {"bob"}}
        assert value.mimetype == "application/octet-stream"


@each(
    "body, problem",
    [
        (b"", "invalid-request"),
        (b"{}", "invalid-request"),
        (b"\n", "invalid-request"),
        (b"[]\n", "invalid-request"),
        (b'{"metadata":{"a":1,"a":2}}\n', "invalid-request"),
        (b'{"metadata":{"a":NaN}}\n', "invalid-request"),
        (b'{"metadata":[]}\n', "invalid-metadata"),
        (b'{"metadata":"x"}\n', "invalid-metadata"),
        (b'{"key":"a"}\n', "invalid-request"),
        (b'{"permissions":{"read":["x"]}}\n', "invalid-permissions"),
        (b'{"permissions":["x"]}\n', "invalid-permissions"),
        (b'{"digest":"sha256:00"}\n', "invalid-request"),
        (b'{"digest":"md5:00"}\n', "invalid-request"),
        (b'{"digest":1}\n', "invalid-request"),
        (b'{"mimetype":"text/\\nhtml"}\n', "invalid-request"),
        (b'{"mimetype":["text/html"]}\n', "invalid-request"),
        (b'{"digest":"sha256:' + b"0" * 64 + b'"}\ndata', "integrity"),
    ],
)
@each("is_chunked", [False, True])
def test_a_value_that_is_refused_changes_nothing(
    url: str, store: MemoryStore, web: requests.Session, body: bytes, problem: str, is_chunked: bool
) -> None:
    empty(store)
    store.set("a", b"old", metadata={"n": 1})
    before = store.get("a").record
    for key in ("a", "new"):
        answer = web.put(f"{url}/keys/{key}/value", data=iter([body]) if is_chunked else body)
        assert answer.status_code == 400
        assert answer.json()["type"] == f"urn:kvstore:error:{problem}"
    assert store.get("a").record == before
    assert list(store.query_keys()) == ["a"]


def test_header_digests_are_of_the_whole_body(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    for data in (b"data", LARGE):
        body = framed(data, metadata={})
        for name in ("Content-Digest", "Repr-Digest"):
            right = {name: content_digest(body)}
            assert web.put(f"{url}/keys/a/value", data=body, headers=right).status_code in (
                201,
                204,
            )
            wrong = {name: content_digest(data)}
            answer = web.put(f"{url}/keys/b/value", data=body, headers=wrong)
            assert answer.json()["type"] == "urn:kvstore:error:integrity"
    assert list(store.query_keys()) == ["a"]


def test_nothing_is_visible_until_all_is_stored(url: str, store: MemoryStore) -> None:
    store.set("a", b"old", metadata={"n": 1})
    before = store.get("a").record
    with Wire(url) as wire, Wire(url) as other:
        wire.head("PUT", "/keys/a/value", "Transfer-Encoding: chunked", "Expect: 100-continue")
        wire.socket.recv(100)  # 100: the server is taking the body
        wire.send(chunked(framed(LARGE, metadata={"n": 2})))
        for part in ("data", "value", "metadata", "auth"):
            assert other.ask("GET", f"/keys/a/{part}").headers["ETag"] == f'"{before.revision}"'
        assert store.get("a").record == before
        wire.send(b"0\r\n\r\n")
        assert wire.read("PUT").status == 204
    assert store.get("a").metadata == {"n": 2}
    assert store.to_bytes("a") == LARGE


def test_a_client_that_goes_away_stores_nothing(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        wire.head("PUT", "/keys/a/value", "Transfer-Encoding: chunked", "Expect: 100-continue")
        wire.socket.recv(100)
        wire.send(chunked(framed(LARGE, metadata={"n": 2})))
    assert ask(url, "GET", "/keys/a/value").status == 404
    assert list(store.query_keys()) == []


@pytest.fixture(scope="module")
def narrow() -> Iterator[str]:
    limits = Limits(metadata=1000, data=2000)
    with serve_background(MemoryStore(), limits=limits) as url:
        yield url


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (framed(b"x" * 2000, metadata={"a": "m" * 900}), 201),
        (framed(b"x" * 2001, metadata={}), 413),
        (b'{"metadata":' + b" " * 70_000 + b"{}}\n", 413),
        (b" " * 70_000, 413),
        (b" " * 66_000 + b"{}\ndata", 201),
    ],
)
def test_limits_of_values(
    narrow: str, web: requests.Session, body: bytes, status: int, is_chunked: bool
) -> None:
    web.delete(f"{narrow}/keys/a")
    answer = web.put(f"{narrow}/keys/a/value", data=iter([body]) if is_chunked else body)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["type"] == "urn:kvstore:error:too-large"


class PlainStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {
        **MemoryStore.capabilities,
        "atomic_set": False,
        "authorizing": False,
    }


def test_a_store_that_cannot_promise_it_has_no_values(web: requests.Session) -> None:
    with serve_background(PlainStore()) as url:
        web.put(f"{url}/keys/a/data", data=b"x")
        assert web.get(f"{url}/keys/a/value").status_code == 404
        assert web.put(f"{url}/keys/a/value", data=framed(metadata={})).status_code == 404


class OpenStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "authorizing": False}


def test_permissions_for_a_store_without_them(web: requests.Session) -> None:
    with serve_background(OpenStore()) as url:
        body = framed(b"x", permissions={"owned": ["a"]})
        answer = web.put(f"{url}/keys/a/value", data=body)
        assert answer.status_code == 501
        assert answer.json()["type"] == "urn:kvstore:error:unsupported-operation"
        assert web.get(f"{url}/keys/a/data").status_code == 404
