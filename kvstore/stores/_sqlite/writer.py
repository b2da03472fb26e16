"""One writer at a time, and one commit for all who wait: group commit, and transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from kvstore.errors import StorageError, StorageFullError, StoreError, UnavailableError
from kvstore.stores._sqlite.blobs import Blobs
from kvstore.stores._sqlite.connections import Connections, begin_writing
from kvstore.stores._sqlite.turns import Ticket, Turns

T = TypeVar("T")

#: How many changes share a commit at most.
_BATCH = 256


class Step:
    """One atomic part of a transaction: what is done to the index, and to files after the commit.

    What it does is undone by an error that leaves it, and may then be done again.
    """

    __slots__ = ("connection", "execute", "freed", "published")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        #: Names of staged files that rows name now.
        self.published: list[str] = []
        #: Names of files that no row names any more.
        self.freed: list[str] = []

    def free(self, file: str) -> None:
        """Have a file removed after the commit, whoever dies meanwhile."""
        self.execute("INSERT OR IGNORE INTO trash VALUES (?)", (file,))
        self.freed.append(file)


class _Mine(threading.local):
    """The transaction that a thread has begun and not ended itself."""

    step: Step | None = None


class Writer:
    """Runs the changes of all threads of a store, one after the other.

    Whose turn it is does the work of all who wait, in one transaction, and commits once: many
    durable changes share one wait for the disk. A transaction of a user keeps its turn to its end.
    """

    def __init__(self, connections: Connections, blobs: Blobs) -> None:
        self._connections = connections
        self._blobs = blobs
        self._patience = connections.patience
        self._removed: list[str] = []
        #: Called when what was done was undone, so that nothing remembers it.
        self.on_rollback: Callable[[], None] = lambda: None
        self.reset()

    def reset(self) -> None:
        """Begin anew, in a forked child: nobody else is there whose turn it could be."""
        self.turns = Turns()
        self._owner: int | None = None
        self._transaction: Step | None = None
        self._mine = _Mine()

    def pause(self, patience: float) -> bool:
        """Keep all from writing, for a fork; False where somebody goes on for too long."""
        if self.mine() is not None:
            return False
        try:
            self.turns.wait(Ticket(), patience)
        except UnavailableError:
            return False
        return True

    def go_on(self) -> None:
        """End a pause."""
        self.turns.pass_on()

    def mine(self) -> sqlite3.Connection | None:
        """Return the connection of this thread's transaction, None if it is in none."""
        if self._owner is not None and self._owner == threading.get_ident():
            assert self._transaction is not None  # noqa: S101 - set together
            return self._transaction.connection
        return None

    def run(self, work: Callable[[Step], T]) -> T:
        """Return what *work* returns, when what it did is committed, or part of a transaction.

        Raises:
            UnavailableError: others keep the store locked.
            StorageFullError, StorageError: nothing was changed.
        """
        if self.mine() is not None:
            return self._within(work)
        ticket = Ticket(work)
        if self.turns.wait(ticket, self._patience):
            self.turns.is_busy = True
            try:
                self._drain(ticket)
            finally:
                self.turns.is_busy = False
                self.turns.pass_on()
        if ticket.error is not None:
            raise ticket.error
        result: T = ticket.result
        return result

    def run_soon(self, work: Callable[[Step], T], patience: float) -> T:
        """As :meth:`run`, for what can be left undone: others are not waited for, but so long.

        Not for within a transaction.
        """
        self.turns.wait(Ticket(), patience)
        self.turns.is_busy = True
        try:
            ticket = Ticket(work)
            self._run_alone(ticket, patience)
        finally:
            self.turns.is_busy = False
            self.turns.pass_on()
        if ticket.error is not None:
            raise ticket.error
        result: T = ticket.result
        return result

    def make_room(self) -> bool:
        """Empty the log, which may fill the disk with what the index has room for."""
        if self.mine() is not None:
            return False
        self.turns.wait(Ticket(), self._patience)
        try:
            return self._shrink_log()
        finally:
            self.turns.pass_on()

    # -- transactions of users -------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction of this thread, that keeps all others from writing."""
        self.turns.wait(Ticket(), self._patience)
        try:
            connection = self._begin()
        except BaseException:
            self.turns.pass_on()
            raise
        self._mine.step = self._transaction = Step(connection)
        self._owner = threading.get_ident()

    def commit(self) -> None:
        """Make what the transaction did last.

        Raises:
            StorageError: SQLite has undone it, as it does when the disk is full; or another thread
                began it.
        """
        step = self._transaction
        if step is None or self.mine() is None:
            raise StorageError("A transaction ends in the thread in which it began.")
        self._check_open(step)
        self._commit(step.connection, [], [step])
        self._settle([step])
        self._end(step)
        self._mine.step = None

    def rollback(self) -> None:
        """Undo what the transaction did; nothing, where its commit failed before.

        Also from another thread, in which a generator may be closed.
        """
        step, mine = self._transaction, self._mine.step
        self._mine.step = None
        # After Ctrl-C ours may have ended, and this one be that of somebody else.
        if step is None or mine not in (None, step):
            return
        self._undo(step.connection)
        self._end(step)
        self.discard(step.published)

    def discard(self, names: list[str]) -> None:
        """Remove staged files of changes that failed; where a row names one all the same it stays.

        For Ctrl-C may come between a commit and our knowing of it.
        """
        if not names:
            return
        with contextlib.suppress(StoreError), self._connections.reading() as connection:
            row = "SELECT 1 FROM blob WHERE file = ?"
            self._blobs.discard(
                [name for name in names if connection.execute(row, (name,)).fetchone() is None]
            )

    def _within(self, work: Callable[[Step], T]) -> T:
        whole = self._transaction
        assert whole is not None  # noqa: S101 - asked for by mine()
        part = Step(whole.connection)
        # Else what follows would be committed piece by piece, though all was undone.
        self._check_open(whole)
        with self._connections.translated:
            result = self._saved(part, work)
        whole.published += part.published
        whole.freed += part.freed
        return result

    def _check_open(self, step: Step) -> None:
        if not step.connection.in_transaction:
            raise StorageError("An error has undone the transaction; leave it, and begin anew.")

    def _end(self, step: Step) -> None:
        self._transaction = self._owner = None
        self._connections.give_writer(step.connection)
        self.turns.pass_on()

    # -- what waits ------------------------------------------------------------------------

    def _drain(self, ticket: Ticket) -> None:
        others = self.turns.take(_BATCH)
        batch = [ticket, *others]
        try:
            if not others or not self._run_together(batch):
                for each in batch:
                    self._run_alone(each)
        finally:
            # After Ctrl-C, which is for this thread, some of it is not done.
            self.turns.give_back(others)

    def _run_alone(self, ticket: Ticket, patience: float | None = None) -> None:
        ticket.error = None
        for again in (True, False):
            try:
                connection = self._begin(patience)
                step = Step(connection)
                try:
                    with self._connections.translated:
                        ticket.result = ticket.work(step)
                    self._commit(connection, [ticket], [step])
                except BaseException:
                    self._undo(connection)
                    raise
                finally:
                    self._connections.give_writer(connection)
            except StorageFullError as error:
                # The log may have grown over what is free; copied into the index it is empty.
                if again and self._shrink_log():
                    continue
                ticket.error = error
            except Exception as error:  # noqa: BLE001 - raised again by whoever waits for it
                ticket.error = error
            else:
                self._settle([step])
            ticket.done = True
            return

    def _run_together(self, batch: list[Ticket]) -> bool:
        """Do it all in one transaction; False where that failed as a whole, and nothing is done."""
        try:
            connection = self._begin()
        except UnavailableError as error:  # all have waited now; one by one it would take as often
            for ticket in batch:
                ticket.error, ticket.done = error, True
            return True
        except StoreError:
            return False
        try:
            steps = []
            for ticket in batch:
                step, ticket.error = Step(connection), None
                try:
                    with self._connections.translated:
                        ticket.result = self._saved(step, ticket.work)
                except Exception as error:  # noqa: BLE001 - raised again by whoever waits
                    if not connection.in_transaction:
                        return False
                    ticket.error = error
                else:
                    steps.append(step)
            self._commit(connection, batch, steps)
        except StoreError:
            self._undo(connection)
            return False
        except BaseException:
            self._undo(connection)
            raise
        finally:
            self._connections.give_writer(connection)
        self._settle(steps)
        return True

    # -- steps -----------------------------------------------------------------------------

    def _begin(self, patience: float | None = None) -> sqlite3.Connection:
        connection = self._connections.take_writer()
        seconds = self._patience if patience is None else patience
        try:
            with self._connections.translated:
                begin_writing(connection, seconds)
                if self._removed:
                    removed, self._removed = self._removed, []
                    rows = [(name,) for name in removed]
                    connection.executemany("DELETE FROM trash WHERE file = ?", rows)
        except BaseException:
            self._undo(connection)
            self._connections.give_writer(connection)
            raise
        return connection

    def _saved(self, step: Step, work: Callable[[Step], T]) -> T:
        step.execute("SAVEPOINT step")
        try:
            result = work(step)
        except BaseException:
            if step.connection.in_transaction:
                step.execute("ROLLBACK TO step")
                step.execute("RELEASE step")
            self.on_rollback()
            raise
        step.execute("RELEASE step")
        return result

    def _commit(
        self, connection: sqlite3.Connection, batch: list[Ticket], steps: list[Step]
    ) -> None:
        try:
            with self._connections.translated:
                published = [name for step in steps for name in step.published]
                if published:
                    self._blobs.prepare(published)
                connection.execute("COMMIT")
        except Exception:
            raise
        except BaseException:
            # Ctrl-C, told of after the commit: what is done must not be done again.
            for ticket in batch:
                ticket.done = not connection.in_transaction
            raise
        for ticket in batch:
            ticket.done = True

    def _undo(self, connection: sqlite3.Connection) -> None:
        self.on_rollback()
        if connection.in_transaction:
            # Where this fails, too, give_writer closes the connection, which undoes it as well.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _settle(self, steps: list[Step]) -> None:
        """Move and remove files after a commit. What fails is left for a sweep."""
        for step in steps:
            self._blobs.publish(step.published)
            self._removed += self._blobs.remove(step.freed)

    def _shrink_log(self) -> bool:
        try:
            connection = self._connections.take_writer()
        except StoreError:
            return False
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            return False
        finally:
            self._connections.give_writer(connection)
        return True
