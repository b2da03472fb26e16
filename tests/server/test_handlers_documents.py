from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
import requests

from kvstore.documents import MAX_METADATA_BYTES, parse_object
from kvstore.errors import InvalidRequestError
from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import each, empty
from tests.corpora import Entry, entries, raw
from tests.server.sockets import ask

# -- metadata ------------------------------------------------------------------------------


def test_metadata_of_a_key(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set("a", b"x", metadata={"é": {"b": [1, None]}})
    answer = web.get(f"{url}/keys/a/metadata")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["ETag"] == f'"{store.get("a").revision}"'
    assert "Last-Modified" in answer.headers
    assert answer.json() == {"é": {"b": [1, None]}}
    head = web.head(f"{url}/keys/a/metadata")
    assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}
    assert head.content == b""


def test_put_replaces_and_creates(url: str, store: MemoryStore, web: requests.Session) -> None:
    created = web.put(f"{url}/keys/a/metadata", data='{"a": 1}')
    assert created.status_code == 201
    assert created.headers["ETag"] == f'"{store.get("a").revision}"'
    assert store.to_bytes("a") == b""
    store.set_data("a", b"data")
    replaced = web.put(f"{url}/keys/a/metadata", data='{"b": 2}')
    assert replaced.status_code == 204
    assert replaced.headers["ETag"] == f'"{store.get("a").revision}"'
    assert "Repr-Digest" not in replaced.headers
    assert store.get_metadata("a") == {"b": 2}
    assert store.to_bytes("a") == b"data"


def test_post_updates(url: str, store: MemoryStore, web: requests.Session) -> None:
    assert web.post(f"{url}/keys/a/metadata", data='{"a": 1}').status_code == 404
    assert not store.exists("a")
    store.set_metadata("a", {"a": 1, "b": {"c": 1}})
    assert web.post(f"{url}/keys/a/metadata", data='{"b": {"d": null}}').status_code == 204
    assert store.get_metadata("a") == {"a": 1, "b": {"d": None}}


def test_missing_metadata(url: str, store: MemoryStore, web: requests.Session) -> None:
    for part in ("metadata", "auth"):
        answer = web.get(f"{url}/keys/a/{part}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:kvstore:error:key-not-found"


def is_strict(body: bytes) -> bool:
    try:
        parse_object(body)
    except InvalidRequestError:
        return False
    return True


@each("entry", list(entries("nasty_metadata")), ids=lambda entry: entry["id"])
def test_metadata_corpus(url: str, store: MemoryStore, entry: Entry) -> None:
    empty(store)
    store.set("a", b"x", metadata={"old": 1})
    lines = [f"Content-Type: {entry['content_type']}"] if "content_type" in entry else []
    if "gzip" in entry["note"]:
        lines = ["Content-Encoding: gzip"]
    part = "auth" if entry["cls"] == "permissions" else "metadata"
    method = "POST" if entry["cls"] == "update" else "PUT"
    body = raw(entry)
    answer = ask(url, method, f"/keys/a/{part}", *lines, body=body)
    assert answer.status // 100 in (2, 4)
    if entry["expect"] == "accept":
        assert answer.status == 204
    elif entry["expect"] == "reject":
        assert answer.status in (400, 413, 415)
    if answer.status == 204 and part == "metadata":
        merged = {"old": 1} if method == "POST" else {}
        assert store.get_metadata("a") == {**merged, **json.loads(body)}
    if answer.status // 100 == 4:
        assert answer.problem["status"] == answer.status
        assert store.get_metadata("a") == {"old": 1}
        assert store.get_permissions("a") == {"owned": {"alice"}}
        assert not is_strict(body) or part == "auth" or answer.status in (413, 415)


@each("body", [b"", b"nonsense", b"[]", b'{"a":1,"a":2}', b"\xff"])
@each("part", ["metadata", "auth"])
@each("method", ["PUT", "POST"])
def test_what_is_no_document_is_told_as_what_it_should_be(
    url: str, store: MemoryStore, web: requests.Session, body: bytes, part: str, method: str
) -> None:
    store.set_metadata("a", {"old": 1})
    problem = web.request(method, f"{url}/keys/a/{part}", data=body).json()
    kind = "permissions" if part == "auth" else "metadata"
    assert problem["type"] == f"urn:kvstore:error:invalid-{kind}"
    assert problem["key"] == "a"


def test_metadata_that_breaks_the_schema_is_422(web: requests.Session) -> None:
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    with serve_background(MemoryStore(metadata_schema=schema)) as url:
        answer = web.put(f"{url}/keys/a/metadata", data='{"a": [1, "x"]}')
        assert answer.status_code == 422
        assert answer.json()["pointer"] == "/a/1"
        value = web.put(f"{url}/keys/a/value", data=b'{"metadata": {"a": [1, "x"]}}\ndata')
        assert value.status_code == 422
        assert web.get(f"{url}/keys/a/data").status_code == 404


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_limit_of_documents(web: requests.Session, is_chunked: bool) -> None:
    limits = Limits(metadata=100)
    with serve_background(MemoryStore(), limits=limits) as url:
        for size, status in ((100, 201), (101, 413), (300_000, 413)):
            body = b'{"a":"' + b"x" * (size - 8) + b'"}'
            web.delete(f"{url}/keys/a")
            sent: Any = iter([body]) if is_chunked else body
            answer = web.put(f"{url}/keys/a/metadata", data=sent)
            assert answer.status_code == status
            if status == 413:
                assert answer.json()["type"] == "urn:kvstore:error:too-large"


def test_the_limit_may_be_as_high_as_that_of_stores(web: requests.Session) -> None:
    limits = Limits(metadata=MAX_METADATA_BYTES)
    with serve_background(MemoryStore(), limits=limits) as url:
        body = b'{"a":"' + b"x" * (MAX_METADATA_BYTES - 8) + b'"}'
        assert web.put(f"{url}/keys/a/metadata", data=body).status_code == 201
        assert web.get(f"{url}/keys/a/metadata").content == body


# -- permissions ---------------------------------------------------------------------------


def test_permissions_of_a_key(url: str, store: MemoryStore, web: requests.Session) -> None:
    revision = store.set_data("a", b"x")
    answer = web.get(f"{url}/keys/a/auth")
    assert (answer.status_code, answer.json()) == (200, {"owned": ["alice"]})
    assert answer.headers["ETag"] == f'"{revision}"'
    replaced = web.put(f"{url}/keys/a/auth", data='{"owned": ["b", "a"], "read": []}')
    assert replaced.status_code == 204
    assert replaced.headers["ETag"] == f'"{store.get("a").revision}"' != answer.headers["ETag"]
    assert store.get_permissions("a") == {"owned": {"a", "b"}, "read": set()}
    assert web.post(f"{url}/keys/a/auth", data='{"read": ["public", "c"]}').status_code == 204
    assert web.get(f"{url}/keys/a/auth").json() == {"owned": ["a", "b"], "read": ["c", "public"]}


@pytest.mark.parametrize("body", ["{}", '{"owned": []}', '{"read": ["x"]}', '{"owned": "me"}'])
def test_permissions_without_an_owner(
    url: str, store: MemoryStore, web: requests.Session, body: str
) -> None:
    store.set_data("a", b"x")
    answer = web.put(f"{url}/keys/a/auth", data=body)
    assert answer.json()["type"] == "urn:kvstore:error:invalid-permissions"
    assert store.get_permissions("a") == {"owned": {"alice"}}


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_permissions_make_no_keys(
    url: str, store: MemoryStore, web: requests.Session, method: str
) -> None:
    answer = web.request(method, f"{url}/keys/a/auth", data='{"owned": ["me"]}')
    assert answer.status_code == 404
    assert not store.exists("a")


class OpenStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "authorizing": False}


def test_a_store_without_permissions_has_no_such_part(web: requests.Session) -> None:
    with serve_background(OpenStore()) as url:
        web.put(f"{url}/keys/a/data", data=b"x")
        assert web.get(f"{url}/keys/a/auth").status_code == 404
        document = web.get(f"{url}/.well-known/kvstore").json()
        assert "permissions" not in document["profile"]["parts"]
