"""What a cache keeps, in a store of its own: entries, their age, and which of them are in use."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.errors import (
    ConflictError,
    IntegrityError,
    InvalidRequestError,
    KeyNotFoundError,
    StorageError,
    StoreError,
)
from kvstore.hashing import ParallelHash, sha256
from kvstore.query import Query
from kvstore.readers import buffered
from kvstore.store import Store
from kvstore.streams import Source
from kvstore.values import BUFFER_SIZE, BytesOpener, Record, Value, is_integer

#: Seconds after which the time of the last use is written down again. Each time is a write.
_TOUCHED = 60.0
#: How much of the room is left after pruning, so that not every download has to prune.
_FILLED = 0.9
#: Entries that are remembered to have been read as a whole and found intact.
_VERIFIED = 10_000
#: What a local store says of an entry that is damaged.
_DAMAGED = (IntegrityError, StorageError)


class LostError(Exception):
    """The entry is gone, or is another one by now."""


class CorruptError(Exception):
    """The entry is not what was stored."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record of the local store that is an entry of the cache."""

    local: Record
    #: The facts that the remote store told.
    record: Record
    used: float

    @property
    def is_whole(self) -> bool:
        """Whether it has as many bytes as were stored."""
        return self.local.size == self.record.size


class Shelf:
    """The entries of a cache in a local store. Thread-safe.

    What the remote store told is kept in the metadata of the local one: ``value`` (the metadata),
    ``size``, ``revision``, ``digest``, ``created``, ``modified``; and ``used``, when that was last.
    The digest is checked here: not every local store looks whether somebody has changed its files.

    Args:
        local: holds the entries, and nothing else.
        max_bytes: of data, that may be kept; None for any number.
    """

    def __init__(self, local: Store, max_bytes: int | None) -> None:
        self._local = local
        self._max_bytes = None if max_bytes is None else check_room(max_bytes)
        # A listener of the local store may read what is just being pruned.
        self._lock = threading.RLock()
        self._pins: Counter[str] = Counter()
        self._unpinned: deque[str] = deque()
        self._used: dict[str, float] = {}
        self._last = 0.0
        self._verified: dict[tuple[str, str | None], None] = {}
        self._room = 0  # bytes that may be added before it is looked how much there is
        _shelves.add(self)

    def facts(self, key: str) -> Record | None:
        """Return what the remote store told of *key*, None if it is not kept."""
        entry = self._entry(key)
        return None if entry is None else entry.record

    def has(self, record: Record) -> bool:
        """Tell whether the data of this record are kept, and note that they are used."""
        entry = self._entry(record.key)
        if entry is None or not _is_same(record, entry.record):
            return False
        now = self._now(record.key)
        if now - entry.used > _TOUCHED:
            with contextlib.suppress(StoreError):
                self._local.update_metadata(record.key, {"used": now})
        return True

    def records(self, prefix: str, after: str | None) -> Iterator[Record]:
        """Yield the facts of what is kept, in order of key."""
        for local in self._local.find(Query(prefix=prefix, after=after)):
            entry = _entry_of(local)
            if entry is not None:
                yield entry.record

    def put(self, record: Record, data: Source) -> Record:
        """Keep the data of this record; whatever fails leaves no new entry.

        Returns:
            The record, with the digest of the data if that is known now.

        Raises:
            IntegrityError: the data do not have the digest of the record.
        """
        now = self._now(record.key)
        document: JsonObject = {
            "value": record.metadata,
            "size": None if record.size < 0 else record.size,
            "revision": record.revision,
            "digest": record.digest,
            "created": record.created,
            "modified": record.modified,
            "used": now,
        }
        self._local.set(record.key, data, metadata=document, mimetype=record.mimetype)
        digest = self._local.record(record.key).digest
        if None not in (digest, record.digest) and digest != record.digest:
            self.drop(record.key)
            message = f"The data of {record.key!a} has {digest}, not {record.digest}."
            raise IntegrityError(message, key=record.key)
        return replace(record, digest=record.digest or digest)

    def drop(self, key: str) -> None:
        """Forget *key*, if it is kept."""
        self._used.pop(key, None)
        with contextlib.suppress(KeyNotFoundError):
            self._local.delete(key)

    def stream(self, record: Record, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over the data of this record, which have been checked.

        Raises:
            LostError, CorruptError: there is no such entry (any more), or it is damaged.
        """
        key = record.key
        with contextlib.ExitStack() as opened:
            opened.callback(self.pin(key))
            try:
                value = self._local.get(key)
                opened.callback(value.close)
                entry = _entry_of(value.record)
                if entry is None or not (entry.is_whole and _is_same(record, entry.record)):
                    raise LostError
                if value.size <= BUFFER_SIZE:
                    data = value.read()
                    _check(key, entry, sha256(data))
                    return BytesOpener(data, key)(start, end)
                is_whole = start is None and end is None
                self._verify(value, entry, again=is_whole)
                stream = value.open() if is_whole else value.range(start, end)
            except (ConflictError, KeyNotFoundError):
                raise LostError from None
            except _DAMAGED as error:
                raise CorruptError from error
            opened.callback(stream.close)
            return buffered(_Held(stream, opened.pop_all()))

    def pin(self, key: str) -> Callable[[], None]:
        """Keep *key* from being pruned until what is returned is called, which may be twice."""
        with self._lock:
            self._pins[key] += 1
        # Values that nobody closes are let go by the garbage collector, which may come in any
        # thread at any moment, also where this lock is held.
        return _Once(self._unpinned.append, key)

    def make_room(self, size: int) -> bool:
        """Prune so that *size* more bytes may be kept; False if they are more than ever may."""
        limit = self._max_bytes
        if limit is None:
            return True
        if size > limit:
            return False
        with self._lock:
            self._room -= size
            if self._room >= 0:
                return True
        total, _ = self.prune(limit - size)
        with self._lock:
            # Other processes add to it, too: not all that is left is for this one.
            self._room = min(limit - size - total, limit // 10)
        return True

    def prune(self, limit: int) -> tuple[int, int]:
        """Remove the entries that were not used for longest, but none that is being read.

        Returns:
            The bytes that are left, at most *limit* but for what is being read, and those freed.
        """
        entries = [entry for entry in map(_entry_of, self._local.find(Query())) if entry]
        total = before = sum(entry.local.size for entry in entries)
        if total > limit:
            entries.sort(key=lambda entry: max(entry.used, self._used.get(entry.local.key, 0.0)))
            for entry in entries:
                if total <= limit * _FILLED:
                    break
                if self._remove(entry.local):
                    total -= entry.local.size
        return total, before - total

    def clear(self) -> None:
        """Remove all entries but those that are being read."""
        for local in list(self._local.find(Query())):
            if _entry_of(local) is not None:
                self._remove(local)

    def _entry(self, key: str) -> _Entry | None:
        try:
            entry = _entry_of(self._local.record(key))
        except (KeyNotFoundError, *_DAMAGED):
            return None
        return entry if entry is not None and entry.is_whole else None

    def _remove(self, local: Record) -> bool:
        with self._lock:  # nobody begins to read it meanwhile
            self._unpin()
            if local.key in self._pins:
                return False
            self._used.pop(local.key, None)
            with contextlib.suppress(KeyNotFoundError):
                try:
                    self._local.delete(local.key, if_match=local.revision)
                except ConflictError:
                    return False  # it was fetched again just now
        return True

    def _verify(self, value: Value, entry: _Entry, *, again: bool) -> None:
        """Read the data once, so that what is given out afterwards is known to be right."""
        which = (value.key, value.revision)
        if not again and which in self._verified:
            return
        with ParallelHash() as hashed:
            for piece in value.iterdata():
                hashed.update(piece)
            _check(value.key, entry, f"sha256:{hashed.digest().hex()}")
        with self._lock:
            self._verified[which] = None
            if len(self._verified) > _VERIFIED:
                del self._verified[next(iter(self._verified))]

    def _now(self, key: str) -> float:
        with self._lock:
            # Clocks stand still, or go back; the order is what counts.
            self._last = self._used[key] = max(time.time(), self._last + 1e-6)
            return self._last

    def _unpin(self) -> None:
        while self._unpinned:
            key = self._unpinned.popleft()
            self._pins[key] -= 1
            if self._pins[key] <= 0:
                del self._pins[key]


class KeptOpener:
    """Opens the data of one record that is kept, which is not pruned meanwhile.

    Args:
        shelf: where it is kept.
        record: of which the data are.
        stream: called as ``stream(record, start, end)``.
    """

    def __init__(
        self,
        shelf: Shelf,
        record: Record,
        stream: Callable[[Record, int | None, int | None], BinaryIO],
    ) -> None:
        self._record = record
        self._stream = stream
        # Also for who never closes a value.
        self._release = weakref.finalize(self, shelf.pin(record.key))

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a new stream over these bytes."""
        return self._stream(self._record, start, end)

    def close(self) -> None:
        """Let it be pruned again. Idempotent."""
        self._release()


class _Once:
    """A call that is made the first time only."""

    def __init__(self, call: Callable[[str], None], key: str) -> None:
        self._call: Callable[[str], None] | None = call
        self._key = key

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call(self._key)


class _Held(io.RawIOBase):
    """Raw stream that closes what it reads from, and lets go of it."""

    def __init__(self, stream: Any, opened: contextlib.ExitStack) -> None:
        self._stream = stream
        self._opened = opened

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, as `io.RawIOBase` says."""
        count: int = self._stream.readinto(buffer)
        return count

    def close(self) -> None:
        """Close all."""
        if not self.closed:
            self._opened.close()
        super().close()


def check_room(max_bytes: int) -> int:
    """Return *max_bytes*; InvalidRequestError if it is no number from 0."""
    if not is_integer(max_bytes) or max_bytes < 0:
        raise InvalidRequestError(f"max_bytes is an integer from 0, not {max_bytes!r:.100}.")
    return max_bytes


def _check(key: str, entry: _Entry, actual: str) -> None:
    if entry.record.digest not in (None, actual):
        message = f"The data of {key!a} has {actual}, not {entry.record.digest} as recorded."
        raise IntegrityError(message, key=key)


def _is_same(wanted: Record, kept: Record) -> bool:
    """Tell whether two records are of the same revision, which one that says nothing is not."""
    if wanted.size not in (-1, kept.size):  # not every server tells it before the data
        return False
    if None not in (wanted.digest, kept.digest) and wanted.digest != kept.digest:
        return False
    if wanted.revision is None:
        return None not in (wanted.digest, kept.digest)
    return wanted.revision == kept.revision


def _entry_of(local: Record) -> _Entry | None:
    """Return what an entry says; None for what no cache has written."""
    match local.metadata:
        case {
            "value": dict(metadata),
            "revision": str() | None as revision,
            "digest": str() | None as digest,
            "created": int() | float() | None as created,
            "modified": int() | float() | None as modified,
            "used": int() | float() as used,
        }:
            size = local.metadata.get("size")
            record = Record(
                key=local.key,
                metadata=metadata,
                size=size if isinstance(size, int) else local.size,
                created=created,
                modified=modified,
                mimetype=local.mimetype,
                revision=revision,
                digest=digest or local.digest,
            )
            return _Entry(local, record, used)
    return None


_shelves: weakref.WeakSet[Shelf] = weakref.WeakSet()


def _after_fork() -> None:
    for shelf in _shelves:  # the thread that held it may not be in the child
        shelf._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
