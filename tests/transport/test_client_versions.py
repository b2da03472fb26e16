"""Versions on a server, and the question what it has, as a client sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import kvstore
from kvstore import (
    ConflictError,
    InvalidMetadataError,
    KeyNotFoundError,
    MemoryStore,
    StoreUpdateEvent,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.hashing import sha256
from kvstore.profiles.having import Claim
from kvstore.server import Limits
from kvstore.testing import live_server
from tests.transport.clients import EVERYTHING, HASTY, announced, client
from tests.transport.wire_server import Step, Wire, WireServer, answer

LARGE = bytes(range(256)) * 5000
KEPT = announced(*EVERYTHING, "versions", store={"versions": 3})


def record(revision: str, data: bytes = b"data", **metadata: Any) -> bytes:
    facts = {"size": len(data), "revision": revision, "digest": sha256(data)}
    return json.dumps({"key": "k", "metadata": metadata, **facts}).encode() + b"\n"


def lost(wire: Wire) -> None:
    wire.body()
    wire.reset()


def test_a_large_version_is_read_in_ranges_and_to_files(tmp_path):
    with MemoryStore(keep_versions=3) as backing, live_server(backing) as url:
        old = backing.set("k", LARGE, metadata={"n": 1}, mimetype="text/plain")
        backing.set("k", b"new")
        with kvstore.open(url) as store:
            assert store.info()["versions"] == 3
            value = store.get("k", version=old)
            with value as stream:
                assert stream.read() == LARGE
            assert value.range(1000, 1010).read() == LARGE[1000:1010]
            assert (value.mimetype, value.metadata) == ("text/plain", {"n": 1})
            with pytest.raises(UnsupportedOperationError):  # those of then are told by nobody
                _ = value.permissions
            store.set("copy", store.get("k", version=old))
            assert backing.to_bytes("copy") == LARGE


def test_a_version_that_breaks_off_is_read_on(tmp_path):
    def cut(wire: Wire) -> None:
        head = record("r1", LARGE)
        wire.send(answer(200, head + LARGE, ETag='"r1"')[: len(LARGE) // 2])
        wire.reset()

    def rest(wire: Wire) -> None:
        start = int(wire.seen.headers["range"].removeprefix("bytes=").rstrip("-"))
        told = {"ETag": '"r1"', "Content_Range": f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"}
        wire.send(answer(206, LARGE[start:], **told))

    with WireServer([cut, rest], service=KEPT) as server, client(server, HASTY) as store:
        assert store.get("k", version="r1").read() == LARGE
    assert server.told == [
        "GET /keys/k/value?%24version=r1",
        "GET /keys/k/data?%24version=r1",
    ]


def test_a_server_without_values_lists_versions_first():
    steps: list[Step] = [
        answer(200, record("r2", b"new") + record("r1", n=1)),
        answer(200, b"data", ETag='"r1"'),
        answer(200, record("r2", b"new")),
    ]
    service = announced("conditional", "digest", "versions")
    with WireServer(steps, service=service) as server, client(server) as store:
        value = store.get("k", version="r1")
        assert (value.metadata, value.read()) == ({"n": 1}, b"data")
        with pytest.raises(KeyNotFoundError, match="no version 'r0'"):
            store.get("k", version="r0")
    assert server.told[1] == "GET /keys/k/data?%24version=r1"


def test_a_list_of_versions_that_is_cut_or_nonsense_is_none():
    for body in (b"{", record("r1")[:-1], b"{}\n", record("r1").replace(b'"k"', b'"other"')):
        with WireServer([answer(200, body)], service=KEPT) as server, client(server) as store:
            with pytest.raises(TransportError):
                store.versions("k")


def test_restoring_is_one_request_without_the_data():
    steps: list[Step] = [answer(204, ETag='"r3"'), answer(201, ETag='"r4"')]
    with WireServer(steps, service=KEPT) as server, client(server) as store:
        assert store.restore("k", "r1", if_match="r2") == "r3"
        assert store.restore("k", "r1") == "r4"
    first, second = server.seen
    assert (str(first), first.body) == ("POST /keys/k/versions", b'{"restore":"r1"}')
    assert first.headers["if-match"] == '"r2"'
    assert "content-digest" in first.headers
    assert "if-match" not in second.headers


def test_listeners_learn_what_was_restored():
    with MemoryStore(keep_versions=3) as backing, live_server(backing) as url:
        old = backing.set("k", b"old", metadata={"n": 1})
        backing.set("k", b"new")
        told: list[StoreUpdateEvent] = []
        with kvstore.open(url) as store, store.events.connected_to(StoreUpdateEvent, told.append):
            new = store.restore("k", old)
        assert [(event.revision, event.metadata) for event in told] == [(new, {"n": 1})]


def test_a_restore_whose_answer_was_lost_is_sent_again_or_looked_up():
    plain: list[Step] = [lost, answer(204, ETag='"r4"')]
    with WireServer(plain, service=KEPT) as server, client(server, HASTY) as store:
        assert store.restore("k", "r1") == "r4"
    done = record("r3", n=1) + record("r2", b"new") + record("r1", n=1)
    with WireServer([lost, answer(412), answer(200, done)], service=KEPT) as server:
        with client(server, HASTY) as store:
            assert store.restore("k", "r1", if_match="r2") == "r3"
    for found in (
        record("r3", n=2) + record("r2", b"new") + record("r1", n=1),
        record("r2", n=1) + record("r1", n=1),
        record("r1", n=1),
        record("r3", n=1),
    ):
        with WireServer([lost, answer(412), answer(200, found)], service=KEPT) as server:
            with client(server, HASTY) as store, pytest.raises(ConflictError):
                store.restore("k", "r1", if_match="r2")


def test_a_schema_of_the_client_holds_for_what_is_restored():
    with MemoryStore(keep_versions=3) as backing, live_server(backing) as url:
        old = backing.set("k", b"old", metadata={"n": "one"})
        now = backing.set("k", b"new", metadata={"n": 2})
        schema = {"properties": {"n": {"type": "integer"}}}
        with kvstore.open(url, metadata_schema=schema) as store:
            with pytest.raises(InvalidMetadataError):
                store.restore("k", old)
            assert backing.record("k").revision == now
            assert store.restore("k", now) != now


def test_a_server_that_announces_no_versions_is_asked_for_none():
    with WireServer(service=announced(*EVERYTHING)) as server, client(server) as store:
        for call in (
            lambda: store.versions("k"),
            lambda: store.get("k", version="r"),
            lambda: store.restore("k", "r"),
            lambda: list(store._server().compare([Claim("k")])),
        ):
            with pytest.raises(UnsupportedOperationError):
                call()
        assert store.info()["versions"] == 0


# -- what it has ---------------------------------------------------------------------------


def test_claims_are_answered_in_as_many_requests_as_they_need():
    limits = Limits(have=3, have_bytes=1 << 16)
    with MemoryStore() as backing, live_server(backing, limits=limits) as url:
        revision = backing.set("key 4", b"data", metadata={"n": 4})
        claims = [
            Claim(
                f"key {number}", sha256(b"data"), metadata={"n": number, "x": "x" * 9000 * number}
            )
            for number in range(8)
        ]
        claims[4] = Claim("key 4", sha256(b"data"), metadata={"n": 4})
        with kvstore.open(url) as store:
            found = list(store._server().compare(iter(claims)))
            assert list(store._server().compare([])) == []
    assert [(finding.key, finding.status, finding.revision) for finding in found] == [
        (f"key {n}", *(("have", revision) if n == 4 else ("need_data", None))) for n in range(8)
    ]


def test_answers_that_are_none_are_refused():
    good = b'{"key":"k","status":"have","revision":"r"}\n'
    service = announced(
        "have", profile={"base": "/keys", "query": "/query", "have": "/have"}, limits={"have": 5}
    )
    for body in (b"", good + good, good[:-1], b"{}\n", good.replace(b'"k"', b'"l"')):
        with WireServer([answer(200, body)], service=service) as server, client(server) as store:
            with pytest.raises(TransportError):
                list(store._server().compare([Claim("k")]))
    with WireServer([lost, answer(200, good)], service=service) as server:
        with client(server, HASTY) as store:
            assert [finding.status for finding in store._server().compare([Claim("k")])] == ["have"]
    assert server.told == ["POST /have", "POST /have"]
