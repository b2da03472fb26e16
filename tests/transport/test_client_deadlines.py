"""One limit for a whole operation, whatever it is made of; and which limit it was that ended it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

from kvstore.errors import StoreError, TransportError
from kvstore.transport.policy import Policy
from tests.transport.clients import announced, client, whole
from tests.transport.wire_server import BOUND, Step, Wire, WireServer, answer

#: Ends everything; no other limit would.
SHORT = Policy(
    deadline=0.7,
    attempts=10_000,
    backoff=0,
    read_timeout=60,
    write_timeout=60,
    call_timeout=60,
    minimum_rate=0,
)
DATA = b"x" * 600_000
HEAD = answer(200, b"", Content_Length=len(DATA), ETag='"r"')


def drips(wire: Wire) -> None:
    """Begin an answer, and go on with a byte now and then."""
    wire.send(HEAD)
    pause = threading.Event()
    while True:
        wire.send(b"x")
        pause.wait(0.02)


def hangs_within(wire: Wire) -> None:
    wire.send(HEAD + DATA[:300_000])
    wire.hang()


ASK: dict[str, Callable[[Any], object]] = {
    "data": lambda store: store.get_data("k").read(),
    "range": lambda store: store.get_data_range("k", 1, 500_000).read(),
    "bytes": lambda store: store.to_bytes("k"),
    "metadata": lambda store: store.get_metadata("k"),
    "set": lambda store: store.set_data("k", b"d"),
    "set large": lambda store: store.set_data("k", DATA),
    "update": lambda store: store.update_metadata("k", {}),
    "delete": lambda store: store.delete("k"),
    "query": lambda store: list(store.query_keys()),
}
NEVER: dict[str, Step] = {
    "silence": Wire.hang,
    "drips": drips,
    "stall": hangs_within,
    "reset for ever": Wire.reset,
    "500 for ever": answer(500),
    "503 for ever": answer(503, Retry_After=0),
}


#: What is answered by its status, so that a body behind that is nothing to wait for.
WRITES = ("set", "set large", "update", "delete")


@pytest.mark.parametrize(
    ("ask", "step"),
    [
        pytest.param(ask, step, id=f"{name}-{never}")
        for name, ask in ASK.items()
        for never, step in NEVER.items()
        if name not in WRITES or never not in ("drips", "stall")
    ],
)
def test_everything_ends(step, ask):
    # The end of each try would be another request; only the deadline ends them.
    with WireServer(default=step) as server, client(server, SHORT) as store:
        with pytest.raises(StoreError):
            ask(store)


@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
@pytest.mark.parametrize("step", [Wire.hang, drips, hangs_within])
def test_it_is_told_that_it_was_the_deadline(step, credentials):
    with WireServer(default=step) as server:
        with client(server, SHORT, credentials()) as store:
            with pytest.raises(TransportError, match=r"longer than 0\.7 s in all \(deadline\)"):
                store.get_data("k").read()


def test_a_pause_that_would_outlast_it_is_not_made():
    with WireServer([answer(503, Retry_After=1)]) as server, client(server, SHORT) as store:
        with pytest.raises(TransportError) as caught:
            store.get_data("k")
    assert caught.value.__notes__ == ["No time is left to try again (deadline: 0.7 s)."]


def test_an_upload_has_it_too():
    gone = threading.Event()

    def stop(wire: Wire) -> None:
        gone.wait(BOUND)

    with WireServer([stop]) as server, client(server, SHORT) as store:
        with pytest.raises(TransportError, match="deadline"):
            store.set_data("k", iter([b"x" * (32 << 20)]))
        gone.set()


def test_a_listing_has_it_for_all_its_pages():
    def page(wire: Wire) -> None:
        number = int(wire.seen.target.partition("p=")[2] or 0)
        threading.Event().wait(0.05)
        line = b'{"key": "%06d", "metadata": {}, "size": 1}\n' % number
        wire.send(answer(200, line, Link=f'<?p={number + 1}>; rel="next"'))

    with WireServer(default=page, service=announced("records")) as server:
        with client(server, SHORT) as store, pytest.raises(TransportError):
            list(store.query_keys())


def test_each_operation_has_it_anew():
    policy = Policy(deadline=5.0)
    with WireServer(default=answer(200, b"d", ETag='"r"')) as server:
        with client(server, policy) as store:
            for _ in range(3):
                assert store.get_data("k").read() == b"d"


# -- which it was --------------------------------------------------------------------------


def test_which_limit_of_the_others_it_was():
    cases: list[tuple[Policy, Step]] = [
        (Policy(attempts=1, read_timeout=0.2), hangs_within),
        (Policy(attempts=1, rate_window=0.2, minimum_rate=1e6), drips),
    ]
    for (policy, step), name in zip(cases, ("read_timeout", "minimum_rate"), strict=True):
        with WireServer([step]) as server, client(server, policy) as store:
            with pytest.raises(TransportError, match=rf"\({name}\)"):
                store.get_data("k").read()
    with WireServer([Wire.hang]) as server:
        with client(server, Policy(attempts=1, call_timeout=0.5)) as store:
            with pytest.raises(TransportError, match=r"\(call_timeout\)"):
                store.get_metadata("k")


def test_that_it_was_the_one_for_writing():
    gone = threading.Event()

    def stop(wire: Wire) -> None:
        gone.wait(BOUND)

    with WireServer([stop]) as server:
        with client(server, Policy(attempts=1, write_timeout=0.2)) as store:
            with pytest.raises(TransportError, match=r"\(write_timeout\)"):
                store.set_data("k", iter([b"x" * (32 << 20)]))
            gone.set()


def test_that_it_was_the_one_for_connecting(monkeypatch):
    def never(address: Any, timeout: object = None, **options: object) -> Any:
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", never)
    with WireServer() as server:
        with client(server, Policy(attempts=1, connect_timeout=1.5)) as store:
            with pytest.raises(TransportError, match=r"within 1\.5 s \(connect_timeout\)"):
                store.get_data("k")
