"""Datasets are stored whole or not at all, and never seen half, in stores of all kinds."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kvstore import FileSystemStore, MemoryStore, SQLiteStore
from kvstore.errors import StorageFullError
from kvstore.gateways.datasafe import DatasafeGateway
from kvstore.manifest import FILE_NAME, StoreFiles, verify
from kvstore.server import serve_background
from tests.cases import each
from tests.gateways.datasets import FAMILY, FILES, Safe, archive, manifest_of, unpacked
from tests.server.access import lab_of
from tests.server.commands import peak, serving
from tests.server.sockets import Answer, Wire, ask

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


class Failing:
    """Makes the writes to some keys fail, in stores of any kind."""

    #: What the keys end with.
    end: str | None = None

    def _write(self, key, change):
        if self.end is not None and key.endswith(self.end):
            raise StorageFullError("There is no room.", key=key)
        return super()._write(key, change)


class FailingMemoryStore(Failing, MemoryStore):
    pass


class FailingSQLiteStore(Failing, SQLiteStore):
    pass


class FailingFileSystemStore(Failing, FileSystemStore):
    pass


KINDS: dict[str, Any] = {
    "memory": lambda folder: FailingMemoryStore(),
    "sqlite": FailingSQLiteStore,
    "folder": FailingFileSystemStore,
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def safe(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Safe]:
    store = KINDS[request.param](tmp_path_factory.mktemp("store"))
    with store, serve_background(store, gateways=[DatasafeGateway()]) as url:
        yield Safe(url, store)


@pytest.fixture
def failing(safe: Safe) -> Iterator[Any]:
    yield safe.store
    safe.store.end = None


def state(safe: Safe, loi: str) -> dict[str, tuple[str | None, bytes]]:
    values = safe.store.multiget(safe.keys(f"{loi}/"))
    return {value.key: (value.revision, value.read()) for value in values}


def is_one_step(safe: Safe) -> bool:
    return bool(safe.store.info()["transactions"])


def of(letter: str) -> dict[str, bytes]:
    """A dataset whose files agree with each other, and with no other."""
    return {f"{name}.dat": letter.encode() * 2000 for name in "abcdef"} | {letter: b""}


def test_readers_see_one_dataset_or_the_other_while_it_is_replaced(safe):
    loi = safe.put(safe.new(), of("x"))
    archives = {letter: archive(of(letter)) for letter in "xy"}
    done = threading.Event()

    def replace() -> None:
        try:
            for turn in range(8):
                answer = safe.ask("PATCH", loi, body=archives["xy"[turn % 2]])
                assert answer.status == 200, answer.body
        finally:
            done.set()

    seen = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(replace)
        while not done.is_set():
            answer = safe.ask("GET", loi)
            if answer.status == 503:  # in a store without transactions
                assert not is_one_step(safe)
                assert answer.headers["Retry-After"]
                continue
            seen.append(unpacked(answer))
        writing.result()
    assert all(files in (of("x"), of("y")) for files in seen)
    assert safe.files(loi) == of("y")
    assert verify(StoreFiles(safe.store, loi))


def test_of_many_who_put_one_dataset_one_does(safe):
    loi = safe.new()
    gate = threading.Barrier(8)

    def put(number: int) -> Answer:
        body = archive({"run.dat": b"x" * number, str(number): b""})
        gate.wait()
        return safe.ask("PUT", loi, body=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(8)))
    assert {answer.status for answer in answers} <= {200, 405, 503}
    (winner,) = [number for number, answer in enumerate(answers) if answer.status == 200]
    assert safe.files(loi) == {"run.dat": b"x" * winner, str(winner): b""}


def test_an_upload_that_fails_is_taken_back(safe, failing):
    loi = safe.new()
    failing.end = FILE_NAME
    answer = safe.ask("PUT", loi, body=archive(FILES))
    assert (answer.status, answer.body) == (507, b"No room is left; nothing was changed")
    assert safe.ask("GET", loi).status == 204
    assert safe.keys(loi) == [loi]
    failing.end = None
    assert safe.files(safe.put(loi)) == FILES


def test_a_replacement_that_fails_mixes_nothing(safe, failing):
    loi = safe.put(safe.new(), of("x"))
    before = state(safe, loi)
    failing.end = "f.dat"
    answer = safe.ask("PATCH", loi, body=archive(of("y")))
    assert answer.status == 507
    if is_one_step(safe):
        assert state(safe, loi) == before
        assert safe.files(loi) == of("x")
    else:
        # Nothing can be undone here, and old and new files are never given out together.
        assert b"uploaded again" in answer.body
        answer = safe.ask("GET", loi)
        assert answer.status == 409
        assert b"uploaded again" in answer.body
        assert not verify(StoreFiles(safe.store, loi))
    failing.end = None
    assert safe.ask("PATCH", loi, body=archive(of("y"))).status == 200
    assert safe.files(loi) == of("y")


@each("end", ["a.dat", "new.dat", "y"])
def test_a_replacement_that_has_replaced_nothing_yet_is_taken_back(safe, failing, end):
    loi = safe.put(safe.new(), of("x"))
    safe.store.update_metadata(f"{loi}/{FILE_NAME}", {"note": "of others"})
    before = state(safe, loi)
    failing.end = end
    files = {**of("y"), "new.dat": b"new", "empty/": b""}
    answer = safe.ask("PATCH", loi, body=archive(files))
    assert (answer.status, answer.body) == (507, b"No room is left; nothing was changed")
    assert state(safe, loi) == before
    assert safe.files(loi) == of("x")
    failing.end = None
    assert safe.ask("PATCH", loi, body=archive(files)).status == 200
    assert safe.store.get_metadata(f"{loi}/{FILE_NAME}")["note"] == "of others"


def test_what_a_server_that_was_killed_has_left(safe, failing):
    loi = safe.new()
    safe.store.set_data(f"{loi}/a.dat", b"half")
    note = {"loi": loi, "number": 1, "upload": "0123", "until": time.time() + 60}
    safe.store.update_metadata(loi, {"datasafe": note})
    for method in ("GET", "PUT", "PATCH"):  # as long as it may still be at it
        answer = safe.ask(method, loi, body=b"" if method == "GET" else archive(FILES))
        assert answer.status == 503
        assert 0 < int(answer.headers["Retry-After"]) < 10
    for method in ("PUT", "PATCH"):
        safe.store.update_metadata(loi, {"datasafe": {**note, "until": time.time() - 1}})
        failing.end = "x.info"
        other = archive({"other.dat": b"", "x.info": b""})
        assert safe.ask(method, loi, body=other).status == 507
        failing.end = None
        assert safe.ask("GET", loi).status == 409
        assert safe.ask("GET", loi).status == 409
        assert safe.ask("HEAD", loi).status == 409
        assert safe.ask(method, loi, body=archive(FILES)).status == 200
        assert safe.files(loi) == FILES


def test_what_is_checked_is_checked_before_anything_is_written(safe):
    loi = safe.put(safe.new())
    before = state(safe, loi)
    wrong = archive({"run.dat": b"x"}, manifest_of(FILES))
    for body in (wrong, b"x", archive(FILES, b"no manifest"), archive({"../x": b""})):
        assert safe.ask("PATCH", loi, body=body).status in (400, 422)
        assert state(safe, loi) == before


def test_a_download_whose_files_change_is_cut_off(safe):
    size = 3 * MIB
    loi = safe.put(safe.new(), {"a": bytes(size), "b": b"x" * size, "c": b"y"})
    connection = http.client.HTTPConnection(urlsplit(safe.url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", f"/datasafe/api/{loi}")
        with connection.getresponse() as response:
            assert response.read(1000)
            safe.store.set_data(f"{loi}/c", b"z")
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                response.read()
    assert safe.files(loi)["c"] == b"z"


def test_a_condition_holds_when_the_body_has_come(safe):
    loi = safe.put(safe.new(), of("x"))
    tag = safe.ask("GET", loi).headers["ETag"]
    body = archive(of("y"))
    with Wire(safe.url) as wire:
        lines = (f"If-Match: {tag}", "Expect: 100-continue", f"Content-Length: {len(body)}")
        wire.head("PATCH", f"/datasafe/api/{loi}", *lines)
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")  # it held until now
        safe.store.set_data(f"{loi}/a.dat", b"by somebody else")
        wire.send(body)
        assert wire.read("PATCH").status == 412
    assert safe.files(loi) == {**of("x"), "a.dat": b"by somebody else"}


@pytest.mark.parametrize("kind", ["sqlite", "folder"])
def test_who_may_not_replace_all_of_it_replaces_nothing(kind, tmp_path):
    store = KINDS[kind](tmp_path / "store")
    with lab_of(store, tmp_path, gateways=[DatasafeGateway()]) as lab:

        def call(who: str, method: str, path: str, body: bytes = b"") -> Answer:
            return lab.ask(who, method, f"/datasafe/api/{path}", body=body)

        loi = call("ada", "POST", FAMILY).body.decode()
        assert call("ada", "PUT", loi, archive(of("x"))).status == 200
        for key in store.query_keys(prefix=loi):
            right = "read" if key.endswith("e.dat") else "write"
            store.update_permissions(key, {right: {"bob"}, "read": {"bob"}})
        before = Safe(lab.url, store)
        kept = state(before, loi)
        assert call("bob", "PATCH", loi, archive(of("y"))).status == 403
        assert state(before, loi) == kept
        store.update_permissions(f"{loi}/e.dat", {"write": {"bob"}})
        assert call("bob", "PATCH", loi, archive(of("y"))).status == 200
        assert unpacked(call("bob", "GET", loi)) == of("y")


def test_numbers_are_given_once_by_several_processes(tmp_path):
    with serving(tmp_path / "store", "--gateway", "datasafe", "--workers", "2") as (url, _):

        def mint(_: int) -> str:
            answer = ask(url, "POST", f"/datasafe/api/{FAMILY}")
            assert answer.status == 201
            return answer.body.decode()

        with ThreadPoolExecutor(64) as pool:
            given = list(pool.map(mint, range(64)))
    assert sorted(given) == sorted(f"{FAMILY}/{number}" for number in range(1, 65))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_large_datasets_pass_in_constant_memory(tmp_path):
    data = [bytes([number]) * MIB for number in range(256)]
    digest = hashlib.sha256(b"".join(data)).hexdigest()
    source, copy = tmp_path / "in.zip", tmp_path / "out.zip"
    with zipfile.ZipFile(source, "w") as target:
        with target.open("large.dat", "w") as member:
            for piece in data:
                member.write(piece)
        target.writestr(FILE_NAME, manifest_of({"large.dat": b"".join(data)}).to_yaml())
    with serving(tmp_path / "store", "--gateway", "datasafe") as (url, pid):
        netloc = urlsplit(url).netloc
        loi = ask(url, "POST", f"/datasafe/api/{FAMILY}").body.decode()
        small = Safe(url, MemoryStore())
        small.files(small.put(small.new()))
        idle = peak(pid)
        with contextlib.closing(http.client.HTTPConnection(netloc, timeout=100)) as connection:
            with source.open("rb") as file:
                length = {"Content-Length": str(source.stat().st_size)}
                connection.request("PUT", f"/datasafe/api/{loi}", file, length)
                with connection.getresponse() as response:
                    assert response.read() == b'{"data":true,"all":true}'
            connection.request("GET", f"/datasafe/api/{loi}")
            with connection.getresponse() as response, copy.open("wb") as file:
                while piece := response.read(MIB):
                    file.write(piece)
        assert peak(pid) - idle < 40 * MIB
    found = hashlib.sha256()
    with zipfile.ZipFile(copy) as archive_, archive_.open("large.dat") as member:
        while piece := member.read(MIB):
            found.update(piece)
    assert found.hexdigest() == digest
