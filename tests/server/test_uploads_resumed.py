from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from kvstore.errors import StorageFullError
from kvstore.profiles.conditions import format_http_date
from kvstore.server import Limits, create_app, serve_background
from kvstore.server.running.run import running
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.writes import Change, Written
from tests.server.sockets import Wire, ask
from tests.server.tus import (
    DATA,
    PART,
    TUS,
    VALUE,
    base64,
    begin,
    finish,
    head,
    named,
    offset_of,
    patch,
)

Served = tuple[MemoryStore | SQLiteStore, str]


# -- what breaks off -----------------------------------------------------------------------


def test_what_came_before_the_connection_broke_stays(journaled: Served) -> None:
    store, url = journaled
    path = begin(url)
    with Wire(url) as wire:
        wire.head("PATCH", path, TUS, PART, "Upload-Offset: 0", f"Content-Length: {len(DATA)}")
        wire.send(DATA[:300_000])
        # What the server has taken from the network is not lost with the connection.
        offset = 0
        while offset < 100_000:
            offset = offset_of(url, path)
    assert 100_000 <= offset_of(url, path) <= 300_000
    assert finish(url, path, DATA).status == 204
    assert store.to_bytes("a") == DATA


def test_nothing_stays_of_a_part_with_a_checksum_that_broke_off(journaled: Served) -> None:
    store, url = journaled
    path = begin(url)
    assert patch(url, path, 0, DATA[:1000]).status == 204
    checksum = f"Upload-Checksum: sha1 {base64(hashlib.sha1(DATA[1000:]).digest())}"
    for line in (checksum, "Content-Digest: sha-256=:" + base64(bytes(32)) + ":"):
        with Wire(url) as wire:
            length = f"Content-Length: {len(DATA) - 1000}"
            wire.head("PATCH", path, TUS, PART, "Upload-Offset: 1000", length, line)
            wire.send(DATA[1000:200_000])
            # What may prove to be damaged is not told of, not even meanwhile.
            assert offset_of(url, path) == 1000
        assert offset_of(url, path) == 1000
    assert finish(url, path, DATA, checksum).status == 204
    assert store.to_bytes("a") == DATA


def test_a_body_that_stands_still_is_given_up_and_kept() -> None:
    with MemoryStore() as store, serve_background(store, limits=Limits(idle_time=0.05)) as url:
        path = begin(url, 10)
        with Wire(url) as wire:
            wire.head("PATCH", path, TUS, PART, "Upload-Offset: 0", "Content-Length: 10")
            wire.send(b"hello")
            assert wire.read("PATCH").problem["status"] == 408
        assert patch(url, path, 5, b"world").status == 204
        assert store.to_bytes("a") == b"helloworld"


# -- several at once -----------------------------------------------------------------------


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "sqlite"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str, Clock]]:
    """A store, the URL of a server over it, and the clock of its uploads."""
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store")
    clock = Clock()
    with store:
        app = create_app(store, limits=Limits(idle_time=60))
        app.site.partials.clock = clock
        with running(app, limits=Limits(idle_time=60)) as url:
            yield store, url, clock


@contextlib.contextmanager
def stalled(url: str, path: str, count: int, *lines: str) -> Iterator[Wire]:
    """A request that has sent *count* bytes, and nothing since."""
    with Wire(url) as wire:
        length = f"Content-Length: {len(DATA)}"
        wire.head("PATCH", path, TUS, PART, "Upload-Offset: 0", length, *lines)
        wire.send(DATA[:count])
        while offset_of(url, path) < count:
            pass
        yield wire


def test_one_request_at_a_time_adds_to_an_upload(clocked: tuple[Any, str, Clock]) -> None:
    store, url, clock = clocked
    path = begin(url)
    with stalled(url, path, 50_000) as wire:
        clock.now += 9
        answer = patch(url, path, 50_000, DATA[50_000:])
        assert answer.problem["status"] == 423
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert ask(url, "DELETE", path, TUS).problem["status"] == 423
        wire.send(DATA[50_000:])
        assert wire.read("PATCH").status == 204
    assert store.to_bytes("a") == DATA
    assert store.sequence() == 1


def test_a_request_that_is_dead_loses_its_upload(clocked: tuple[Any, str, Clock]) -> None:
    store, url, clock = clocked
    path = begin(url)
    with stalled(url, path, 50_000) as dead:
        clock.now += 11
        assert patch(url, path, 50_000, DATA[50_000:]).status == 204
        assert dead.read("PATCH").problem["status"] == 423
    assert store.to_bytes("a") == DATA
    assert store.sequence() == 1


def test_an_upload_that_nobody_goes_on_with_can_be_ended(clocked: tuple[Any, str, Clock]) -> None:
    _, url, clock = clocked
    path = begin(url)
    with stalled(url, path, 50_000) as dead:
        clock.now += 11
        assert ask(url, "DELETE", path, TUS).status == 204
        assert dead.read("PATCH").problem["status"] == 423
    assert head(url, path).status == 404


def test_many_requests_at_once_add_each_byte_once(journaled: Served) -> None:
    store, url = journaled
    path = begin(url)
    answers: list[int] = []

    def race() -> None:
        while (offset := offset_of(url, path)) < len(DATA):
            answers.append(patch(url, path, offset, DATA[offset : offset + 60_000]).status)

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409, 423}
    assert answers.count(204) >= len(DATA) / 60_000
    assert store.to_bytes("a") == DATA
    assert store.sequence() == 1


# -- time ----------------------------------------------------------------------------------


def test_uploads_expire(clocked: tuple[Any, str, Clock]) -> None:
    store, url, clock = clocked
    day = Limits().upload_time
    path, other = begin(url, 10), begin(url, 10)
    told = head(url, path).headers["Upload-Expires"]
    assert told == format_http_date(clock.now + day)
    clock.now += day - 1
    assert patch(url, path, 0, b"01234").status == 204
    assert head(url, path).headers["Upload-Expires"] == format_http_date(clock.now + day)
    clock.now += 2
    gone = patch(url, other, 0, b"01234")
    assert gone.problem["status"] == 410
    assert gone.headers["Tus-Resumable"] == "1.0.0"
    assert head(url, other).status == 404
    clock.now += day - 4
    assert patch(url, path, 5, b"56789").status == 204
    clock.now += day - 1
    assert head(url, path).headers["ETag"] == f'"{store.record("a").revision}"'
    clock.now += 1
    assert head(url, path).status == 410
    assert head(url, path).status == 404
    assert store.to_bytes("a") == b"0123456789"


def test_what_is_being_sent_does_not_expire(clocked: tuple[Any, str, Clock]) -> None:
    store, url, clock = clocked
    path = begin(url)
    with stalled(url, path, 50_000) as wire:
        clock.now += 2 * Limits().upload_time
        begin(url, 10)  # tidies up
        wire.send(DATA[50_000:])
        assert wire.read("PATCH").status == 204
    assert store.to_bytes("a") == DATA


# -- the last step -------------------------------------------------------------------------


def test_conditions_hold_at_the_end_too(journaled: Served) -> None:
    store, url = journaled
    revision = store.set("b", b"old")
    cases = [("a", "If-None-Match: *"), ("b", f'If-Match: "{revision}"')]
    paths = [begin(url, 3, named(key), line) for key, line in cases]
    for (key, _), path in zip(cases, paths, strict=True):
        assert patch(url, path, 0, b"ne").status == 204
        store.set(key, b"other")
        answer = patch(url, path, 2, b"w")
        assert answer.problem["type"] == "urn:kvstore:error:conflict"
        assert answer.status == 412
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert "Upload-Offset" not in answer.headers
        assert store.to_bytes(key) == b"other"
        assert head(url, path).status == 404


def test_conditions_that_hold(journaled: Served) -> None:
    store, url = journaled
    revision = store.set("b", b"old")
    for key, line in (("a", "If-None-Match: *"), ("b", f'If-Match: "x", "{revision}"')):
        path = begin(url, 3, named(key), line)
        assert patch(url, path, 0, b"new").status == 204
        assert store.to_bytes(key) == b"new"


def test_a_race_for_a_list_of_revisions_is_told_from_a_condition_that_failed(
    journaled: Served,
) -> None:
    store, url = journaled
    revision = store.set("b", b"old")
    path = begin(url, 3, named("b"), f'If-Match: "x", "{revision}"')
    store.set("b", b"other")
    assert patch(url, path, 0, b"new").problem["status"] == 409
    assert head(url, path).status == 404


def test_the_digest_of_the_value(journaled: Served) -> None:
    store, url = journaled
    value = json.dumps({"digest": f"sha256:{hashlib.sha256(DATA).hexdigest()}"})
    wrong = begin(url, len(DATA), named(value=value))
    answer = patch(url, wrong, 0, DATA[::-1])
    assert answer.problem["type"] == "urn:kvstore:error:integrity"
    assert head(url, wrong).status == 404
    assert not store.exists("a")
    right = begin(url, len(DATA), named(value=value))
    assert patch(url, right, 0, DATA).status == 204
    assert store.to_bytes("a") == DATA


def test_metadata_that_the_store_does_not_take() -> None:
    with MemoryStore(metadata_schema={"required": ["n"]}) as store, serve_background(store) as url:
        path = begin(url, 1, named(value='{"metadata": {}}'))
        answer = patch(url, path, 0, b"x")
        assert answer.problem["status"] == 422
        assert head(url, path).status == 404


class FullStore(MemoryStore):
    """Has no room while told so."""

    is_full = True

    def _write(self, key: str, change: Change) -> Written:
        if self.is_full:
            raise StorageFullError("/secret/disk is full.")
        return super()._write(key, change)


def test_what_the_server_could_not_store_is_tried_again() -> None:
    with FullStore() as store, serve_background(store) as url:
        path = begin(url, 5)
        for offset, data in ((0, b"hello"), (5, b"")):
            answer = patch(url, path, offset, data)
            assert answer.problem["status"] == 507
            assert answer.headers["Upload-Offset"] == "5"
            assert "secret" not in str(answer)
            assert offset_of(url, path) == 5
        created = ask(url, "POST", "/uploads", TUS, "Upload-Length: 0", named("b"))
        assert created.problem["status"] == 507
        empty = urljoin("/uploads", created.headers["Location"])
        store.is_full = False
        answer = patch(url, path, 5, b"")
        assert (answer.status, answer.headers["ETag"]) == (204, f'"{store.record("a").revision}"')
        assert store.to_bytes("a") == b"hello"
        assert patch(url, empty, 0, b"").status == 204
        assert store.to_bytes("b") == b""


# -- a server that begins anew -------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store that stays connected, while servers over it come and go."""
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store")
    with store:
        yield store


def test_a_server_that_begins_anew_goes_on(kept: Any, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "uploads"
    value = json.dumps(VALUE)
    path = ""
    for begun in range(0, len(DATA), 100_000):
        with serve_background(kept, uploads_folder=folder) as url:
            path = path or begin(url, len(DATA), named(value=value), "If-None-Match: *")
            assert offset_of(url, path) == begun
            assert patch(url, path, begun, DATA[begun : begun + 100_000]).status == 204
    assert kept.to_bytes("a") == DATA
    assert kept.get_metadata("a") == {"n": 1}
    with serve_background(kept, uploads_folder=folder) as url:
        answer = head(url, path)
        assert answer.headers["Upload-Offset"] == str(len(DATA))
        assert answer.headers["ETag"] == f'"{kept.record("a").revision}"'
        assert answer.headers["Upload-Metadata"] == named(value=value).partition(": ")[2]
        assert ask(url, "DELETE", path, TUS).status == 204
    assert list(folder.iterdir()) == []


def test_without_a_folder_nothing_is_left(web: requests.Session) -> None:
    with MemoryStore() as store:
        app = create_app(store)
        with running(app) as url:
            path = begin(url, 10)
            assert patch(url, path, 0, b"hello").status == 204
            folder = app.site.partials.folder
            assert folder is not None
            assert {file.name[:32] for file in folder.iterdir()} == {path.rpartition("/")[2]}
            assert folder.stat().st_mode & 0o77 == 0
        assert not folder.exists()


# -- several servers -----------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[SQLiteStore, list[str], list[Clock]]]:
    """A store, and the URLs and clocks of two servers over it that share their uploads."""
    folder = tmp_path / "store"
    with (
        SQLiteStore(folder) as store,
        SQLiteStore(folder) as other,
        contextlib.ExitStack() as stack,
    ):
        urls, clocks = [], []
        for served in (store, other):
            app = create_app(served, uploads_folder=folder / "uploads")
            app.site.partials.clock = clock = Clock()
            clock.now = time.time()
            clocks.append(clock)
            urls.append(stack.enter_context(running(app)))
        yield store, urls, clocks


def test_what_one_server_began_another_one_goes_on_with(two: Any, tmp_path: Path) -> None:
    store, urls, _ = two
    value = json.dumps({**VALUE, "digest": f"sha256:{hashlib.sha256(DATA).hexdigest()}"})
    path = begin(urls[0], len(DATA), named(value=value))
    for turn, begun in enumerate(range(0, len(DATA), 100_000)):
        url = urls[turn % 2]
        assert offset_of(url, path) == begun
        assert patch(url, path, begun, DATA[begun : begun + 100_000]).status == 204
    assert store.to_bytes("a") == DATA
    assert not store.verify().problems
    for url in urls:
        assert head(url, path).headers["ETag"] == f'"{store.record("a").revision}"'
    assert ask(urls[0], "DELETE", path, TUS).status == 204
    assert head(urls[1], path).status == 404
    assert list((tmp_path / "store" / "uploads").iterdir()) == []


def test_of_all_servers_one_request_at_a_time_adds_to_an_upload(two: Any) -> None:
    store, urls, clocks = two
    path = begin(urls[0])
    with stalled(urls[0], path, 50_000) as wire:
        for method in ("PATCH", "DELETE"):
            lines = (TUS, PART, "Upload-Offset: 50000")
            assert ask(urls[1], method, path, *lines).problem["status"] == 423
        # The other one says what is sure to stay.
        assert offset_of(urls[1], path) == 0
        for clock in clocks:
            clock.now += 11
        late = patch(urls[1], path, 0, DATA)
        assert (late.status, late.headers["Upload-Offset"]) == (409, "50000")
        assert wire.read("PATCH").problem["status"] == 423
    assert finish(urls[1], path, DATA).status == 204
    assert store.to_bytes("a") == DATA
    assert store.sequence() == 1


# -- the file of an upload becomes that of the store ----------------------------------------


def test_a_large_upload_is_not_copied(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store") as store:
        folder = tmp_path / "store" / "uploads"
        with serve_background(store, uploads_folder=folder) as url:
            path = begin(url)
            assert patch(url, path, 0, DATA[:100]).status == 204
            inode = (folder / path.rpartition("/")[2]).stat().st_ino
            assert patch(url, path, 100, DATA[100:]).status == 204
            blobs = [file for file in (tmp_path / "store" / "blobs").rglob("*") if file.is_file()]
            assert [blob.stat().st_ino for blob in blobs] == [inode]
            assert [blob.stat().st_nlink for blob in blobs] == [1]
        assert store.record("a").digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        assert store.to_bytes("a") == DATA
        assert not store.verify().problems


def test_an_upload_that_the_store_refuses_leaves_nothing_there(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store") as store:
        folder = tmp_path / "store" / "uploads"
        with serve_background(store, uploads_folder=folder) as url:
            path = begin(url, len(DATA), named(), "If-None-Match: *")
            assert patch(url, path, 0, DATA[:-1]).status == 204
            store.set("a", b"other")
            assert patch(url, path, len(DATA) - 1, DATA[-1:]).status == 412
            assert list(folder.iterdir()) == []
        assert not [file for file in (tmp_path / "store" / "blobs").rglob("*") if file.is_file()]
        assert not store.verify().problems


def test_what_is_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", other_disk)
    with SQLiteStore(tmp_path / "store") as store, serve_background(store) as url:
        path = begin(url)
        assert patch(url, path, 0, DATA).status == 204
        assert store.to_bytes("a") == DATA
        assert not store.verify().problems
