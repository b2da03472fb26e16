"""One store opened by one process: its parts, put together, and what a fork does to them."""
# ruff: noqa: PTH103, PTH118, PTH120 - paths are str here, as everywhere below

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from kvstore.disk import flush_folder
from kvstore.errors import StorageError, UnavailableError
from kvstore.stores._sqlite.blobs import Blobs
from kvstore.stores._sqlite.changes import Changes
from kvstore.stores._sqlite.connections import Connections
from kvstore.stores._sqlite.fields import Fields
from kvstore.stores._sqlite.schema import prepare
from kvstore.stores._sqlite.state import Keeping, is_kept, keep, read_state
from kvstore.stores._sqlite.writer import Step, Writer

INDEX = "kvstore.db"
#: What is in the root of a store of another kind.
_FOREIGN = ".kvstore"
#: Seconds that a fork waits for other threads to end what they are at.
_FORK_PATIENCE = 10.0


class Engine:
    """The store in the folder *root*, an absolute path.

    Args:
        keeping: what the store is to remember from now on.

    Raises:
        StorageError: the folder cannot be made, read or written, or is a store of another kind.
        DamagedError: the index is not what a store wrote.
        UnavailableError: others keep the store locked.
    """

    def __init__(self, root: str, keeping: Keeping, *, durable: bool, patience: float) -> None:
        self.root = root
        file = os.path.join(root, INDEX)
        self.blobs = Blobs(root, durable=durable)
        self.connections = Connections(file, root, durable=durable, patience=patience)
        self.writer = Writer(self.connections, self.blobs)
        self.fields = Fields(self.writer)
        self.changes = Changes(self.fields)
        _engines.add(self)  # before anything is open, for a fork that comes between
        with self.connections.translated:
            made = _make(root, file)
            self.blobs.connect()
        # Also for those who forget to disconnect, at the latest when Python ends.
        self.close = weakref.finalize(self, _close, self.connections, self.blobs)
        try:
            with self.connections.translated:
                connection = self.connections.take_writer()
                try:
                    prepare(connection, f"in {root!a}")
                finally:
                    self.connections.give_writer(connection)
                if durable:
                    for folder in (root, *made):
                        flush_folder(folder)
            with self.reading() as connection:
                state = read_state(connection)
            if not is_kept(state, keeping):
                self.writer.run(lambda step: keep(step.connection, keeping))
            self.tidy()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to read with: within a transaction that of the transaction."""
        mine = self.writer.mine()
        if mine is None:
            with self.connections.reading() as connection:
                yield connection
        else:
            with self.connections.translated:
                yield mine

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """As ``reading()``, for several statements that are to see one state."""
        with self.reading() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")  # nothing was written

    def one(self, sql: str, *arguments: object) -> Any:
        """Return the first row that a statement finds, None if there is none.

        As ``reading()`` does, at a third of the price.
        """
        return self._fetched(sql, arguments, sqlite3.Cursor.fetchone)

    def all(self, sql: str, *arguments: object) -> list[Any]:
        """Return the rows that a statement finds."""
        rows: list[Any] = self._fetched(sql, arguments, sqlite3.Cursor.fetchall)
        return rows

    def _fetched(
        self, sql: str, arguments: tuple[object, ...], fetch: Callable[[sqlite3.Cursor], Any]
    ) -> Any:
        connections = self.connections
        mine = self.writer.mine()
        connection = connections.take() if mine is None else mine
        try:
            return fetch(connection.execute(sql, arguments))
        except sqlite3.Error as error:
            raise connections.translated.of(error) from error
        finally:
            if mine is None:
                connections.give(connection)

    def tidy(self) -> tuple[int, int]:
        """Finish what processes that died had begun; return what was moved and what removed."""
        abandoned = list(self.blobs.abandoned())
        with self.reading() as connection:
            trash = [name for (name,) in connection.execute("SELECT file FROM trash")]
            row = "SELECT 1 FROM blob WHERE file = ?"
            named = {name for name in abandoned if connection.execute(row, (name,)).fetchone()}
        self.blobs.publish(named)
        self.blobs.discard(set(abandoned) - named)
        if trash:
            gone = self.blobs.remove(trash)
            # Where others write right now, whoever comes next does it.
            with contextlib.suppress(UnavailableError):
                self.writer.run_soon(lambda step: _empty(step, gone), 0)
        return len(named), len(abandoned) - len(named) + len(trash)

    # -- fork ------------------------------------------------------------------------------

    def pause(self) -> bool:
        """Have nothing open, for a fork. False where that cannot be."""
        if not self.writer.pause(_FORK_PATIENCE):
            return False
        if self.connections.pause(_FORK_PATIENCE):
            return True
        self.connections.go_on()
        self.writer.go_on()
        return False

    def go_on(self) -> None:
        """End a pause."""
        self.connections.go_on()
        self.writer.go_on()

    def begin_anew(self, *, clean: bool) -> None:
        """Be of use in a forked child."""
        self.connections.reset(clean=clean)
        self.writer.reset()
        self.fields.forget()
        with contextlib.suppress(OSError):  # the child finds out when it stores something large
            self.blobs.in_child()


def _close(connections: Connections, blobs: Blobs) -> None:
    """Release everything; what other threads are at goes on to its end."""
    connections.close_idle()
    blobs.disconnect()


def _make(root: str, file: str) -> list[str]:
    """Make folder and file where they are missing; return those folders that have a new name."""
    changed = []
    path = root
    while not os.path.lexists(path):
        path = os.path.dirname(path)
        changed.append(path)
    os.makedirs(root, 0o700, exist_ok=True)
    if os.path.lexists(os.path.join(root, _FOREIGN)):
        raise StorageError(f"In {root!a} there is a FileSystemStore: open it as file:PATH.")
    # SQLite would make it for all to read. What it puts beside it gets the same mode.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    return changed


def _empty(step: Step, names: list[str]) -> None:
    step.connection.executemany("DELETE FROM trash WHERE file = ?", [(name,) for name in names])


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_paused: list[tuple[Engine, bool]] = []


def _before_fork() -> None:
    for engine in list(_engines):
        clean = False
        try:
            clean = engine.pause()
        finally:  # Ctrl-C ends the wait, but not the fork
            _paused.append((engine, clean))


def _after_fork_in_parent() -> None:
    while _paused:
        engine, clean = _paused.pop()
        if clean:
            engine.go_on()


def _after_fork_in_child() -> None:
    while _paused:
        engine, clean = _paused.pop()
        engine.begin_anew(clean=clean)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
