"""Connections to the index: a few that readers take turns with, and the one of the writer."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from kvstore.errors import StorageError, StoreError
from kvstore.stores._sqlite.failures import Translated

#: Seconds to wait for a lock that others hold.
PATIENCE = 30.0
#: How many idle connections are kept for readers.
_IDLE = 16
#: KiB of pages that a connection keeps in memory.
_READER_CACHE, _WRITER_CACHE, _WATCH_CACHE = 16_384, 65_536, 64
#: Pages in the log before it is copied into the index: 32 MiB. Many changes touch the same pages,
#: so that the longer the log, the fewer are copied.
_CHECKPOINT = 8_000
_LOG_LIMIT = 64 << 20

#: Seconds between two looks whether another process still writes.
_SHORTEST, _LONGEST = 0.0001, 0.02
#: Seconds that SQLite itself waits at most.
_MOST = 1e6


class Connections:
    """Opens, lends and closes connections to one file. Safe for threads.

    A connection must not cross a fork: SQLite's locks belong to a process, and what it knows of
    them would be wrong in a child. So all are closed for one, and opened again after it.

    Args:
        file: the index.
        root: the folder of the store, for errors.
        durable: whether a commit waits for the disk.
        patience: seconds to wait for a lock.
    """

    def __init__(self, file: str, root: str, *, durable: bool, patience: float = PATIENCE) -> None:
        self.file = file
        self.translated = Translated(root)
        self.patience = patience
        self._root = root
        self._durable = durable
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer: sqlite3.Connection | None = None
        self._is_writing = False
        self._live: set[sqlite3.Connection] = set()
        self._lock = threading.Lock()
        self._closing = False
        # One that only looks whether others have changed something, and its number.
        self._watch: sqlite3.Cursor | None = None
        self._watch_number = 0
        self._watching = threading.Lock()

    def take(self) -> sqlite3.Connection:
        """Return a connection to read with; :meth:`give` it back soon."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._opened(_READER_CACHE)

    def give(self, connection: sqlite3.Connection) -> None:
        """Take back a connection."""
        if self._closing or len(self._idle) >= _IDLE:
            self.close(connection)
        else:
            self._idle.append(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to read with, errors translated."""
        with self.translated:
            connection = self.take()
            try:
                yield connection
            finally:
                self.give(connection)

    def take_writer(self) -> sqlite3.Connection:
        """Return the connection to write with, for whose turn it is; there is one, and it stays.

        What was left open on it, as Ctrl-C can, is undone.
        """
        self._is_writing = True
        if self._writer is None:
            self._writer = self._opened(_WRITER_CACHE)
        elif self._writer.in_transaction:
            with self.translated:
                self._writer.execute("ROLLBACK")
        return self._writer

    def give_writer(self, connection: sqlite3.Connection) -> None:
        """Take back the connection to write with."""
        if self._closing or connection.in_transaction:  # which closing it rolls back
            self._writer = None
            self.close(connection)
        self._is_writing = False

    def stamp(self) -> tuple[int, int] | None:
        """Return what is equal only while nobody commits anything; None: that cannot be told now.

        Some microseconds, and without waiting for anybody.
        """
        with self._watching:
            try:
                if self._watch is None:
                    self._watch = self._opened_to_watch()
                # Tells of commits by other connections than its own, which makes none.
                (version,) = self._watch.execute("PRAGMA data_version").fetchone()
            except (sqlite3.Error, StoreError):
                return None
            return self._watch_number, version

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection that was taken."""
        # The last one copies the log into the index. Where that fails the log stays, and counts.
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._live.discard(connection)

    def close_idle(self) -> None:
        """Close the connections that nobody uses now; those in use follow when given back."""
        self._closing = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self.close(self._idle.pop())
        if not self._is_writing and self._writer is not None:
            writer, self._writer = self._writer, None
            self.close(writer)
        with self._watching:
            watch, self._watch = self._watch, None
        if watch is not None:
            self.close(watch.connection)

    def _opened_to_watch(self) -> sqlite3.Cursor:
        # Neither a fork, which waits for who watches, nor who opens another one is waited for.
        if not self._lock.acquire(blocking=False):
            raise StorageError("Somebody opens a connection right now.")
        try:
            if self._closing:
                raise StorageError("The store is being closed.")
            connection = self._open(_WATCH_CACHE, 0.0)
        finally:
            self._lock.release()
        self._watch_number = next(_numbers)  # no other connection counts as this one does
        return connection.cursor()

    def _opened(self, cache: int) -> sqlite3.Connection:
        with self._lock:  # which a fork holds while it lasts
            return self._open(cache, self.patience)

    def _open(self, cache: int, patience: float) -> sqlite3.Connection:
        with self.translated:
            self._check_fork()
            connection = sqlite3.connect(
                # Never made here: a folder that is gone must not come back as an empty store.
                f"{Path(self.file).as_uri()}?mode=rw",
                timeout=patience,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
            try:
                self._set_up(connection, cache, patience)
            except BaseException:
                connection.close()
                raise
        self._live.add(connection)
        return connection

    def _check_fork(self) -> None:
        status = Path(self.file).stat()
        if (status.st_dev, status.st_ino) in _tainted:
            message = "was being used when this process was forked, and cannot be used in it"
            raise StorageError(f"The store in {self._root!a} {message}.")

    def _set_up(self, connection: sqlite3.Connection, cache: int, patience: float) -> None:
        execute = connection.execute
        _set_mode(connection, patience)
        execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        execute("PRAGMA fullfsync = 1" if self._durable else "PRAGMA fullfsync = 0")
        execute(f"PRAGMA cache_size = -{cache}")
        execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
        execute("PRAGMA temp_store = MEMORY")

    # -- fork ------------------------------------------------------------------------------

    def pause(self, patience: float) -> bool:
        """Close everything and keep others from opening; False where one stays in use."""
        self._lock.acquire()
        self._closing = True
        end = time.monotonic() + patience
        while self._live and time.monotonic() < end:
            self.close_idle()
            if self._live:
                time.sleep(0.001)
        return not self._live

    def go_on(self) -> None:
        """End a pause."""
        self._closing = False
        self._lock.release()

    def reset(self, *, clean: bool) -> None:
        """Begin anew in a forked child.

        Args:
            clean: whether no connection was open then. SQLite would take the locks of the parent
                for ours, whoever opens the file: so nobody may, in this process.
        """
        self._lock = threading.Lock()
        self._closing = self._is_writing = False
        for opened in (*self._live, self._watch):
            # Never closed, not even when Python ends: that would clean up under the parent.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened))
        self._live, self._writer = set(), None
        self._watch, self._watching = None, threading.Lock()
        self._idle.clear()
        if not clean:
            with contextlib.suppress(OSError):
                status = Path(self.file).stat()
                _tainted.add((status.st_dev, status.st_ino))


def _set_mode(connection: sqlite3.Connection, patience: float) -> None:
    # Of a new file it is changed, for which SQLite does not wait as it does otherwise.
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(0.005)
        else:
            return


def begin_writing(connection: sqlite3.Connection, patience: float) -> None:
    """Begin a transaction that writes, within *patience* seconds.

    SQLite would look again after 1, 2, 5, ... 100 ms. Another process holds the lock for some
    tenths of a millisecond at a time, and of two that write all the time one would mostly sleep.
    """
    end = time.monotonic() + patience
    pause = _SHORTEST
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                left = end - time.monotonic()
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or left <= 0:
                    raise
                time.sleep(min(pause, left))
                pause = min(pause * 1.2, _LONGEST)
            else:
                return
    finally:
        # What else this connection does waits for readers: to empty the log, or to commit where
        # the file system has no room for one.
        connection.execute(f"PRAGMA busy_timeout = {int(min(patience, _MOST) * 1000)}")


_numbers = itertools.count()

#: Device and number of the files that were open when this process was forked.
_tainted: set[tuple[int, int]] = set()
