from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kvstore.errors import InvalidRequestError, StoreError
from kvstore.server import Limits, Settings, serve, serve_background
from kvstore.server.running.refusals import is_loopback
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.server.sockets import Wire, ask

ROOT = Path(__file__).parents[2]

SERVER = """
import signal
from kvstore.server import Settings, serve
from kvstore.server.running.settings import AccessRules
from kvstore.stores.memory import MemoryStore

class Store(MemoryStore):
    def _disconnect(self):
        print("disconnected", flush=True)

def ready(url):
    print(url, flush=True)

# Not what they are usually: a job that a script runs in the background ignores SIGINT.
numbers = [signal.SIGINT, signal.SIGTERM]
before = [signal.getsignal(number) for number in numbers]
serve(Store(), Settings(host={host!r}, port=0, log_format="none", {more}), ready=ready)
assert [signal.getsignal(number) for number in numbers] == before
print("ended", flush=True)
"""


def child(host: str = "127.0.0.1", more: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVER.format(host=host, more=more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_by_signal_and_lets_its_caller_go_on(number: int) -> None:
    with child() as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert ask(url, "PUT", "/keys/a/data", body=b"x").status == 201
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("disconnected\nended\n", "", 0)


def test_serve_ends_while_clients_are_there() -> None:
    with child() as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with Wire(url) as idle, Wire(url) as waiting:
            assert idle.ask("GET", "/query").status == 200
            waiting.send(b"GET /")
            process.terminate()
            out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == ("disconnected\nended\n", 0)


@pytest.mark.parametrize("is_patient", [True, False])
def test_what_is_on_its_way_has_time_to_end_until_a_second_signal(is_patient: bool) -> None:
    with child(more="grace=60") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with Wire(url) as wire:
            wire.head("PUT", "/keys/a/data", "Content-Length: 200000", "Expect: 100-continue")
            assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")
            wire.send(bytes(100_000))
            process.terminate()
            with pytest.raises(ConnectionError):
                while True:
                    ask(url, "GET", "/query")
            if is_patient:
                wire.send(bytes(100_000))
                assert wire.read("PUT").status == 201
            else:
                process.terminate()
            out, err = process.communicate(timeout=50)
    assert (out, err, process.returncode) == ("disconnected\nended\n", "", 0)


@pytest.mark.parametrize(
    ("host", "more", "name"),
    [
        ("localhost", "", "localhost"),
        ("127.0.0.1", "allow_hosts=('other.example',)", "other.example"),
        ("0.0.0.0", "insecure=True", "localhost"),
        ("127.0.0.2", "", "127.0.0.2"),
    ],
)
def test_addresses_to_listen_at(host: str, more: str, name: str) -> None:
    with child(host, f"access=AccessRules(open=True), {more}") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with Wire(url) as wire:
            wire.head("GET", "/query", f"Host: {name}", host=False)
            status = wire.read().status
        process.terminate()
        process.communicate(timeout=30)
    assert status == 200


@each("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org", "[::]"])
def test_other_machines_are_not_served_by_accident(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="--insecure"):
        serve(MemoryStore(), Settings(host=host, port=0))


@each(
    "host, expected",
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use"):
            serve(MemoryStore(), Settings(port=port))
        with (
            pytest.raises(OSError, match="Address already in use"),
            serve_background(MemoryStore(), port=port),
        ):
            pass


# -- in the background ---------------------------------------------------------------------


def test_the_background_server_accepts_at_once_and_ends() -> None:
    store = MemoryStore()
    before = set(threading.enumerate())
    with serve_background(store) as url:
        assert urlsplit(url).hostname == "127.0.0.1"
        assert store.is_connected()
        assert ask(url, "GET", "/query").status == 200
    assert not store.is_connected()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "kvstore-server" not in left
    with pytest.raises(ConnectionRefusedError):
        Wire(url)


def test_a_store_that_was_connected_stays_so() -> None:
    with MemoryStore() as store:
        with serve_background(store):
            pass
        assert store.is_connected()


def test_many_servers_one_after_the_other_and_at_once() -> None:
    for _ in range(5):
        with serve_background(MemoryStore()) as one, serve_background(MemoryStore()) as other:
            assert one != other
            assert ask(one, "PUT", "/keys/a/data", body=b"x").status == 201
            assert ask(other, "GET", "/keys/a/data").status == 404


def test_an_error_in_the_block_is_passed_on() -> None:
    with pytest.raises(KeyError, match="mine"), serve_background(MemoryStore()):
        raise KeyError("mine")


def test_the_end_does_not_wait_for_clients_for_ever() -> None:
    with MemoryStore() as store:
        with serve_background(store, limits=Limits(idle_time=60)) as url:
            wires = [Wire(url) for _ in range(3)]
            wires[0].ask("GET", "/query")
            wires[1].head("PUT", "/keys/a/data", "Content-Length: 5000000", "Expect: 100-continue")
            wires[1].socket.recv(100)
            wires[2].send(b"GET /")
            begun = time.monotonic()
        # Far below the times that these clients would have: the bound is a second for answers.
        assert time.monotonic() - begun < 20
        for wire in wires:
            wire.socket.close()
        assert not store.exists("a")


def test_an_application_that_does_not_start() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(StoreError, match="did not start"), running(app):
        pass
