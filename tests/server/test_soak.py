"""Many clients for some time, some of which misbehave: the others must not notice."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import kvstore
from kvstore.stores.sqlite import SQLiteStore
from tests.server.sockets import Wire
from tests.server.test_processes import children, command_of
from tests.server.tus import PART, TUS, named

ROOT = Path(__file__).parents[2]
LIBRARY_CLIENTS, PLAIN_CLIENTS = 20, 12
#: Keys of each client, so that the store stays as large as it is.
KEYS = 12
LIMITS = {
    "data": 2_000_000,
    "header_time": 1,
    "idle_time": 2,
    "uploads": 20,
    "upload_time": 2,
    "connections": 200,
}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="looks at processes where Linux tells of them"
)


# -- clients -------------------------------------------------------------------------------


class Client:
    """One that behaves, and knows what its keys hold. What it finds otherwise is a failure."""

    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.random = random.Random(number)
        self.prefix = f"client {number}/é"
        self.model: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.failure: BaseException | None = None

    def run(self, end: threading.Event) -> None:
        try:
            with self.connected():
                while not end.is_set():
                    name = self.random.choice(["set", "get", "get", "query", "delete", *self.more])
                    began = time.perf_counter()
                    getattr(self, f"do_{name}")()
                    self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self.failure = error

    more: tuple[str, ...] = ()

    def connected(self) -> Any:
        raise NotImplementedError

    def key(self) -> str:
        return f"{self.prefix}{self.random.randrange(KEYS)}"

    def value(self, most: int = 200_000) -> tuple[bytes, dict[str, Any]]:
        size = self.random.choice([0, 10, 1000, 1000, 1000, 60_000, most])
        return self.random.randbytes(size), {"size": size, "n": self.random.random()}

    def do_set(self) -> None:
        key, (data, metadata) = self.key(), self.value()
        self.put(key, data, metadata)
        self.model[key] = data, metadata

    def do_get(self) -> None:
        key = self.key()
        assert self.fetch(key) == self.model.get(key)

    def do_delete(self) -> None:
        key = self.key()
        assert self.remove(key) == (key in self.model)
        self.model.pop(key, None)

    def do_query(self) -> None:
        assert self.listed() == {key: metadata for key, (_, metadata) in self.model.items()}

    def put(self, key: str, data: bytes, metadata: dict[str, Any]) -> None:
        raise NotImplementedError

    def fetch(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        raise NotImplementedError

    def remove(self, key: str) -> bool:
        raise NotImplementedError

    def listed(self) -> dict[str, dict[str, Any]]:
        raise NotImplementedError


class LibraryClient(Client):
    more = ("changes", "batch", "update")

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        with kvstore.open(self.url) as self.store:
            self.since = self.store.sequence()
            yield

    def put(self, key: str, data: bytes, metadata: dict[str, Any]) -> None:
        self.store.set(key, data, metadata=metadata)

    def fetch(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        try:
            value = self.store.get(key)
        except KeyError:
            return None
        return value.read(), value.metadata

    def remove(self, key: str) -> bool:
        try:
            self.store.delete(key)
        except KeyError:
            return False
        return True

    def listed(self) -> dict[str, dict[str, Any]]:
        return dict(self.store.query(prefix=self.prefix))

    def do_update(self) -> None:
        key, more = self.key(), {"more": self.random.random()}
        try:
            self.store.update_metadata(key, more)
        except KeyError:
            assert key not in self.model
        else:
            data, metadata = self.model[key]
            self.model[key] = data, {**metadata, **more}

    def do_batch(self) -> None:
        values = {self.key(): self.value(5000) for _ in range(5)}
        self.store.multiset(list(values), list(values.values()))
        self.model.update(values)

    def do_changes(self) -> None:
        for change in self.store.changes(since=self.since, limit=50):
            assert change.seq == self.since + 1
            self.since = change.seq


class PlainClient(Client):
    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        self.connection: http.client.HTTPConnection | None = None
        yield
        if self.connection is not None:
            self.connection.close()

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        # A connection that the server has closed after so many requests is no failure.
        if self.connection is None:
            self.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        self.connection.request(method, target, body)
        answer = self.connection.getresponse()
        told = answer.status, answer.read()
        if answer.will_close:
            self.connection.close()
            self.connection = None
        return told

    def target(self, key: str, part: str) -> str:
        return f"/keys/{_quoted(key)}/{part}"

    def put(self, key: str, data: bytes, metadata: dict[str, Any]) -> None:
        head = json.dumps({"metadata": metadata}).encode() + b"\n"
        status, body = self.ask("PUT", self.target(key, "value"), head + data)
        assert status == (204 if key in self.model else 201), body

    def fetch(self, key: str) -> tuple[bytes, dict[str, Any]] | None:
        status, body = self.ask("GET", self.target(key, "value"))
        if status == 404:
            return None
        assert status == 200, body
        head, _, data = body.partition(b"\n")
        return data, json.loads(head)["metadata"]

    def remove(self, key: str) -> bool:
        status, body = self.ask("DELETE", f"/keys/{_quoted(key)}")
        assert status in (204, 404), body
        return status == 204

    def listed(self) -> dict[str, dict[str, Any]]:
        prefix = _quoted(self.prefix)
        status, body = self.ask("GET", f"/query?$prefix={prefix}")
        assert status == 200, body
        return {key: self.model[key][1] for key in body.decode().splitlines()}


def _quoted(text: str) -> str:
    return text.replace(" ", "%20").replace("é", "%C3%A9")


# -- those that misbehave ------------------------------------------------------------------


def drip(url: str, end: threading.Event) -> None:
    """A body that comes a byte at a time, and one that never comes."""
    with Wire(url) as wire:
        wire.head("PUT", "/keys/drip/data", "Content-Length: 1000000")
        for _ in range(40):
            wire.send(b"x")
            if end.wait(0.1):
                return
        end.wait(4)


def half_close(url: str, end: threading.Event) -> None:
    """Asks for much, says that it will say no more, and reads little of it."""
    with Wire(url) as wire:
        wire.head("GET", "/query", "Accept: application/x-ndjson")
        wire.socket.shutdown(1)
        wire.socket.recv(10)
        end.wait(0.2)
    with Wire(url) as wire:
        wire.send(b"GET /keys/")
        wire.socket.shutdown(1)
        end.wait(0.1)


def abandon(url: str, end: threading.Event) -> None:
    """Begins an upload, sends a part of it, and goes away in the midst of the next one."""
    with Wire(url) as wire:
        created = wire.ask("POST", "/uploads", TUS, "Upload-Length: 1000000", named("left"))
        if created.status == 201:
            path = f"/uploads/{created.headers['Location'].rpartition('/')[2]}"
            wire.head("PATCH", path, TUS, PART, "Upload-Offset: 0", "Content-Length: 1000000")
            wire.send(bytes(300_000))
    end.wait(0.1)


def oversize(url: str, end: threading.Event) -> None:
    """Sends more than is taken, of everything."""
    for target, lines, size in (
        ("/keys/big/data", (), 3_000_000),
        ("/keys/big/metadata", (), 2_000_000),
        (f"/keys/{'x' * 9000}/data", (), 10),
        ("/keys/big/data", (f"X-Much: {'x' * 70_000}",), 10),
    ):
        with Wire(url) as wire:
            status = wire.ask("PUT", target, *lines, body=bytes(size)).status
            assert status in (413, 414, 431)
    end.wait(0.1)


def misbehave(act: Callable[[str, threading.Event], None], url: str, end: threading.Event) -> None:
    while not end.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):  # it is shown the door
            act(url, end)


# -- the server ----------------------------------------------------------------------------


class Served:
    """A server of one or several processes, and what it takes of the machine."""

    def __init__(self, folder: Path, workers: int) -> None:
        words = ["serve", f"sqlite:{folder}", "--port", "0", "--log", "none", "--grace", "5"]
        words += ["--workers", str(workers)]
        for name, value in LIMITS.items():
            words += ["--limit", f"{name}={value}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvstore", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        apart = {pid for pid in children(self.process.pid) if b"spawn_main" in command_of(pid)}
        self.pids = apart or {self.process.pid}

    def memory(self) -> int:
        """Bytes in memory, of all its processes."""
        total = 0
        for pid in self.pids:
            text = Path(f"/proc/{pid}/status").read_text()
            total += int(text.partition("VmRSS:")[2].split()[0]) * 1024
        return total

    def files(self) -> int:
        """Descriptors that are open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids)


def soak(folder: Path, seconds: float, *, workers: int) -> None:
    with SQLiteStore(folder, keep_changes=10**8):  # which are read more slowly than they are made
        pass
    served = Served(folder, workers)
    url = served.url
    clients: list[Client] = [LibraryClient(url, number) for number in range(LIBRARY_CLIENTS)]
    clients += [PlainClient(url, LIBRARY_CLIENTS + number) for number in range(PLAIN_CLIENTS)]
    end = threading.Event()
    threads = [threading.Thread(target=client.run, args=(end,)) for client in clients]
    threads += [
        threading.Thread(target=misbehave, args=(act, url, end))
        for act in (drip, half_close, abandon, oversize)
    ]
    try:
        for thread in threads:
            thread.start()
        end.wait(seconds / 3)
        warm = served.memory()
        end.wait(seconds * 2 / 3)
        end.set()
        for thread in threads:
            thread.join()
        last = served.memory()
        for client in clients:
            if client.failure is not None:
                raise client.failure
        _report(clients, seconds, warm, last)
        # Room for what the allocator keeps, and none for a leak of a kilobyte a request.
        assert last < warm * 1.25 + (30 << 20) * workers
        _all_is_closed(served)
    finally:
        end.set()
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert served.process.stdout is not None
        served.process.stdout.close()
    with SQLiteStore(folder) as store:
        for client in clients:
            expected = {key: metadata for key, (_, metadata) in client.model.items()}
            assert dict(store.query(prefix=client.prefix)) == expected
            for key, (data, _) in client.model.items():
                assert store.to_bytes(key) == data
        assert not store.verify().problems


def _report(clients: list[Client], seconds: float, warm: int, last: int) -> None:
    taken: dict[str, list[float]] = {}
    for client in clients:
        for name, each in client.seconds.items():
            taken.setdefault(name, []).extend(each)
    everything = sorted(each for times in taken.values() for each in times)
    assert len(everything) > 100
    lines = [f"{len(everything)} requests of {len(clients)} clients in {seconds:.0f} s"]
    for name, times in [*sorted(taken.items()), ("all", everything)]:
        times = sorted(times)
        half, most = times[len(times) // 2], times[int(len(times) * 0.99)]
        lines.append(f"  {name:8}{len(times):8} median {half * 1e3:7.1f}  p99 {most * 1e3:7.1f} ms")
    lines.append(f"  memory {warm >> 20} MiB after a third of the time, {last >> 20} at the end")
    print("\n".join(lines))  # noqa: T201 - for who runs it with -s


def _all_is_closed(served: Served) -> None:
    """Threads of workers keep a connection to the index each, and end after ten idle seconds."""
    patience = time.monotonic() + 60
    most = 60 * len(served.pids)
    while served.files() > most:
        assert time.monotonic() < patience, served.files()
        time.sleep(0.1)


@pytest.mark.slow
def test_clients_do_not_notice_those_that_misbehave(tmp_path: Path) -> None:
    soak(tmp_path / "store", 8, workers=1)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_clients_do_not_notice_those_that_misbehave_for_a_minute(tmp_path: Path) -> None:
    soak(tmp_path / "store", 60, workers=2)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 2])
def test_clients_do_not_notice_those_that_misbehave_for_long(tmp_path: Path, workers: int) -> None:
    soak(tmp_path / "store", 600, workers=workers)
