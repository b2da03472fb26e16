"""Metadata with URLs of their own, and profiles that lack what others have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    KeyNotFoundError,
    StoreModificationEvent,
    StoreSetEvent,
    StoreUpdateEvent,
    TransportError,
    UnsupportedOperationError,
)
from tests.profiles.odd_profile import GET, opened, profile
from tests.transport.wire_server import WireServer, answer

ABOUT = {"url": "{base}/{key}/about", "if_match": "If-Match", "if_none_match": "If-None-Match"}
ETAG = {"version": {"from": "header:ETag", "codec": "etag"}}


def documents(**members: Any) -> dict[str, Any]:
    """A profile whose metadata are a document of the server's own."""
    operations = {"get_metadata": {"url": "{base}/{key}/about"}, "set_metadata": ABOUT}
    return profile(
        facts=ETAG,
        metadata={"carrier": "document"},
        ops={**operations, "update_metadata": ABOUT, **members},
    )


def beside(**members: Any) -> dict[str, Any]:
    """A profile whose metadata are a file beside the data."""
    about = {"url": "{base}/{key}.about"}
    return profile(
        facts=ETAG,
        metadata={"carrier": "document", "missing": "empty"},
        ops={
            "get_metadata": about,
            "set_metadata": {**ABOUT, **about},
            "delete_metadata": about,
            **members,
        },
    )


def test_data_then_metadata():
    steps = [answer(201, ETag='"1"'), answer(204), answer(200, ETag='"2"'), answer(204)]
    with WireServer(steps) as server, opened(server, documents()) as store:
        assert store.set("k", b"data", metadata={"a": 1}) == "1"
        assert store.set("k", b"data") == "2"
        assert server.told == ["PUT /k", "PUT /k/about"] * 2
        assert [seen.body for seen in server.seen] == [b"data", b'{"a":1}', b"data", b"{}"]
        assert store.info()["atomic_set"] is False


def test_metadata_of_their_own_have_conditions():
    steps = [answer(204, ETag='"2"'), answer(412), answer(200, b"ok", ETag='"3"')]
    with WireServer(steps) as server, opened(server, documents()) as store:
        assert store.set_metadata("k", {"a": 1}, if_match="1") == "2"
        with pytest.raises(ConflictError):
            store.set_metadata("k", {}, if_none_match="*")
        assert store.update_metadata("k", {"b": 2}, if_match="2") == "3"
        assert server.told == ["PUT /k/about", "PUT /k/about", "POST /k/about"]
        sent = [(s.headers.get("if-match"), s.headers.get("if-none-match")) for s in server.seen]
        assert sent == [('"1"', None), (None, "*"), ('"2"', None)]


def test_metadata_of_a_new_key_make_it():
    steps = [answer(404), answer(201), answer(201)]
    with WireServer(steps) as server, opened(server, documents()) as store:
        seen: list[Any] = []
        with store.events.connected_to(StoreModificationEvent, seen.append):
            store.set_metadata("k", {"a": 1})
        assert server.told == ["PUT /k/about", "PUT /k", "PUT /k/about"]
        assert [type(event) for event in seen] == [StoreSetEvent]


def test_metadata_of_a_missing_key_are_not_updated():
    with WireServer([answer(404), answer(404)]) as server, opened(server, documents()) as store:
        with pytest.raises(KeyNotFoundError):
            store.update_metadata("k", {"a": 1})
        with pytest.raises(KeyNotFoundError):
            store.set_metadata("k", {"a": 1}, if_match="1")


def test_a_file_beside_is_updated_without_losing_what_others_write():
    steps = [
        answer(200),
        answer(200, b'{"a": 1}', ETag='"1"'),
        answer(412),
        answer(200, b'{"a": 1, "b": 2}', ETag='"2"'),
        answer(204),
    ]
    with WireServer(steps) as server, opened(server, beside()) as store:
        store.update_metadata("k", {"c": 3})
        assert json.loads(server.seen[-1].body) == {"a": 1, "b": 2, "c": 3}
        assert [s.headers.get("if-match") for s in server.seen if s.method == "PUT"] == [
            '"1"',
            '"2"',
        ]


def test_a_file_beside_is_made_only_once():
    steps = [answer(200), answer(404), answer(412), answer(200, b"{}", ETag='"1"'), answer(204)]
    with WireServer(steps) as server, opened(server, beside()) as store:
        store.update_metadata("k", {"c": 3})
        assert server.seen[2].headers["if-none-match"] == "*"


def test_a_file_beside_is_not_updated_where_that_could_lose_something():
    plain = {"set_metadata": {"url": "{base}/{key}.about"}}
    with WireServer([answer(200)]) as server, opened(server, beside(**plain)) as store:
        with pytest.raises(UnsupportedOperationError, match="update_metadata"):
            store.update_metadata("k", {"c": 3})
    steps = [answer(200), answer(200, b"{}")]  # no ETag
    with WireServer(steps) as server, opened(server, beside()) as store:
        with pytest.raises(UnsupportedOperationError, match="update_metadata"):
            store.update_metadata("k", {"c": 3})


def test_metadata_that_always_change_are_given_up():
    steps = [answer(200)] + [answer(200, b"{}", ETag='"1"'), answer(412)] * 100
    with WireServer(steps) as server, opened(server, beside()) as store:
        with pytest.raises(ConflictError, match="change all the time"):
            store.update_metadata("k", {"c": 3})


def test_without_head_the_data_are_asked_for_and_dropped():
    document = profile(facts=ETAG)
    del document["operations"]["head"]
    steps = [answer(200, b"x" * 1000, ETag='"1"'), answer(200), answer(404)]
    with WireServer(steps) as server, opened(server, document) as store:
        record = store.record("k")
        assert (record.size, record.revision) == (1000, "1")
        assert store.exists("k")
        assert not store.exists("k")
        assert server.told == ["GET /k"] * 3


def test_a_range_behind_the_data_of_a_server_that_says_little():
    steps = [answer(416), answer(200, b"", Content_Length=5)]
    with WireServer(steps) as server, opened(server, profile()) as store:
        with pytest.raises(TransportError, match="denies a range"):
            store.get_data_range("k", 3)
        assert server.told == ["GET /k", "HEAD /k"]


def test_a_version_that_is_never_older_than_what_is_there():
    write = {**GET, "query": {"v": {"from": "newest", "codec": "int"}}}
    head = {"modified": {"from": "header:X-Time", "codec": "epoch"}}
    document = profile(facts=head, ops={"set": write})
    steps = [answer(200, X_Time=99999999999), answer(200), answer(404), answer(201)]
    with WireServer(steps) as server, opened(server, document) as store:
        store.set_data("k", b"")
        store.set_data("k", b"")
        assert server.seen[1].target == "/k?v=99999999999"
        assert int(server.seen[3].target.partition("=")[2]) < 99999999999


def test_whether_a_key_is_new_may_have_to_be_asked():
    write = {**GET, "tells_new": False}
    steps = [answer(404), answer(200), answer(200), answer(200)]
    with WireServer(steps) as server, opened(server, profile(ops={"set": write})) as store:
        seen: list[Any] = []
        with store.events.connected_to(StoreModificationEvent, seen.append):
            store.set("k", b"")
            store.set("k", b"")
        assert [type(event) for event in seen] == [StoreSetEvent, StoreUpdateEvent]
        assert server.told == ["HEAD /k", "PUT /k"] * 2


def test_lists_by_links_and_of_nothing():
    listing = {
        "url": "{base}/list/{prefix}",
        "listing": {
            "format": "tsv",
            "facts": {"key": "column:0"},
            "next": {"from": "header:Link"},
        },
    }
    steps = [
        answer(200, b"b\n", Link='<page2?x=1>; rel="next"'),
        answer(200, b"a\n", Link='</>; rel="prev"'),
        answer(404),
    ]
    with WireServer(steps) as server, opened(server, profile(ops={"list": listing})) as store:
        assert list(store.query_keys()) == ["a", "b"]
        assert list(store.query_keys(prefix="no such")) == []
        assert [seen.target for seen in server.seen] == [
            "/list/",
            "/list/page2?x=1",
            "/list/no%20such",
        ]
