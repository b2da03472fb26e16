"""Requests as a profile spells them, and whether the server did what they ask."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from hashlib import sha256
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    DynamicURLStore,
    IntegrityError,
    Query,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.transport.policy import DEFAULT_POLICY, Policy
from tests.profiles.odd_profile import GET, ONCE, opened, profile
from tests.transport.wire_server import WireServer, answer

DATA = b"some text that is compressed\n" * 20_000


def test_a_write_that_was_ignored_is_a_conflict():
    version = {"from": "header:X-Version", "codec": "int"}
    write = {
        **GET,
        "query": {"v": {"from": "now", "codec": "int"}},
        "verify": [{**version, "sent": "query:v", "message": "It is older."}],
    }

    def obeying(wire: Any) -> None:
        wire.body()
        wire.send(answer(200, b"", X_Version=wire.seen.target.partition("=")[2]))

    steps = [obeying, answer(200, b"", X_Version=99), answer(200, b"")]
    with WireServer(steps) as server, opened(server, profile(ops={"set": write})) as store:
        store.set_data("k", b"")
        for _ in range(2):
            with pytest.raises(ConflictError, match=r"It is older \(key 'k'\)"):
                store.set_data("k", b"")


def test_the_bytes_that_a_server_says_it_has_are_compared():
    check = {"from": "json:/sum", "equals": True, "means": "bad_data", "message": "Wrong sum"}
    document = profile(ops={"set": {**GET, "verify": [check]}})
    bodies = [b'{"sum": true}', b'{"sum": false}', b'{"sum": 1}', b"{}", b"no json"]
    errors = [IntegrityError] * 3 + [TransportError]
    with WireServer([answer(200, body) for body in bodies]) as server:
        with opened(server, document) as store:
            store.set_data("k", b"")
            for error in errors:
                with pytest.raises(error):
                    store.set_data("k", b"")


def test_uploads_are_compressed_and_announced():
    write = {
        **GET,
        "body_encoding": "gzip",
        "headers": {
            "X-Size": {"from": "data.size", "codec": "int"},
            "X-Sum": {"from": "data.sha256", "codec": "sha256-hex"},
        },
    }
    with WireServer([answer(201)] * 3) as server:
        with opened(server, profile(ops={"set": write})) as store:
            store.set_data("k", b"small")
            store.set_data("k", DATA)
            store.set_data("k", iter([DATA[:7], DATA[7:]]))
        for seen, data in zip(server.seen, (b"small", DATA, DATA), strict=True):
            assert gzip.decompress(seen.body) == data
            assert seen.headers["content-encoding"] == "gzip"
            assert seen.headers["content-length"] == str(len(seen.body))
            assert seen.headers["x-size"] == str(len(data))
            assert seen.headers["x-sum"] == sha256(data).hexdigest()


def test_progress_is_told_once_although_data_are_read_twice():
    write = {**GET, "headers": {"X-Sum": {"from": "data.sha256", "codec": "sha256-hex"}}}
    with WireServer([answer(201)] * 2) as server:
        with opened(server, profile(ops={"set": write})) as store:
            for data in (DATA, iter([DATA])):
                told: list[int] = []
                store.set_data(
                    "k", data, 100_000, progress=lambda done, _, told=told: told.append(done)
                )
                assert told == sorted(told)
                assert told[-1] == len(DATA)


def test_a_delete_that_was_answered_late_has_succeeded():
    steps = [answer(500), answer(404)]
    with WireServer(steps) as server:
        store = DynamicURLStore(server.url, profile=profile(), policy=Policy(backoff=0))
        with store:
            store.delete("k")
        assert [seen.method for seen in server.seen] == ["DELETE", "DELETE"]


LIST = {
    "url": "{base}/list",
    "query": {"at": {"from": "cursor"}},
    "listing": {
        "format": "json",
        "items": "/keys",
        "facts": {"key": "json:/k", "size": "json:/s", "metadata": "json:/m"},
        "next": {"from": "json:/next", "is": "cursor"},
    },
}


def page(*keys: str, following: str | None = None) -> bytes:
    entries = [{"k": key, "s": len(key), "m": {"n": len(key)}} for key in keys]
    return answer(200, json.dumps({"keys": entries, "next": following}).encode())


def test_pages_are_followed_and_sorted():
    steps = [page("c", "bb", following="2"), page("a", following="3"), page()]
    with WireServer(steps) as server, opened(server, profile(ops={"list": LIST})) as store:
        found = list(store.find(Query(where={"n": {"ge": 1}})))
        assert [(record.key, record.size) for record in found] == [("a", 1), ("bb", 2), ("c", 1)]
        assert [seen.target for seen in server.seen] == ["/list", "/list?at=2", "/list?at=3"]


def test_pages_that_repeat_are_an_error():
    steps = [page("a", following="2"), page("b", following="2")]
    with WireServer(steps) as server, opened(server, profile(ops={"list": LIST})) as store:
        with pytest.raises(TransportError, match="a second time"):
            list(store.query_keys())


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/x", "//other/x", "http://["])
def test_a_page_elsewhere_is_not_followed(link):
    listing = {**LIST["listing"], "next": {"from": "header:Link", "is": "url"}}  # type: ignore[dict-item]
    step = answer(200, b'{"keys": []}', Link=f'<{link}>; rel="next"')
    document = profile(ops={"list": {**LIST, "listing": listing}})
    with WireServer([step]) as server, opened(server, document) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())


def test_a_list_that_is_not_in_the_order_it_claims_is_an_error():
    listing = {**LIST["listing"], "sorted": True}  # type: ignore[dict-item]
    document = profile(ops={"list": {**LIST, "listing": listing}})
    with WireServer([page("b", "a")]) as server, opened(server, document) as store:
        with pytest.raises(TransportError, match="in the order of keys"):
            list(store.query_keys())


@pytest.mark.parametrize("key", ["", "a/../b", "x" * 1025, "a\0b"])
def test_what_is_listed_and_no_key_is_an_error(key):
    with WireServer([page(key)]) as server, opened(server, profile(ops={"list": LIST})) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())


def test_metadata_in_headers_of_their_own():
    rules = {"carrier": "headers", "prefix": "X-Meta-"}
    steps = [
        answer(201),
        answer(200, b"d", X_Meta_Colour='"red"', x_meta_size="5", X_Other="1"),
        answer(200, b"d", X_Meta_Colour="red"),
    ]
    with WireServer(steps) as server, opened(server, profile(metadata=rules)) as store:
        store.set("k", b"d", metadata={"colour": "ü", "n": [1]})
        sent = server.seen[0].headers
        assert (sent["x-meta-colour"], sent["x-meta-n"]) == ('"\\u00fc"', "[1]")
        assert store.get("k").metadata == {"colour": "red", "size": 5}
        with pytest.raises(TransportError):
            store.get_metadata("k")
        for metadata in ({"Upper": 1}, {"a b": 1}, {"": 1}):
            with pytest.raises(UnsupportedOperationError, match="header"):
                store.set("k", b"d", metadata=metadata)


def test_metadata_within_a_larger_document():
    document = profile(
        metadata={"carrier": "document", "pointer": "/about/fields"},
        ops={"get_metadata": {"url": "{base}/{key}/about"}},
    )
    steps = [
        answer(200, b'{"about": {"fields": {"a": 1}}}'),
        answer(200, b'{"about": {"fields": [1]}}'),
        answer(200, b'{"about": {}}'),
    ]
    with WireServer(steps) as server, opened(server, document) as store:
        assert store.get_metadata("k") == {"a": 1}
        for _ in range(2):
            with pytest.raises(TransportError, match="no metadata"):
                store.get_metadata("k")


def test_facts_from_a_record_in_json():
    head = {
        "method": "GET",
        "url": "{base}/{key}/about",
        "facts": {"size": "json:/bytes", "version": "json:/rev", "mimetype": "json:/kind"},
    }
    facts = {"version": "header:X-Rev"}
    about = answer(200, b'{"bytes": 4, "rev": 7, "kind": "text/plain"}')
    steps = [about, answer(200, b"data", X_Rev=7), about, answer(200, b"new", X_Rev=8)]
    with (
        WireServer(steps) as server,
        opened(server, profile(facts=facts, ops={"head": head})) as store,
    ):
        value = store.get("k")
        assert (value.size, value.revision, value.mimetype) == (4, "7", "text/plain")
        assert value.read() == b"data"
        with pytest.raises(ConflictError, match="at revision 8 now"):
            store.get("k").read()


def test_a_profile_says_how_patient_to_be():
    document = profile(redirects=1, timeouts={"connect": 1, "read": 2.5, "call": 9})
    store = DynamicURLStore("http://host", profile=document)
    policy = store._policy
    assert (policy.connect_timeout, policy.read_timeout, policy.call_timeout) == (1, 2.5, 9)
    assert policy.redirects == 1
    assert policy.attempts == DEFAULT_POLICY.attempts
    mine = Policy(read_timeout=7)
    assert DynamicURLStore("http://host", profile=document, policy=mine)._policy is mine


def test_redirects_to_elsewhere_are_not_followed():
    step = answer(307, b"", Location="http://127.0.0.1:1/k")
    with WireServer([step]) as server, opened(server, profile()) as store:
        with pytest.raises(TransportError, match="another origin"):
            store.get("k")


SIZE = 48 << 20


@pytest.mark.parametrize("length", ["required", "optional"])
def test_uploads_and_downloads_take_constant_memory(length):
    piece = b"x" * (1 << 20)

    def swallow(wire: Any) -> None:
        left = SIZE if "content-length" in wire.seen.headers else None
        kept = bytes(wire._rest)
        wire._rest.clear()
        count, tail = len(kept), kept[-5:]
        while count < left if left is not None else tail != b"0\r\n\r\n":
            received = wire.sock.recv(1 << 16)
            count += len(received)
            tail = (tail + received)[-5:]
        wire.seen.is_whole = True
        wire.send(answer(201))

    def pour(wire: Any) -> None:
        wire.send(answer(200, b"", Content_Length=SIZE))
        for _ in range(SIZE // len(piece)):
            wire.send(piece)

    document = profile(ops={"set": {**GET, "length": length}})
    with WireServer([swallow, pour]) as server, opened(server, document) as store:
        tracemalloc.start()
        try:
            store.set_data("k", (piece for _ in range(SIZE // len(piece))))
            with store.get_data("k") as stream:
                count = sum(map(len, iter(lambda: stream.read(1 << 18), b"")))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == SIZE
    assert peak < 24 << 20


def responses(*entries: tuple[str, bool]) -> bytes:
    """A multi-status answer; True for folders."""
    items = "".join(
        f"<response><href>{href}</href><propstat><prop>"
        f"<resourcetype>{'<collection/>' if is_folder else ''}</resourcetype>"
        f"<getcontentlength>{'' if is_folder else 5}</getcontentlength>"
        "</prop></propstat></response>"
        for href, is_folder in entries
    )
    return answer(207, f'<multistatus xmlns="DAV:">{items}</multistatus>'.encode())


def test_folders_are_listed_one_by_one_whatever_form_their_urls_have():
    steps: list[Any] = [
        responses(("/u%40host", True), ("/u@host/b", False), ("/u%40host/a%20a/", True)),
        responses(("/u@host/a%20a/", True), ("/u%40host/a%20a/%C3%A9", False)),
    ]
    with WireServer(steps) as server:
        store = DynamicURLStore(f"{server.url}/u@host", profile="webdav", policy=ONCE)
        with store:
            assert list(store.query_keys()) == ["a a/é", "b"]
        assert [seen.target for seen in server.seen] == ["/u@host/", "/u@host/a%20a/"]


@pytest.mark.parametrize("href", ["/elsewhere/k", "http://127.0.0.1:1/dav/k", "//x/dav/k"])
def test_what_is_listed_elsewhere_is_an_error(href):
    with WireServer([responses(("/dav/", True), (href, False))]) as server:
        with DynamicURLStore(f"{server.url}/dav", profile="webdav", policy=ONCE) as store:
            with pytest.raises(TransportError, match="lists"):
                list(store.query_keys())


def test_a_server_without_a_list_answers_no_queries():
    store = DynamicURLStore("http://127.0.0.1:1", profile=profile())
    with store:
        assert store.info()["queries"] == []
        with pytest.raises(UnsupportedOperationError):
            store.count()
