"""Two users of one server: what one does with keys of his own is nothing to the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from kvstore.errors import AuthorizationError, KeyNotFoundError
from kvstore.opening import open_store
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from tests.server import tus
from tests.server.access import Lab, lab_of
from tests.server.events import Stream
from tests.server.sockets import Answer, Wire

RECORDS = "Accept: application/x-ndjson"


@pytest.fixture(params=["memory", "sqlite"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    store: Any = (
        MemoryStore(keep_versions=5)
        if request.param == "memory"
        else SQLiteStore(tmp_path / "store", keep_versions=5)
    )
    with lab_of(store, tmp_path) as lab:
        yield lab


def plain(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return all of an answer that may differ: neither when it was, nor which one."""
    fields = [(n, v) for n, v in answer.headers.items() if n not in ("date", "x-request-id")]
    body = answer.body
    if answer.headers["Content-Type"] == "application/problem+json" and body:
        document = json.loads(body)
        fields.remove(("content-length", str(len(body))))
        document.pop("request_id", None)
        body = json.dumps(document).encode()
    return answer.status, fields, body


# -- what a stranger finds -------------------------------------------------------------------

REVISION = "%revision%"
CONDITIONS = (
    [],
    ["If-None-Match: *"],
    ["If-Match: *"],
    [f'If-Match: "{REVISION}"'],
    [f'If-None-Match: "{REVISION}"'],
    ["If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"],
    ["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"],
    ["Range: bytes=0-1"],
    ["Range: bytes=99-"],
    ["Range: bytes=0-1", f'If-Range: "{REVISION}"'],
)
QUESTIONS: list[tuple[str, str, bytes]] = [
    *((method, f"/keys/{{key}}/{part}", b"") for method in ("GET", "HEAD")
      for part in ("data", "metadata", "value", "auth", "versions",
                   "data?$version=%revision%", "value?$version=%revision%")),
    ("DELETE", "/keys/{key}", b""),
    ("POST", "/keys/{key}/metadata", b'{"n": 1}'),
    ("PUT", "/keys/{key}/auth", b'{"owned": ["bob"]}'),
    ("POST", "/keys/{key}/auth", b'{"read": ["bob"]}'),
    ("POST", "/keys/{key}/versions", b'{"restore": "%revision%"}'),
    ("GET", "/query?$prefix={key}", b""),
    ("GET", "/query?$prefix={key}&$count=true", b""),
    ("GET", "/query?$glob={key}&$limit=1", b""),
    ("GET", "/query?n=1&$order=-n", b""),
    ("POST", "/have", b'{"key": "{key}", "revision": "%revision%"}'),
    ("POST", "/batch", b'{"op": "delete", "key": "{key}"}'),
    ("POST", "/batch", b'{"op": "update_metadata", "key": "{key}", "metadata": {"n": 1}}'),
    ("POST", "/batch",
     b'{"op": "set_permissions", "key": "{key}", "permissions": {"owned": ["bob"]}}'),
]  # fmt: skip
#: What would make the key. That it cannot be made cannot be hidden, but for these conditions.
MAKING = ["data", "metadata", "value"]


def test_a_hidden_key_is_as_one_that_is_not_there_to_the_byte(lab: Lab) -> None:
    lab.ask("ann", "PUT", "/keys/hidden/value", body=b'{"metadata": {"n": 1}}\ndata')
    revision = lab.store.record("hidden").revision or ""
    asked = [(m, t, b, c) for m, t, b in QUESTIONS for c in CONDITIONS]
    asked += [
        ("PUT", f"/keys/{{key}}/{part}", b"{}\n", lines)
        for part in MAKING
        for lines in (["If-Match: *"], [f'If-Match: "{REVISION}"'])
    ]
    for method, target, body, lines in asked:
        found = []
        for key in ("hidden", "absent"):

            def filled(text: str, key: str = key) -> str:
                return text.replace("{key}", key).replace(REVISION, quote(revision))

            answer = lab.ask(
                "bob", method, filled(target), *map(filled, lines),
                body=filled(body.decode()).encode(),
            )  # fmt: skip
            status, fields, told = plain(answer)
            found.append((status, fields, told.replace(key.encode(), b"a key")))
        assert found[0] == found[1], (method, target, lines)
        assert found[0][0] in (200, 404, 412), (method, target, lines)
    for part in MAKING:
        answer = lab.ask("bob", "PUT", f"/keys/hidden/{part}", body=b"{}\n")
        assert answer.status == 403
        assert b"revision" not in answer.body
        assert answer.headers["ETag"] is None
    assert lab.store.to_bytes("hidden") == b"data"
    assert lab.store.get_permissions("hidden") == {"owned": {"ann"}}


# -- every change by one, and all that the other can look at ---------------------------------


def batch(lab: Lab) -> None:
    lines = [
        {"op": "set", "key": "ann/4", "data": "eA==", "metadata": {"n": 4}},
        {"op": "update_metadata", "key": "ann/1", "metadata": {"n": 5}},
        {"op": "delete", "key": "ann/2"},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert lab.ask("ann", "POST", "/batch", body=body).status == 200


def upload(lab: Lab) -> None:
    line = lab.line("ann")
    path = tus.begin(lab.url, 4, tus.named("ann/5"), line)
    assert tus.patch(lab.url, path, 0, b"data", line).status == 204


def restore(lab: Lab) -> None:
    oldest = lab.store.versions("ann/1")[-1].revision
    body = json.dumps({"restore": oldest}).encode()
    assert lab.ask("ann", "POST", "/keys/ann/1/versions", body=body).status == 204


CHANGES: list[Callable[[Lab], object]] = [
    lambda lab: lab.put("ann", "ann/1"),
    lambda lab: lab.put("ann", "ann/1", b"other"),
    lambda lab: lab.put("ann", "ann/2"),
    lambda lab: lab.ask("ann", "PUT", "/keys/ann/3/metadata", body=b'{"n": 3}'),
    lambda lab: lab.ask("ann", "POST", "/keys/ann/3/metadata", body=b'{"m": 3}'),
    lambda lab: lab.ask("ann", "PUT", "/keys/ann/3/value", body=b"{}\nx"),
    lambda lab: lab.ask("ann", "POST", "/keys/ann/3/auth", body=b'{"read": ["eve"]}'),
    batch,
    upload,
    restore,
    lambda lab: lab.ask("ann", "DELETE", "/keys/ann/1"),
]
LOOKS = [
    ("GET", "/query", []),
    ("GET", "/query", [RECORDS]),
    ("GET", "/query?$count=true", []),
    ("GET", "/query?$limit=1", [RECORDS]),
    ("GET", "/query?$limit=2&$order=-n", [RECORDS]),
    ("GET", "/query?$delimiter=/", [RECORDS]),
    ("GET", '/query?$where={"n":{"exists":true}}&$count=true', []),
    ("GET", "/changes", []),
    ("GET", "/changes?limit=2", []),
    *(("GET", f"/keys/ann/{n}/{part}", []) for n in range(1, 6) for part in ("data", "versions")),
    ("GET", "/keys/bob/1/value", []),
    ("GET", "/.well-known/kvstore", []),
]


def view(lab: Lab) -> list[Any]:
    found = []
    for method, target, lines in LOOKS:
        status, fields, body = plain(lab.ask("bob", method, target, *lines))
        # Numbers of changes are the store's: that something is changed somewhere is no secret.
        found.append((status, [f for f in fields if f[0] != "kvstore-sequence"], body))
    return found


def test_nothing_that_one_does_is_seen_by_the_other(lab: Lab) -> None:
    lab.put("bob", "bob/1")
    before = view(lab)
    assert b"bob/1" in before[0][2]
    with Stream(lab.url, lab.line("bob")) as stream, Stream(lab.url, lab.line("ann")) as own:
        stream.begin()
        own.begin()
        for number, change in enumerate(CHANGES):
            change(lab)
            assert view(lab) == before, number
        assert own.event()[0] == 2
        lab.put("bob", "bob/2")
        seq, told = stream.event()
        assert json.loads(told)["key"] == "bob/2"
        assert seq == lab.store.sequence()


def test_what_one_grants_the_other_may_and_no_more(lab: Lab) -> None:
    with (
        open_store(lab.url, token=lab.token("ann")) as ann,
        open_store(lab.url, token=lab.token("bob", tags=["staff"])) as bob,
    ):
        ann.set("a", b"1", metadata={"n": 1})
        with pytest.raises(KeyNotFoundError):
            bob.get("a")
        ann.update_permissions("a", {"read": {"staff"}})
        assert bob.to_bytes("a") == b"1"
        assert list(bob.query(n=1)) == [("a", {"n": 1})]
        for refused in (
            lambda: bob.set("a", b"2"),
            lambda: bob.update_metadata("a", {"n": 2}),
            lambda: bob.delete("a"),
            lambda: bob.get_permissions("a"),
            lambda: bob.update_permissions("a", {"owned": {"bob"}}),
            lambda: bob.set("a", b"2", if_match=bob.get("a")),
        ):
            with pytest.raises((AuthorizationError, KeyNotFoundError)):
                refused()
        ann.update_permissions("a", {"write": {"bob"}})
        bob.set("a", b"2")
        assert ann.get_permissions("a") == {"owned": {"ann"}, "read": {"staff"}, "write": {"bob"}}
        with pytest.raises(AuthorizationError):
            bob.update_permissions("a", {"owned": {"bob"}})
        # Of the time before, in which he might not read it, he learns nothing.
        assert next(bob.changes()).metadata == {"n": 1}
        ann.set_permissions("a", {"owned": {"ann"}})
        assert not bob.exists("a")
        assert list(bob.changes()) == []


# -- what takes long -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/keys/a/data", bytes(300_000)),
        ("PUT", "/keys/a/data", b"small"),
        ("PUT", "/keys/a/value", b'{"metadata": {}}\n' + bytes(300_000)),
        ("PUT", "/keys/a/metadata", b'{"n": "' + bytes([65]) * 100_000 + b'"}'),
        ("POST", "/batch", b'{"op": "set_metadata", "key": "a", "metadata": {}}'),
    ],
)
def test_a_token_that_is_revoked_while_data_come_stores_nothing(
    lab: Lab, method: str, target: str, body: bytes
) -> None:
    line = lab.line("ann")
    with Wire(lab.url) as wire:
        wire.head(method, target, line, f"Content-Length: {len(body)}", "Expect: 100-continue")
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100")
        wire.send(body[:-2])
        lab.tokens.revoke("ann")
        wire.send(body[-2:])
        answer = wire.read()
    assert answer.status == 401
    assert answer.problem["detail"] == "The credentials have expired or were revoked meanwhile."
    assert list(lab.store.query_keys()) == []


def test_an_upload_is_that_of_who_began_it(lab: Lab) -> None:
    ann, bob = lab.line("ann"), lab.line("bob")
    path = tus.begin(lab.url, 8, tus.named("a"), ann)
    assert tus.patch(lab.url, path, 0, b"data", ann).status == 204
    none = f"/uploads/{'A' * 32}"
    for method, lines in [
        ("HEAD", []),
        ("PATCH", [tus.PART, "Upload-Offset: 4"]),
        ("PATCH", [tus.PART, "Upload-Offset: 0"]),
        ("DELETE", []),
    ]:
        answers = [plain(lab.ask("bob", method, where, tus.TUS, *lines)) for where in (path, none)]
        assert answers[0] == answers[1], method
        assert answers[0][0] == 404
    assert tus.patch(lab.url, path, 4, b"more", bob).status == 404
    assert lab.ask(None, "HEAD", path, tus.TUS).status == 401
    # It goes on with another token of the same user, as the old one may end meanwhile.
    lab.tokens.revoke("ann")
    again = f"Authorization: Bearer {lab.token('ann-2', user='ann')}"
    assert lab.ask("ann-2", "HEAD", path, tus.TUS).headers["Upload-Offset"] == "4"
    assert tus.patch(lab.url, path, 4, b"more", again).status == 204
    assert lab.store.to_bytes("a") == b"datamore"
    assert lab.store.get_permissions("a") == {"owned": {"ann"}}


def test_a_token_that_is_revoked_within_an_upload_does_not_end_it(lab: Lab) -> None:
    line = lab.line("ann")
    path = tus.begin(lab.url, 8, tus.named("a"), line)
    with Wire(lab.url) as wire:
        lines = [tus.TUS, tus.PART, "Upload-Offset: 0", "Content-Length: 8"]
        wire.head("PATCH", path, line, *lines, "Expect: 100-continue")
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100")
        wire.send(b"data")
        lab.tokens.revoke("ann")
        wire.send(b"more")
        assert wire.read("PATCH").status == 401
    assert not lab.store.exists("a")


def test_a_live_feed_ends_with_the_token(lab: Lab) -> None:
    with Stream(lab.url, lab.line("bob")) as stream:
        stream.begin()
        lab.put("bob", "bob/1")
        assert stream.event()[0] == 1
        lab.tokens.revoke("bob")
        lab.store.set("bob/1", b"after")
        assert stream.rest() == b""
    assert lab.ask(None, "GET", "/changes").status == 401
