"""Large uploads go on where they broke off, also in another process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    DynamicURLStore,
    IntegrityError,
    MemoryStore,
    Policy,
    TransportError,
)
from kvstore.hashing import sha256
from kvstore.profiles.digests import field_of_digest
from kvstore.testing import live_server
from tests.transport.clients import announced
from tests.transport.wire_server import BOUND, Wire, WireServer, answer, as_json

ROOT = Path(__file__).parents[2]
DATA = random.Random(7).randbytes(600_000)
#: Everything but small data is resumable, and nothing waits.
RESUMING = Policy(backoff=0, resumable_size=100_000)
SERVICE = announced(
    *("value", "conditional", "digest", "uploads"),
    profile={"base": "/keys", "query": "/query", "uploads": "/uploads"},
)
STORED = {"ETag": '"r1"', "Repr_Digest": field_of_digest(sha256(DATA))}
NEW = as_json({}, 404)
CREATED = answer(201, Location="/uploads/one")
WHOLE = {"Upload_Offset": len(DATA), **STORED}


def store_on(server: WireServer, **options: Any) -> DynamicURLStore:
    urls = (f"{server.url}/keys", f"{server.url}/query")
    store = DynamicURLStore(*urls, policy=RESUMING, **options)
    store.connect()
    return store


def taken(wire: Wire) -> None:
    wire.body()
    wire.send(answer(204, **WHOLE))


def broken_off(wire: Wire) -> None:
    wire.reset()


def at(offset: int, **fields: Any) -> bytes:
    return answer(200, Upload_Offset=offset, **fields)


def test_it_is_created_sent_and_compared():
    with WireServer([NEW, CREATED, taken], service=SERVICE) as server, store_on(server) as store:
        change = {"metadata": {"n": 1}, "mimetype": "text/x"}
        assert store.set("a key", DATA, if_match="r0", **change) == "r1"
    assert server.told == ["HEAD /keys/a%20key/data", "POST /uploads", "PATCH /uploads/one"]
    _, post, patch = server.seen
    assert post.headers["upload-length"] == str(len(DATA))
    assert post.headers["if-match"] == '"r0"'
    told = dict(item.split(" ") for item in post.headers["upload-metadata"].split(","))
    assert b64decode(told["key"]) == b"a key"
    assert json.loads(b64decode(told["value"])) == change
    assert (patch.headers["upload-offset"], patch.body) == ("0", DATA)
    assert patch.headers["content-type"] == "application/offset+octet-stream"
    assert {seen.headers["tus-resumable"] for seen in (post, patch)} == {"1.0.0"}


def test_it_goes_on_at_the_offset_of_the_server():
    done: list[tuple[int, int]] = []
    steps = [NEW, CREATED, broken_off, at(250_000), taken]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        store.set_data("k", DATA, 100_000, progress=lambda *told: done.append(told))
    assert server.told[3:] == ["HEAD /uploads/one", "PATCH /uploads/one"]
    assert server.seen[-1].headers["upload-offset"] == "250000"
    assert server.seen[-1].body == DATA[250_000:]
    assert done[-1] == (len(DATA), len(DATA))


def test_progress_renews_the_tries():
    offsets = range(50_000, 550_001, 50_000)
    steps: list[Any] = [NEW, CREATED]
    for offset in offsets:
        steps += [broken_off, at(offset)]
    with WireServer([*steps, taken], service=SERVICE) as server, store_on(server) as store:
        store.set_data("k", DATA)
    assert server.seen[-1].body == DATA[550_000:]


def test_without_progress_it_ends():
    def either(wire: Wire) -> None:
        if wire.seen.method == "HEAD":
            wire.send(at(0))
        else:
            wire.reset()

    with WireServer([NEW, CREATED], service=SERVICE, default=either) as server:
        with store_on(server) as store, pytest.raises(TransportError):
            store.set_data("k", DATA)
    assert server.told.count("PATCH /uploads/one") == RESUMING.attempts


def test_an_answer_that_was_lost_is_looked_up():
    def lost(wire: Wire) -> None:
        wire.body()
        wire.reset()

    steps = [NEW, CREATED, lost, at(len(DATA), **STORED)]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        assert store.set_data("k", DATA) == "r1"


def test_what_is_whole_and_not_stored_is_asked_to_be():
    steps = [NEW, CREATED, as_json({}, 500), at(len(DATA)), answer(204, **WHOLE)]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        assert store.set_data("k", DATA) == "r1"
    assert (server.seen[-1].headers["upload-offset"], server.seen[-1].body) == (str(len(DATA)), b"")


@pytest.mark.parametrize("status", [409, 423, 503])
def test_the_server_says_that_it_stands_elsewhere_or_is_busy(status: int):
    steps = [NEW, CREATED, as_json({}, status), at(0), taken]
    if status == 503:  # nothing was done: it is sent again at once
        del steps[3]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        assert store.set_data("k", DATA) == "r1"
    assert server.told.count("PATCH /uploads/one") == 2
    assert server.seen[-1].body == DATA


def test_a_condition_that_does_not_hold_is_a_conflict():
    steps = [NEW, CREATED, as_json({"detail": "changed"}, 412)]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        with pytest.raises(ConflictError):
            store.set_data("k", DATA, if_match="r0")


def test_other_bytes_than_were_sent_are_an_error():
    wrong = {**WHOLE, "Repr_Digest": field_of_digest(sha256(b"other"))}
    steps = [NEW, CREATED, broken_off, at(9), answer(204, **wrong)]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        with pytest.raises(IntegrityError):
            store.set_data("k", DATA)


@pytest.mark.parametrize(
    "created",
    [answer(201), answer(201, Location="http://127.0.0.1:1/x"), answer(201, Location="/uploads")],
)
def test_a_location_that_is_none(created: bytes):
    with WireServer([NEW, created], service=SERVICE) as server, store_on(server) as store:
        with pytest.raises(TransportError):
            store.set_data("k", DATA)


def test_what_is_small_or_can_be_read_once_is_sent_in_one_request():
    steps = [answer(201), answer(201)]
    with WireServer(steps, service=SERVICE) as server, store_on(server) as store:
        store.set_data("small", b"x" * 99_999)
        store.set_data("once", iter([DATA]))
    assert server.told == ["PUT /keys/small/data", "PUT /keys/once/data"]


# -- remembered ------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def begun(source: Path, folder: Path, server: WireServer) -> None:
    """Let an upload break off for good."""
    with store_on(server, resume_folder=folder) as store:
        with pytest.raises(TransportError):
            store.from_file("k", source)
    assert [entry.suffix for entry in folder.iterdir()] == [".json"]
    assert folder.stat().st_mode & 0o077 == 0


def failing() -> list[Any]:
    return [NEW, CREATED, *[broken_off, at(200_000)], *[broken_off, at(200_000)] * 3]


def test_another_store_goes_on_with_a_file(source: Path, tmp_path: Path):
    folder = tmp_path / "uploads"
    steps = [*failing(), NEW, at(200_000), taken]
    with WireServer(steps, service=SERVICE) as server:
        begun(source, folder, server)
        before = len(server.seen)
        with store_on(server, resume_folder=folder) as store:
            assert store.from_file("k", source) == "r1"
        assert server.told[before + 1 :] == ["HEAD /uploads/one", "PATCH /uploads/one"]
        assert server.seen[-1].body == DATA[200_000:]
    assert list(folder.iterdir()) == []


def test_one_that_expired_is_begun_anew(source: Path, tmp_path: Path):
    folder = tmp_path / "uploads"
    steps = [*failing(), NEW, as_json({}, 404), answer(201, Location="two"), taken]
    with WireServer(steps, service=SERVICE) as server:
        begun(source, folder, server)
        with store_on(server, resume_folder=folder) as store:
            store.from_file("k", source)
        assert server.seen[-1].body == DATA
    assert list(folder.iterdir()) == []


def test_another_file_or_key_is_begun_anew(source: Path, tmp_path: Path):
    folder = tmp_path / "uploads"
    anew = [NEW, CREATED, taken]
    with WireServer([*failing(), *anew, *anew], service=SERVICE) as server:
        begun(source, folder, server)
        with store_on(server, resume_folder=folder) as store:
            store.from_file("other", source)
            os.utime(source, ns=(1, 1))
            store.from_file("k", source)


def test_what_cannot_be_read_in_the_folder_is_not_used(source: Path, tmp_path: Path):
    folder = tmp_path / "uploads"
    with WireServer([*failing(), NEW, CREATED, taken], service=SERVICE) as server:
        begun(source, folder, server)
        (entry,) = folder.iterdir()
        entry.write_bytes(b'{"url": "http://127.0.0.1:1/stolen"}')
        with store_on(server, resume_folder=folder) as store:
            store.from_file("k", source)


# -- the real server -------------------------------------------------------------------------


@pytest.fixture
def backing() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        yield store


def test_a_large_value_reaches_the_real_server(backing: MemoryStore, source: Path):
    with live_server(backing) as url:
        store = DynamicURLStore(f"{url}/keys", f"{url}/query", policy=RESUMING)
        with store:
            revision = store.set("a/ä", source, metadata={"n": 1}, mimetype="text/x")
            record = backing.record("a/ä")
            assert (record.revision, record.size, record.metadata) == (
                revision,
                len(DATA),
                {"n": 1},
            )
            assert (backing.to_bytes("a/ä"), record.mimetype) == (DATA, "text/x")
            store.from_file("a/ä", source, if_match=revision)
            assert backing.get_metadata("a/ä") == {"n": 1}
            with pytest.raises(ConflictError):
                store.from_file("a/ä", source, if_match=revision)
            with pytest.raises(ConflictError):
                store.from_file("a/ä", source, if_none_match="*")


_CHILD = """
import sys, threading
from kvstore import DynamicURLStore, Policy
url, folder, source = sys.argv[1:]
policy = Policy(resumable_size=100_000)
store = DynamicURLStore(f"{url}/keys", f"{url}/query", policy=policy, resume_folder=folder)
sent = []
def progress(done, total):
    sent.append(done)
    if done > total // 2:
        print("half", flush=True)
        threading.Event().wait()
with store:
    store.from_file("k", source, 65536, progress=progress)
"""


def test_a_new_process_goes_on_after_a_kill(backing: MemoryStore, tmp_path: Path):
    source, folder = tmp_path / "source", tmp_path / "uploads"
    data = DATA * 20
    source.write_bytes(data)
    with live_server(backing) as url:
        command = [sys.executable, "-c", _CHILD, url, str(folder), str(source)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
            assert child.stdout is not None
            watchdog = threading.Timer(BOUND * 6, child.kill)
            watchdog.start()
            with contextlib.ExitStack() as stack:
                stack.callback(watchdog.cancel)
                stack.callback(child.send_signal, signal.SIGKILL)
                assert child.stdout.readline() == b"half\n"
        told: list[tuple[int, int]] = []
        urls = (f"{url}/keys", f"{url}/query")
        with DynamicURLStore(*urls, policy=RESUMING, resume_folder=folder) as store:
            store.from_file("k", source, 65536, progress=lambda *sizes: told.append(sizes))
    assert told[-1] == (len(data), len(data))
    assert told[0][0] > 65536  # what had come before was not sent again
    assert backing.to_bytes("k") == data
    assert list(folder.iterdir()) == []
