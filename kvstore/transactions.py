"""The contract: what is done together, and events that wait until it is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Self

from kvstore.events import (
    StoreModificationEvent,
    StoreTransactionEndEvent,
    StoreTransactionStartEvent,
)
from kvstore.hub import EventHub
from kvstore.lifecycle import Lifecycle


class Transactional(Lifecycle):
    """A store whose changes may be grouped.

    Args:
        events: as for every store.
    """

    def __init__(self, *, events: EventHub | None = None) -> None:
        super().__init__(events=events)
        self._transactions = Transactions()

    @contextlib.contextmanager
    def transaction(self, notes: str | None = None) -> Iterator[Self]:
        """Group what this thread does until the end of the ``with`` block.

        Re-entrant: only the outermost block counts. An exception that leaves it undoes everything
        and is raised again. Events of changes wait for the commit, and are dropped by a rollback.
        Where ``info()["transactions"]`` is False nothing is grouped: each change, and its event,
        happens at once and stays.

        Args:
            notes: told to listeners.

        Events: StoreTransactionStartEvent; StoreTransactionEndEvent with state ``done`` or
        ``failed``, before those of the changes.
        """
        self._ready()
        # That of the thread in which it begins: a generator may be closed in another one.
        local = self._transactions.mine
        if local.depth:
            local.depth += 1
            try:
                yield self
            finally:
                local.depth -= 1
            return
        self._begin()
        local.depth = 1
        try:
            self.events.emit(StoreTransactionStartEvent(source=self, notes=notes))
            yield self
            self._commit()
        except BaseException:
            local.reset()
            self._rollback()
            self.events.emit(StoreTransactionEndEvent(source=self, notes=notes, state="failed"))
            raise
        pending = local.reset()
        self.events.emit(StoreTransactionEndEvent(source=self, notes=notes, state="done"))
        for event in pending:
            self.events.emit(event)

    def _begin(self) -> None:
        """Shortcut. Begin a transaction of this thread."""

    def _commit(self) -> None:
        """Shortcut. Make what the transaction did last; if it raises, ``_rollback`` follows."""

    def _rollback(self) -> None:
        """Shortcut. Undo what the transaction did."""

    def _notify(self, event: StoreModificationEvent) -> None:
        local = self._transactions.mine
        if local.depth and self.capabilities["transactions"]:
            local.pending.append(event)
        else:
            self.events.emit(event)


class Transactions(threading.local):
    """What each thread has of transactions of one store."""

    def __init__(self) -> None:
        self.mine = _Transaction()


class _Transaction:
    """How deep a thread is in a transaction, and the events that wait for its end."""

    def __init__(self) -> None:
        self.depth = 0
        self.pending: list[StoreModificationEvent] = []

    def reset(self) -> list[StoreModificationEvent]:
        pending, self.pending, self.depth = self.pending, [], 0
        return pending
