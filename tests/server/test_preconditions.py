from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import requests

from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.writes import Change, Written
from tests.cases import each, empty
from tests.corpora import Entry, entries
from tests.server.sockets import Wire, ask


def spelled(field: str, revision: str) -> str:
    """A field of the corpus, in which the revision is called e1."""
    return re.sub(r'"e1(?=")', f'"{revision}', field)


@each(
    "entry",
    list(entries("conditionals")),
    ids=lambda e: ascii(f"{e['method']} {e['if_match']} {e['if_none_match']}")[:50],
)
def test_conditionals_corpus(url: str, store: MemoryStore, entry: Entry) -> None:
    empty(store)
    method, exists = entry["method"], bool(entry["exists"])
    revision = store.set("a", b"old", metadata={}) if exists else "none"
    assert revision is not None
    before = store.get("a").record if exists else None
    lines = [
        f"{name}: {spelled(entry[field], revision)}"
        for name, field in (("If-Match", "if_match"), ("If-None-Match", "if_none_match"))
        if entry[field] is not None
    ]
    target = "/keys/a" if method == "DELETE" else "/keys/a/data"
    body = b"new" if method == "PUT" else b""
    answer = ask(url, method, target, *lines, body=body)
    allowed = str(entry["expect"]).split("|")
    if "do" in allowed:
        allowed += {"GET": ["200"], "HEAD": ["200"], "PUT": ["201", "204"], "DELETE": ["204"]}[
            method
        ]
    assert str(answer.status) in allowed
    if exists and method in ("GET", "HEAD") and answer.status in (200, 304, 412):
        assert answer.headers["ETag"] == f'"{revision}"'
    if answer.status == 304:
        assert "Last-Modified" in answer.headers
        assert answer.body == b""
    if answer.status >= 300:
        assert (store.get("a").record if store.exists("a") else None) == before
    elif method == "PUT":
        assert store.to_bytes("a") == b"new"
    elif method == "DELETE":
        assert not store.exists("a")


WRITES = [
    ("PUT", "/keys/a/data", b"new"),
    ("PUT", "/keys/a/value", b"{}\nnew"),
    ("PUT", "/keys/a/metadata", b'{"new": 1}'),
    ("POST", "/keys/a/metadata", b'{"new": 1}'),
    ("PUT", "/keys/a/auth", b'{"owned": ["new"]}'),
    ("POST", "/keys/a/auth", b'{"owned": ["new"]}'),
    ("DELETE", "/keys/a", b""),
]


@each("method, target, body", WRITES)
@each(
    "lines, is_done",
    [
        (['If-Match: "NOW"'], True),
        (['If-Match: "x", "NOW"'], True),
        (['If-Match: "x"', 'If-Match: "NOW"'], True),
        (["If-Match: *"], True),
        (['If-None-Match: "x", W/"y"'], True),
        (['If-Match: "NOW"', 'If-None-Match: "x"'], True),
        (['If-Match: "x"'], False),
        (['If-Match: W/"NOW"'], False),
        (["If-None-Match: *"], False),
        (['If-None-Match: W/"NOW"'], False),
        (['If-Match: "NOW"', "If-None-Match: *"], False),
        (["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], False),
        (["If-Unmodified-Since: Sun, 06 Nov 2094 08:49:37 GMT"], True),
        (["If-Unmodified-Since: yesterday"], True),
        (['If-Match: "NOW"', "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], True),
        (["If-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT"], True),
    ],
)
def test_writes_under_conditions(
    url: str,
    store: MemoryStore,
    method: str,
    target: str,
    body: bytes,
    lines: list[str],
    is_done: bool,
) -> None:
    empty(store)
    revision = store.set("a", b"old", metadata={"old": 1})
    before = store.get("a").record
    answer = ask(
        url, method, target, *(line.replace("NOW", str(revision)) for line in lines), body=body
    )
    if is_done:
        assert answer.status == 204
        assert not store.exists("a") or store.get("a").revision != revision
    else:
        assert answer.status == 412
        assert answer.problem["type"] == "urn:kvstore:error:conflict"
        assert answer.headers["ETag"] == f'"{revision}"'
        assert store.get("a").record == before


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-None-Match: *"], 201),
        (['If-None-Match: "x"'], 201),
        (["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], 201),
        (["If-Match: *"], 412),
        (['If-Match: "x"'], 412),
        (['If-Match: "x", "y"'], 412),
    ],
)
@pytest.mark.parametrize("write", WRITES[:3], ids=lambda write: write[1])
def test_conditions_on_a_key_that_is_not_there(
    url: str, store: MemoryStore, lines: list[str], status: int, write: tuple[str, str, bytes]
) -> None:
    method, target, body = write
    assert ask(url, method, target, *lines, body=body).status == status
    assert store.exists("a") == (status == 201)


@pytest.mark.parametrize("write", WRITES[3:], ids=lambda write: f"{write[0]} {write[1]}")
def test_a_missing_key_is_404_whatever_the_condition(
    url: str, store: MemoryStore, write: tuple[str, str, bytes]
) -> None:
    method, target, body = write
    for line in ("If-Match: *", "If-None-Match: *"):
        assert ask(url, method, target, line, body=body).status == 404


@pytest.mark.parametrize("part", ["data", "metadata", "value", "auth"])
def test_dates_of_reads(url: str, store: MemoryStore, web: requests.Session, part: str) -> None:
    store.set_data("a", b"x")
    target = f"{url}/keys/a/{part}"
    date = web.get(target).headers["Last-Modified"]
    long_ago = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert web.get(target, headers={"If-Modified-Since": date}).status_code == 304
    assert web.get(target, headers={"If-Modified-Since": long_ago}).status_code == 200
    assert web.get(target, headers={"If-Unmodified-Since": date}).status_code == 200
    assert web.get(target, headers={"If-Unmodified-Since": long_ago}).status_code == 412
    both = {"If-None-Match": '"x"', "If-Modified-Since": date}
    assert web.get(target, headers=both).status_code == 200


def test_only_one_of_many_writers_wins(url: str, store: MemoryStore) -> None:
    revision = store.set_metadata("a", {"n": 0})
    barrier = threading.Barrier(8)
    statuses: list[int] = []

    def write(number: int) -> None:
        barrier.wait()
        body = b'{"n": %d}' % number
        statuses.append(
            ask(url, "PUT", "/keys/a/metadata", f'If-Match: "{revision}"', body=body).status
        )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [204] + [412] * 7


class RacingStore(MemoryStore):
    """Somebody else changes the key just before each write."""

    is_racing = False

    def _write(self, key: str, change: Change) -> Written:
        if self.is_racing:
            self.is_racing = False
            self.set_data(key, b"theirs")
        return super()._write(key, change)


@pytest.fixture
def racing() -> Iterator[tuple[RacingStore, str]]:
    store = RacingStore()
    with store, serve_background(store) as url:
        yield store, url


@pytest.mark.parametrize(
    ("exists", "line", "status"),
    [
        # The condition itself does not hold any more.
        (True, 'If-Match: "NOW"', 412),
        (False, "If-None-Match: *", 412),
        # It may hold still, but was worked out for a revision that is gone: worth another try.
        (True, 'If-Match: "NOW", "x"', 409),
        (True, 'If-None-Match: "x"', 409),
        (True, "If-Unmodified-Since: Sun, 06 Nov 2094 08:49:37 GMT", 409),
        (False, 'If-None-Match: "x"', 409),
        (True, "If-Match: *", 204),
    ],
)
def test_races_that_are_lost(
    racing: tuple[RacingStore, str], exists: bool, line: str, status: int
) -> None:
    store, url = racing
    revision = store.set_data("a", b"old") if exists else ""
    store.is_racing = True
    answer = ask(url, "PUT", "/keys/a/data", line.replace("NOW", str(revision)), body=b"ours")
    assert answer.status == status
    assert store.to_bytes("a") == (b"ours" if status == 204 else b"theirs")
    if status != 204:
        assert answer.problem["type"] == "urn:kvstore:error:conflict"


class CarelessStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "conditional": False}


def test_a_store_that_cannot_hold_to_conditions_refuses_them(web: requests.Session) -> None:
    with CarelessStore() as store, serve_background(store) as url:
        store.set_data("a", b"old")
        answer = web.put(f"{url}/keys/a/data", data=b"new", headers={"If-Match": "*"})
        assert answer.status_code == 501
        assert store.to_bytes("a") == b"old"
        assert "conditional" not in web.get(f"{url}/.well-known/kvstore").json()["capabilities"]


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/keys/a/data"), ("PUT", "/keys/a/value"), ("PUT", "/keys/a/metadata")],
)
def test_a_failed_condition_is_told_before_the_body_is_asked_for(
    url: str, store: MemoryStore, method: str, target: str
) -> None:
    store.set_data("a", b"old")
    with Wire(url) as wire:
        wire.head(
            method, target, "Content-Length: 50000", "Expect: 100-continue", "If-None-Match: *"
        )
        answer = wire.read(method)
        assert answer.status == 412
        assert answer.headers["Connection"] == "close"
        assert wire.is_closed()
    assert store.to_bytes("a") == b"old"
