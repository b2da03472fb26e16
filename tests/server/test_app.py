from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    InvalidKeyError,
    InvalidRequestError,
    StorageFullError,
    StoreError,
    UnavailableError,
)
from kvstore.keys import check_key
from kvstore.server import create_app, serve_background
from kvstore.server.running.run import running
from kvstore.store import ReadOnlyStore
from kvstore.stores.memory import MemoryStore
from kvstore.values import Record, Value
from kvstore.writes import Change, Condition, Written, missing
from tests.cases import each
from tests.corpora import keys as corpus_keys
from tests.server.sockets import Wire, ask

SAFE = "/~!$&'()*+,;=:@"


# -- keys in URLs --------------------------------------------------------------------------


def is_legal(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKeyError:
        return False
    return True


def spelled(key: str) -> str:
    return quote(key.encode("utf-8", "surrogatepass"), safe=SAFE)


CORPUS = [key for _, key in corpus_keys() if len(key) < 3000]


def test_legal_keys_come_through(url: str, store: MemoryStore) -> None:
    legal = sorted({key for key in CORPUS if is_legal(key)})
    assert len(legal) > 300
    with Wire(url) as wire:
        for number, key in enumerate(legal):
            answer = wire.ask("PUT", f"/keys/{spelled(key)}/data", body=b"%d" % number)
            assert (answer.status, key) == (201, key)
        assert list(store.query_keys()) == legal
        for number, key in enumerate(legal):
            assert wire.ask("GET", f"/keys/{spelled(key)}/data").body == b"%d" % number
            assert wire.ask("DELETE", f"/keys/{spelled(key)}").status == 204
    assert list(store.query_keys()) == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_illegal_keys_are_refused(url: str, store: MemoryStore, method: str) -> None:
    part = "" if method == "DELETE" else "/data"
    illegal = sorted({key for key in CORPUS if not is_legal(key) and len(spelled(key)) < 8000})
    assert len(illegal) > 30
    for key in illegal:
        answer = ask(url, method, f"/keys/{spelled(key)}{part}")
        assert answer.problem["type"] == "urn:kvstore:error:invalid-key"
    assert list(store.query_keys()) == []


@each(
    "path, key",
    [
        ("a", "a"),
        ("/a", "/a"),
        ("//", "//"),
        ("a/", "a/"),
        ("a//b", "a//b"),
        ("a/data", "a/data"),
        ("a/data/metadata", "a/data/metadata"),
        ("data", "data"),
        ("a%2Fb", "a/b"),
        ("a%2fdata", "a/data"),
        ("%2F", "/"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%3Fb%23c", "a?b#c"),
        ("%41", "A"),
        ("%C3%A9", "é"),
        ("%25zz", "%zz"),
        ("a;b=c@d:e", "a;b=c@d:e"),
    ],
)
def test_what_stands_for_which_key(url: str, store: MemoryStore, path: str, key: str) -> None:
    assert ask(url, "PUT", f"/keys/{path}/data", body=b"x").status == 201
    assert list(store.query_keys()) == [key]
    assert ask(url, "GET", f"/keys/{path}/metadata").body == b"{}"
    assert ask(url, "DELETE", f"/keys/{path}").status == 204
    assert list(store.query_keys()) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "a/../b",
        "%2e%2e",
        "a/%2E/b",
        "%",
        "%4",
        "%zz",
        "%FF",
        "%C3",
        "%ED%A0%80",
        "%00",
        "a" * 1025,
    ],
)
def test_what_stands_for_no_key(url: str, store: MemoryStore, path: str) -> None:
    for method, target in (("PUT", f"/keys/{path}/data"), ("DELETE", f"/keys/{path}")):
        answer = ask(url, method, target)
        assert answer.status == 400
        assert answer.problem["type"] == "urn:kvstore:error:invalid-key"


def test_the_longest_key(url: str, store: MemoryStore) -> None:
    for key in ("a" * 1024, "é" * 512, "\U0001f600" * 256):
        assert ask(url, "PUT", f"/keys/{quote(key)}/data", body=b"x").status == 201
    assert len(list(store.query_keys())) == 3


# -- methods and paths ---------------------------------------------------------------------


@each(
    "target",
    [
        "/keys",
        "/keysx/a/data",
        "/nothing",
        "/query/",
        "/query/x",
        "/.well-known",
        "/Keys/a/data",
    ],
)
@each("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_unknown_paths(url: str, store: MemoryStore, target: str, method: str) -> None:
    answer = ask(url, method, target)
    assert answer.status == 404
    if method != "HEAD":
        assert answer.problem["title"] == "Not Found"


@pytest.mark.parametrize("target", ["/keys/a/nothing", "/keys/a/Data", "/keys/a/data/", "/keys/a/"])
def test_unknown_parts(url: str, store: MemoryStore, target: str) -> None:
    store.set_data("a", b"x")
    for method in ("GET", "PUT", "POST", "PATCH"):
        answer = ask(url, method, target)
        assert answer.problem["status"] == 404
        assert "data, metadata, auth, value" in answer.problem["detail"]


@pytest.mark.parametrize(
    ("target", "allow"),
    [
        ("/keys/a/data", "GET, HEAD, PUT, OPTIONS"),
        ("/keys/a/value", "GET, HEAD, PUT, OPTIONS"),
        ("/keys/a/metadata", "GET, HEAD, PUT, POST, OPTIONS"),
        ("/keys/a/auth", "GET, HEAD, PUT, POST, OPTIONS"),
        ("/keys/a", "DELETE, OPTIONS"),
        ("/query", "GET, HEAD, OPTIONS"),
        ("/.well-known/kvstore", "GET, HEAD, OPTIONS"),
    ],
)
def test_methods(url: str, store: MemoryStore, target: str, allow: str) -> None:
    options = ask(url, "OPTIONS", target)
    assert (options.status, options.headers["Allow"], options.body) == (204, allow, b"")
    for method in ("GET", "PUT", "POST", "PATCH", "PROPFIND", "TRACE"):
        if method not in allow:
            answer = ask(url, method, target)
            assert answer.problem["type"] == "urn:kvstore:error:unsupported-operation"
            assert (answer.status, answer.headers["Allow"]) == (405, allow)


class FrozenStore(ReadOnlyStore):
    def _get(self, key: str) -> Value:
        raise missing(key)

    def _records(self, prefix: str, after: str | None) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize("kind", [FrozenStore, MemoryStore])
def test_a_store_that_can_only_be_read(kind: type[ReadOnlyStore], web: requests.Session) -> None:
    store = kind()
    store.capabilities = {**store.capabilities, "readonly": True, "authorizing": False}  # type: ignore[misc]
    with serve_background(store) as url:
        for part in ("data", "metadata", "value"):
            assert ask(url, "OPTIONS", f"/keys/a/{part}").headers["Allow"] == "GET, HEAD, OPTIONS"
            assert ask(url, "PUT", f"/keys/a/{part}", body=b"{}\n").status == 405
            assert ask(url, "GET", f"/keys/a/{part}").status == 404
        assert ask(url, "DELETE", "/keys/a").status == 404
        assert web.get(f"{url}/.well-known/kvstore").json()["store"]["readonly"] is True


def test_other_paths() -> None:
    store = MemoryStore()
    app = create_app(store, base="/v1.0/objects", query="/v1.0/find")
    with store, running(app) as url:
        assert ask(url, "PUT", "/v1.0/objects/a/data", body=b"x").status == 201
        assert ask(url, "GET", "/v1.0/find").body == b"a\n"
        assert ask(url, "GET", "/keys/a/data").status == 404
        profile = json.loads(ask(url, "GET", "/.well-known/kvstore").body)["profile"]
        assert (profile["base"], profile["query"]) == ("../v1.0/objects", "../v1.0/find")


def test_paths_that_are_none() -> None:
    for base, query in (
        ("keys", "/q"),
        ("/keys/", "/q"),
        ("/", "/q"),
        ("/a%20b", "/q"),
        ("/..", "/q"),
    ):
        with pytest.raises(InvalidRequestError):
            create_app(MemoryStore(), base=base, query=query)
    with pytest.raises(InvalidRequestError, match="meets"):
        create_app(MemoryStore(), query="/keys/query")


# -- errors --------------------------------------------------------------------------------


class FailingStore(MemoryStore):
    error: Exception = RuntimeError("/secret/path")

    def _get(self, key: str) -> Value:
        raise self.error

    def _record(self, key: str) -> Record:
        raise self.error

    def _write(self, key: str, change: Change) -> Written:
        raise self.error

    def _delete(self, key: str, condition: Condition) -> dict[str, Any]:
        raise self.error


@pytest.fixture(scope="module")
def failing() -> Iterator[tuple[FailingStore, str]]:
    store = FailingStore()
    with store, serve_background(store) as url:
        yield store, url


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("/secret/path"), StoreError("/secret/path"), StopIteration("/secret/path")],
)
def test_unexpected_errors_are_logged_and_not_told(
    failing: tuple[FailingStore, str],
    method: str,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, url = failing
    store.error = error
    answer = ask(url, method, "/keys/a" if method == "DELETE" else "/keys/a/data")
    assert answer.status == 500
    assert b"secret" not in answer.body
    records = [record for record in caplog.records if record.name == "kvstore.server"]
    assert [record.levelname for record in records] == ["ERROR"]
    assert records[0].exc_info is not None
    assert "secret" in caplog.text or isinstance(error, StopIteration)


@pytest.mark.parametrize(
    ("error", "status", "fields"),
    [
        (AuthenticationError("Who are you?"), 401, {"WWW-Authenticate": "Bearer"}),
        (AuthorizationError("No."), 403, {}),
        (UnavailableError("Busy.", retry_after=2.5), 503, {"Retry-After": "3"}),
        (UnavailableError("Busy.", status=429), 429, {"Retry-After": "1"}),
        (StorageFullError("Full."), 507, {}),
    ],
)
def test_errors_of_the_store_keep_their_meaning(
    failing: tuple[FailingStore, str], error: StoreError, status: int, fields: dict[str, str]
) -> None:
    store, url = failing
    store.error = error
    answer = ask(url, "GET", "/keys/a/data")
    assert answer.problem["status"] == status
    for name, value in fields.items():
        assert answer.headers[name] == value
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_store_that_is_not_connected_is_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    with store, serve_background(store) as url:
        store.disconnect()
        answer = ask(url, "GET", "/keys/a/data")
        assert answer.problem["type"] == "urn:kvstore:error:not-connected"
    assert "MemoryStore is not connected" in caplog.text


# -- among other applications --------------------------------------------------------------


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def broken(_request: Request) -> Response:
    raise RuntimeError("/secret/path")


def test_other_routes_beside_the_store(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    app = create_app(store)
    app.add_route("/hello", hello)
    app.add_route("/broken", broken)
    with store, running(app) as url:
        assert ask(url, "GET", "/hello").body == b"hello"
        assert ask(url, "GET", "/keys/a/data").status == 404
        refused = ask(url, "POST", "/hello")
        assert refused.problem["detail"] == "Method Not Allowed"
        assert "GET" in refused.headers["Allow"]
        answer = ask(url, "GET", "/broken")
        assert (answer.status, b"secret" in answer.body) == (500, False)


def test_mounted_below_a_path(web: requests.Session) -> None:
    store = MemoryStore()
    app = Starlette(routes=[Mount("/deep/er", create_app(store))])
    with store, running(app) as url:
        assert ask(url, "PUT", "/deep/er/keys/a%2Fdata/data", body=b"x").status == 201
        assert list(store.query_keys()) == ["a/data"]
        assert ask(url, "GET", "/deep/er/query").body == b"a/data\n"
        document = json.loads(ask(url, "GET", "/deep/er/.well-known/kvstore").body)
        assert document["profile"]["base"] == "../keys"
        assert ask(url, "GET", "/keys/a/data").status == 404
