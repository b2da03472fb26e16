"""One large value into a file by several connections."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    DynamicURLStore,
    IntegrityError,
    KeyNotFoundError,
    MemoryStore,
    Policy,
    StoreProgressEndEvent,
    TransportError,
)
from kvstore.hashing import sha256
from kvstore.profiles.digests import field_of_digest
from kvstore.testing import live_server
from kvstore.transport import fetching
from tests.transport.clients import announced
from tests.transport.wire_server import BOUND, Wire, WireServer, answer, as_json

DATA = random.Random(3).randbytes(1_000_000)
POLICY = Policy(ranges=3, backoff=0)
SERVICE = announced("conditional", "digest")


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LARGE", 500_000)
    monkeypatch.setattr(fetching, "_RANGE", 300_000)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "target"
    path.write_bytes(b"old")
    yield path
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def store_on(url: str, **options: Any) -> DynamicURLStore:
    store = DynamicURLStore(f"{url}/keys", f"{url}/query", **{"policy": POLICY, **options})
    store.connect()
    return store


def asked(wire: Wire) -> tuple[int, int]:
    first, last = wire.seen.headers["range"].removeprefix("bytes=").split("-")
    return int(first), int(last) + 1


def facts(wire: Wire, digest: str | None = None) -> None:
    """Answer the questions for the record: HEAD of the data, GET of the metadata."""
    if wire.seen.method == "HEAD":
        told = {"ETag": '"1"', "Repr_Digest": field_of_digest(digest or sha256(DATA))}
        wire.send(answer(200, Content_Length=len(DATA), **told))
    else:
        wire.send(as_json({}))


def part(wire: Wire) -> None:
    start, end = asked(wire)
    told = f"bytes {start}-{end - 1}/{len(DATA)}"
    wire.send(answer(206, DATA[start:end], Content_Range=told, ETag='"1"'))


def either(wire: Wire) -> None:
    (part if "range" in wire.seen.headers else facts)(wire)


def test_ranges_are_fetched_at_a_time_and_put_together(target: Path):
    together = threading.Barrier(3)

    def parts(wire: Wire) -> None:
        if "range" in wire.seen.headers and asked(wire)[0] < 900_000:
            together.wait(BOUND)
        either(wire)

    done: list[tuple[int, int]] = []
    with WireServer((), service=SERVICE, default=parts) as server, store_on(server.url) as store:
        store.to_file("k", target, progress=lambda *told: done.append(told))
    assert target.read_bytes() == DATA
    assert done == [(end, len(DATA)) for end in (300_000, 600_000, 900_000, 1_000_000)]
    conditions = [seen.headers.get("if-match") for seen in server.seen if "range" in seen.headers]
    assert conditions == ['"1"'] * 4


def test_a_range_that_breaks_off_goes_on(target: Path):
    broken = threading.Event()

    def parts(wire: Wire) -> None:
        if "range" not in wire.seen.headers or asked(wire)[0] != 300_000 or broken.is_set():
            either(wire)
            return
        broken.set()
        told = f"bytes 300000-599999/{len(DATA)}"
        head = answer(206, Content_Length=300_000, Content_Range=told, ETag='"1"')
        wire.send(head + DATA[300_000:400_000])
        wire.reset()

    with WireServer((), service=SERVICE, default=parts) as server, store_on(server.url) as store:
        store.to_file("k", target)
    assert target.read_bytes() == DATA


def test_other_data_than_was_announced_are_not_there(target: Path):
    def parts(wire: Wire) -> None:
        if "range" in wire.seen.headers:
            part(wire)
        else:
            facts(wire, sha256(b"other"))

    heard: list[Any] = []
    with WireServer((), service=SERVICE, default=parts) as server, store_on(server.url) as store:
        store.events.connect(StoreProgressEndEvent, heard.append)
        with pytest.raises(IntegrityError):
            store.to_file("k", target)
    assert target.read_bytes() == b"old"
    assert [event.exit_state for event in heard] == ["exception"]
    with WireServer((), service=SERVICE, default=parts) as server:
        with store_on(server.url, verify_digests=False) as store:
            store.to_file("k", target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "error"), [(412, ConflictError), (404, KeyNotFoundError), (500, TransportError)]
)
def test_the_first_error_ends_it(target: Path, status: int, error: type[Exception]):
    def parts(wire: Wire) -> None:
        if "range" in wire.seen.headers and asked(wire)[0] == 300_000:
            wire.send(as_json({}, status))
        else:
            either(wire)

    with WireServer((), service=SERVICE, default=parts) as server, store_on(server.url) as store:
        with pytest.raises(error):
            store.to_file("k", target)
    assert target.read_bytes() == b"old"


def test_one_connection_is_enough_where_that_is_said_or_the_data_are_small(target: Path):
    with MemoryStore() as backing, live_server(backing) as url:
        backing.set("large", DATA)
        backing.set("small", b"small")
        with store_on(url) as store:
            store.to_file("small", target)
            assert target.read_bytes() == b"small"
            store.to_file("large", target)
            assert target.read_bytes() == DATA
            store.to_file("large", "/dev/null")
            with pytest.raises(KeyNotFoundError):
                store.to_file("missing", target)
        with store_on(url, policy=Policy(ranges=1)) as store:
            store.to_file("large", target)
    assert target.read_bytes() == DATA
