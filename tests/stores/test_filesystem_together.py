"""Threads and processes that use one folder at the same time."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kvstore import ConflictError, FileSystemStore, KeyNotFoundError, StorageError
from kvstore.disk import locked

SIZES = [10, 100_000]
sizes = pytest.mark.parametrize("size", SIZES, ids=["small", "large"])
ROUNDS = 100


@pytest.fixture(autouse=True)
def _without_flushes() -> Iterator[None]:
    """No test here cuts the power."""
    with mock.patch("os.fsync"):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileSystemStore]:
    with FileSystemStore(tmp_path / "store") as store:
        yield store


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that runs *code* without flushes."""
    begin = "import os, sys\nos.fsync = lambda descriptor: None\nfrom kvstore import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def write_round(store: FileSystemStore, number: int, size: int) -> None:
    """Write a pair that tells by itself whether it is whole."""
    data = b"%d," % number * (size // 8 + number % 7)
    store.set("a/key", data, metadata={"n": number, "size": len(data)})


def check_pair(store: FileSystemStore) -> int:
    """Check that data and metadata are of one write, and return its number."""
    while True:
        value = store.get("a/key")
        try:
            data = value.read()
        except ConflictError:  # large data is opened when it is read
            continue
        number: int = value.metadata["n"]
        assert len(data) == value.size == value.metadata["size"]
        assert set(data.split(b",")) == {b"%d" % number, b""}
        return number


def check_all_ways(store: FileSystemStore) -> int:
    number = check_pair(store)
    [(key, metadata)] = store.query()
    assert key == "a/key"
    assert metadata["n"] >= number
    assert store.get_metadata("a/key")["n"] >= metadata["n"]
    return number


@sizes
def test_readers_beside_a_writing_thread(store: FileSystemStore, size: int) -> None:
    write_round(store, 0, size)
    done = threading.Event()

    def read() -> list[int]:
        numbers = [check_all_ways(store)]
        while not done.is_set():
            numbers.append(check_all_ways(store))
        return numbers

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(1, ROUNDS):
                write_round(store, number, size)
        finally:
            done.set()
        for reader in readers:
            numbers = reader.result()
            assert numbers == sorted(numbers)
    assert check_pair(store) == ROUNDS - 1


WRITER = """
store, rounds, size = FileSystemStore(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with store:
    print("ready", flush=True)
    for number in range(1, rounds):
        data = b"%d," % number * (size // 8 + number % 7)
        store.set("a/key", data, metadata={"n": number, "size": len(data)})
"""


@sizes
def test_reader_beside_a_writing_process(store: FileSystemStore, tmp_path: Path, size: int) -> None:
    write_round(store, 0, size)
    with python(WRITER, str(tmp_path / "store"), str(ROUNDS), str(size)) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        numbers = [check_all_ways(store)]
        while writer.poll() is None:
            numbers.append(check_all_ways(store))
        assert writer.returncode == 0
    assert numbers == sorted(numbers)
    assert check_pair(store) == ROUNDS - 1


COUNTER = """
with FileSystemStore(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.read()
    for _ in range(int(sys.argv[2])):
        while True:
            value = store.get("counter")
            number = int(value.read()) + 1
            try:
                if number % 2:
                    store.set("counter", b"%d" % number, metadata={"n": number}, if_match=value)
                else:
                    store.set_data("counter", b"%d" % number, if_match=value)
                break
            except ConflictError:
                pass
"""


def test_counting_processes_lose_no_update(store: FileSystemStore, tmp_path: Path) -> None:
    store.set("counter", b"0")
    root = str(tmp_path / "store")
    with python(COUNTER, root, "40") as one, python(COUNTER, root, "40") as other:
        assert one.wait() == other.wait() == 0
    assert store.get("counter").read() == b"80"
    assert store.get_metadata("counter") == {"n": 79}


def test_one_of_many_creates(tmp_path: Path) -> None:
    """Each on a store of its own on one folder, that none of them has made yet."""
    barrier = threading.Barrier(8)

    def create(number: int) -> bool:
        with FileSystemStore(tmp_path / "store") as store:
            barrier.wait()
            try:
                store.set("a/b/key", b"%d" % number, if_none_match="*")
            except ConflictError:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    with FileSystemStore(tmp_path / "store") as store:
        assert store.get("a/b/key").read() == b"%d" % won.index(True)


def test_folders_that_come_and_go(store: FileSystemStore) -> None:
    """Whoever removes the last key of a folder removes it under the hands of who writes there."""

    def toggle(name: str) -> None:
        for number in range(60):
            store.set(f"a/b/{name}", b"%d" % number)
            assert store.get(f"a/b/{name}").read() == b"%d" % number
            store.delete(f"a/b/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(toggle, "wxyz"))
    assert list(store.query_keys()) == []
    assert [path.name for path in Path(store._root).iterdir()] == [".kvstore"]


def test_listing_beside_writers(store: FileSystemStore) -> None:
    """Keys that stay are told, whatever comes and goes around them, each once and in order."""
    stay = [f"{folder}/stay{number}" for folder in "abc" for number in range(3)]
    for key in stay:
        store.set(key, b"", metadata={"stay": True})
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for folder in "abcd":
                store.set(f"{folder}/stay1x", b"", metadata={"stay": False})
                store.set_metadata(f"{folder}/stay1x", {})
                store.delete(f"{folder}/stay1x")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(40):
                keys = [key for key, _ in store.query()]
                assert keys == sorted(set(keys))
                assert set(stay) <= set(keys)
                assert list(store.query_keys(stay=True)) == stay
        finally:
            done.set()
        writing.result()


# -- fork ----------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def in_child(work: Callable[[], Any]) -> Any:
    """Return what *work* returns in a forked child."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            with os.fdopen(writable, "wb") as stream:
                pickle.dump(work(), stream)
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as stream:
        result = pickle.load(stream)
    assert os.waitpid(child, 0)[1] == 0
    return result


@needs_fork
def test_forked_child(store: FileSystemStore) -> None:
    """Uses the same store; nothing need be done."""
    store.set("key", b"parent")

    def work() -> bytes:
        data = store.get("key").read()
        store.set("key", b"child", if_match="*")
        return data

    assert in_child(work) == b"parent"
    assert store.get("key").read() == b"child"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_while_a_thread_holds_a_lock(tmp_path: Path) -> None:
    """The child must not keep it: neither when the thread goes on, nor when it dies."""
    file = str(tmp_path / "lock")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(file):
            held.set()
            release.wait()

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        held.wait()
        from_child, to_parent = os.pipe()
        from_parent, to_child = os.pipe()
        child = os.fork()
        if not child:
            os.write(to_parent, b"!")
            os.close(to_child)
            os.read(from_parent, 1)  # lives until the parent has found the lock free
            os._exit(0)
        os.read(from_child, 1)
        opened = [os.path.realpath(link) for link in Path(f"/proc/{child}/fd").glob("*")]
        release.set()
        holding.result()
        with locked(file):
            pass
        for descriptor in (from_child, to_parent, from_parent, to_child):
            os.close(descriptor)
        assert os.waitpid(child, 0)[1] == 0
    assert file not in opened


def test_reading_a_key_that_is_removed_meanwhile(store: FileSystemStore) -> None:
    """There is no such key, or it was there: never an error of the folder."""
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            store.set("a/key", b"x" * 70_000, metadata={"a": 1})
            store.delete("a/key")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        seen = []
        try:
            for _ in range(300):
                try:
                    value = store.get("a/key")
                    assert value.metadata == {"a": 1}
                    seen.append(value.read() == b"x" * 70_000)
                except (KeyNotFoundError, ConflictError):
                    seen.append(True)
                except StorageError as error:  # say which, not only that there was one
                    pytest.fail(error.message)
        finally:
            done.set()
        writing.result()
    assert all(seen)
