"""How long the client waits: for silence, for drips, in all, and not where it is the slow one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3

from kvstore.errors import InvalidRequestError, TransportError
from kvstore.transport.policy import Patience, Policy
from tests.transport.clients import client, whole
from tests.transport.wire_server import Broken, Step, Wire, WireServer, answer

#: Ends a wait for silence long before the other limits.
SILENCE = Policy(attempts=1, read_timeout=0.3)
#: Ends what drips, but never a single read.
DRIPS = Policy(attempts=1, read_timeout=5, call_timeout=1, rate_window=0.3, minimum_rate=10_000)
WAYS = pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])


def drip(data: bytes, whole_first: bytes = b"") -> Step:
    """Answer with *data*, a byte every 10 ms."""

    def step(wire: Wire) -> None:
        wire.body()
        wire.send(whole_first)
        pause = threading.Event()
        for byte in data:
            wire.send(bytes([byte]))
            pause.wait(0.01)
        raise Broken

    return step


ASK: dict[str, Callable[[Any], object]] = {
    "data": lambda store: store.get_data("k").read(),
    "metadata": lambda store: store.get_metadata("k"),
    "exists": lambda store: store.exists("k"),
    "set": lambda store: store.set_data("k", b"d"),
    "stream": lambda store: store.set_data("k", iter([b"d"])),
    "update": lambda store: store.update_metadata("k", {}),
    "delete": lambda store: store.delete("k"),
    "query": lambda store: list(store.query_keys()),
}


#: Each on the lean way, and two on the other.
ASKS = pytest.mark.parametrize(
    ("ask", "credentials"),
    [(ask, lambda: None) for ask in ASK.values()]
    + [(ASK[name], whole) for name in ("data", "set")],
    ids=[*ASK, "whole data", "whole set"],
)


@ASKS
def test_silence_ends(ask, credentials):
    with WireServer([Wire.hang]) as server:
        with client(server, policy=SILENCE, credentials=credentials()) as store:
            with pytest.raises(TransportError, match="timed out"):
                ask(store)


@pytest.mark.parametrize("came", [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1"])
@pytest.mark.parametrize("name", ["data", "metadata", "query"])
def test_silence_within_an_answer_ends(name, came):
    def begin(wire: Wire) -> None:
        wire.send(came)
        wire.hang()

    with WireServer([begin]) as server, client(server, policy=SILENCE) as store:
        with pytest.raises(TransportError, match="timed out"):
            ASK[name](store)


@ASKS
def test_a_header_block_that_drips_ends(ask, credentials):
    head = b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 99
    with WireServer([drip(head)]) as server:
        with client(server, policy=DRIPS, credentials=credentials()) as store:
            with pytest.raises(TransportError, match=r"longer than 1 s in all"):
                ask(store)


@WAYS
@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n"]
)
def test_interim_answers_without_end_end(interim, credentials):
    def flood(wire: Wire) -> None:
        while True:
            wire.send(interim * 100)

    with WireServer([flood]) as server:
        with client(server, policy=DRIPS, credentials=credentials()) as store:
            with pytest.raises(TransportError):
                store.get_data("k")


@WAYS
def test_a_small_answer_that_drips_ends(credentials):
    page = drip(b'{"n": 1}' + b" " * 500, answer(200, b"", Content_Length=508))
    with WireServer([page]) as server:
        with client(server, policy=DRIPS, credentials=credentials()) as store:
            with pytest.raises(TransportError, match=r"longer than 1 s in all"):
                store.get_metadata("k")


@WAYS
@pytest.mark.parametrize("size", [500, 500_000])
def test_data_that_drips_ends(size, credentials):
    page = drip(b"x" * 500, answer(200, b"", Content_Length=size))
    with WireServer([page]) as server:
        with client(server, policy=DRIPS, credentials=credentials()) as store:
            with pytest.raises(TransportError, match="fewer than 10000 a second"):
                store.get_data("k").read()


def test_chunks_that_drip_end():
    head = answer(200, Content_Length=None, Transfer_Encoding="chunked")
    with WireServer([drip(b"1\r\nx\r\n" * 100, head)]) as server:
        with client(server, policy=DRIPS) as store, pytest.raises(TransportError):
            store.get_data("k").read()


def test_a_listing_that_drips_ends():
    page = drip(b"key\n" * 100, answer(200, b"", Content_Length=500_000))
    with WireServer([page]) as server, client(server, policy=DRIPS) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())


def test_data_may_flow_for_longer_than_a_small_call():
    policy = Policy(attempts=1, call_timeout=0.5, rate_window=0.1, minimum_rate=1000)

    def flow(wire: Wire) -> None:
        wire.send(answer(200, b"", Content_Length=50_000 * 30))
        pause = threading.Event()
        for _ in range(30):
            wire.send(b"x" * 50_000)
            pause.wait(0.02)

    with WireServer([flow]) as server, client(server, policy=policy) as store:
        assert len(store.get_data("k").read()) == 1_500_000


def test_the_time_that_the_reader_takes_does_not_count():
    policy = Policy(attempts=1, rate_window=1, minimum_rate=1_000_000)
    pause = threading.Event()
    with WireServer([answer(200, b"x" * 600_000)]) as server, client(server, policy) as store:
        with store.get_data("k") as stream:
            read = 0
            while piece := stream.read(200_000):
                read += len(piece)
                pause.wait(0.4)
    assert read == 600_000


def test_an_upload_may_take_longer_than_its_answer():
    # Else no upload of more than a minute would ever succeed, for its answer is a few bytes.
    policy = Policy(attempts=1, call_timeout=0.5, rate_window=0.5, minimum_rate=10_000)

    def slow() -> Iterator[bytes]:
        pause = threading.Event()
        for _ in range(7):
            pause.wait(0.1)
            yield b"x"

    with WireServer([answer(201)]) as server, client(server, policy=policy) as store:
        store.set_data("k", slow())
    assert server.seen[0].body == b"xxxxxxx"


def test_a_server_that_stops_reading_ends():
    policy = Policy(attempts=1, write_timeout=0.1)

    def stop(wire: Wire) -> None:
        gone.wait(10)
        raise Broken

    gone = threading.Event()
    with WireServer([stop]) as server, client(server, policy=policy) as store:
        with pytest.raises(TransportError, match="timed out"):
            store.set_data("k", iter([b"x" * (32 << 20)]))
        gone.set()


def test_a_slow_network_has_the_time_for_each_piece_anew():
    # One piece of the source, read slower than the time-out for 128 KiB would allow for it all.
    policy = Policy(attempts=1, write_timeout=0.6)

    def read_slowly(wire: Wire) -> None:
        pause = threading.Event()
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        while len(wire._rest) < len(data) // 4:
            pause.wait(0.04)
            wire._more()
        wire.body()
        wire.send(answer(201))

    data = b"x" * (8 << 20)
    with WireServer([read_slowly]) as server, client(server, policy=policy) as store:
        store.set_data("k", data, len(data))
    assert server.seen[0].body == data


def test_all_tries_of_a_small_call_together_have_its_time():
    policy = Policy(attempts=100, backoff=0, read_timeout=0.1, call_timeout=0.4)
    with WireServer(default=Wire.hang) as server, client(server, policy=policy) as store:
        with pytest.raises(TransportError) as caught:
            store.get_metadata("k")
    assert caught.value.attempts < 10


def test_the_time_to_connect_is_bounded_and_a_failure_of_it_tried_again(monkeypatch):
    tried: list[object] = []

    def never(address: Any, timeout: object = None, **options: object) -> Any:
        tried.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", never)
    with WireServer() as server:
        policy = Policy(attempts=3, backoff=0, connect_timeout=1.5)
        with client(server, policy=policy) as store, pytest.raises(TransportError) as caught:
            store.update_metadata("k", {})
    assert tried == [1.5] * 3
    assert caught.value.attempts == 3


def test_limits_stay_in_force_after_a_request_inside_an_upload():
    steps = [
        answer(200, Content_Length=300_000),
        answer(200, b"{}"),
        lambda wire: (wire.body(), drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 80)(wire)),
        answer(200, b"x" * 300_000),
    ]
    with WireServer(steps) as server, client(server, policy=DRIPS) as store:
        value = store.get("a")
        with pytest.raises(TransportError, match="in all"):
            store.set_data("b", value)


@pytest.mark.parametrize(
    "limits",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"connect_timeout": 0},
        {"read_timeout": None},
        {"write_timeout": -1},
        {"call_timeout": float("nan")},
        {"backoff": -0.1},
        {"minimum_rate": "1"},
        {"redirects": 2.0},
    ],
)
def test_a_policy_of_nonsense_is_refused(limits):
    with pytest.raises(InvalidRequestError, match=next(iter(limits))):
        Policy(**limits)


def test_patience_counts_only_what_was_waited_for():
    patience = Patience(Policy(rate_window=10, minimum_rate=5), None)
    patience.begin()
    patience.received(1, 100.0)  # the header block has its own limit
    patience.body()
    patience.received(49, 9.9)
    with pytest.raises(TimeoutError):
        patience.received(0, 0.2)
    patience = Patience(Policy(rate_window=10, minimum_rate=5), None)
    patience.body()
    for _ in range(100):
        patience.received(50, 10.0)
