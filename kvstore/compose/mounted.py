"""A sub-tree of a store, seen as a store."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO

from kvstore.compose.wrapper import Wrapper, close, retold
from kvstore.documents import JsonObject, dump_json, parse_json
from kvstore.errors import InvalidKeyError, KeyNotFoundError, StoreError
from kvstore.history import JournalEntry
from kvstore.hub import EventHub
from kvstore.keys import check_key
from kvstore.noticing import Halt
from kvstore.query import MAX_GLOB, Query, run
from kvstore.store import Store
from kvstore.values import Permissions, Record, Value
from kvstore.writes import Change, Condition, Written, missing


class MountedStore(Wrapper):
    """The keys of another store that begin with *prefix*, without it.

    The key ``m31.fits`` of ``MountedStore(store, "sky/")`` is ``sky/m31.fits`` of the store. What
    would be no key without the prefix, as ``sky/`` itself, is not seen. Numbers of changes are
    those of the store within, so there are gaps in them. Transactions, permissions, conditions and
    versions are its own.

    Args:
        store: the store within.
        prefix: what its keys begin with; not a folder, so a ``/`` at the end is to be said.
        events: the hub that hears of this store's keys; one of its own by default. Those who
            listen to the store within hear of the same changes, by the keys that it has.

    Raises:
        InvalidKeyError: nothing that begins with *prefix* is a key. From all methods: a key that
            is too long behind the prefix, named with it.
    """

    def __init__(self, store: Store, prefix: str, *, events: EventHub | None = None) -> None:
        super().__init__(store, events=events)
        if not isinstance(prefix, str):
            raise InvalidKeyError(f"A prefix is a str, not {prefix!r:.100}.")
        check_key(f"{prefix}-")
        self._prefix = prefix
        # Else a key `sky../m31` could be seen as `../m31` behind `sky`.
        self._ends_segment = not prefix or prefix.endswith("/")

    def __repr__(self) -> str:
        return f"<MountedStore {self._prefix!a:.100} of {self._store!r:.150}>"

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._store, self._prefix), {}

    # -- one key ---------------------------------------------------------------------------

    def _get(self, key: str) -> Value:
        with self._named(key) as name:
            value = self._store.get(name)
        return retold(value, replace(value.record, key=key))

    def _get_if_changed(self, key: str, revision: str) -> Value | None:
        with self._named(key) as name:
            value = self._inner()._get_if_changed(name, revision)
        return None if value is None else retold(value, replace(value.record, key=key))

    def _record(self, key: str) -> Record:
        with self._named(key) as name:
            return replace(super()._record(name), key=key)

    def _metadata(self, key: str) -> JsonObject:
        with self._named(key) as name:
            return super()._metadata(name)

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        with self._named(key) as name:
            return super()._open(name, start, end)

    def _exists(self, key: str) -> bool:
        with self._named(key) as name:
            return super()._exists(name)

    def _write(self, key: str, change: Change) -> Written:
        with self._named(key) as name:
            return super()._write(name, change)

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        with self._named(key) as name:
            return super()._delete(name, condition)

    def _get_permissions(self, key: str) -> Permissions:
        with self._named(key) as name:
            return super()._get_permissions(name)

    def _versions(self, key: str) -> list[Record]:
        with self._named(key) as name:
            return [replace(record, key=key) for record in super()._versions(name)]

    def _get_version(self, key: str, version: str) -> Value:
        with self._named(key) as name:
            value = super()._get_version(name, version)
        return retold(value, replace(value.record, key=key))

    # -- many keys -------------------------------------------------------------------------

    def _query(self, query: Query) -> Iterator[Record]:
        within = self._within(query)
        if within is None:
            everything = self._within(Query(prefix=query.prefix))
            assert everything is not None  # noqa: S101 - only a glob can be too long
            return run(query, self._seen(self._inner()._query(everything)))
        return self._seen(self._inner()._query(within), query.limit)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        within = self._within(query)
        if within is None:
            return self._query(query)
        return self._seen(self._inner()._query_keys(within), query.limit)

    def _count(self, query: Query) -> int:
        within = self._within(query)
        if within is None or query.limit is not None or not self._ends_segment:
            return sum(1 for _ in self._query_keys(query))
        count = self._inner()._count(within)
        if query.prefix or not self._prefix:
            return count
        # The prefix itself may be a key, which is not seen here; it comes before all others.
        first = next(self._inner()._query_keys(replace(within, limit=1)), None)
        return count - (first is not None and first.key == self._prefix)

    # -- history ---------------------------------------------------------------------------

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        return islice(self._heard(super()._changes(since, None)), limit)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        return self._heard(super()._follow(since, interval, halt))

    def _heard(self, entries: Iterator[JournalEntry]) -> Iterator[JournalEntry]:
        for entry in entries:
            key = self._key_of(entry.key)
            if key is not None:
                yield replace(entry, key=key)

    # -- names -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _named(self, key: str) -> Iterator[str]:
        """Give the name of *key* within; errors about that are about *key*."""
        name = check_key(self._prefix + key)
        try:
            yield name
        except KeyNotFoundError as error:
            if error.key != name:
                raise
            again = missing(key) if error.message == missing(name).message else error
            again.key = key
            raise again from None
        except StoreError as error:
            if error.key == name:
                error.key = key
            raise

    def _key_of(self, name: str) -> str | None:
        """Return what the key *name* of the store within is called here; None if it is not seen."""
        if not name.startswith(self._prefix):
            return None
        key = name[len(self._prefix) :]
        if not key or (not self._ends_segment and key.partition("/")[0] in (".", "..")):
            return None
        return key

    def _seen(self, records: Iterator[Record], limit: int | None = None) -> Iterator[Record]:
        seen = ((self._key_of(record.key), record) for record in records)
        named = (replace(record, key=key) for key, record in seen if key is not None)
        try:
            yield from islice(named, limit)
        finally:
            close(records)

    def _within(self, query: Query) -> Query | None:
        """Return what to ask the store within; None where it would not take the question."""
        pattern = query.glob
        if pattern is not None:
            pattern = glob.escape(self._prefix) + pattern
            if len(pattern) > MAX_GLOB:
                return None
        after = query.after
        if after is not None:
            after = self._prefix + after if query.order_by is None else self._cursor(after)
        limit = query.limit
        if limit is not None:
            limit = limit + 1 if self._ends_segment else None  # one may be found and not seen
        prefix = self._prefix + query.prefix
        return replace(query, prefix=prefix, glob=pattern, after=after, limit=limit)

    def _cursor(self, cursor: str) -> str:
        """Return what an ordered query's *cursor* is within."""
        key, *value = parse_json(cursor.encode(), what="cursor")
        return dump_json([self._prefix + key, *value]).decode()
