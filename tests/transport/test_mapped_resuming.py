"""Data of servers that profiles describe goes on where an answer broke off."""

from __future__ import annotations

import gzip
import hashlib
import random
from typing import Any

import pytest

from kvstore import ConflictError, DynamicURLStore, IntegrityError, TransportError
from tests.transport.clients import HASTY
from tests.transport.wire_server import Wire, WireServer, answer

DATA = random.Random(5).randbytes(400_000)
CUT = 150_000


def profile(**get: Any) -> dict[str, Any]:
    return {
        "profile": 1,
        "name": "files",
        "facts": {
            "version": {"from": "header:ETag", "codec": "etag"},
            "size": {"from": "header:X-Size", "codec": "int"},
            "digest": {"from": "header:X-Sum", "codec": "sha256-hex"},
        },
        "metadata": {"carrier": "none"},
        "operations": {
            "get": {"url": "{base}/{key}", **get},
            "head": {"url": "{base}/{key}"},
        },
    }


def store_on(server: WireServer, **get: Any) -> DynamicURLStore:
    store = DynamicURLStore(server.url, profile=profile(**get), policy=HASTY)
    store.connect()
    return store


def cut(body: bytes, **fields: Any) -> Any:
    """An answer that breaks off."""

    def step(wire: Wire) -> None:
        wire.send(answer(200, b"", Content_Length=len(body), **fields) + body[:CUT])
        wire.reset()

    return step


def rest(start: int, data: bytes = DATA, **fields: Any) -> bytes:
    told = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return answer(206, data[start:], Content_Range=told, **fields)


def position(server: WireServer, number: int) -> int:
    """Where the request of that number begins: what came of a connection that broke varies."""
    asked = server.seen[number].headers["range"]
    return int(asked.removeprefix("bytes=").rstrip("-"))


def test_it_goes_on_at_the_byte_where_it_stopped():
    def go_on(wire: Wire) -> None:
        start = int(wire.seen.headers["range"].removeprefix("bytes=").rstrip("-"))
        assert 0 < start <= CUT
        wire.send(rest(start, ETag='"1"'))

    with WireServer([cut(DATA, ETag='"1"'), go_on]) as server, store_on(server) as store:
        assert store.get_data("k").read() == DATA
    assert server.seen[1].headers["if-range"] == '"1"'


def test_a_server_that_has_another_content_now_is_a_conflict():
    steps = [cut(DATA, ETag='"1"'), answer(200, DATA, ETag='"2"')]
    with WireServer(steps) as server, store_on(server) as store:
        with pytest.raises(ConflictError):
            store.get_data("k").read()


@pytest.mark.parametrize("fields", [{"ETag": '"1"'}, {}], ids=["etag", "nothing"])
def test_a_server_without_ranges_is_asked_for_all_again(fields: dict[str, str]):
    steps = [cut(DATA, **fields), answer(200, DATA, **fields)]
    with WireServer(steps) as server, store_on(server, ranges=False) as store:
        assert store.get_data("k").read() == DATA
    assert "range" not in server.seen[1].headers


def test_what_begins_otherwise_is_not_taken_for_the_same():
    steps = [cut(DATA), answer(200, b"x" + DATA[1:])]
    with WireServer(steps) as server, store_on(server) as store:
        with pytest.raises(ConflictError):
            store.get_data("k").read()


def test_a_digest_vouches_for_what_is_put_together():
    digest = hashlib.sha256(DATA).hexdigest()

    def go_on(wire: Wire) -> None:
        wire.send(rest(int(wire.seen.headers["range"][6:-1])))

    with WireServer([cut(DATA, X_Sum=digest), go_on]) as server, store_on(server) as store:
        assert store.get_data("k").read() == DATA
    assert "if-range" not in server.seen[1].headers

    def go_on_wrongly(wire: Wire) -> None:
        wire.send(rest(int(wire.seen.headers["range"][6:-1]), DATA[:-1] + b"?"))

    with WireServer([cut(DATA, X_Sum=digest), go_on_wrongly]) as server, store_on(server) as store:
        with pytest.raises(IntegrityError):
            store.get_data("k").read()


def test_a_range_goes_on_within_it():
    def begin(wire: Wire) -> None:
        told = {"Content_Range": f"bytes 10-379999/{len(DATA)}", "ETag": '"1"'}
        wire.send(answer(206, b"", Content_Length=379_990, **told) + DATA[10:CUT])
        wire.reset()

    def go_on(wire: Wire) -> None:
        first, last = map(int, wire.seen.headers["range"].removeprefix("bytes=").split("-"))
        assert (first > 10, last) == (True, 379_999)
        told = {"Content_Range": f"bytes {first}-{last}/{len(DATA)}", "ETag": '"1"'}
        wire.send(answer(206, DATA[first : last + 1], **told))

    with WireServer([begin, go_on]) as server, store_on(server) as store:
        assert store.get_data_range("k", 10, 380_000).read() == DATA[10:380_000]


def test_encoded_data_begin_again():
    body = gzip.compress(DATA)
    fields = {"Content_Encoding": "gzip", "X_Size": len(DATA)}
    steps = [cut(body, **fields), answer(200, body, **fields)]
    with WireServer(steps) as server, store_on(server, accepts=["gzip"]) as store:
        assert store.get_data("k").read() == DATA


def test_a_range_of_other_bytes_is_refused():
    steps = [cut(DATA, ETag='"1"'), rest(0, ETag='"1"')]
    with WireServer(steps) as server, store_on(server) as store:
        with pytest.raises(TransportError):
            store.get_data("k").read()


def test_it_is_given_up_where_nothing_comes():
    def refuse(wire: Wire) -> None:
        wire.reset()

    begin = cut(DATA, ETag='"1"')
    with WireServer([begin], default=refuse) as server, store_on(server) as store:
        with pytest.raises(TransportError):
            store.get_data("k").read()
    assert len(server.seen) < 9
