"""Connections to the index: a few that readers take turns with, and the one of the writer."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from kvstore.errors import NotConnectedError, StorageError
from kvstore.stores._sqlite.failures import Translated

#: Seconds to wait for a lock that others hold.
PATIENCE = 30.0
#: How many idle connections are kept for readers.
_IDLE = 16
#: KiB of pages that a connection keeps in memory.
_READER_CACHE, _WRITER_CACHE = 16_384, 65_536
#: Pages in the log before it is copied into the index: 32 MiB. Many changes touch the same pages,
#: so that the longer the log, the fewer are copied.
_CHECKPOINT = 8_000
_LOG_LIMIT = 64 << 20


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
        self._idle_writer: sqlite3.Connection | None = None
        self._live: set[sqlite3.Connection] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._unusable: str | None = None

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
        """Return the connection to write with, for whoever has the lock of writers."""
        connection, self._idle_writer = self._idle_writer, None
        return self._opened(_WRITER_CACHE) if connection is None else connection

    def give_writer(self, connection: sqlite3.Connection) -> None:
        """Take back the connection to write with."""
        if self._closing or connection.in_transaction:  # which closing it rolls back
            self.close(connection)
        else:
            self._idle_writer = connection

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
        writer, self._idle_writer = self._idle_writer, None
        if writer is not None:
            self.close(writer)

    def disconnected(self) -> NotConnectedError:
        """Return the error for a store that another thread has disconnected."""
        return NotConnectedError(f"The store in {self._root!a} is not connected.")

    def _opened(self, cache: int) -> sqlite3.Connection:
        with self._lock:  # which a fork holds while it lasts
            if self._unusable is not None:
                raise StorageError(f"The store in {self._root!a} {self._unusable}.")
            with self.translated:
                connection = sqlite3.connect(
                    # Never made here: a folder that is gone must not come back as an empty store.
                    f"{Path(self.file).as_uri()}?mode=rw",
                    timeout=self.patience,
                    isolation_level=None,
                    check_same_thread=False,
                    uri=True,
                )
                try:
                    self._set_up(connection, cache)
                except BaseException:
                    connection.close()
                    raise
            self._live.add(connection)
        return connection

    def _set_up(self, connection: sqlite3.Connection, cache: int) -> None:
        execute = connection.execute
        execute("PRAGMA journal_mode = WAL")
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
        """Begin anew in a forked child; if a connection was in use then, only to refuse."""
        self._lock = threading.Lock()
        self._closing = False
        # Never closed: that would take the log away from the parent.
        _abandoned.append(self._live)
        self._live, self._idle_writer = set(), None
        self._idle.clear()
        if not clean:
            self._unusable = "was being changed when this process was forked from another"


_abandoned: list[object] = []
