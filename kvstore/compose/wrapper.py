"""What stores made of stores have in common: they pass on what they do not change.

Whatever is done to a store within is done by its public methods, so that its own listeners and
watches hear of it, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, BinaryIO, TypeVar

from kvstore.authorizing import AuthorizingStore
from kvstore.documents import JsonObject
from kvstore.errors import (
    ConflictError,
    InvalidRequestError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.events import StoreDeleteEvent
from kvstore.history import JournalEntry
from kvstore.hub import EventHub
from kvstore.noticing import Halt
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.store import Store
from kvstore.values import Permissions, Record, Value
from kvstore.writes import Change, Condition, Written

_T = TypeVar("_T")

#: How often a step is tried anew that others came between. Each time, one of these others got on.
TRIES = 100


class Composed(ReadOnlyStore):
    """A store made of others. It disconnects those that it has connected, and no others.

    It may be used at once where all of them are connected. Credentials given to ``connect`` are
    for the first. A pickle, and so a copy, has pickles of the others in it.

    Args:
        parts: the stores that it is made of.
        events: as for every store.

    Raises:
        InvalidRequestError: a part that is no store.
    """

    def __init__(self, *parts: ReadOnlyStore, events: EventHub | None = None) -> None:
        super().__init__(events=events)
        for part in parts:
            if not isinstance(part, ReadOnlyStore):
                raise InvalidRequestError(f"That is no store (see kvstore.open): {part!r:.100}.")
        self._parts = parts
        self._connected_here = ExitStack()
        self._connected = all(part.is_connected() for part in parts)

    def __repr__(self) -> str:
        within = ", ".join(map(repr, self._parts))
        return f"<{type(self).__name__} of {within:.200}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self._arguments(), "connected": self.is_connected()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arguments, options = state["arguments"]
        type(self).__init__(self, *arguments, **options)
        self._connected = self._connected and state["connected"]
        for part in self._parts:
            if part.is_connected():  # nobody else has these copies
                self._connected_here.callback(part.disconnect)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the constructor was called with, but for the hub."""
        return self._parts, {}

    def _connect(self, credentials: Any) -> None:
        with ExitStack() as connected:
            for part in self._parts:
                given = credentials if part is self._parts[0] else None
                if not part.is_connected():
                    part.connect(given)
                    connected.callback(part.disconnect)
                elif given is not None:
                    part.connect(given)
            self._connected_here.enter_context(connected.pop_all())

    def _disconnect(self) -> None:
        self._connected_here.close()


class Reading(Composed):
    """Passes on what is read from one store.

    Args:
        store: the one within.
        others: what it is made of beside.
        events: as for every store.
    """

    def __init__(
        self, store: ReadOnlyStore, *others: ReadOnlyStore, events: EventHub | None = None
    ) -> None:
        super().__init__(store, *others, events=events)
        self._store = store

    def info(self) -> dict[str, Any]:
        """Return what the store within tells, but for the ``type``."""
        return {**super().info(), **self._store.info(), "type": type(self).__name__}

    def _inner(self) -> ReadOnlyStore:
        """Return the store within, for what no public method of it asks for in these words."""
        self._store._ready()
        return self._store

    def _get(self, key: str) -> Value:
        return self._store.get(key)

    def _record(self, key: str) -> Record:
        return self._store.record(key)

    def _metadata(self, key: str) -> JsonObject:
        return self._store.get_metadata(key)

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        if start is None and end is None:
            return self._store.get_data(key)
        return self._store.get_data_range(key, start, end)

    def _exists(self, key: str) -> bool:
        return self._store.exists(key)

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return self._query(Query(prefix=prefix, after=after))

    def _query(self, query: Query) -> Iterator[Record]:
        return self._inner()._query(query)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._inner()._query_keys(query)

    def _count(self, query: Query) -> int:
        return self._inner()._count(query)

    def _each(self, call: Callable[[str], _T], keys: Iterable[str]) -> Iterator[_T]:
        return self._inner()._each(call, keys)

    def _sequence(self) -> int:
        return self._store.sequence()

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        return self._store.changes(since, limit)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        return self._inner()._follow(since, interval, halt)

    def _versions(self, key: str) -> list[Record]:
        return self._store.versions(key)

    def _get_version(self, key: str, version: str) -> Value:
        return self._store.get(key, version=version)


class Wrapper(Reading, AuthorizingStore):
    """Passes on everything to one store.

    Transactions are those of the store within; so are permissions, where it has any. A schema for
    the metadata is given to that store.

    Args:
        store, others, events: as for :class:`Reading`; this one can be written.
    """

    _store: Store

    def __init__(
        self, store: Store, *others: ReadOnlyStore, events: EventHub | None = None
    ) -> None:
        super().__init__(store, *others, events=events)
        # Events wait for the end of a transaction only where there is one.
        transactions = store.capabilities["transactions"]
        self.capabilities = {**self.capabilities, "transactions": transactions}  # type: ignore[misc]
        self._blocks = Blocks()

    def user_tag(self) -> str:
        """Return that of the store within."""
        return permitting(self._store).user_tag()

    def _get_permissions(self, key: str) -> Permissions:
        return permitting(self._store).get_permissions(key)

    def _write(self, key: str, change: Change) -> Written:
        return pass_on(self._store, key, change)

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        return remove(self, self._store, key, condition)

    def _begin(self) -> None:
        self._blocks.begin(self._store)

    def _commit(self) -> None:
        self._blocks.end(None)

    def _rollback(self) -> None:
        self._blocks.end(_UndoneError())


class _UndoneError(BaseException):
    """What leaves the block of a transaction that is to be undone."""


class Blocks(threading.local):
    """The transaction that each thread has begun in the store within."""

    def __init__(self) -> None:
        self._block: AbstractContextManager[Store] | None = None

    def begin(self, store: Store) -> None:
        """Enter a transaction of *store*."""
        block = writable(store).transaction()
        block.__enter__()
        self._block = block

    def end(self, error: BaseException | None) -> None:
        """Leave it, by an *error* if it is to be undone; one whose commit failed is left."""
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(None if error is None else type(error), error, None)


class Passed:
    """Opens the data of a value of another store."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a new stream over these bytes."""
        if start is None and end is None:
            return self._value.open()
        return self._value.range(start, end)

    def close(self) -> None:
        """Close what the value holds."""
        self._value.close()


def retold(value: Value, record: Record) -> Value:
    """Return a value with the data of *value* and other facts."""
    return Value(record, Passed(value), lambda: value.permissions)


def permitting(store: ReadOnlyStore) -> AuthorizingStore:
    """Return *store* as one with permissions.

    Raises:
        UnsupportedOperationError: it has none.
    """
    if not isinstance(store, AuthorizingStore):
        raise UnsupportedOperationError(f"{store!r} has no permissions.")
    return store


def writable(store: ReadOnlyStore) -> Store:
    """Return *store* as one that can be written.

    Raises:
        UnsupportedOperationError: it can only be read.
    """
    if not isinstance(store, Store):
        raise UnsupportedOperationError(f"{store!r} can only be read.")
    return store


def pass_on(store: ReadOnlyStore, key: str, change: Change) -> Written:
    """Do *change* to *store* so that its listeners hear of it, too; both are told the progress.

    Raises:
        UnsupportedOperationError: it can only be read, or has no permissions.
    """
    store = writable(store)
    if change.permissions is not None and change.data is None and change.metadata is None:
        within = permitting(store)
        permit = within.update_permissions if change.merge else within.set_permissions
        revision = permit(key, change.permissions, if_match=change.condition.if_match)
        return Written(revision, existed=True)
    report = None if change.data is None else change.data.report
    if report is None:
        return store.write(key, change)
    # The store within gives the source a report of its own.
    return store.write(key, change, progress=lambda done, total: report(done))


def remove(outer: Store, store: ReadOnlyStore, key: str, condition: Condition) -> JsonObject | None:
    """Delete *key* from *store*; return its last metadata where listeners of *outer* want them.

    Raises:
        UnavailableError: others change the key all the time.
        UnsupportedOperationError: *store* can only be read.
    """
    store = writable(store)
    if not outer.events.has_listeners(StoreDeleteEvent):
        store.delete(key, if_match=condition.if_match)
        return None
    if not store.info()["conditional"]:
        metadata = store.get_metadata(key)
        store.delete(key, if_match=condition.if_match)
        return metadata
    for _ in range(TRIES):
        record = store.record(key)
        condition.check(key, record.revision, exists=True)
        try:
            store.delete(key, if_match=record.revision)
        except ConflictError:
            continue  # it was changed between the two, and has other metadata now
        return record.metadata
    raise busy(key)


def busy(key: str) -> UnavailableError:
    """Return the error for a key that others change all the time, or while data were read."""
    return UnavailableError(f"The key {key!a} was changed by others meanwhile; try again.", key=key)


def can_repeat(change: Change) -> bool:
    """Tell whether *change* can be tried once more: its data are there still."""
    return change.data is None or change.data.replayable or not change.data._opened


def close(records: object) -> None:
    """Give up the rest of a listing, and what a store holds open for it."""
    release = getattr(records, "close", None)
    if release is not None:
        release()
