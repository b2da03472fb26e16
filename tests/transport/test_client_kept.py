"""Connections that are kept, and that the server has closed or is about to close."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kvstore.transport import connections
from tests.transport.clients import HASTY, ONCE, client
from tests.transport.wire_server import Wire, WireServer, answer

ASK: dict[str, Callable[[Any], object]] = {
    "GET": lambda store: store.get_data("k").read(),
    "HEAD": lambda store: store.exists("k"),
    "PUT": lambda store: store.set_data("k", b"d"),
    "PUT stream": lambda store: store.set_data("k", iter([b"d"])),
    "POST": lambda store: store.update_metadata("k", {"n": 1}),
    "DELETE": lambda store: store.delete("k"),
}


def answer_and_close(wire: Wire) -> None:
    """As a server does that keeps no connection, and does not say so."""
    wire.body()
    wire.send(answer(200, b"", ETag='"r"'))
    wire.close()


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_server_that_closes_after_each_answer(ask):
    # That its end is on its way can be seen only when it has come; nothing is waited for here.
    with WireServer([answer_and_close] * 30) as server, client(server, HASTY) as store:
        for _ in range(30):
            ask(store)


@pytest.mark.parametrize("name", ["PUT stream", "POST"])
def test_what_is_sent_once_goes_over_a_connection_that_is_known_to_be_kept(name):
    with WireServer([answer(200)] * 6) as server, client(server, ONCE) as store:
        store.exists("k")  # as the look-up of the service before it
        for _ in range(5):
            ASK[name](store)
    assert server.connections == 1


def test_what_is_sent_once_does_not_go_over_one_that_lay_idle(monkeypatch):
    with WireServer([answer(200)] * 4) as server, client(server, ONCE) as store:
        store.exists("k")
        ASK["POST"](store)
        monkeypatch.setattr(connections, "_FRESH", 0.0)
        ASK["POST"](store)
        ASK["GET"](store)  # but what may be sent again does
    assert [seen.connection for seen in server.seen] == [0, 0, 1, 1]


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_connection_that_was_closed_is_opened_anew(ask):
    closed = threading.Event()

    def close(wire: Wire) -> None:
        answer_and_close(wire)
        closed.set()

    with WireServer([answer(200), close, answer(200)]) as server, client(server, ONCE) as store:
        store.exists("k")
        store.exists("k")
        assert closed.wait(10)
        ask(store)
    assert server.connections == 2
