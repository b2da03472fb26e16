"""What is particular to a SQLiteStore: its files, promises and failures."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import kvstore
from kvstore import (
    ChangesLostError,
    ConflictError,
    DamagedError,
    FileSystemStore,
    IntegrityError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    SQLiteStore,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from kvstore.stores._sqlite import changes, connections, engine, schema, writer
from kvstore.stores._sqlite.blobs import INLINE
from tests.cases import each

LARGE = bytes(range(256)) * 1024
FILES = Path("/proc/self/fd")
DATA = Path(__file__).parents[1] / "data"


class StoppedError(Exception):
    """What leaves a block in these tests."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(root) as store:
        yield store


def blobs_of(root: Path) -> list[Path]:
    return [path for path in (root / "blobs").rglob("*") if path.is_file()]


def rows(store: SQLiteStore, sql: str) -> list[Any]:
    with store._engine().reading() as connection:
        return connection.execute(sql).fetchall()


# -- files -----------------------------------------------------------------------------------


def test_small_data_are_in_the_index_and_large_ones_beside_it(store, root):
    store.set("at", b"x" * INLINE)
    assert blobs_of(root) == []
    store.set("over", b"x" * (INLINE + 1))
    [blob] = blobs_of(root)
    assert blob.read_bytes() == b"x" * (INLINE + 1)
    store.set("over", (b"y" * 1000 for _ in range(1000)))
    [other] = blobs_of(root)
    assert other != blob
    store.delete("over")
    assert blobs_of(root) == []
    assert [path.suffix for path in (root / "stage").iterdir()] == [".lock"]


def test_others_on_this_machine_see_nothing(store, root):
    store.set("key", LARGE)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_store_that_is_closed_is_one_file_and_blobs(store, root):
    store.set("key", LARGE)
    store.disconnect()
    assert sorted(path.name for path in root.iterdir()) == ["blobs", "kvstore.db", "stage"]
    assert list((root / "stage").iterdir()) == []
    moved = root.with_name("moved")
    root.rename(moved)
    with SQLiteStore(moved) as store:
        assert store.to_bytes("key") == LARGE


def test_a_source_that_fails_leaves_nothing(store, root):
    def pieces() -> Iterator[bytes]:
        yield LARGE
        raise StoppedError

    for key in ("key", "other"):
        store.set("key", b"old")
        with pytest.raises(StoppedError):
            store.set(key, pieces())
    assert store.to_bytes("key") == b"old"
    assert [path.suffix for path in (root / "stage").iterdir()] == [".lock"]
    assert store.verify().problems == ()


def test_what_a_rollback_undoes_leaves_no_file(store, root):
    store.set("key", LARGE)
    with pytest.raises(StoppedError), store.transaction():
        store.set("key", LARGE[::-1])
        store.set("other", LARGE)
        assert store.to_bytes("key") == LARGE[::-1]
        with pytest.raises(ConflictError):
            store.set("key", LARGE, if_none_match="*")
        store.delete("key")
        raise StoppedError
    assert store.to_bytes("key") == LARGE
    assert len(blobs_of(root)) == 1
    assert [path.suffix for path in (root / "stage").iterdir()] == [".lock"]
    assert store.verify().problems == ()


def test_equal_data_of_a_key_are_stored_once(root):
    with SQLiteStore(root, keep_versions=5) as store:
        store.set("key", LARGE, metadata={"n": 1})
        first = store.versions("key")[0].revision
        store.set_metadata("key", {"n": 2})
        store.set("key", LARGE, metadata={"n": 3})
        assert len(blobs_of(root)) == 1
        store.set("key", b"other", metadata={"n": 4})
        store.restore("key", first)
        store.set("key", LARGE[::-1])
        store.set("key", LARGE)
        assert len(blobs_of(root)) == 2
        assert [record.size for record in store.versions("key")] == [
            *(len(LARGE),) * 3,
            5,
            *(len(LARGE),) * 2,
        ]
        assert store.verify().problems == ()
        assert store.verify().versions == 5
    with SQLiteStore(root) as store:  # what is kept is for the store to say
        assert store.info()["versions"] == 5
        store.set_metadata("key", {"n": 5})
        assert len(store.versions("key")) == 6
    with SQLiteStore(root, keep_versions=0) as store:  # forgets them with the next write
        assert store.info()["versions"] == 0
        store.set("key", b"last")
        assert len(store.versions("key")) == 1
        assert blobs_of(root) == []
        assert store.verify().problems == ()


# -- readers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, len(LARGE)])
@pytest.mark.parametrize("change", ["replace", "delete"])
def test_a_reader_keeps_its_revision(store, size, change):
    data = LARGE[:size]
    store.set("key", data, metadata={"n": 1})
    value = store.get("key")
    stream = store.get_data("key")
    begin = stream.read(3)
    if change == "replace":
        store.set("key", b"new", metadata={"n": 2})
    else:
        store.delete("key")
    assert begin + stream.read() == data
    stream.close()
    assert value.read() == data
    with value.range(1, 4) as part:
        assert part.read() == data[1:4]
    assert value.metadata == {"n": 1}


def test_streams_of_one_value_do_not_disturb_each_other(store):
    store.set("key", LARGE)
    value = store.get("key")
    one, two = value.open(), value.open()
    value.close()
    assert one.read(10) == two.read(10) == LARGE[:10]
    assert one.read() == LARGE[10:]
    one.close()
    assert two.read() == LARGE[10:]
    two.close()


def test_a_value_that_was_closed_can_be_read_while_it_is_there(store):
    store.set("key", LARGE)
    value = store.get("key")
    value.close()
    assert value.read() == LARGE
    store.set("key", b"")
    with pytest.raises(ConflictError, match="changed or removed"):
        value.read()


def test_values_leave_no_file_open(store):
    store.set("key", LARGE)
    gc.collect()  # what tests before this one have left to the collector would be counted, too
    before = list(FILES.iterdir()) if FILES.exists() else None
    for _ in range(3):
        value = store.get("key")
        assert value.size == len(LARGE)
    stream = store.get_data("key")
    del value, stream
    gc.collect()
    if before is not None:
        assert len(list(FILES.iterdir())) <= len(before)


def test_more_values_than_files_may_be_open(store):
    resource = pytest.importorskip("resource")
    for number in range(20):
        store.set(f"key{number:02}", LARGE[number:])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(int(path.name) for path in FILES.iterdir()) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        values = list(store.multiget(f"key{number:02}" for number in range(20)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [value.read() for value in values] == [LARGE[number:] for number in range(20)]


@pytest.mark.parametrize("data", [b"some data", LARGE], ids=["small", "large"])
def test_data_that_were_changed_behind_its_back(store, root, data):
    store.set("key", data)
    if data is LARGE:
        [blob] = blobs_of(root)
        blob.write_bytes(LARGE[:-1] + b"?")
    else:
        with sqlite3.connect(root / "kvstore.db") as connection:
            connection.execute("UPDATE blob SET data = ?", (b"some dat?",))
        connection.close()
    with pytest.raises(IntegrityError):
        store.to_bytes("key")
    with pytest.raises(IntegrityError):
        store.get("key").read()
    [problem] = store.verify().problems
    assert (problem.kind, problem.key) == ("torn", "key")
    store.set("key", data)  # the same data mend it
    assert store.to_bytes("key") == data
    assert store.verify().problems == ()


def test_data_that_are_gone(store, root):
    store.set("key", LARGE)
    blobs_of(root)[0].unlink()
    with pytest.raises(DamagedError, match="'key' is missing") as caught:
        store.get("key")
    assert caught.value.key == "key"
    assert store.get_metadata("key") == {}
    [problem] = store.verify().problems
    assert (problem.kind, problem.key) == ("missing", "key")
    assert store.repair() == []
    store.delete("key")
    assert store.verify().problems == ()


# -- care ------------------------------------------------------------------------------------


def test_verify_reads_everything(store):
    seen: list[tuple[int, int]] = []
    store.set("small", b"12345")
    store.set("large", LARGE)
    found = store.verify(lambda done, total: seen.append((done, total)))
    assert (found.keys, found.versions, found.size, found.problems) == (2, 0, 5 + len(LARGE), ())
    assert seen == [(1, 2), (2, 2)]


def test_orphans_are_found_and_removed(store, root):
    store.set("key", LARGE)
    (root / "blobs" / "07").mkdir(exist_ok=True)
    (root / "blobs" / "07" / "0123456789abcdef-7").write_bytes(b"stray")
    (root / "stage" / "0123456789abcdef-8").write_bytes(b"stray")
    with sqlite3.connect(root / "kvstore.db") as connection:
        connection.execute("INSERT INTO blob (data) VALUES (x'00')")
    connection.close()
    problems = store.verify().problems
    assert [problem.kind for problem in problems] == ["orphan"] * 3
    said = store.repair()
    assert len(said) == 3, said
    assert "Removed: The file 0123456789abcdef-7 belongs to no key." in said
    assert store.verify().problems == ()
    assert store.repair() == []
    assert store.to_bytes("key") == LARGE


def test_a_wrong_index_is_found_and_made_anew(store, root):
    for number in range(10):
        store.set_metadata(f"k{number}", {"n": number})
    assert list(store.query_keys(n=5)) == ["k5"]
    with sqlite3.connect(root / "kvstore.db") as connection:
        connection.execute("DELETE FROM term WHERE value = 5")
        connection.execute("UPDATE term SET value = 70 WHERE value = 7")
    connection.close()
    assert list(store.query_keys(n=5)) == []
    [problem] = store.verify().problems
    assert problem.kind == "index"
    assert "'n' has 3 wrong terms" in problem.message
    [said] = store.repair()
    assert "'n'" in said
    assert store.verify().problems == ()
    assert list(store.query_keys(n=5)) == ["k5"]
    assert list(store.query_keys(n=7)) == ["k7"]


def test_a_gap_in_the_journal_is_found(store, root):
    for number in range(4):
        store.set_metadata("key", {"n": number})
    with sqlite3.connect(root / "kvstore.db") as connection:
        connection.execute("DELETE FROM change WHERE seq = 2")
    connection.close()
    assert [problem.kind for problem in store.verify().problems] == ["journal"]


def test_what_the_dead_left_is_finished_by_the_next(root):
    with SQLiteStore(root) as store:
        store.set("old", LARGE)
        blobs = store._engine().blobs
        # As if it died then: it neither moves nor removes.
        with mock.patch.object(blobs, "_move"), mock.patch.object(blobs, "remove") as remove:
            remove.return_value = []
            store.set("key", LARGE[::-1])
            store.delete("old")
        assert store.to_bytes("key") == LARGE[::-1]  # though it is not in its place
    assert len(list((root / "stage").iterdir())) == 1
    with SQLiteStore(root) as store:
        assert list((root / "stage").glob("*-*")) == []
        assert len(blobs_of(root)) == 1
        assert rows(store, "SELECT * FROM trash") == []
        assert store.to_bytes("key") == LARGE[::-1]
        assert store.verify().problems == ()


def test_uploads_of_the_living_are_left_alone(store, root):
    def pieces() -> Iterator[bytes]:
        yield LARGE
        with SQLiteStore(root) as other:
            assert other.verify().problems == ()
            assert other.repair() == []
        yield LARGE

    store.set("key", pieces())
    assert store.to_bytes("key") == LARGE * 2


# -- the journal -----------------------------------------------------------------------------


def test_the_journal_forgets_what_is_too_much(root, monkeypatch):
    monkeypatch.setattr(changes, "_CUT_EVERY", 10)
    with SQLiteStore(root, keep_changes=5) as store:
        store.set_metadata("first", {})
        for number in range(1, 30):
            store.set_metadata(f"k{number % 3}", {"n": number})
        assert [entry.seq for entry in store.changes(25)] == [26, 27, 28, 29, 30]
        with pytest.raises(ChangesLostError) as caught:
            store.changes(24)
        assert caught.value.oldest == 26
        assert rows(store, "SELECT count(*) FROM change") == [(5 + 1,)]
        assert store.get_metadata("first") == {}
        store.set_metadata("first", {"again": True})  # its row is needed by nobody any more
        assert rows(store, "SELECT count(*) FROM change WHERE seq < 26") == [(0,)]
        assert store.verify().problems == ()


def test_what_is_kept_holds_for_all_who_use_the_store(root):
    with SQLiteStore(root, keep_versions=2, keep_changes=3) as store, SQLiteStore(root) as other:
        for number in range(4):
            (store if number % 2 else other).set("key", b"%d" % number)
        assert other.info()["versions"] == 2
        assert len(other.versions("key")) == 3
        with pytest.raises(ChangesLostError):
            other.changes(0)
        with SQLiteStore(root, keep_versions=1, keep_changes_for=5) as third:
            assert other.info()["versions"] == third.info()["versions"] == 1
            other.set("key", b"last")
            assert len(store.versions("key")) == 2
    with SQLiteStore(root) as store:
        assert rows(store, "SELECT keep_versions, keep_changes, keep_changes_for FROM state") == [
            (1, 3, 5.0)
        ]
        assert store.verify().problems == ()


def test_the_journal_forgets_what_is_too_old(root, monkeypatch):
    monkeypatch.setattr(changes, "_CUT_EVERY", 10)
    times = iter(range(1000, 2000))
    monkeypatch.setattr(changes, "time", mock.Mock(time=lambda: float(next(times))))
    with SQLiteStore(root, keep_changes_for=12.5) as store:
        for number in range(20):
            store.set_metadata("key", {"n": number})
        oldest = store._engine().one("SELECT oldest FROM state")[0]
        assert 5 < oldest < 20
        assert next(store.changes(oldest - 1)).seq == oldest
        with pytest.raises(ChangesLostError):
            store.changes(oldest - 2)


def test_changes_that_are_forgotten_while_they_are_read(root, monkeypatch):
    monkeypatch.setattr(changes, "_CUT_EVERY", 10)
    monkeypatch.setattr(kvstore.stores.sqlite, "_PAGE", 2)
    with SQLiteStore(root, keep_changes=10) as store:
        for number in range(8):
            store.set_metadata("key", {"n": number})
        reading = store.changes()
        assert next(reading).seq == 1
        for number in range(30):
            store.set_metadata("key", {"n": number})
        assert next(reading).seq == 2
        with pytest.raises(ChangesLostError):
            next(reading)


# -- transactions and threads ----------------------------------------------------------------


def test_readers_do_not_wait_for_a_transaction(store):
    store.set("key", b"old", metadata={"n": 1})

    def look() -> tuple[bytes, list[str], int]:
        return store.to_bytes("key"), list(store.query_keys(n=1)), store.count()

    assert look() == (b"old", ["key"], 1)
    with ThreadPoolExecutor(1) as pool, store.transaction():
        store.set("key", b"new", metadata={"n": 2})
        store.set("other", b"")
        assert pool.submit(look).result(20) == (b"old", ["key"], 1)
        assert store.to_bytes("key") == b"new"
    assert look() == (b"new", [], 2)


def test_a_query_does_without_an_index_while_others_keep_it_from_making_one(store):
    for number in range(5):
        store.set_metadata(f"k{number}", {"n": number})

    def look() -> tuple[list[str], int, list[str]]:
        where = {"n": {"ge": 3}}
        keys = list(store.query_keys(where=where, order_by="-n"))
        return keys, store.count(where=where), list(store.query_keys(n=1))

    with ThreadPoolExecutor(1) as pool, store.transaction():
        store.set_metadata("k9", {"n": 9})
        assert pool.submit(look).result(20) == (["k4", "k3"], 2, ["k1"])
    assert rows(store, "SELECT count(*) FROM term") == [(0,)]
    assert look() == (["k9", "k4", "k3"], 3, ["k1"])
    assert rows(store, "SELECT count(*) FROM term") == [(6,)]


def test_a_store_that_is_forgotten_is_closed(root):
    store = SQLiteStore(root)
    store.connect()
    store.set("key", b"")
    assert (root / "kvstore.db-wal").exists()
    del store
    gc.collect()
    assert not (root / "kvstore.db-wal").exists()
    assert list((root / "stage").iterdir()) == []


def test_a_writer_waits_for_a_transaction_and_then_gives_up(root):
    with SQLiteStore(root, patience=0.05) as store, ThreadPoolExecutor(1) as pool:
        with store.transaction():
            store.set("key", b"")
            with pytest.raises(UnavailableError, match="busy"):
                pool.submit(store.set, "other", b"").result(20)
            with pytest.raises(UnavailableError, match="busy"):
                pool.submit(store.transaction().__enter__).result(20)
        assert list(store.query_keys()) == ["key"]
        pool.submit(store.set, "other", b"").result(20)
        assert list(store.query_keys()) == ["key", "other"]


def test_a_lock_of_another_process_is_waited_for_and_then_told(root):
    with SQLiteStore(root, patience=0.05) as store, SQLiteStore(root) as other:
        store.set("key", b"old")
        with other.transaction():
            other.set("key", b"new")
            with pytest.raises(UnavailableError, match="busy"):
                store.set("key", LARGE)
            with pytest.raises(UnavailableError, match="busy"):
                store.delete("key")
            assert store.to_bytes("key") == b"old"
        assert store.to_bytes("key") == b"new"
        assert store.verify().problems == ()
        assert len(list((root / "stage").iterdir())) == 2


def test_writers_that_wait_share_a_commit(root):
    committed: list[int] = []

    def counting(self: Any, connection: Any, batch: list[Any], steps: list[Any]) -> None:
        committed.append(len(batch))
        commit(self, connection, batch, steps)

    commit = writer.Writer._commit
    with SQLiteStore(root, durable=True) as store, ThreadPoolExecutor(10) as pool:
        with mock.patch.object(writer.Writer, "_commit", counting), store.transaction():
            store.set("first", b"")
            futures = [pool.submit(store.set, f"k{n}", b"%d" % n) for n in range(8)]
            futures.append(pool.submit(store.set, "first", b"", if_none_match="*"))
            futures.append(pool.submit(store.set, "large", LARGE))
            while len(store._engine().writer.turns) < 10:
                threading.Event().wait(0.001)
        with mock.patch.object(writer.Writer, "_commit", counting):
            assert isinstance(futures[8].exception(20), ConflictError)
            assert len({future.result(20) for future in futures if future is not futures[8]}) == 9
        assert committed == [0, 10]
        assert store.to_bytes("k7") == b"7"
        assert store.to_bytes("large") == LARGE
        assert [entry.seq for entry in store.changes()] == list(range(1, 11))
        assert store.verify().problems == ()


def test_a_commit_of_many_that_fails_is_done_one_by_one(root):
    with SQLiteStore(root) as store, ThreadPoolExecutor(3) as pool:
        fields = store._engine().changes

        def failing(step: Any, key: str, *rest: Any) -> Any:
            if key == "bad":
                step.execute("ROLLBACK")  # as SQLite itself does where the disk is full
                raise sqlite3.OperationalError("no more")
            return write(step, key, *rest)

        write = fields.write
        with mock.patch.object(fields, "write", failing):
            with store.transaction():
                futures = [pool.submit(store.set, key, b"") for key in ("a", "bad", "b")]
                while len(store._engine().writer.turns) < 3:
                    threading.Event().wait(0.001)
            errors = [future.exception(20) for future in futures]
    assert [type(error) for error in errors] == [type(None), StorageError, type(None)]
    with SQLiteStore(root) as store:
        assert list(store.query_keys()) == ["a", "b"]


def test_ctrl_c_at_a_commit_is_no_half_of_it(root):
    class Interrupting(writer.Writer):
        when = "never"

        def _commit(self, connection: Any, batch: Any, steps: Any) -> None:
            if self.when == "before":
                raise KeyboardInterrupt
            super()._commit(connection, batch, steps)
            if self.when == "after":
                raise KeyboardInterrupt

    with mock.patch.object(engine, "Writer", Interrupting), SQLiteStore(root) as store:
        for when, expected in (("before", None), ("after", LARGE)):
            store._engine().writer.when = when
            with pytest.raises(KeyboardInterrupt):
                store.set("key", LARGE)
            store._engine().writer.when = "never"
            assert (store.to_bytes("key") if store.exists("key") else None) == expected
        store._engine().writer.when = "after"
        with pytest.raises(KeyboardInterrupt), store.transaction():
            store.set("other", LARGE)
        store._engine().writer.when = "never"
        assert store.to_bytes("other") == LARGE
    with SQLiteStore(root) as store:
        assert store.to_bytes("key") == store.to_bytes("other") == LARGE
        assert store.verify().problems == ()


def test_disconnected_while_others_use_it(store):
    store.set("key", LARGE)
    value = store.get("key")
    found = store.query()
    store.disconnect()
    assert value.read() == LARGE
    with pytest.raises(NotConnectedError):
        store.get("key")
    assert list(found) == [("key", {})]
    store.connect()
    assert store.to_bytes("key") == LARGE


def test_disconnected_in_the_middle_of_an_upload(store, root):
    def pieces() -> Iterator[bytes]:
        yield LARGE
        store.disconnect()
        with SQLiteStore(root):  # which tidies up what the dead have left
            yield LARGE

    store.set("key", pieces())
    with SQLiteStore(root) as other:
        assert other.to_bytes("key") == LARGE * 2
        assert len(list((root / "stage").iterdir())) == 1


def test_connecting_again_keeps_what_is_open(store):
    store.set("key", b"1")
    with store.transaction():
        store.set("key", b"2")
        store.connect("somebody")
        assert store.to_bytes("key") == b"2"
    assert store.user_tag() == "somebody"
    assert store.to_bytes("key") == b"2"


# -- processes -------------------------------------------------------------------------------

COUNT = """
import sys
from kvstore import ConflictError, SQLiteStore
with SQLiteStore(sys.argv[1]) as store:
    for _ in range(int(sys.argv[2])):
        while True:
            value = store.get("counter")
            try:
                store.set_metadata("counter", {"n": value.metadata["n"] + 1}, if_match=value)
            except ConflictError:
                continue
            break
"""


def test_processes_that_count_lose_no_update(store, root):
    store.set_metadata("counter", {"n": 0})
    command = [sys.executable, "-c", COUNT, str(root), "50"]
    others = [subprocess.Popen(command) for _ in range(4)]
    assert [other.wait(100) for other in others] == [0] * 4
    assert store.get_metadata("counter") == {"n": 200}
    assert store.sequence() == 201
    assert store.verify().problems == ()


def test_two_processes_make_one_store(tmp_path):
    code = "import sys; from kvstore import SQLiteStore; SQLiteStore(sys.argv[1]).connect()"
    for number in range(3):
        command = [sys.executable, "-c", code, str(tmp_path / str(number))]
        others = [subprocess.Popen(command) for _ in range(3)]
        assert [other.wait(100) for other in others] == [0] * 3


def test_pickle_is_the_configuration(root):
    store = SQLiteStore(root, durable=True, keep_versions=2, keep_changes=7, patience=3)
    with store:
        store.set("key", LARGE)
        twin = pickle.loads(pickle.dumps(store))
        with twin:
            assert twin.to_bytes("key") == LARGE
            assert twin.info() == store.info()
            twin.set("key", b"2")
        assert store.to_bytes("key") == b"2"
    assert not pickle.loads(pickle.dumps(store)).is_connected()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def in_child(work: Any) -> bytes:
    """Return what *work* returns in a forked child."""
    import warnings

    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # to fork with threads is what this is about
        child = os.fork()
    if not child:
        try:
            os.write(write, work())
        except BaseException as error:  # noqa: BLE001 - nothing may reach the tests of the parent
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return told


@needs_fork
def test_a_forked_child_and_its_parent(store, root):
    store.set("key", b"parent")

    def work() -> bytes:
        store.set("child", LARGE)
        return store.to_bytes("key")

    assert in_child(work) == b"parent"
    assert store.to_bytes("child") == LARGE
    store.set("key", LARGE)
    assert in_child(lambda: b"%d" % len(store.to_bytes("key"))) == b"%d" % len(LARGE)
    assert store.verify().problems == ()
    with SQLiteStore(root) as other:
        assert other.verify().problems == ()


@needs_fork
def test_a_fork_while_threads_use_the_store(store):
    stop = threading.Event()

    def use(name: int) -> int:
        number = 0
        while not stop.is_set():
            number += 1
            store.set(f"{name}", b"%d" % number, metadata={"n": number})
            assert int(store.to_bytes(f"{name}")) == number
            list(store.query_keys(n=number))
        return number

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(use, name) for name in range(3)]
        try:
            for number in range(5):
                told = in_child(lambda n=number: store.set(f"c{n}", LARGE) and b"done")
                assert told == b"done"
        finally:
            stop.set()
        numbers = [future.result(20) for future in futures]
    for name, number in enumerate(numbers):
        assert store.get_metadata(f"{name}") == {"n": number}
    assert store.sequence() == sum(numbers) + 5
    assert store.verify().problems == ()


@needs_fork
def test_a_child_of_a_transaction_cannot_use_the_store(store):
    with store.transaction():
        store.set("key", b"1")
        assert b"StorageError" in in_child(lambda: store.to_bytes("key"))
        store.set("key", b"2")
    assert store.to_bytes("key") == b"2"
    assert in_child(lambda: store.to_bytes("key")) == b"2"


# -- failures --------------------------------------------------------------------------------


def test_no_room_in_the_index(store):
    store.set("key", b"old" * 100)
    engine = store._engine()
    connection = engine.connections.take_writer()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    engine.connections.give_writer(connection)
    with pytest.raises(StorageFullError, match="No room"):
        store.set("key", b"x" * 60_000)
    with pytest.raises(StorageFullError), store.transaction():
        store.set_metadata("other", {})
        store.set("key", b"x" * 60_000)
    assert store.to_bytes("key") == b"old" * 100
    assert not store.exists("other")
    connection = engine.connections.take_writer()
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    engine.connections.give_writer(connection)
    store.set("key", b"x" * 60_000)
    assert store.verify().problems == ()


def test_no_room_for_a_blob(store, root):
    store.set("key", b"old")
    with (
        mock.patch("os.write", side_effect=OSError(28, "No space left on device")),
        pytest.raises(StorageFullError),
    ):
        store.set("key", LARGE)
    assert store.to_bytes("key") == b"old"
    assert [path.suffix for path in (root / "stage").iterdir()] == [".lock"]


def test_a_folder_that_may_not_be_written(store):
    store.set("key", b"old")
    engine = store._engine()
    connection = engine.connections.take_writer()
    connection.execute("PRAGMA query_only = 1")
    engine.connections.give_writer(connection)
    with pytest.raises(StorageError, match="may not be written") as caught:
        store.set("key", b"new")
    assert not isinstance(caught.value, (DamagedError, StorageFullError))
    assert store.to_bytes("key") == b"old"


def test_a_damaged_index(root):
    with SQLiteStore(root) as store:
        for number in range(200):
            store.set_metadata(f"key{number}", {"n": "x" * 200})
    index = root / "kvstore.db"
    whole = index.read_bytes()
    index.write_bytes(whole[:8192] + b"\xff" * 40_000 + whole[48_192:])
    with pytest.raises(DamagedError, match="damaged"), SQLiteStore(root) as store:
        list(store.query())
    index.write_bytes(b"this is no database at all" * 1000)
    with pytest.raises(DamagedError):
        SQLiteStore(root).connect()
    index.write_bytes(whole)
    with SQLiteStore(root) as store:
        assert store.count() == 200


def test_a_file_in_place_of_the_folder(root):
    root.write_bytes(b"")
    with pytest.raises(StorageError):
        SQLiteStore(root).connect()


def test_stores_of_different_kinds_do_not_mix(root, tmp_path):
    with FileSystemStore(root) as store:
        store.set("key", b"")
    with pytest.raises(StorageError, match="file:PATH"):
        SQLiteStore(root).connect()
    other = tmp_path / "other"
    with SQLiteStore(other) as store:
        store.set("key", b"")
    with pytest.raises(StorageError, match="sqlite:PATH"):
        FileSystemStore(other).connect()


@each(
    "options",
    [
        {"root": ""},
        {"root": b"bytes"},
        {"root": 5},
        {"root": "a\0b"},
        {"root": "r", "keep_versions": -1},
        {"root": "r", "keep_changes": 1.5},
        {"root": "r", "keep_changes_for": "1"},
        {"root": "r", "keep_changes_for": float("nan")},
        {"root": "r", "patience": float("inf")},
        {"root": "r", "keep_versions": 1 << 63},
        {"root": "r", "patience": -1},
        {"root": "r", "patience": None},
        {"root": "r", "patience": float("nan")},
    ],
)
def test_arguments_that_make_no_sense(options):
    with pytest.raises(InvalidRequestError):
        SQLiteStore(**options)


# -- formats ---------------------------------------------------------------------------------


def test_a_store_of_format_1(tmp_path):
    with zipfile.ZipFile(DATA / "sqlite_format_1.zip") as archive:
        archive.extractall(tmp_path)
    with SQLiteStore(tmp_path / "store", keep_versions=3) as store:
        assert list(store.query_keys()) == ["runs/1", "runs/2", "\u00fcber"]
        assert store.to_bytes("runs/1") == b"first"
        assert store.to_bytes("runs/2") == LARGE
        assert store.get_metadata("runs/2") == {"exposure": 30.5, "tags": ["a", "b"], "n": 2**70}
        assert store.get_permissions("runs/1") == {"owned": {"local"}, "read": {"ann", "public"}}
        assert store.get("runs/1").mimetype == "text/plain"
        assert list(store.query_keys(where={"exposure": {"ge": 30}})) == ["runs/2"]
        assert [record.metadata for record in store.versions("runs/1")] == [
            {"v": 2},
            {"v": 2},
            {"v": 1},
        ]
        old = store.versions("runs/1")[2].revision
        assert store.get("runs/1", version=old).read() == b"before"
        assert [(e.seq, e.action, e.key) for e in store.changes(4)] == [
            (5, "set", "\u00fcber"),
            (6, "set", "gone"),
            (7, "delete", "gone"),
        ]
        assert store.verify().problems == ()
        store.set("runs/3", b"")
        assert store.sequence() == 8


def format_of(root: Path) -> int:
    with sqlite3.connect(root / "kvstore.db") as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return number


def test_an_older_format_is_brought_to_the_present_one(root, monkeypatch):
    with SQLiteStore(root) as store:
        store.set("key", b"data")
        with pytest.raises(StoppedError), store.transaction():
            raise StoppedError
    assert format_of(root) == schema.FORMAT
    step = mock.Mock(side_effect=lambda c: c.execute("CREATE TABLE more (n)"))
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    monkeypatch.setitem(schema.MIGRATIONS, schema.FORMAT - 1, step)
    with SQLiteStore(root) as store, SQLiteStore(root):
        assert store.to_bytes("key") == b"data"
        assert rows(store, "SELECT * FROM more") == []
    assert step.call_count == 1
    assert format_of(root) == schema.FORMAT


def test_a_step_that_fails_changes_nothing(root, monkeypatch):
    with SQLiteStore(root) as store:
        store.set("key", b"data")
    before = schema.FORMAT

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE entry")
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(schema, "FORMAT", before + 1)
        patch.setitem(schema.MIGRATIONS, before, step)
        with pytest.raises(StoppedError):
            SQLiteStore(root).connect()
    assert format_of(root) == before
    with SQLiteStore(root) as store:
        assert store.to_bytes("key") == b"data"


def test_a_format_that_is_not_known(root):
    SQLiteStore(root).connect()
    for number in (99, 0):
        with sqlite3.connect(root / "kvstore.db") as connection:
            connection.execute(f"PRAGMA user_version = {number}")
        connection.close()
        with pytest.raises(StorageError, match=f"has format {number}; this version knows 1"):
            SQLiteStore(root).connect()


def test_a_database_of_something_else(root):
    root.mkdir()
    with sqlite3.connect(root / "kvstore.db") as connection:
        connection.execute("CREATE TABLE mine (n)")
    connection.close()
    with pytest.raises(DamagedError, match="something else"):
        SQLiteStore(root).connect()


def test_connections_are_few(store):
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: store.set(f"{n}", b""), range(100)))
        list(pool.map(lambda n: store.to_bytes(f"{n}"), range(100)))
    live = len(store._engine().connections._live)
    assert live <= connections._IDLE + 1


def test_missing_keys(store):
    for call in (store.get, store.get_data, store.get_metadata, store.delete):
        with pytest.raises(KeyNotFoundError):
            call("key")


def test_copies_of_a_store_are_made_with_it_closed(store, root, tmp_path):
    store.set("key", LARGE)
    store.disconnect()
    shutil.copytree(root, tmp_path / "copy")
    with SQLiteStore(tmp_path / "copy") as copy:
        assert copy.to_bytes("key") == LARGE
