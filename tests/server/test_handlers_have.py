from __future__ import annotations

import json
from typing import Any

import requests

from kvstore.compose.authorized import AuthorizedStore
from kvstore.hashing import sha256
from kvstore.server import Limits, serve_background
from kvstore.server.access.callers import Access, Authenticator, Caller
from kvstore.stores.memory import MemoryStore
from tests.server.sockets import Wire, chunked

DATA = b"data"
DIGEST = sha256(DATA)


def lines(*claims: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(claim).encode() + b"\n" for claim in claims)


def ask(web: requests.Session, url: str, *claims: dict[str, Any]) -> list[tuple[str, str, Any]]:
    answer = web.post(f"{url}/have", data=lines(*claims))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Cache-Control"] == "no-store"
    rows = [json.loads(line) for line in answer.content.splitlines()]
    return [(row["key"], row["status"], row["revision"]) for row in rows]


def test_each_line_is_answered_in_its_place(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    revision = store.set("a", DATA, metadata={"n": 1})
    same = {"key": "a", "digest": DIGEST, "metadata": {"n": 1.0}}
    assert ask(
        web,
        url,
        {"key": "b\n", "digest": DIGEST},
        same,
        {"key": "a", "digest": DIGEST},
        {"key": "a", "digest": sha256(b"")},
        same,
        {"key": "a", "digest": sha256(b""), "base": "old"},
        {"key": "b", "digest": DIGEST, "base": "old"},
    ) == [
        ("b\n", "need_data", None),
        ("a", "have", revision),
        ("a", "need_metadata", revision),
        ("a", "need_data", revision),
        ("a", "have", revision),
        ("a", "conflict", revision),
        ("b", "conflict", None),
    ]
    assert ask(web, url) == []


class Readers(Authenticator):
    async def identify(self, bearer: str) -> Caller | None:
        return Caller(bearer, bearer, frozenset({bearer}), frozenset({"read"}))


def test_who_may_only_read_may_ask_and_is_told_what_he_may_read(web: requests.Session) -> None:
    with (
        MemoryStore(user_tag="ann") as store,
        serve_background(store, access=Access([Readers()])) as url,
    ):
        revision = store.set("a", DATA)
        claim = {"key": "a", "digest": DIGEST, "revision": revision}
        assert web.post(f"{url}/have", data=lines(claim)).status_code == 401
        for user, wanted in (("ann", ("a", "have", revision)), ("bob", ("a", "need_data", None))):
            web.headers["Authorization"] = f"Bearer {user}"
            assert ask(web, url, claim) == [wanted]


def test_hidden_keys_are_as_missing_ones(web: requests.Session) -> None:
    with (
        MemoryStore(user_tag="ann") as store,
        serve_background(AuthorizedStore(store, "bob")) as url,
    ):
        revision = store.set("hidden", DATA, metadata={"n": 1})
        facts = {"digest": DIGEST, "metadata": {"n": 1}, "revision": revision}
        for more in ({}, {"base": revision}):
            hidden, missing = ask(
                web, url, {"key": "hidden", **facts, **more}, {"key": "missing", **facts, **more}
            )
            assert hidden[1:] == missing[1:]


def test_what_is_malformed_is_told_with_its_line(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    for line in (
        b"",
        b"{}",
        b"[]",
        b'{"key": 5}',
        b'{"key": ""}',
        b'{"key": "a", "kind": "b"}',
        b'{"key": "a", "digest": "sha256:AB"}',
        b'{"key": "a", "base": ""}',
        b'{"key": "a", "metadata": []}',
        b'{"key": "a", "metadata": {"n": NaN}}',
    ):
        answer = web.post(f"{url}/have", data=b'{"key": "a"}\n' + line + b'\n{"key": "a"}')
        assert (answer.status_code, answer.json()["line"]) == (400, 1), line


def test_there_are_bounds(web: requests.Session) -> None:
    limits = Limits(have=2, have_bytes=1 << 18, metadata=100)
    with MemoryStore() as store, serve_background(store, limits=limits) as url:
        line = b'{"key": "a"}\n'
        assert web.post(f"{url}/have", data=line * 2).status_code == 200
        many = web.post(f"{url}/have", data=line * 3)
        assert (many.status_code, many.json()["line"]) == (413, 2)
        assert web.post(f"{url}/have", data=b" " * (1 << 17)).status_code == 413
        assert web.post(f"{url}/have", data=b" " * ((1 << 18) + 1)).status_code == 413
        assert web.get(f"{url}/have").status_code == 405


def test_it_is_read_as_it_comes(url: str, store: MemoryStore) -> None:
    store.set("a", DATA)
    body = lines({"key": "a"}, {"key": "b"})
    with Wire(url) as wire:
        wire.head("POST", "/have", "Transfer-Encoding: chunked")
        wire.send(chunked(body[:5], body[5:20], body[20:]) + b"0\r\n\r\n")
        answer = wire.read("POST")
    assert answer.status == 200
    assert [json.loads(line)["key"] for line in answer.body.splitlines()] == ["a", "b"]


def test_what_is_altered_on_its_way_is_refused(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    headers = {"Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"}
    assert web.post(f"{url}/have", data=lines({"key": "a"}), headers=headers).status_code == 400
