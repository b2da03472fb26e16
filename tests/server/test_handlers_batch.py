from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any, ClassVar

import pytest
import requests

from kvstore.errors import StorageFullError
from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.cases import each
from tests.server.sockets import Wire, ask, chunked

Served = tuple[MemoryStore | SQLiteStore, str]

DATA = bytes(range(256)) * 400  # more than a store keeps in its index
BASE64 = b64encode(DATA).decode()


def lines(*operations: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(operation).encode() + b"\n" for operation in operations)


def post(url: str, *operations: dict[str, Any], **headers: str) -> requests.Response:
    return requests.post(f"{url}/batch", data=lines(*operations), headers=headers, timeout=30)


def results(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n") or not answer.content
    return [json.loads(line) for line in answer.content.splitlines()]


def content(store: MemoryStore | SQLiteStore) -> dict[str, Any]:
    return {
        key: (store.to_bytes(key), store.record(key), store.get_permissions(key))
        for key in store.query_keys()
    }


def test_every_operation(journaled: Served) -> None:
    store, url = journaled
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    for key in ("b", "d", "e", "f", "g", "h"):
        store.set(key, b"old", metadata={"old": 1}, mimetype="text/plain")
    found = results(
        post(
            url,
            {"op": "set", "key": "a", "data": BASE64, "metadata": {"n": 1}, "digest": digest},
            {"op": "set", "key": "b", "data": "", "mimetype": "image/png"},
            {"op": "set_data", "key": "c", "data": "eA==", "permissions": {"owned": ["me"]}},
            {"op": "set_metadata", "key": "d", "metadata": {"new": 2}},
            {"op": "update_metadata", "key": "e", "metadata": {"new": 2}},
            {"op": "set_permissions", "key": "f", "permissions": {"owned": ["x"], "read": ["y"]}},
            {"op": "update_permissions", "key": "g", "permissions": {"read": ["y"]}},
            {"op": "delete", "key": "h"},
        )
    )
    assert [result["key"] for result in found] == list("abcdefgh")
    assert [result["status"] for result in found] == [201, 204, 201, 204, 204, 204, 204, 204]
    for result in found[:-1]:
        assert result["revision"] == store.record(result["key"]).revision
    assert found[-1] == {"key": "h", "status": 204, "revision": None}
    assert (store.to_bytes("a"), store.get_metadata("a")) == (DATA, {"n": 1})
    assert (store.to_bytes("b"), store.get_metadata("b")) == (b"", {})
    assert store.record("b").mimetype == "image/png"
    assert (store.to_bytes("c"), store.get_permissions("c")) == (b"x", {"owned": {"me"}})
    assert (store.to_bytes("d"), store.get_metadata("d")) == (b"old", {"new": 2})
    assert store.get_metadata("e") == {"old": 1, "new": 2}
    assert store.get_permissions("f") == {"owned": {"x"}, "read": {"y"}}
    assert store.get_permissions("g") == {"owned": {"local"}, "read": {"y"}}
    assert not store.exists("h")


def test_operations_are_done_in_their_order(journaled: Served) -> None:
    store, url = journaled
    found = results(
        post(
            url,
            {"op": "set", "key": "ü\n", "data": "MQ==", "if_none_match": "*"},
            {"op": "update_metadata", "key": "ü\n", "metadata": {"a": 1}, "if_match": "*"},
            {"op": "delete", "key": "ü\n"},
            {"op": "set_data", "key": "ü\n", "data": "Mg==", "if_none_match": "*"},
        )
    )
    assert [result["status"] for result in found] == [201, 204, 204, 201]
    assert store.to_bytes("ü\n") == b"2"
    assert [entry.action for entry in store.changes()] == ["set", "update", "delete", "set"]


def test_conditions(journaled: Served) -> None:
    store, url = journaled
    revision = store.set("a", b"x")
    assert post(url, {"op": "delete", "key": "a", "if_match": "other"}).status_code == 412
    found = results(
        post(url, {"op": "set_metadata", "key": "a", "metadata": {}, "if_match": revision})
    )
    assert found[0]["revision"] == store.record("a").revision != revision


GOOD = {"op": "set", "key": "good", "data": "eA=="}


@pytest.mark.parametrize(
    ("operation", "status", "kind"),
    [
        ({"op": "delete", "key": "none"}, 404, "key-not-found"),
        ({"op": "update_metadata", "key": "none", "metadata": {}}, 404, "key-not-found"),
        (
            {"op": "set_permissions", "key": "none", "permissions": {"owned": ["a"]}},
            404,
            "key-not-",
        ),
        ({"op": "set", "key": "old", "data": "", "if_none_match": "*"}, 412, "conflict"),
        ({"op": "set", "key": "none", "data": "", "if_match": "x"}, 412, "conflict"),
        ({"op": "set", "key": "old", "data": "", "digest": "sha256:" + "0" * 64}, 400, "integrity"),
    ],
)
def test_one_that_fails_undoes_all(
    journaled: Served, operation: dict[str, Any], status: int, kind: str
) -> None:
    store, url = journaled
    store.set("old", DATA, metadata={"a": 1})
    store.set("gone", b"x")
    before, sequence = content(store), store.sequence()
    change = {"op": "update_metadata", "key": "old", "metadata": {"b": 2}}
    answer = post(url, GOOD, change, {"op": "delete", "key": "gone"}, operation, GOOD)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"].startswith(f"urn:kvstore:error:{kind}")
    assert (problem["line"], problem["key"]) == (3, operation["key"])
    assert content(store) == before
    assert store.sequence() == sequence


@each(
    "line, kind",
    [
        (b"", "invalid-request"),
        (b"nonsense", "invalid-request"),
        (b"[]", "invalid-request"),
        (b"{}", "invalid-request"),
        (b'{"op":"set","op":"set","key":"a","data":""}', "invalid-request"),
        (b'{"op":"steal","key":"a"}', "invalid-request"),
        (b'{"op":["set"],"key":"a"}', "invalid-request"),
        (b'{"op":"delete"}', "invalid-request"),
        (b'{"op":"delete","key":1}', "invalid-request"),
        (b'{"op":"delete","key":""}', "invalid-key"),
        (b'{"op":"delete","key":"a/../b"}', "invalid-key"),
        (b'{"op":"delete","key":"a\\u0000"}', "invalid-key"),
        (b'{"op":"delete","key":"\\ud800"}', "invalid-request"),
        (b'{"op":"delete","key":"a","data":""}', "invalid-request"),
        (b'{"op":"delete","key":"a","if_none_match":"*"}', "invalid-request"),
        (b'{"op":"set","key":"a"}', "invalid-request"),
        (b'{"op":"set","key":"a","data":5}', "invalid-request"),
        (b'{"op":"set","key":"a","data":"a"}', "invalid-request"),
        (b'{"op":"set","key":"a","data":"eA\\n=="}', "invalid-request"),
        ('{"op":"set","key":"a","data":"ü"}'.encode(), "invalid-request"),
        (b'{"op":"set","key":"a","data":"","digest":"md5:0"}', "invalid-request"),
        (b'{"op":"set","key":"a","data":"","mimetype":"a\\nb"}', "invalid-request"),
        (b'{"op":"set","key":"a","data":"","metadata":[]}', "invalid-metadata"),
        (b'{"op":"set","key":"a","data":"","if_match":""}', "invalid-request"),
        (b'{"op":"set","key":"a","data":"","if_none_match":"x"}', "invalid-request"),
        (b'{"op":"set_data","key":"a","data":"","metadata":{}}', "invalid-request"),
        (b'{"op":"set_metadata","key":"a"}', "invalid-request"),
        (b'{"op":"set_metadata","key":"a","metadata":{},"data":""}', "invalid-request"),
        (
            b'{"op":"update_metadata","key":"a","metadata":{},"if_none_match":"*"}',
            "invalid-request",
        ),
        (b'{"op":"set_permissions","key":"a","permissions":{}}', "invalid-permissions"),
        (b'{"op":"set_permissions","key":"a","permissions":{"owned":"me"}}', "invalid-permissions"),
        (b'{"op":"update_permissions","key":"a","permissions":[]}', "invalid-permissions"),
    ],
)
def test_what_is_malformed_is_refused_before_anything_is_done(
    url: str, store: MemoryStore, line: bytes, kind: str
) -> None:
    sequence = store.sequence()
    answer = ask(url, "POST", "/batch", body=lines(GOOD) + line + b"\n" + lines(GOOD))
    assert answer.problem["type"] == f"urn:kvstore:error:{kind}"
    assert answer.status == 400
    assert answer.problem["line"] == 1
    assert kind == "invalid-key" or answer.problem.get("key") in (None, "a")
    assert not store.exists("good")
    assert store.sequence() == sequence


def test_an_empty_batch(journaled: Served) -> None:
    assert results(post(journaled[1])) == []


def test_the_last_line_need_not_be_ended(url: str, store: MemoryStore) -> None:
    answer = ask(url, "POST", "/batch", body=lines(GOOD).rstrip())
    assert answer.status == 200
    assert store.exists("good")


def test_a_body_in_chunks_and_one_that_is_asked_for(url: str, store: MemoryStore) -> None:
    with Wire(url) as wire:
        wire.head("POST", "/batch", "Transfer-Encoding: chunked")
        wire.send(chunked(lines(GOOD)[:9], lines(GOOD)[9:]) + b"0\r\n\r\n")
        assert wire.read("POST").status == 200
        body = lines({"op": "delete", "key": "good"})
        wire.head("POST", "/batch", f"Content-Length: {len(body)}", "Expect: 100-continue")
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert wire.read("POST").status == 200
    assert not store.exists("good")


def test_a_batch_that_breaks_off_does_nothing(url: str, store: MemoryStore) -> None:
    body = lines(GOOD, GOOD)
    with Wire(url) as wire:
        wire.head("POST", "/batch", f"Content-Length: {len(body)}")
        wire.send(lines(GOOD))
    assert ask(url, "GET", "/keys/good/data").status == 404


def test_the_digest_of_a_batch(url: str, store: MemoryStore) -> None:
    body = lines(GOOD)
    for data, status in ((b"other", 400), (body, 200)):
        digest = b64encode(hashlib.sha256(data).digest()).decode()
        answer = ask(url, "POST", "/batch", f"Content-Digest: sha-256=:{digest}:", body=body)
        assert answer.status == status
        assert store.exists("good") == (status == 200)


def test_limits() -> None:
    limits = Limits(batch=3, batch_bytes=2000, data=10, metadata=20)
    with MemoryStore() as store, serve_background(store, limits=limits) as url:
        many = [{"op": "set", "key": f"{n}", "data": ""} for n in range(4)]
        assert post(url, *many).json()["type"] == "urn:kvstore:error:too-large"
        long = {"op": "set_metadata", "key": "a", "metadata": {"a": "x" * 20}}
        problem = post(url, GOOD, long).json()
        assert (problem["status"], problem["line"], problem["key"]) == (413, 1, "a")
        large = {"op": "set", "key": "a", "data": b64encode(b"x" * 11).decode()}
        assert post(url, large).status_code == 413
        answer = ask(url, "POST", "/batch", body=b" " * 2001)
        assert answer.problem["status"] == 413
        assert "line" not in answer.problem
        assert list(store.query_keys()) == []
        assert len(results(post(url, *many[:3]))) == 3


def test_another_site_cannot_send_one(url: str, store: MemoryStore) -> None:
    for line in ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site"):
        assert ask(url, "POST", "/batch", line, body=lines(GOOD)).problem["status"] == 403
    assert not store.exists("good")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_methods(url: str, store: MemoryStore, method: str) -> None:
    answer = ask(url, method, "/batch")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST, OPTIONS")
    assert ask(url, "OPTIONS", "/batch").headers["Allow"] == "POST, OPTIONS"


class FullStore(MemoryStore):
    """Has no room left when a transaction is to be committed."""

    def _commit(self) -> None:
        raise StorageFullError("/secret/disk is full.")


def test_a_commit_that_fails_is_the_fault_of_no_line() -> None:
    with FullStore() as store, serve_background(store) as url:
        answer = post(url, GOOD)
        assert answer.status_code == 507
        assert "line" not in answer.json()
        assert "secret" not in answer.text
        assert not store.exists("good")


class OpenStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "authorizing": False}


def test_a_store_without_permissions() -> None:
    with OpenStore() as store, serve_background(store) as url:
        operation = {"op": "set", "key": "a", "data": "", "permissions": {"owned": ["x"]}}
        problem = post(url, GOOD, operation).json()
        assert (problem["status"], problem["line"]) == (501, 1)
        assert list(store.query_keys()) == []
