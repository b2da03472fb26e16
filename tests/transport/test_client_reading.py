"""Ranges, values and their streams, as servers answer them rightly and wrongly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvstore.errors import ConflictError, KeyNotFoundError, RangeError, StoreError, TransportError
from tests.cases import each
from tests.transport.basic_server import Entry, basic_server
from tests.transport.clients import ONCE, announced, client
from tests.transport.wire_server import Wire, WireServer, answer, as_json, chunked

DATA = b"0123456789"
LARGE = bytes(range(256)) * 1500


@each("ranges", [True, False], ids=["ranges", "no ranges"])
@each("data", [DATA, LARGE, b""], ids=["small", "large", "empty"])
def test_ranges_are_half_open_whatever_the_server_can(data, ranges):
    size = len(data)
    bounds = sorted({None, 0, 1, 3, 7, size - 1, size, size + 1, size + 10} - {-1}, key=str)
    with basic_server(ranges=ranges) as server, client(server, ONCE) as store:  # type: ignore[arg-type]
        server.entries["k"] = Entry(data)
        value = store.get("k")
        for start in bounds:
            for end in bounds:
                for ask in (store.get_data_range, lambda key, *told: value.range(*told)):
                    first = start or 0
                    if first > size or (end is not None and end < first):
                        with pytest.raises(RangeError):
                            ask("k", start, end)
                    else:
                        with ask("k", start, end) as stream:
                            assert stream.read() == data[start:end]


@pytest.mark.parametrize("bound", [-1, 1.0, "1", True])
def test_bounds_that_are_none_are_refused_before_anything_is_sent(bound):
    with WireServer() as server, client(server) as store:
        for ask in ((bound, None), (None, bound)):
            with pytest.raises(RangeError):
                store.get_data_range("k", *ask)
    assert server.told == []


RIGHT: dict[str, Any] = {"Content_Range": "bytes 2-4/10"}


def test_what_is_asked_for_a_range():
    steps = [answer(206, b"234", **RIGHT), answer(206, b"89", Content_Range="bytes 8-9/10")]
    with WireServer(steps) as server, client(server) as store:
        assert store.get_data_range("k", 2, 5).read() == b"234"
        assert store.get_data_range("k", 8).read() == b"89"
    assert [seen.headers["range"] for seen in server.seen] == ["bytes=2-4", "bytes=8-"]


@each(
    "page",
    [
        answer(206, b"234"),
        answer(206, b"234", Content_Range=""),
        answer(206, b"234", Content_Range="bytes 2-4"),
        answer(206, b"234", Content_Range="lines 2-4/10"),
        answer(206, b"234", Content_Range="bytes 3-5/10"),
        answer(206, b"012", Content_Range="bytes 0-2/10"),
        answer(206, b"23", Content_Range="bytes 2-3/10"),
        answer(206, b"2345", Content_Range="bytes 2-5/10"),
        answer(206, b"23", **RIGHT),
        answer(206, b"2345", **RIGHT),
        answer(206, b"", **RIGHT),
        answer(206, b"234", Content_Range="bytes 4-2/10"),
        answer(206, b"234", Content_Range="bytes 2-4/3"),
        answer(206, b"234", Content_Range="bytes 2-99999999999999999999/*"),
        answer(206, b"--x\r\n", Content_Type="multipart/byteranges; boundary=x"),
        answer(206, b"234", Content_Encoding="gzip", **RIGHT),
        chunked([b"23"]).replace(b"200 Told", b"206 Told\r\nContent-Range: bytes 2-4/10"),
        chunked([b"2345"]).replace(b"200 Told", b"206 Told\r\nContent-Range: bytes 2-4/10"),
        answer(200, b"0"),
        chunked([DATA]),
        answer(416, Content_Range="bytes */10"),
        answer(204),
        answer(202, b"234", **RIGHT),
    ],
)
def test_a_wrong_part_is_no_data(page):
    with WireServer([page, answer(200, DATA)]) as server, client(server) as store:
        with pytest.raises(StoreError):
            store.get_data_range("k", 2, 5).read()
        assert store.get_data("k").read() == DATA


def test_an_open_end_needs_the_size():
    with WireServer([answer(206, b"23", Content_Range="bytes 2-3/*")]) as server:
        with client(server) as store, pytest.raises(TransportError):
            store.get_data_range("k", 2)
    with WireServer([answer(206, b"234", Content_Range="bytes 2-4/*")]) as server:
        with client(server) as store:
            assert store.get_data_range("k", 2, 5).read() == b"234"


def test_a_range_that_the_server_denies():
    steps = [
        answer(416, Content_Range="bytes */10"),
        answer(416, b"<h1>no</h1>", Content_Range="bytes */10"),
        answer(416),  # does not tell the size, so it is asked for
        answer(200, Content_Length=10),
        answer(416, Content_Range="bytes */x"),
        answer(200, Content_Length=11),
        answer(416),
        answer(404),
    ]
    with WireServer(steps) as server, client(server) as store:
        with pytest.raises(RangeError) as caught:
            store.get_data_range("k", 11)
        assert (caught.value.size, caught.value.key) == (10, "k")
        assert store.get_data_range("k", 10, 20).read() == b""
        with pytest.raises(RangeError) as caught:
            store.get_data_range("k", 11, 12)
        assert caught.value.size == 10
        assert store.get_data_range("k", 11).read() == b""
        with pytest.raises(KeyNotFoundError):
            store.get_data_range("k", 11)


def test_an_empty_range_asks_for_the_size_alone():
    steps = [answer(200, Content_Length=10)] * 3 + [answer(404)]
    with WireServer(steps) as server, client(server) as store:
        assert store.get_data_range("k", 4, 4).read() == b""
        assert store.get_data_range("k", 10, 10).read() == b""
        with pytest.raises(RangeError):
            store.get_data_range("k", 11, 11)
        with pytest.raises(KeyNotFoundError):
            store.get_data_range("k", 0, 0)
    assert {seen.method for seen in server.seen} == {"HEAD"}


def test_large_ranges_are_streams():
    part = LARGE[1000:301_000]
    told = {"Content_Range": f"bytes 1000-300999/{len(LARGE)}"}
    steps = [answer(206, part, **told), answer(206, part[:-1], Content_Length=300_000, **told)]

    def cut(wire: Any) -> None:
        wire.send(steps[1])
        wire.close()

    with WireServer([steps[0], cut]) as server, client(server) as store:
        assert store.get_data_range("k", 1000, 301_000).read() == part
        with store.get_data_range("k", 1000, 301_000) as stream:
            assert stream.read(10) == part[:10]
            with pytest.raises(StoreError):
                stream.read()


# -- values --------------------------------------------------------------------------------


def value_of(data: bytes, revision: str = "r1") -> bytes:
    record = {"key": "k", "metadata": {"n": 1}, "size": len(data), "revision": revision}
    return json.dumps(record).encode() + b"\n" + data


def test_a_value_comes_with_one_request():
    with WireServer([answer(200, value_of(DATA))] * 2, service=announced("value")) as server:
        with client(server) as store:
            value = store.get("k")
            assert (value.metadata, value.read(), value.read()) == ({"n": 1}, DATA, DATA)
            assert value.range(2, 5).read() == b"234"
            with store.get("k") as stream:
                assert stream.read() == DATA
    assert server.told == ["GET /keys/k/value"] * 2


@pytest.mark.parametrize("framed", [answer, lambda status, body: chunked([body[:40], body[40:]])])
def test_a_large_value_is_read_from_the_answer_that_brought_it(framed):
    with WireServer([framed(200, value_of(LARGE))], service=announced("value")) as server:
        with client(server) as store:
            value = store.get("k")
            assert value.size == len(LARGE)
            assert value.read() == LARGE
    assert server.told == ["GET /keys/k/value"]


def test_a_large_value_opened_twice_must_be_the_same_both_times():
    steps = [
        answer(200, value_of(LARGE)),
        answer(200, LARGE, ETag='"r1"'),
        answer(206, LARGE[:10], ETag='"r1"', Content_Range=f"bytes 0-9/{len(LARGE)}"),
        answer(412),
        answer(200, LARGE, ETag='"r2"'),
        answer(206, LARGE[:10], ETag='"r2"', Content_Range=f"bytes 0-9/{len(LARGE)}"),
    ]
    with WireServer(steps, service=announced("value", "conditional")) as server:
        with client(server) as store:
            value = store.get("k")
            assert value.read() == LARGE
            assert value.read() == LARGE
            assert value.range(0, 10).read() == LARGE[:10]
            for ask in (value.read, value.open, lambda: value.range(0, 10)):
                with pytest.raises(ConflictError):
                    ask()
    assert [seen.headers.get("if-match") for seen in server.seen] == [None, *['"r1"'] * 5]


def test_an_etag_beside_values_is_no_revision_where_conditions_are_not_announced():
    steps = [answer(200, value_of(LARGE)), answer(200, LARGE, ETag='"of-a-proxy"')]
    with WireServer(steps, service=announced("value")) as server, client(server) as store:
        value = store.get("k")
        assert value.read() == value.read() == LARGE
    assert "if-match" not in server.seen[1].headers


@each("etag", ['W/"r1"', "r1", '"r1', "*", '"a", "b"'])
def test_a_weak_or_malformed_etag_is_no_revision(etag):
    with WireServer([answer(200, DATA, ETag=etag), as_json({})]) as server, client(server) as store:
        assert store.get("k").revision is None


def test_facts_of_a_basic_value():
    told = {"Last_Modified": "Sun, 22 Nov 2026 06:00:00 GMT", "Content_Type": "text/x"}
    steps = [answer(200, Content_Length=10, **told), as_json({}), answer(200), as_json({})]
    with WireServer(steps) as server, client(server) as store:
        value = store.get("k")
        assert (value.size, value.modified, value.mimetype) == (10, 1795327200.0, "text/x")
        value = store.get("k")
        assert (value.size, value.modified, value.mimetype) == (0, None, "application/octet-stream")


@each("length", [None, "x", "-1", "9" * 30, "1, 1"])
def test_a_value_without_a_size_is_an_error(length):
    def step(wire: Wire) -> None:
        is_data = wire.seen.target.endswith("/data")
        wire.send(answer(200, Content_Length=length) if is_data else as_json({}))

    with WireServer(default=step) as server, client(server) as store:
        with pytest.raises(TransportError):
            store.get("k")


# -- streams that are not read -------------------------------------------------------------


def test_what_is_not_read_is_closed():
    page = answer(200, value_of(LARGE))
    with WireServer([page] * 4 + [answer(200, LARGE)], service=announced("value")) as server:
        with client(server) as store:
            value = store.get("k")
            value.close()
            value.close()
            assert server.connection_ended(0)
            del value
            value = store.get("k")
            assert value.data.read(5) == LARGE[:5]
            value.close()
            assert server.connection_ended(1)
            store.get("k")  # dropped at once
            assert server.connection_ended(2)
            with store.get("k") as stream:
                assert stream.read(1)
            assert server.connection_ended(3)
            store.get_data("k").close()
            assert server.connection_ended(4)


def test_what_was_read_leaves_its_connection_for_the_next():
    pages = [answer(200, LARGE), chunked([LARGE]), answer(200, value_of(LARGE)), answer(404)]
    with WireServer(pages, service=announced("value")) as server, client(server) as store:
        assert store.get_data("k").read() == LARGE
        stream = store.get_data("k")
        assert b"".join(iter(lambda: stream.read(1000), b"")) == LARGE
        assert store.get("k").read() == LARGE
        assert not store.exists("k")
    assert server.connections == 1


def test_small_answers_of_all_kinds_share_one_connection():
    steps = [
        answer(200, DATA),
        answer(200, b"", Content_Length=999),  # to HEAD
        answer(404, b"<h1>not here</h1>"),
        answer(404, b"", Content_Length=20),  # to HEAD
        answer(204),
        answer(201, b"made"),
        answer(200, b""),
        answer(412, b"{}", Content_Type="application/json"),
        answer(307, b"there", Location="/there"),
        answer(204),
        chunked([b"{}"]),
        chunked([]),
        answer(503, b"later"),
        answer(200, b"{}"),
    ]
    policy = type(ONCE)(backoff=0)
    with WireServer(steps) as server, client(server, policy=policy) as store:
        assert store.get_data("k").read() == DATA
        assert store.exists("k")
        with pytest.raises(KeyNotFoundError):
            store.get_data("k")
        assert not store.exists("k")
        for _ in range(3):
            store.set_data("k", b"d")
        with pytest.raises(ConflictError):
            store.delete("k")
        store.delete("k")
        assert store.get_metadata("k") == {}
        assert list(store.query_keys()) == []
        assert store.get_metadata("k") == {}
    assert server.connections == 1
