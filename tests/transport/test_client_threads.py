"""Threads, forks and connections: none is shared that must not be, none is left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from kvstore.errors import NotConnectedError, StoreError, TransportError
from kvstore.transport.policy import Policy
from tests.transport.basic_server import basic_server
from tests.transport.clients import ONCE, announced, client, whole
from tests.transport.wire_server import BOUND, Wire, WireServer, answer

LARGE = b"x" * 600_000


def echo(wire: Wire) -> None:
    """Answer a GET with its own target, so that an answer to another request shows."""
    wire.body()
    wire.send(answer(200, wire.seen.target.encode() * 3))


@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_many_threads_use_one_store(credentials):
    with basic_server() as server, client(server, ONCE, credentials()) as store:  # type: ignore[arg-type]

        def work(number: int) -> bool:
            for turn in range(8):
                key = f"{number}/{turn}"
                data = key.encode() * 100
                store.set(key, (data, {"n": number}))
                value = store.get(key)
                assert (value.read(), value.metadata) == (data, {"n": number})
                assert store.get_data_range(key, 3, 9).read() == data[3:9]
            return True

        with ThreadPoolExecutor(10) as pool:
            assert all(pool.map(work, range(10)))
        assert store.count() == 80


def test_each_thread_has_a_connection_of_its_own():
    barrier = threading.Barrier(4, timeout=BOUND)
    with WireServer(default=echo, service=announced()) as server, client(server) as store:

        def work(number: int) -> None:
            for turn in range(5):
                barrier.wait()
                expected = f"/keys/{number}.{turn}/data".encode() * 3
                assert store.get_data(f"{number}.{turn}").read() == expected

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert server.connections == 4


def test_the_connection_of_a_thread_ends_with_it():
    with WireServer(default=echo) as server, client(server) as store:
        for number in range(3):
            thread = threading.Thread(target=lambda: store.get_data("k").read())
            thread.start()
            thread.join(BOUND)
            del thread
            gc.collect()
            assert server.connection_ended(number)
        assert store.get_data("k").read()
        assert server.connections == 4


def test_a_stream_may_be_read_by_another_thread():
    with WireServer([answer(200, LARGE)]) as server, client(server) as store:
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(store.get_data, "k").result(BOUND)
        assert stream.read() == LARGE
        stream.close()
    assert server.connection_ended(0)


def test_disconnect_closes_the_connections_of_all_threads():
    barrier = threading.Barrier(4, timeout=BOUND)
    done = threading.Event()
    with WireServer(default=echo) as server, client(server) as store:

        def work() -> None:
            store.get_data("k").read()
            barrier.wait()
            done.wait(BOUND)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        store.disconnect()
        ended = [server.connection_ended(number) for number in range(server.connections)]
        done.set()
        for thread in threads:
            thread.join(BOUND)
    assert ended == [True] * 3


def test_what_is_open_when_the_store_is_disconnected_can_be_read_on():
    steps = [answer(200, LARGE), answer(200, LARGE)]
    with WireServer(steps) as server:
        store = client(server)
        stream, other = store.get_data("k"), store.get_data("k")
        store.disconnect()
        assert stream.read() == LARGE
        stream.close()
        other.close()
        assert server.connection_ended(0)
        assert server.connection_ended(1)


@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_a_request_under_way_when_the_store_is_disconnected_ends(credentials):
    asked, go_on = threading.Event(), threading.Event()

    def wait(wire: Wire) -> None:
        asked.set()
        go_on.wait(BOUND)
        wire.send(answer(503))

    with WireServer([wait]) as server, ThreadPoolExecutor(1) as pool:
        store = client(server, policy=Policy(backoff=0), credentials=credentials())
        outcome = pool.submit(store.get_data, "k")
        assert asked.wait(BOUND)
        store.disconnect()
        go_on.set()
        with pytest.raises(NotConnectedError):
            outcome.result(BOUND)


def test_connecting_anew_while_another_thread_looks_at_the_server():
    # Else that thread would leave its own conversation, with credentials of before, to all.
    looked, go_on = threading.Event(), threading.Event()

    def wait(wire: Wire) -> None:
        looked.set()
        go_on.wait(BOUND)
        wire.send(answer(404))

    with WireServer([answer(404)] * 2) as server, ThreadPoolExecutor(1) as pool:
        store = client(server, credentials=(None, requests.auth.HTTPBasicAuth("old", "")))
        server.service = wait  # type: ignore[assignment]
        outcome = pool.submit(store.exists, "k")
        assert looked.wait(BOUND)
        server.service = answer(404)
        store.connect((None, requests.auth.HTTPBasicAuth("new", "")))
        go_on.set()
        with pytest.raises(StoreError):
            outcome.result(BOUND)
        assert not store.exists("k")
        assert not store.exists("k")
        store.disconnect()
    assert {seen.headers["authorization"] for seen in server.seen} == {"Basic bmV3Og=="}


def test_many_threads_connect_and_disconnect_without_a_foreign_exception():
    stop = threading.Event()
    wrong: list[BaseException] = []
    with WireServer(default=echo) as server:
        store = client(server)

        def work() -> None:
            while not stop.is_set():
                try:
                    assert store.get_data("k").read() == b"/keys/k/data" * 3
                except StoreError:
                    pass
                except BaseException as error:  # noqa: BLE001 - shown below
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            store.disconnect()
            store.connect()
            store.exists("k")
        stop.set()
        for thread in threads:
            thread.join(BOUND)
        store.disconnect()
    assert wrong == []


# -- fork ----------------------------------------------------------------------------------


class Own(requests.Session):
    """A session of a class of its own."""


def own() -> tuple[None, requests.Session]:
    return None, Own()


def in_child(work: Callable[[], bool]) -> bool:
    """Do *work* in a forked child, bounded in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        process = multiprocessing.get_context("fork").Process(target=_exit, args=(work,))
        process.start()
    process.join(BOUND)
    if process.is_alive():
        process.kill()
        process.join()
        return False
    is_done = process.exitcode == 0
    process.close()
    return is_done


def _exit(work: Callable[[], bool]) -> None:
    os._exit(0 if work() else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("credentials", [lambda: None, whole, own], ids=["lean", "whole", "own"])
def test_a_forked_child_has_connections_of_its_own(credentials):
    told = credentials()
    with WireServer(default=echo) as server, client(server, credentials=told) as store:
        assert store.get_data("before").read()

        def work() -> bool:
            mine = all(
                store.get_data(f"child{i}").read() == f"/keys/child{i}/data".encode() * 3
                for i in range(5)
            )
            store.disconnect()
            return mine

        assert in_child(work)
        assert store.get_data("after").read() == b"/keys/after/data" * 3
    if told is not None:
        told[1].close()
    by_key = {seen.target.split("/")[2]: seen.connection for seen in server.seen}
    assert by_key["before"] == by_key["after"]
    assert by_key["child0"] == by_key["child4"] != by_key["before"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_asks():
    asked, go_on = threading.Event(), threading.Event()

    def wait(wire: Wire) -> None:
        asked.set()
        go_on.wait(BOUND)
        wire.send(answer(200, b"parent"))

    with WireServer([wait], default=echo) as server, client(server) as store:
        store.info()
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(lambda: store.get_data("k").read())
            assert asked.wait(BOUND)
            assert in_child(lambda: store.get_data("c").read() == b"/keys/c/data" * 3)
            go_on.set()
            assert outcome.result(BOUND) == b"parent"


# -- nothing is left behind ----------------------------------------------------------------


def test_no_socket_is_left_open_by_any_kind_of_failure():
    def cut(wire: Wire) -> None:
        wire.send(answer(200, b"x", Content_Length=5))
        wire.close()

    steps: list[Any] = [
        cut,
        Wire.reset,
        answer(200, b"x", Content_Encoding="gzip"),
        answer(200, b"x", Content_Length=None),
        answer(200, b"x", Content_Length="1, 2"),
        answer(200, LARGE, Repr_Digest="sha-256=x"),
        answer(206, LARGE, Content_Range="bytes 1-2/3"),
        answer(206, LARGE, Content_Range="x"),
        answer(301, LARGE, Location="/"),
        answer(307, LARGE, Location="http://elsewhere/"),
        answer(308, LARGE),
        answer(404, LARGE),
        answer(500, b"x", Content_Length=None),
        answer(204, Transfer_Encoding="chunked"),
    ]
    before = set(open_sockets())
    with WireServer(steps) as server, client(server) as store:
        for number in range(len(steps)):
            with pytest.raises((TransportError, KeyError)):
                if number in (6, 7):
                    store.get_data_range("k", 0, 2)
                elif number == len(steps) - 1:
                    store.delete("k")
                    raise KeyError
                else:
                    store.get_data("k").read()
    gc.collect()
    assert set(open_sockets()) <= before


def open_sockets() -> list[str]:
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):  # noqa: PTH112
        pytest.skip("needs /proc")
    found = []
    for name in os.listdir(folder):  # noqa: PTH208
        try:
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found


def test_a_connection_is_not_used_again_where_an_answer_was_left_half_read():
    def slow(wire: Wire) -> None:
        wire.send(answer(200, LARGE[:300_000], Content_Length=len(LARGE)))
        wire.hang()

    with WireServer([slow, answer(200, b"next")]) as server, client(server) as store:
        stream = store.get_data("k")
        assert stream.read(10) == LARGE[:10]
        stream.close()
        assert store.get_data("k").read() == b"next"
    assert [seen.connection for seen in server.seen] == [0, 1]


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next():
    def say_more(wire: Wire) -> None:
        wire.send(answer(200, b"first") + answer(200, b"forged"))

    with WireServer([say_more, answer(200, b"second")]) as server, client(server) as store:
        assert store.get_data("k").read() == b"first"
        assert store.get_data("k").read() == b"second"
    with WireServer([answer(204) + answer(200, b"forged"), answer(200, b"2")]) as server:
        with client(server) as store:
            store.set_data("k", b"d")
            assert store.get_data("k").read() == b"2"


def test_sockets_have_no_delay():
    options: list[int] = []
    with WireServer([answer(404)]) as server, client(server) as store:
        original = socket.socket.setsockopt

        def note(sock: socket.socket, level: int, name: int, value: Any) -> None:
            if level == socket.IPPROTO_TCP:
                options.append(name)
            original(sock, level, name, value)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "setsockopt", note)
            store.exists("k")
    assert socket.TCP_NODELAY in options
