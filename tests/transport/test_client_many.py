"""Calls about many keys: one request for many small changes, several requests at a time."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import kvstore
from kvstore import (
    DynamicURLStore,
    InvalidMetadataError,
    KeyNotFoundError,
    MemoryStore,
    StoreProgressEndEvent,
    StoreProgressEvent,
    StoreSetEvent,
    TransportError,
    UnavailableError,
)
from kvstore.testing import live_server
from kvstore.transport.policy import Policy
from tests.cases import each
from tests.transport.clients import HASTY, ONCE, announced, client
from tests.transport.wire_server import BOUND, Wire, WireServer, answer, as_json

LARGE = 100_000
BATCHING = announced(
    "value", "batch", profile={"base": "/keys", "query": "/query", "batch": "/batch"}
)


def results(wire: Wire) -> bytes:
    lines = [json.loads(line) for line in wire.body().splitlines()]
    told = [{"key": line["key"], "status": 201, "revision": line["key"]} for line in lines]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in told)
    return answer(200, body, Content_Type="application/x-ndjson")


def done(wire: Wire) -> None:
    wire.send(results(wire))


class Asked:
    """A store on a real server, and what it asks of it."""

    def __init__(self, url: str) -> None:
        self.requests: list[str] = []
        session = requests.Session()
        session.hooks["response"].append(self._note)
        self.store = DynamicURLStore(f"{url}/keys", f"{url}/query")
        self.store.connect((None, session))
        self.store.info()
        self.requests.clear()

    def _note(self, response: requests.Response, **told: Any) -> None:
        self.requests.append(f"{response.request.method} {response.request.path_url}")


@pytest.fixture
def backing() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        yield store


@pytest.fixture
def asked(backing: MemoryStore) -> Iterator[Asked]:
    with live_server(backing) as url:
        asked = Asked(url)
        with asked.store:
            yield asked


def test_small_changes_travel_in_one_request(asked: Asked, backing: MemoryStore) -> None:
    keys = [f"key{number}" for number in range(100)]
    asked.store.multiset(keys, ((key.encode(), {"is": key}) for key in keys))
    assert asked.requests == ["POST /batch"]
    assert {key: backing.to_bytes(key) for key in keys} == {key: key.encode() for key in keys}
    asked.store.multiset_data(keys, itertools.repeat(b"new", 100))
    asked.store.multiupdate_metadata(keys, itertools.repeat({"n": 1}, 100))
    assert asked.requests == ["POST /batch"] * 3
    assert [metadata for _, metadata in backing.query()] == [
        {"is": key, "n": 1} for key in sorted(keys)
    ]


def test_they_are_made_together_or_not_at_all(asked: Asked, backing: MemoryStore) -> None:
    backing.set_metadata("old", {})
    with pytest.raises(KeyNotFoundError) as caught:
        asked.store.multiupdate_metadata(["old", "missing", "old"], [{"n": 1}] * 3)
    assert caught.value.key == "missing"
    assert backing.get_metadata("old") == {}


def test_a_request_takes_so_many(asked: Asked) -> None:
    asked.store.multiset_metadata(map(str, range(1001)), itertools.repeat({}, 1001))
    assert asked.requests == ["POST /batch", "POST /batch", "PUT /keys/1000/metadata"]


def test_a_request_takes_no_more_than_the_server_announces() -> None:
    profile = {"base": "/keys", "query": "/query", "batch": "/batch"}
    limits = {"batch": 2, "batch_bytes": 10_000_000, "other": None}
    service = announced("batch", profile=profile, limits=limits)
    with WireServer([done] * 3, service=service) as server, client(server) as store:
        store.multiset_metadata(list("abcdef"), [{}] * 6)
    assert [seen.body.count(b"\n") for seen in server.seen] == [2, 2, 2]


def test_what_is_wrong_with_one_is_told_before_any_is_sent(asked: Asked) -> None:
    with pytest.raises(InvalidMetadataError):
        asked.store.multiset_metadata(["a", "b"], [{}, {"a": float("nan")}])
    assert asked.requests == []


def test_the_server_judges_all_of_them() -> None:
    schema = {"properties": {"n": {"type": "integer"}}}
    with MemoryStore(metadata_schema=schema) as backing, live_server(backing) as url:
        with kvstore.open(url) as store, pytest.raises(InvalidMetadataError) as caught:
            store.multiset_metadata(["a", "b"], [{"n": 1}, {"n": "x"}])
        assert (caught.value.key, caught.value.pointer) == ("b", "/n")
        assert list(backing.query_keys()) == []


def test_large_ones_travel_alone(asked: Asked, backing: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"p" * LARGE)
    values = [b"a", b"b", b"x" * LARGE, path, b"c", b"d"]
    asked.store.multiset_data(list("abxpcd"), values)
    assert asked.requests[0] == asked.requests[-1] == "POST /batch"
    assert sorted(asked.requests[1:-1]) == ["PUT /keys/p/data", "PUT /keys/x/data"]
    assert [backing.record(key).size for key in "abxpcd"] == [1, 1, LARGE, LARGE, 1, 1]


def test_the_last_change_of_a_key_wins(asked: Asked, backing: MemoryStore) -> None:
    values = [bytes([number]) * LARGE for number in range(20)]
    asked.store.multiset_data(["key"] * 20, values)
    assert backing.to_bytes("key") == values[-1]


def test_files_that_share_one_are_read_one_after_another(
    asked: Asked, backing: MemoryStore
) -> None:
    whole = io.BytesIO(b"".join(bytes([number]) * LARGE for number in range(5)))

    def parts() -> Iterator[Any]:
        for _ in range(5):
            yield itertools.islice(iter(lambda: whole.read(1000), b""), LARGE // 1000)

    asked.store.multiset_data(list("abcde"), parts())
    assert [backing.to_bytes(key) for key in "abcde"] == [
        bytes([number]) * LARGE for number in range(5)
    ]


def test_each_is_told_in_order_with_its_progress(asked: Asked) -> None:
    heard: list[Any] = []
    with (
        asked.store.events.connected_to(StoreSetEvent, heard.append),
        asked.store.events.connected_to(StoreProgressEvent, heard.append),
    ):
        asked.store.multiset(["b", "a"], [b"1", (b"2", {"n": 1})])
    sets = [event for event in heard if isinstance(event, StoreSetEvent)]
    assert [(event.key, event.metadata) for event in sets] == [("b", {}), ("a", {"n": 1})]
    assert [event.revision for event in sets] == [asked.store.record(key).revision for key in "ba"]
    ends = [event for event in heard if isinstance(event, StoreProgressEndEvent)]
    assert {(event.key, event.exit_state) for event in ends} == {("a", "normal"), ("b", "normal")}
    assert [type(event) for event in heard].count(type(ends[0])) == 2


def test_a_batch_whose_answer_was_lost_is_sent_again_where_twice_is_as_once() -> None:
    steps = [lambda wire: (wire.body(), wire.reset()), done]
    with WireServer(steps, service=BATCHING) as server, client(server, HASTY) as store:
        store.multiset(list("ab"), [b"1", b"2"])
    assert server.told == ["POST /batch"] * 2
    assert server.seen[0].body == server.seen[1].body


def test_a_batch_that_adds_to_what_is_there_is_not() -> None:
    steps = [lambda wire: (wire.body(), wire.reset())]
    with WireServer(steps, service=BATCHING) as server, client(server, HASTY) as store:
        with pytest.raises(TransportError):
            store.multiupdate_metadata(list("ab"), [{"n": 1}, {"n": 2}])
    assert server.told == ["POST /batch"]


def test_a_batch_that_was_not_begun_is_sent_again() -> None:
    steps = [as_json({}, 503, Retry_After=0), done]
    with WireServer(steps, service=BATCHING) as server, client(server, HASTY) as store:
        store.multiupdate_metadata(list("ab"), [{"n": 1}, {"n": 2}])
    assert server.told == ["POST /batch"] * 2
    assert server.seen[0].body == server.seen[1].body


@each(
    "body",
    [
        b"",
        b'{"key":"a","status":201,"revision":"1"}\n',
        b'{"key":"a","status":201,"revision":"1"}\n{"key":"x","status":201,"revision":"1"}\n',
        b'{"key":"a","status":201,"revision":"1"}\n{"key":"b","status":500}\n',
        b'{"key":"a","status":201,"revision":"1"}\n[]\n',
        b'{"key":"a","status":201,"revision":"1"}\n{"key":"b","status":201',
        b'{"key":"a","status":204}\n{"key":"b","status":204}\n{"key":"c","status":204}\n',
    ],
)
def test_an_answer_without_all_results_is_no_success(body: bytes) -> None:
    step = answer(200, body, Content_Type="application/x-ndjson")
    with WireServer([step], service=BATCHING) as server, client(server) as store:
        with pytest.raises(TransportError):
            store.multiset(list("ab"), [b"1", b"2"])


def test_a_url_of_another_server_is_not_used() -> None:
    profile = {"base": "/keys", "query": "/query", "batch": "http://127.0.0.1:1/batch"}
    service = announced("value", "batch", profile=profile)
    steps = [answer(201), answer(201)]
    with WireServer(steps, service=service) as server, client(server) as store:
        store.multiset(list("ab"), [b"1", b"2"])
    assert server.told == ["PUT /keys/a/value", "PUT /keys/b/value"]


# -- several at a time -----------------------------------------------------------------------


AT_ONCE = Policy(attempts=1, workers=4, quick=0)


def test_several_values_are_fetched_at_a_time() -> None:
    together = threading.Barrier(4)

    def give(wire: Wire) -> None:
        if wire.seen.target != "/keys/first/data":
            together.wait(BOUND)
        wire.send(answer(200, wire.seen.target.encode()))

    keys = ["first", *map(str, range(8))]
    with WireServer([give] * 9) as server, client(server, AT_ONCE) as store:
        datas = [stream.read().decode() for stream in store.multiget_data(keys)]
    assert datas == [f"/keys/{key}/data" for key in keys]
    assert server.connections == 5


def test_several_values_are_sent_at_a_time() -> None:
    together = threading.Barrier(4)

    def take(wire: Wire) -> None:
        wire.body()
        if wire.seen.target != "/keys/first/data":
            together.wait(BOUND)
        wire.send(answer(201))

    keys = ["first", *map(str, range(8))]
    with WireServer([take] * 9) as server, client(server, AT_ONCE) as store:
        store.multiset_data(keys, [key.encode() for key in keys])
    assert {seen.target: seen.body for seen in server.seen} == {
        f"/keys/{key}/data": key.encode() for key in keys
    }


def test_the_first_error_is_raised_with_its_key_and_the_rest_not_begun() -> None:
    def give(wire: Wire) -> None:
        missing = wire.seen.target == "/keys/3/data"
        wire.send(as_json({}, 404) if missing else answer(200, b"x"))

    with WireServer((), default=give) as server, client(server, AT_ONCE) as store:
        datas = store.multiget_data(map(str, range(1000)))
        assert [next(datas).read() for _ in range(3)] == [b"x"] * 3
        with pytest.raises(KeyNotFoundError) as caught:
            next(datas)
        assert caught.value.key == "3"
        assert list(datas) == []
    assert len(server.seen) <= 3 + 2 * 4 + 1


def test_values_that_nobody_takes_give_their_connections_back() -> None:
    steps = [answer(200, b"x" * 300_000)] * 9
    with WireServer((), default=steps[0]) as server, client(server, AT_ONCE) as store:
        datas = store.multiget_data(map(str, range(9)))
        with next(datas) as stream:
            assert len(stream.read()) == 300_000
        with next(datas):
            pass
        del datas
    assert len(server.seen) <= 9


def test_an_unavailable_server_is_told_once() -> None:
    with WireServer((), default=as_json({}, 503)) as server, client(server, ONCE) as store:
        with pytest.raises(UnavailableError):
            list(store.multiget_metadata(map(str, range(1000))))
    assert len(server.seen) == 1


def test_a_store_that_was_disconnected_can_be_used_again() -> None:
    with WireServer((), default=answer(200, b"x")) as server:
        store = client(server, AT_ONCE)
        for _ in range(2):
            store.connect()
            assert [stream.read() for stream in store.multiget_data(list("abcdef"))] == [b"x"] * 6
            store.disconnect()
