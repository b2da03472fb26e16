"""A store near at hand in front of one that is far away."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

from kvstore.compose.locks import KeyLocks
from kvstore.compose.shelf import CorruptError, KeptOpener, LostError, Shelf, check_room
from kvstore.compose.unreached import Unreached
from kvstore.compose.wrapper import TRIES, Wrapper, busy, close
from kvstore.documents import JsonObject
from kvstore.errors import (
    ConflictError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    StorageError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from kvstore.hub import EventHub
from kvstore.query import Query, run
from kvstore.store import Store
from kvstore.streams import Source
from kvstore.values import Record, Value
from kvstore.writes import Change, Condition, Written

Offline: TypeAlias = Literal["never", "if-unreachable", "always"]

_log = logging.getLogger("kvstore.cache")

_COUNTED = ("hits", "misses", "stale", "corrupt")
#: Why an entry cannot be kept, which is no reason not to read it.
_NOT_KEPT = (StorageError, StorageFullError, TooLargeError, InvalidMetadataError)


class CachedStore(Wrapper):
    """A remote store whose data are kept in a local one, too.

    What is read is asked for each time, but its data come over the network only if they have
    changed: what is kept of the current revision is served from the local store, after it was
    checked against its digest. A server with conditions is asked for both by one request, which it
    answers by 304 or by the new value. What is not kept is downloaded once, by one thread of one
    process while others wait, and then served from there. Facts, listings, queries and permissions
    are those of the remote store; so are changes, versions and transactions, within which nothing
    is cached. A range of what is not kept is asked of the remote store, and not kept.

    Writes go to the remote store; what is kept of the key is forgotten.

    Where the remote store cannot be reached (``TransportError``) it is an error, unless *offline*
    says to serve what is kept as it was, facts and listings too; ``stale`` in ``info()["cache"]``
    counts that. What is not kept is the error of the remote store.

    Not more than *max_bytes* are kept: those that were not used for longest are removed first, but
    nothing that is being read through this object. What another process removes while it is read
    is downloaded again. Larger data are passed through.

    Args:
        remote: the store that is far away.
        local: holds what is kept, and should hold nothing else; may be shared by processes if it
            is a store that may.
        max_bytes: of data, that are kept at most; None for any number.
        offline: when to serve what is kept without asking: ``never``; ``if-unreachable``, if the
            remote store cannot be asked; ``always``, and the remote store is not even connected.
        locks: folder of the lock files, for all who share *local*; by default one among the
            temporary files of this user and machine.
        events: as for every store.

    Raises:
        InvalidRequestError: *max_bytes* below 0, *offline* none of these words, twice one store.
    """

    def __init__(
        self,
        remote: Store,
        local: Store,
        *,
        max_bytes: int | None = None,
        offline: Offline = "never",
        locks: str | os.PathLike[str] | None = None,
        events: EventHub | None = None,
    ) -> None:
        if offline not in get_args(Offline):
            known = ", ".join(get_args(Offline))
            raise InvalidRequestError(f"offline is one of {known}, not {offline!r:.100}.")
        if remote is local:
            raise InvalidRequestError("A cache needs a store of its own; remote and local are one.")
        is_alone = offline == "always"
        super().__init__(Unreached(remote) if is_alone else remote, local, events=events)
        self._given = (remote, local)
        self._options = {"max_bytes": max_bytes, "offline": offline, "locks": locks}
        self._max_bytes = max_bytes
        self._serve_stale = offline != "never"
        self._shelf = Shelf(local, max_bytes)
        self._locks = KeyLocks(local, locks)
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._changed = _Changed()

    def __repr__(self) -> str:
        remote, local = self._given
        return f"<CachedStore of {remote!r:.120} in {local!r:.120}>"

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._given, self._options

    def info(self) -> dict[str, Any]:
        """Return what the remote store tells, ``offline`` and ``cache``: what happened how often.

        ``hits``, ``misses`` (downloads), ``stale`` (served without having been asked for),
        ``corrupt`` (found to be damaged, and downloaded again): by this object.
        """
        with self._counting:
            counts = {name: self._counts[name] for name in _COUNTED}
        return {**super().info(), "offline": self._options["offline"], "cache": counts}

    # -- the cache -------------------------------------------------------------------------

    def refresh(self, key: str) -> Record:
        """Download *key* whatever is kept of it, and return its record.

        Raises:
            KeyNotFoundError: no such key; nothing is kept of it any more.
            TransportError: the remote store cannot be reached; what is kept stays.
        """
        key = self._check(key)
        try:
            value = self._fetched(key, None)
        except KeyNotFoundError:
            self._drop(key)
            raise
        value.close()
        return value.record

    def prune(self, max_bytes: int | None = None) -> int:
        """Remove what was not used for longest until no more than *max_bytes* are kept.

        Args:
            max_bytes: that of the constructor if None; nothing is removed if both are.

        Returns:
            The bytes that were freed.

        Raises:
            InvalidRequestError: *max_bytes* is no number from 0.
        """
        self._ready()
        limit = self._max_bytes if max_bytes is None else check_room(max_bytes)
        if limit is None:
            return 0
        _, freed = self._shelf.prune(limit)
        return freed

    def clear(self) -> None:
        """Forget all that is kept, but what is being read."""
        self._ready()
        self._shelf.clear()

    # -- reading ---------------------------------------------------------------------------

    def _record(self, key: str) -> Record:
        try:
            return self._store.record(key)
        except KeyNotFoundError:
            self._drop_missing(key)
            raise
        except TransportError as error:
            return self._stale(key, error)

    def _metadata(self, key: str) -> JsonObject:
        return self._record(key).metadata

    def _exists(self, key: str) -> bool:
        try:
            return self._store.exists(key)
        except TransportError as error:
            self._stale(key, error)
            return True

    def _get(self, key: str) -> Value:
        if self._transactions.mine.depth:
            return self._store.get(key)
        unpin = self._shelf.pin(key)
        try:
            return self._current(key)
        except KeyNotFoundError:
            self._drop_missing(key)
            raise
        except TransportError as error:
            return self._kept(self._stale(key, error))
        finally:
            unpin()

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        if self._transactions.mine.depth:
            return super()._open(key, start, end)
        if start is None and end is None:
            return self._get(key).open()
        record = self._record(key)
        if not self._shelf.has(record):
            return super()._open(key, start, end)
        self._add("hits")
        return self._stream(record, start, end)

    def _query(self, query: Query) -> Iterator[Record]:
        return self._or_kept(query, super()._query)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._or_kept(query, super()._query_keys)

    def _count(self, query: Query) -> int:
        try:
            return super()._count(query)
        except TransportError:
            if not self._serve_stale:
                raise
        return sum(1 for _ in self._kept_of(query))

    # -- writing ---------------------------------------------------------------------------

    def _write(self, key: str, change: Change) -> Written:
        try:
            return super()._write(key, change)
        finally:
            self._forget(key)  # also if it failed: nobody knows what a server did before it did

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        try:
            return super()._delete(key, condition)
        finally:
            self._forget(key)

    def _commit(self) -> None:
        super()._commit()
        self._forget_all()

    def _rollback(self) -> None:
        super()._rollback()
        self._forget_all()

    # -- how it is done --------------------------------------------------------------------

    def _current(self, key: str) -> Value:
        """Ask for the current value, on the condition that it is not what is kept."""
        kept = self._shelf.facts(key)
        if kept is None:
            with self._locks.of(key):
                if self._shelf.facts(key) is None:
                    return self._fetched(key, None)
            return self._current(key)  # somebody else was faster
        if kept.revision is None:
            record = self._store.record(key)
            return self._hit(record) if self._shelf.has(record) else self._fetched(key, record)
        value = self._inner()._get_if_changed(key, kept.revision)
        if value is not None:
            return self._fetched(key, value.record, value)
        self._shelf.has(kept)  # which notes that it is used
        return self._hit(kept)

    def _hit(self, record: Record) -> Value:
        self._add("hits")
        return self._kept(record)

    def _kept(self, record: Record) -> Value:
        opener = KeptOpener(self._shelf, record, self._stream)
        return Value(record, opener, lambda: self._get_permissions(record.key))

    def _fetched(self, key: str, wanted: Record | None, value: Value | None = None) -> Value:
        """Return the current value from the local store, after a download unless it has *wanted*.

        It is that of the remote store, perhaps the one given, where it cannot be kept.
        """
        with self._locks.of(key):
            if wanted is not None and self._shelf.has(wanted):  # somebody else was faster
                if value is not None:
                    value.close()
                return self._hit(wanted)
            for _ in range(TRIES):
                value = value or self._store.get(key)
                if not self._can_keep(value):
                    return value
                with closing(value):
                    self._add("misses")
                    try:
                        record = self._shelf.put(value.record, Source(value))
                    except ConflictError:
                        value = None  # it was changed while it was read
                        continue
                    except _NOT_KEPT:
                        return self._store.get(key)
                return self._kept(record)
        raise busy(key)

    def _can_keep(self, value: Value) -> bool:
        is_nameless = value.revision is None and value.digest is None
        if is_nameless and not self._given[1].info()["digests"]:
            return False  # what is kept could not be told from what others put there since
        try:
            return self._shelf.make_room(max(value.size, 0))
        except _NOT_KEPT:
            return False

    def _stream(self, record: Record, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over what is kept of *record*, which is downloaded again if need be.

        Raises:
            ConflictError: it is gone, and the remote store has another revision by now.
        """
        key = record.key
        for _ in range(TRIES):
            try:
                return self._shelf.stream(record, start, end)
            except LostError:
                pass
            except CorruptError as error:
                _log.warning("%r: what is kept of %a is damaged: %s", self, key, error.__cause__)
                self._add("corrupt")
                self._drop(key)
            value = self._fetched(key, record)
            value.close()
            if value.revision != record.revision or value.digest != record.digest:
                message = f"The key {key!a} was changed, and its data were not kept."
                raise ConflictError(message, key=key)
        raise busy(key)

    def _stale(self, key: str, error: TransportError) -> Record:
        record = self._shelf.facts(key) if self._serve_stale else None
        if record is None:
            raise error
        self._add("stale")
        return record

    def _or_kept(self, query: Query, ask: Callable[[Query], Iterator[Record]]) -> Iterator[Record]:
        records: Iterator[Record] = iter(())
        try:
            records = ask(query)
            first = list(islice(records, 1))
        except TransportError:
            if not self._serve_stale:
                raise
            yield from self._kept_of(query)
            return
        try:
            yield from first
            yield from records
        finally:
            close(records)

    def _kept_of(self, query: Query) -> Iterator[Record]:
        self._add("stale")
        after = query.after if query.order_by is None else None
        return run(query, self._shelf.records(query.key_prefix(), after))

    def _drop_missing(self, key: str) -> None:
        if not self._transactions.mine.depth and self._shelf.facts(key) is not None:
            self._drop(key)

    def _drop(self, key: str) -> None:
        with self._locks.of(key):  # a download that began before is not kept, either
            self._shelf.drop(key)

    def _forget(self, key: str) -> None:
        if self._options["offline"] == "always":
            return
        # Not within a transaction: whoever downloads the key may be waiting for its end.
        self._changed.keys.add(key)
        if not self._transactions.mine.depth:
            self._forget_all()

    def _forget_all(self) -> None:
        keys, self._changed.keys = self._changed.keys, set()
        for key in keys:
            try:
                try:
                    self._drop(key)
                except (StorageError, UnavailableError):  # the lock cannot be had
                    self._shelf.drop(key)
            except StoreError as error:  # the write has succeeded even so
                _log.warning("%r could not forget %a: %s", self, key, error)

    def _add(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1


class _Changed(threading.local):
    """The keys that this thread has changed, and which are to be forgotten."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
