"""The HTTP client against bare urllib3 and plain requests, on the same server and URLs.

The server is a process of its own. With several threads kvstore shares one store among them;
the others have a pool, or a session, to each thread, which is the fastest way to use them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import requests
import urllib3

from benchmarks.measure import MIB, Contender, Row, Table, compare, rate_table
from benchmarks.serving import running_server
from kvstore import DynamicURLStore
from kvstore.documents import dump_json

PEER: Final = "urllib3"
OPERATIONS: Final = ("get_data", "get", "exists", "set_data", "set")
DATA: Final = os.urandom(1024)
METADATA: Final = {"exposure": 1.5, "filter": "B"}
TYPE: Final = "application/octet-stream"
#: Seconds that any answer may take.
PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Small requests to a turn. Turns are short and many: what disturbs one disturbs few rounds.
    requests: int = 64
    rounds: int = 25
    threads: int = 8
    #: Bytes of the large value, a whole number of MiB.
    large: int = 256 * MIB
    large_rounds: int = 5
    #: Seconds after which a case of small requests, or of large ones, begins no other round.
    seconds: float = 2.5
    large_seconds: float = 6.0
    kinds: tuple[str, ...] = ("memory", "folder")


QUICK = Scale(
    requests=32,
    rounds=5,
    large=32 * MIB,
    large_rounds=3,
    seconds=0.5,
    large_seconds=0.5,
    kinds=("memory",),
)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    for kind in scale.kinds:
        with (
            tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder,
            running_server(kind, Path(folder, "store")) as server,
        ):
            for threads in (1, scale.threads):
                title = f"{kind} behind the server: 1 KiB, {threads} thread{'s' * (threads > 1)}"
                rows = _small(scale, server.url, threads)
                yield rate_table(title, "requests/s", PEER, rows)
            title = f"{kind} behind the server: {scale.large // MIB} MiB"
            yield rate_table(title, "MiB/s", PEER, _large(scale, server.url))


class Client(Protocol):
    """One operation each, on the key of that number; raises unless the outcome is right."""

    def get_data(self, number: int) -> None: ...
    def get(self, number: int) -> None: ...
    def exists(self, number: int) -> None: ...
    def set_data(self, number: int) -> None: ...
    def set(self, number: int) -> None: ...


class Ours:
    """kvstore, one store for all threads."""

    def __init__(self, url: str) -> None:
        self._store = DynamicURLStore.discover(url)

    def get_data(self, number: int) -> None:
        with self._store.get_data(_key(number)) as stream:
            assert stream.read() == DATA

    def get(self, number: int) -> None:
        value = self._store.get(_key(number))
        assert value.read() == DATA
        assert value.metadata == METADATA

    def exists(self, number: int) -> None:
        assert self._store.exists(_key(number))

    def set_data(self, number: int) -> None:
        self._store.set_data(_key(number), DATA)

    def set(self, number: int) -> None:
        self._store.set(_key(number), DATA, metadata=METADATA)


class Bare:
    """The same requests by hand; how one is sent is up to ``send``."""

    def __init__(self, url: str, make: Callable[[], Callable[..., tuple[int, bytes]]]) -> None:
        self._url = url
        self._make = make
        self._local = threading.local()
        digest = hashlib.sha256(DATA)
        head = {"metadata": METADATA, "digest": f"sha256:{digest.hexdigest()}"}
        self._value = dump_json(head) + b"\n" + DATA
        self._data_fields = {"Content-Type": TYPE}
        self._value_fields = {"Content-Type": "application/vnd.kvstore.value"}

    def get_data(self, number: int) -> None:
        status, body = self._send("GET", f"{self._url}/keys/{_key(number)}/data")
        assert status == 200
        assert body == DATA

    def get(self, number: int) -> None:
        status, body = self._send("GET", f"{self._url}/keys/{_key(number)}/value")
        assert status == 200
        assert body.endswith(DATA)

    def exists(self, number: int) -> None:
        status, _ = self._send("HEAD", f"{self._url}/keys/{_key(number)}/data")
        assert status == 200

    def set_data(self, number: int) -> None:
        url = f"{self._url}/keys/{_key(number)}/data"
        status, _ = self._send("PUT", url, DATA, self._data_fields)
        assert status in (201, 204)

    def set(self, number: int) -> None:
        url = f"{self._url}/keys/{_key(number)}/value"
        status, _ = self._send("PUT", url, self._value, self._value_fields)
        assert status in (201, 204)

    def _send(self, *arguments: Any) -> tuple[int, bytes]:
        try:
            send = self._local.send
        except AttributeError:
            send = self._local.send = self._make()
        answer: tuple[int, bytes] = send(*arguments)
        return answer


def _urllib3() -> Callable[..., tuple[int, bytes]]:
    pool = urllib3.PoolManager(retries=False, timeout=PATIENCE)

    def send(method: str, url: str, body: Any = None, headers: Any = None) -> tuple[int, bytes]:
        answer = pool.request(method, url, body=body, headers=headers)
        return answer.status, answer.data

    return send


def _requests() -> Callable[..., tuple[int, bytes]]:
    session = requests.Session()

    def send(method: str, url: str, body: Any = None, headers: Any = None) -> tuple[int, bytes]:
        answer = session.request(method, url, data=body, headers=headers, timeout=PATIENCE)
        return answer.status_code, answer.content

    return send


def _small(scale: Scale, url: str, threads: int) -> list[Row]:
    clients: dict[str, Client] = {
        PEER: Bare(url, _urllib3),
        "kvstore": Ours(url),
        "requests": Bare(url, _requests),
    }
    for number in range(threads):
        clients["kvstore"].set(number)
    rows: list[Row] = []
    with ThreadPoolExecutor(threads) as executor:
        for operation in OPERATIONS:
            rows += compare(
                operation,
                [
                    Contender(name, _turn(getattr(client, operation), scale, threads, executor))
                    for name, client in clients.items()
                ],
                amount=scale.requests // threads * threads,
                peer=PEER,
                rounds=scale.rounds,
                seconds=scale.seconds,
            )
    return rows


def _turn(
    act: Callable[[int], None], scale: Scale, threads: int, executor: ThreadPoolExecutor
) -> Callable[[], None]:
    """Return a turn in which every thread of *executor* does its share of the requests."""

    def turn() -> None:
        start = threading.Barrier(threads)

        def share(number: int) -> None:
            start.wait(PATIENCE)  # or a quick thread would do the shares of two
            for _ in range(scale.requests // threads):
                act(number)

        for done in [executor.submit(share, number) for number in range(threads)]:
            done.result()

    return turn


def _large(scale: Scale, url: str) -> list[Row]:
    block = os.urandom(MIB)
    count = scale.large // MIB
    rows: list[Row] = []
    for checks, checked in (("without checks", False), ("with SHA-256", True)):
        theirs = _BareLarge(url, block, count, checked=checked)
        ours = _OurLarge(url, block, count, checked=checked)
        for case, their, our in (
            ("set_data", theirs.put, ours.put),
            ("get_data", theirs.fetch, ours.fetch),
        ):
            rows += compare(
                f"{case}, {checks}",
                [Contender(PEER, their), Contender("kvstore", our)],
                amount=count,
                peer=PEER,
                rounds=scale.large_rounds,
                seconds=scale.large_seconds,
            )
    return rows


class _OurLarge:
    """kvstore, given an iterator of pieces of 1 MiB, and read in such pieces."""

    def __init__(self, url: str, block: bytes, count: int, *, checked: bool) -> None:
        self._store = DynamicURLStore.discover(url, verify_digests=checked)
        self._block = block
        self._count = count

    def put(self) -> None:
        self._store.set_data(_key(0), (self._block for _ in range(self._count)))

    def fetch(self) -> None:
        done = 0
        with self._store.get_data(_key(0)) as stream:
            while piece := stream.read(MIB):
                done += len(piece)
        assert done == self._count * MIB


class _BareLarge:
    """urllib3 by hand, in pieces of 1 MiB, hashing them as they pass if *checked*."""

    def __init__(self, url: str, block: bytes, count: int, *, checked: bool) -> None:
        self._url = f"{url}/keys/{_key(0)}/data"
        self._block = block
        self._count = count
        self._checked = checked
        self._pool = urllib3.PoolManager(retries=False, timeout=PATIENCE)

    def put(self) -> None:
        answer = self._pool.request(
            "PUT", self._url, body=self._pieces(), headers={"Content-Type": TYPE}
        )
        assert answer.status in (201, 204)

    def fetch(self) -> None:
        digest = hashlib.sha256()
        done = 0
        answer = self._pool.request("GET", self._url, preload_content=False)
        while piece := answer.read(MIB):
            done += len(piece)
            if self._checked:
                digest.update(piece)
        answer.release_conn()
        assert done == self._count * MIB

    def _pieces(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for _ in range(self._count):
            if self._checked:
                digest.update(self._block)
            yield self._block


def _key(number: int) -> str:
    return f"bench/{number}"
