"""Who looks whether a store was changed, and who waits to change it."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from pathlib import Path

import pytest

from kvstore.stores._sqlite.connections import begin_writing
from kvstore.stores.sqlite import SQLiteStore
from tests.cases import each


def test_who_wants_to_know_the_state_waits_for_nobody(tmp_path: Path) -> None:
    """Neither for a fork, which waits for who is at it, nor for a lock of another process."""
    with SQLiteStore(tmp_path, patience=1000) as store:
        connections = store._engine().connections
        with connections._lock:
            assert store._stamp() is None
        assert store._stamp() is not None
        assert connections.pause(10)  # as for a fork
        connections.go_on()
        locked = sqlite3.connect(tmp_path / "kvstore.db", isolation_level=None)
        with contextlib.closing(locked) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            assert store._stamp() is None
        assert store._stamp() is not None


def test_a_watch_keeps_no_state_alive(tmp_path: Path) -> None:
    """Else the log could not be emptied while a server runs."""
    with SQLiteStore(tmp_path) as store:
        store.set_data("k", b"data")
        assert store._stamp() is not None
        with contextlib.closing(sqlite3.connect(tmp_path / "kvstore.db")) as other:
            emptied = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert emptied == (0, 0, 0)


@each("patience", [0, 1e-9, 0.01, 0.05])
def test_who_writes_waits_for_as_long_as_it_was_told(tmp_path: Path, patience: float) -> None:
    file = tmp_path / "kvstore.db"
    slept: list[float] = []
    connections = [sqlite3.connect(file, isolation_level=None) for _ in "ab"]
    with contextlib.closing(connections[0]) as one, contextlib.closing(connections[1]) as other:
        begin_writing(other, patience)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(sqlite3.OperationalError):
            patch.setattr(time, "sleep", slept.append)
            begin_writing(one, patience)
        assert all(0 < pause <= patience for pause in slept)
        other.execute("COMMIT")
        begin_writing(one, patience)
        one.execute("COMMIT")


@each("patience, milliseconds", [(0, 0), (2.5, 2500), (1e6, 10**9), (math.inf, 10**9)])
def test_what_follows_in_a_transaction_has_patience_too(
    tmp_path: Path, patience: float, milliseconds: int
) -> None:
    connection = sqlite3.connect(tmp_path / "kvstore.db", isolation_level=None)
    with contextlib.closing(connection):
        begin_writing(connection, patience)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (milliseconds,)
