"""Several stores as one, the first before the others."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Any, BinaryIO, TypeVar

from kvstore.compose.wrapper import TRIES, Wrapper, busy, can_repeat, close, pass_on, permitting
from kvstore.documents import JsonObject
from kvstore.errors import (
    AuthorizationError,
    ConflictError,
    KeyNotFoundError,
    UnsupportedOperationError,
)
from kvstore.history import JournalEntry
from kvstore.hub import EventHub
from kvstore.noticing import Halt
from kvstore.query import Order, Query
from kvstore.readonly import ReadOnlyStore
from kvstore.store import Store
from kvstore.streams import Source
from kvstore.values import Permissions, Record, Value
from kvstore.watching import Watchable
from kvstore.writes import Change, Condition, Written, missing, missing_version

_T = TypeVar("_T")


class JoinedStore(Wrapper):
    """The union of stores: of a key the first store that has it tells everything.

    Writes go to the first store. A key that only a later store has is copied up when it is
    changed: data, metadata and permissions as they are after the change are written to the first
    store as one step; later stores are never written. The time of creation is that of the copy. A
    later store that is changed by others while a key is copied from it may have had its last word
    overlooked, as no step can span two stores.

    A key that a later store has cannot be deleted, for it would still be there.

    There is no journal, as there would have to be one of all stores together: a watch compares
    listings. Versions of a key are those of the store that tells of it.

    Args:
        first: the store that is written.
        later: those that are read where the ones before have no such key.
        events: as for every store.
    """

    def __init__(self, first: Store, *later: ReadOnlyStore, events: EventHub | None = None) -> None:
        super().__init__(first, *later, events=events)
        self._later = later

    def info(self) -> dict[str, Any]:
        """Return what the first store tells, as far as the others can do it too; no journal."""
        infos = [store.info() for store in self._later]
        told = super().info()
        for name in ("digests", "conditional"):
            told[name] = told[name] and all(info[name] for info in infos)
        told["queries"] = [
            name for name in told["queries"] if all(name in info["queries"] for info in infos)
        ]
        return {**told, "changes": False}

    def _get(self, key: str) -> Value:
        return self._first_of(key, lambda store: store.get(key))

    def _record(self, key: str) -> Record:
        return self._first_of(key, lambda store: store.record(key))

    def _metadata(self, key: str) -> JsonObject:
        return self._first_of(key, lambda store: store.get_metadata(key))

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        if start is None and end is None:
            return self._first_of(key, lambda store: store.get_data(key))
        return self._first_of(key, lambda store: store.get_data_range(key, start, end))

    def _exists(self, key: str) -> bool:
        return any(store.exists(key) for store in self._parts)

    def _get_permissions(self, key: str) -> Permissions:
        return self._first_of(key, lambda store: permitting(store).get_permissions(key))

    def _query(self, query: Query) -> Iterator[Record]:
        return self._merged(query, lambda store, part: store._query(part))

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._merged(query, lambda store, part: store._query_keys(part))

    def _count(self, query: Query) -> int:
        return sum(1 for _ in self._query_keys(query))

    def _sequence(self) -> int:
        return Watchable._sequence(self)

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        return Watchable._changes(self, since, limit)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        return Watchable._follow(self, since, interval, halt)

    def _versions(self, key: str) -> list[Record]:
        for store in self._parts:
            if store.exists(key):
                return store.versions(key)
        return self._store.versions(key)

    def _get_version(self, key: str, version: str) -> Value:
        for store in self._parts:
            try:
                return store.get(key, version=version)
            except (KeyNotFoundError, UnsupportedOperationError):
                if store.exists(key):  # what is hidden has no versions, either
                    raise
        raise missing_version(key, version)

    def _write(self, key: str, change: Change) -> Written:
        for _ in range(TRIES):
            if self._store.exists(key):
                return pass_on(self._store, key, change)
            try:
                value = self._later_value(key)
                if value is None:
                    return pass_on(self._store, key, change)
                with closing(value):
                    return self._copy_up(key, value, change)
            except _MadeError:
                if not can_repeat(change):
                    raise busy(key) from None
        raise busy(key)

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        for store in self._later:
            if store.exists(key):
                message = f"The key {key!a} cannot be deleted: it would still be in {store!r:.150}."
                raise UnsupportedOperationError(message, key=key)
        return super()._delete(key, condition)

    def _first_of(self, key: str, call: Callable[[ReadOnlyStore], _T]) -> _T:
        for store in self._parts:
            try:
                return call(store)
            except KeyNotFoundError:
                continue
        raise missing(key)

    def _later_value(self, key: str) -> Value | None:
        for store in self._later:
            try:
                return store.get(key)
            except KeyNotFoundError:
                continue
        return None

    def _copy_up(self, key: str, value: Value, change: Change) -> Written:
        old = replace(value.record, permissions=_permissions_of(value))
        change.check(key, old)
        permissions = change.permissions
        if self._store.info()["authorizing"]:
            permissions = change.new_permissions(old, self.user_tag())
        complete = replace(
            change,
            data=Source(value) if change.data is None else change.data,
            mimetype=old.mimetype if change.data is None else change.mimetype,
            metadata=change.new_metadata(old),
            permissions=permissions,
            merge=False,
            condition=Condition(create_only=True),
        )
        try:
            written = pass_on(self._store, key, complete)
        except ConflictError:
            if self._store.exists(key):
                raise _MadeError from None
            raise
        return replace(written, existed=True)

    def _merged(
        self, query: Query, ask: Callable[[ReadOnlyStore, Query], Iterator[Record]]
    ) -> Iterator[Record]:
        # In the order of keys, and where metadata do not matter, what is hidden comes directly
        # behind what hides it. Else that has to be asked for, as it may not be found itself.
        adjacent = query.order_by is None and not query.match and query.where is None
        place = attrgetter("key") if query.order_by is None else Order(query.order_by).place
        with ExitStack() as opened:
            found = []
            for number, store in enumerate(self._parts):
                store._ready()
                whole = replace(query, limit=None) if number and not adjacent else query
                records = ask(store, whole)
                opened.callback(close, records)
                hiding = () if adjacent else self._parts[:number]
                found.append(_not_in(hiding, records))
            yield from islice(_distinct(heapq.merge(*found, key=place)), query.limit)


class _MadeError(Exception):
    """Somebody else has made the key in the first store meanwhile."""


def _not_in(hiding: tuple[ReadOnlyStore, ...], records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if not any(store.exists(record.key) for store in hiding):
            yield record


def _distinct(records: Iterable[Record]) -> Iterator[Record]:
    last = None
    for record in records:
        if record.key != last:
            last = record.key
            yield record


def _permissions_of(value: Value) -> Permissions | None:
    try:
        return value.permissions
    except (UnsupportedOperationError, AuthorizationError):
        return None  # then the copy has those of a new key
