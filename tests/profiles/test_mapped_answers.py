"""Answers that no real server should give: by a profile they are judged as strictly as ever."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from hashlib import sha256
from typing import Any

import pytest

from kvstore import (
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidRequestError,
    KeyNotFoundError,
    RangeError,
    StorageFullError,
    TransportError,
    UnavailableError,
)
from tests.cases import each
from tests.profiles.odd_profile import GET, opened, profile
from tests.transport.wire_server import WireServer, answer, chunked

PACKED = profile(
    facts={"size": "header:X-Size"},
    ops={"get": {**GET, "accepts": ["gzip"]}, "head": {**GET, "accepts": ["gzip"]}},
)
DATA = b"some text that is compressed\n" * 20_000


def packed(data: bytes = DATA, **headers: Any) -> bytes:
    told = {"Content_Encoding": "gzip", "X_Size": len(DATA), **headers}
    return answer(200, data, **told)


def test_compressed_data_are_decoded():
    two = gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:])
    steps = [
        packed(gzip.compress(DATA)),
        packed(two),
        chunked([two], Content_Encoding="gzip", X_Size=len(DATA)),
    ]
    with WireServer(steps) as server, opened(server, PACKED) as store:
        for _ in steps:
            value = store.get("k")
            assert (value.size, value.read()) == (len(DATA), DATA)


@each(
    "body",
    [
        gzip.compress(DATA)[:-1],
        gzip.compress(DATA)[:-200],
        gzip.compress(DATA[:-1]),
        gzip.compress(DATA + b"x"),
        gzip.compress(DATA) + b"junk",
        gzip.compress(DATA)[:-8] + b"\0" * 8,
        zlib.compress(DATA),
        DATA,
        b"",
    ],
    ids=["cut", "cut much", "short", "long", "junk", "checksum", "zlib", "plain", "nothing"],
)
def test_compressed_data_that_are_not_whole_are_an_error(body):
    with WireServer([packed(body)] * 2) as server, opened(server, PACKED) as store:
        with pytest.raises(IntegrityError):
            store.to_bytes("k")
        with pytest.raises(IntegrityError), store.get_data("k") as stream:
            while stream.read(4096):
                pass


def test_a_range_of_compressed_data_is_whole():
    steps = [packed(gzip.compress(DATA)), packed(gzip.compress(DATA)[:-200])]
    with WireServer(steps) as server, opened(server, PACKED) as store:
        assert store.get_data_range("k", 5, 70_000).read() == DATA[5:70_000]
        with pytest.raises(IntegrityError), store.get_data_range("k", len(DATA) - 9) as stream:
            stream.read()


def test_compressed_data_without_their_size_are_refused():
    steps = [packed(gzip.compress(DATA), X_Size=None)] * 2
    with WireServer(steps) as server, opened(server, PACKED) as store:
        for read in (store.get_data, lambda key: store.get(key).read()):
            with pytest.raises(TransportError, match="does not tell the size"):
                read("k")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_coding_that_was_not_agreed_on_is_refused(coding):
    steps = [answer(200, b"x", Content_Encoding=coding)]
    document = profile() if coding == "gzip" else PACKED
    with WireServer(steps) as server, opened(server, document) as store:
        with pytest.raises(TransportError, match="encoded"):
            store.get_data("k")


def test_a_bomb_is_not_decoded_beyond_its_size():
    bomb = gzip.compress(b"\0" * (64 << 20))
    with WireServer([packed(bomb, X_Size=1000)]) as server, opened(server, PACKED) as store:
        tracemalloc.start()
        try:
            with pytest.raises(IntegrityError):
                store.to_bytes("k")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_data_that_are_cut_short_are_an_error(size):
    def cut_short(wire: Any) -> None:
        wire.body()
        wire.send(answer(200, b"12345", Content_Length=size))
        wire.close()

    with WireServer([cut_short] * 2) as server, opened(server, profile()) as store:
        for read in (store.to_bytes, lambda key: store.get_data(key).read()):
            with pytest.raises(TransportError):
                read("k")


def test_sizes_and_digests_must_agree():
    facts = {"size": "header:X-Size", "digest": {"from": "header:X-Sum", "codec": "sha256-hex"}}
    right = sha256(b"data").hexdigest()
    steps = [
        answer(200, b"data", X_Size=5),
        answer(200, b"data", X_Sum="0" * 64),
        answer(200, b"data", X_Sum="none"),
        answer(200, b"data", X_Size="many"),
        answer(200, b"data", X_Size=4, X_Sum=right),
    ]
    with WireServer(steps) as server, opened(server, profile(facts=facts)) as store:
        for error in (TransportError, IntegrityError, TransportError, TransportError):
            with pytest.raises(error):
                store.get_data("k").read()
        assert store.get_data("k").read() == b"data"


def test_data_of_unknown_size_are_measured():
    steps = [chunked([b"one", b"two"]), chunked([b"one", b"two"])]
    with WireServer(steps) as server, opened(server, profile()) as store:
        value = store.get("k")
        assert value.size == 6
        assert value.read() == value.range(0).read() == b"onetwo"
        assert value.range(2, 4).read() == b"et"
        value.close()
        assert store.get_data_range("k", 1, 4).read() == b"net"
        assert server.told == ["GET /k", "GET /k"]


def test_ranges_are_those_asked_for():
    steps = [
        answer(206, b"bc", Content_Range="bytes 1-2/5"),
        answer(206, b"ab", Content_Range="bytes 0-1/5"),
        answer(206, b"bcd", Content_Range="bytes 1-2/5"),
        answer(206, b"bc"),
        answer(200, b"abcde"),
        answer(416, b"", Content_Range="bytes */5"),
        answer(416, b"", Content_Range="bytes */5"),
    ]
    with WireServer(steps) as server, opened(server, profile()) as store:
        assert store.get_data_range("k", 1, 3).read() == b"bc"
        for _ in range(3):
            with pytest.raises(TransportError):
                store.get_data_range("k", 1, 3)
        assert store.get_data_range("k", 1, 3).read() == b"bc"
        assert store.get_data_range("k", 5).read() == b""
        with pytest.raises(RangeError) as caught:
            store.get_data_range("k", 6)
        assert caught.value.size == 5
        assert [seen.headers.get("range") for seen in server.seen][:2] == ["bytes=1-2"] * 2


def test_a_range_of_what_was_not_asked_for_is_refused():
    with WireServer([answer(206, b"ab")]) as server, opened(server, profile()) as store:
        with pytest.raises(TransportError):
            store.get_data("k")


STATUSES = {
    400: InvalidRequestError,
    403: AuthorizationError,
    404: KeyNotFoundError,
    409: ConflictError,
    413: ValueError,
    418: InvalidKeyError,
    419: InvalidKeyError,
    500: TransportError,
    503: UnavailableError,
    507: StorageFullError,
    204: TransportError,
    301: TransportError,
    304: TransportError,
}


@each("status", STATUSES)
def test_statuses_are_errors_with_what_the_server_says(status):
    table = {"418": "invalid_key", "204": "server_error"}
    document = profile(
        status=table,
        status_if_body=[{"status": "419", "contains": "bad name", "means": "invalid_key"}],
        error_message=["header:X-Why", "json:/why", "text"],
    )
    bodies = {409: b'{"why": "as told"}', 419: b"as told: bad name", 400: b"<h1>not shown</h1>"}
    said = {} if status in bodies else {"X_Why": "as told"}
    step = answer(status, bodies.get(status, b""), **said)
    with WireServer([step]) as server, opened(server, document) as store:
        with pytest.raises(STATUSES[status]) as caught:
            store.get("k")
    assert caught.value.key == "k"
    assert caught.value.status == status
    if status not in (400, 500, 503, 301, 304):
        assert "as told" in caught.value.message
    assert "<h1>" not in caught.value.message


def test_what_the_server_says_is_made_safe():
    step = answer(409, b"a\nb\x1b[31m" + b"x" * 5000)
    document = profile(error_message=["text"])
    with WireServer([step]) as server, opened(server, document) as store:
        with pytest.raises(ConflictError) as caught:
            store.get("k")
    assert "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 700
