"""A SQLiteStore in moments that its users bring about by accident, each once seen to go wrong."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kvstore import (
    InvalidPermissionsError,
    MemoryStore,
    NotConnectedError,
    SQLiteStore,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from kvstore.query import Query
from kvstore.stores._sqlite import fields, ordered, rows, search, turns
from tests.stores.test_sqlite import StoppedError, in_child, needs_fork

LARGE = bytes(range(256)) * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(root, patience=5) as store:
        yield store


def test_disconnected_before_an_upload_is_large(store, root):
    """Its session ends only with it, so that nobody takes its file for one of the dead."""
    store.set("key", LARGE)

    def pieces() -> Iterator[bytes]:
        yield b"x" * 1000
        store.disconnect()
        yield LARGE
        with SQLiteStore(root):  # which tidies up
            yield b"z"

    store.set("key", pieces())
    store.connect()
    assert store.to_bytes("key") == b"x" * 1000 + LARGE + b"z"


def test_an_upload_without_a_session_is_refused(store):
    engine = store._engine()
    store.disconnect()
    with pytest.raises(NotConnectedError):
        engine.blobs.receive(
            mock.Mock(in_memory=None, adoptable=None, __iter__=lambda _: iter([LARGE]))
        )


def test_what_sqlite_undid_in_a_transaction_does_not_go_on_piece_by_piece(store):
    store.set("before", b"old")
    connection = store._engine().connections.take_writer()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match="has undone the transaction"), store.transaction():
        store.set("a", b"x")
        with pytest.raises(StorageFullError):
            store.set("b", b"x" * 60_000)
        connection.execute("PRAGMA max_page_count = 100000")
        with pytest.raises(StorageError, match="has undone the transaction"):
            store.delete("before")
    assert list(store.query_keys()) == ["before"]
    store.set("after", b"")
    assert store.verify().problems == ()


@pytest.mark.parametrize("again", [False, True])
def test_a_disconnect_within_a_transaction_keeps_nobody_out(store, root, again):
    with store.transaction():
        store.set("key", b"1")
        store.disconnect()
        if again:
            store.connect()
            store.set("more", b"2")
    with SQLiteStore(root, patience=1) as other:
        assert other.to_bytes("key") == b"1"
        assert other.exists("more") is again
        other.set("key", b"3")
    store.connect()
    assert store.to_bytes("key") == b"3"


@pytest.mark.parametrize("end", ["close", "next"])
def test_a_transaction_that_another_thread_ends(store, end):
    """A generator that is handed on: nothing of it stays, and nobody is kept out."""

    def session() -> Iterator[None]:
        with store.transaction():
            store.set("key", b"")
            yield

    def fail() -> None:
        with store.transaction():
            store.set("key", b"")
            raise StoppedError

    with ThreadPoolExecutor(1) as pool:
        generator = session()
        pool.submit(next, generator).result(20)
        if end == "close":
            generator.close()
        else:
            with pytest.raises(StorageError, match="in the thread in which it began"):
                next(generator)
        assert list(store.query_keys()) == []
        assert isinstance(pool.submit(fail).exception(20), StoppedError)
        assert list(store.query_keys()) == []
        pool.submit(store.set, "mine", b"").result(20)
    store.set("other", b"")
    assert list(store.query_keys()) == ["mine", "other"]


def test_ctrl_c_while_others_write_leaves_no_work_behind(store):
    """What was given up is not done later, and nobody waits for who gave up."""
    sleep = turns.Ticket.sleep

    def interrupted(ticket: turns.Ticket, seconds: float = -1) -> bool:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return sleep(ticket, seconds)

    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction():
            entered.set()
            leave.wait(20)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert entered.wait(20)
        with mock.patch.object(turns.Ticket, "sleep", interrupted):
            for data in (b"small", LARGE):
                with pytest.raises(KeyboardInterrupt):
                    store.set("key", data)
        leave.set()
        holding.result(20)
    store.set("other", b"")
    assert list(store.query_keys()) == ["other"]


def test_ctrl_c_after_the_turn_came_passes_it_on(store):
    with (
        mock.patch.object(store._engine().writer, "_drain", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        store.set("key", b"")
    # And where it could not be passed on, it is there for the thread that has it.
    writer = store._engine().writer
    assert writer.turns.wait(turns.Ticket(), 1)
    store.set("key", b"")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(store.set, "other", b"").result(20)


@needs_fork
def test_a_child_cannot_use_a_file_that_was_open_at_its_fork(store, root):
    """However it opens it: SQLite would take the locks of the parent for its own."""
    with store.transaction():
        store.set("key", b"1")

        def work() -> bytes:
            with SQLiteStore(root) as own:
                return own.to_bytes("key")

        assert b"cannot be used in it" in in_child(work)
        store.set("key", b"2")
    assert store.to_bytes("key") == b"2"
    assert store.verify().problems == ()


def test_a_first_question_where_the_disk_is_full(store):
    store.set_metadata("key", {"n": 1})
    full = StorageFullError("No room.")
    with mock.patch.object(store._engine().writer, "run_soon", side_effect=full):
        assert list(store.query_keys(n=1)) == ["key"]


def test_a_first_question_does_not_wait_for_other_processes(store, root):
    store.set_metadata("key", {"n": 1})
    with SQLiteStore(root) as other, other.transaction():
        other.set_metadata("other", {"n": 1})
        with mock.patch.object(store._engine().connections, "patience", 1e6):
            assert list(store.query_keys(n=1)) == ["key"]
        with SQLiteStore(root, patience=0) as third:  # connects without waiting either
            assert third.exists("key")
            with pytest.raises(UnavailableError):
                third.set("key", b"")


def test_a_question_asked_within_what_was_rolled_back(store):
    with pytest.raises(StoppedError), store.transaction():
        for number in range(40):
            store.set_metadata(f"a/{number:02}", {})
        found = store.query_keys(prefix="a/", where={"x": {"exists": False}})
        assert next(found) == "a/00"
        raise StoppedError
    for number in range(40):
        store.set_metadata(f"secret/{number:02}", {})
    assert [key for key in found if not key.startswith("a/")] == []


def test_keys_that_move_in_the_order_lead_no_cursor_away(root):
    with SQLiteStore(root, keep_changes=2) as store:
        for number in range(40):
            store.set_metadata(f"k{number:02}", {"n": number})
        with mock.patch.multiple(ordered, _PAGES=(10, 10)):
            found = store.query(order_by="n")
            told = [next(found)[0] for _ in range(3)]
            for number in range(5, 8):
                store.set_metadata(f"k{number:02}", {"n": 100 + number})
            store._engine().writer.run(
                lambda step: step.execute("DELETE FROM change WHERE seq BETWEEN 6 AND 8")
            )
            while len(told) < 6:
                told.append(next(found)[0])
            rest = [key for key, _ in store.query(order_by="n", after=found.cursor)]
            assert sorted({*told, *rest}) == [f"k{number:02}" for number in range(40)]
            told += [key for key, _ in found]
            assert sorted(set(told)) == [f"k{number:02}" for number in range(40)]


def test_a_limit_looks_at_what_is_decided_elsewhere(store):
    """Where keys are looked through in order, bounds are not yet decided."""
    with store.transaction():
        for number in range(60):
            store.set_metadata(f"k{number:02}", {"n": number} if number % 2 else {})
    for patched in ({"_BROAD": 2_048}, {"_BROAD": 2, "_LOOKS": (4, 8)}):
        with mock.patch.multiple(search, **patched):
            for where in ({"n": {"ge": 30}}, {"n": {"exists": True}}, {"n": {"ne": 1}}):
                whole = list(store.query_keys(where=where))
                assert list(store.query_keys(where=where, limit=3)) == whole[:3]
                assert [key for key, _ in store.query(where=where, limit=3)] == whole[:3]


def deep(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"n": 1}
    for _ in range(levels):
        where = {"not": where}
    return where


@pytest.mark.parametrize(
    "where",
    [
        {"any": [{"n": number} for number in range(700)]},
        {"all": [{"n": {"ne": number}} for number in range(5, 2_000)]},
        {"not": {"any": [{"n": number} for number in range(5, 2_000)]}},
        deep(40),
        {"all": [{"n": {"in": list(range(20_000))}}, {"m": {"in": list(range(20_000))}}]},
    ],
    ids=["any", "all", "not any", "not not", "in"],
)
def test_filters_too_large_for_sqlite(store, where):
    with MemoryStore() as memory:
        for number in range(4):
            for each in (store, memory):
                each.set_metadata(f"k{number}", {"n": number, "m": number})
        query = Query(where=where, limit=2**64)
        keys = [record.key for record in memory.find(query)]
        assert keys
        assert [record.key for record in store.find(query)] == keys
        assert store.count(where=where) == len(keys)
        assert [key for key, _ in store.query(where=where, order_by="-n")] == keys[::-1]


def test_paths_as_long_as_documents_are_deep(store):
    leaves = {f"{number:03}": number for number in range(300)}
    document: dict[str, Any] = leaves
    for _ in range(20):
        document = {"x" * 1000: document}
    store.set_metadata("deep", document)
    store.set_metadata("key", {"y" * 300: 2})
    (count,) = store._engine().one("SELECT count(*) FROM field")
    assert count == 0
    path = ".".join(["x" * 1000] * 20 + ["007"])
    assert list(store.query_keys(where={path: 7})) == ["deep"]
    assert list(store.query_keys(where={"y" * 300: {"gt": 1}})) == ["key"]
    assert [key for key, _ in store.query(order_by=path)] == ["deep", "key"]


def test_files_of_others_are_not_judged(store, root):
    store.set("key", LARGE)
    folder = next((root / "blobs").iterdir())
    for name in (".DS_Store", ".nfs0001", "copy of a blob"):
        for place in (folder, root / "stage", root / "blobs"):
            (place / name).write_bytes(b"")
    (root / "blobs" / "strange").mkdir()
    assert store.verify().problems == ()
    assert store.repair() == []
    with SQLiteStore(root) as other:
        assert other.to_bytes("key") == LARGE
    assert (folder / ".nfs0001").exists()


def test_a_blob_that_is_being_moved_is_removed(store, root):
    """By another process, between its two looks."""
    store.set("key", LARGE)
    blobs = store._engine().blobs
    [file] = [path for path in (root / "blobs").rglob("*") if path.is_file()]
    staged = root / "stage" / file.name
    file.rename(staged)
    looked = []

    def looking(path: str) -> bool:
        looked.append(path)
        if len(looked) == 1:  # the other moves it now, if it still can
            assert path == str(staged)
        Path(path).unlink(missing_ok=True)
        return True

    with mock.patch("kvstore.stores._sqlite.blobs.remove", looking):
        assert blobs.remove([file.name]) == [file.name]
    assert not staged.exists()


def test_a_database_that_is_being_made_is_waited_for(root):
    root.mkdir()
    with sqlite3.connect(root / "kvstore.db", isolation_level=None) as making:
        making.execute("PRAGMA journal_mode = WAL")
    making.close()
    with ThreadPoolExecutor(4) as pool:
        stores = [SQLiteStore(root) for _ in range(4)]
        list(pool.map(lambda store: store.connect(), stores))
        for number, store in enumerate(stores):
            store.set(f"{number}", b"")
            store.disconnect()
    assert list((root / "stage").iterdir()) == []


@pytest.mark.parametrize("tag", ["", "\ud800", 5])
def test_a_tag_that_is_none(root, tag):
    with pytest.raises(InvalidPermissionsError):
        SQLiteStore(root, user_tag=tag)
    with pytest.raises(InvalidPermissionsError):
        MemoryStore(user_tag=tag)


def test_long_metadata_are_read_a_few_at_a_time(store):
    with (
        mock.patch.object(rows, "PAGE_SIZE", 5_000),
        mock.patch.object(fields, "_CHUNK_SIZE", 5_000),
    ):
        with store.transaction():
            for number in range(200):
                store.set_metadata(f"k{number:03}", {"n": number, "text": "x" * (number % 7) * 400})
        assert [entry.metadata["n"] for entry in store.changes()] == list(range(200))
        assert [entry.seq for entry in store.changes(20, 50)] == list(range(21, 71))
        assert [metadata["n"] for _, metadata in store.query()] == list(range(200))
        assert store.count(where={"n": {"ge": 100}}) == 100
        assert store.verify().problems == ()


def test_versions_of_deleted_keys_come_to_an_end(root):
    with SQLiteStore(root, keep_versions=2) as store:
        for number in range(5):
            store.set(f"k{number}", LARGE[number:])
            store.delete(f"k{number}")
        store.set("there", LARGE)
        store.set("there", LARGE[::-1])
    with SQLiteStore(root, keep_versions=0) as store:
        assert len(store.versions("k0")) == 1
        assert store.repair() == ["Removed: versions of 6 keys that are more than are kept now."]
        assert store.versions("k0") == []
        assert len(store.versions("there")) == 1
        assert [p.read_bytes() for p in (root / "blobs").rglob("*-*")] == [LARGE[::-1]]
        assert store.verify().problems == ()
        assert store.repair() == []


def test_a_change_within_a_change_is_refused(store):
    """As by a handler of a signal: else it would undo the half of the other one."""
    engine = store._engine()

    def work(step: Any) -> None:
        step.execute("INSERT INTO trash VALUES ('half')")
        with pytest.raises(UnavailableError, match="within another one"):
            store.set("key", b"")
        assert step.connection.in_transaction

    engine.writer.run(work)
    assert engine.one("SELECT file FROM trash") == ("half",)
    store.set("key", b"")


def test_ctrl_c_after_a_commit_spares_the_transaction_of_somebody_else(store):
    writer = store._engine().writer
    entered, leave = threading.Event(), threading.Event()

    def theirs() -> None:
        with store.transaction():
            store.set("theirs", b"")
            entered.set()
            leave.wait(20)

    end = writer._end

    def interrupted(step: Any) -> None:
        with mock.patch.object(writer, "_end", end):
            end(step)
            running.append(pool.submit(theirs))
            assert entered.wait(20)
        raise KeyboardInterrupt

    running: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with mock.patch.object(writer, "_end", interrupted):
            with pytest.raises(KeyboardInterrupt), store.transaction():
                store.set("mine", b"")
        leave.set()
        running[0].result(20)
    assert list(store.query_keys()) == ["mine", "theirs"]
