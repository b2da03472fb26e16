"""A store in memory: for tests, caches, and as the reference for what the contract means."""

from __future__ import annotations

import bisect
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, TypeVar

from kvstore.documents import JsonObject
from kvstore.hashing import sha256
from kvstore.history import KEEP_CHANGES, Action, JournalEntry, check_kept, check_since
from kvstore.hub import EventHub
from kvstore.local import LocalStore
from kvstore.values import DEFAULT_MIMETYPE, BytesOpener, Record, Value
from kvstore.writes import Change, Condition, Written, missing, missing_version

T = TypeVar("T")
_Entry = tuple[Record, bytes]
_WRITTEN: tuple[Action, Action] = ("set", "update")


class MemoryStore(LocalStore):
    """Everything in the contract, transactions included, and nothing on disk.

    A transaction keeps other threads out, readers too, until it ends. A pickle, or a copy, is a
    snapshot of configuration and content; it and the original then go their own ways. So does
    the child of a ``fork``.

    Args:
        user_tag: who owns new keys.
        keep_versions: how many earlier versions of each key to keep.
        keep_changes: how many changes the journal remembers.
        events, metadata_schema: as for every store.

    Raises:
        InvalidRequestError: what is to be kept is no number from 0.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **LocalStore.capabilities,
        "transactions": True,
        "changes": True,
    }

    def __init__(
        self,
        *,
        user_tag: str = "local",
        keep_versions: int = 0,
        keep_changes: int = KEEP_CHANGES,
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        super().__init__(user_tag=user_tag, events=events, metadata_schema=metadata_schema)
        self._keep_versions = check_kept("keep_versions", keep_versions)
        self._entries: dict[str, _Entry] = {}
        self._versions_of: dict[str, tuple[_Entry, ...]] = {}  # the earlier ones, newest first
        self._journal: deque[JournalEntry] = deque(maxlen=check_kept("keep_changes", keep_changes))
        self._seq = 0
        self._keys: list[str] | None = []  # sorted; None while out of date
        # Outside of a transaction both are None. What a key held before it, and its changes.
        self._undo: dict[str, tuple[_Entry | None, tuple[_Entry, ...]]] | None = None
        self._pending: list[JournalEntry] | None = None
        self._lock = threading.RLock()
        self._owner: int | None = None  # the thread of the transaction in progress
        _stores.add(self)

    def info(self) -> dict[str, Any]:
        """Return what every store tells; ``versions`` is as asked for."""
        return {**super().info(), "versions": self._keep_versions}

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} keys>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {
                "user_tag": self._user_tag,
                "keep_versions": self._keep_versions,
                "keep_changes": self._journal.maxlen,
                "metadata_schema": self.metadata_schema,
                "content": {
                    "_entries": dict(self._entries),
                    "_versions_of": dict(self._versions_of),
                    "_journal": self._journal.copy(),
                    "_seq": self._seq,
                    "_connected": self.is_connected(),
                },
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        content = state.pop("content")
        MemoryStore.__init__(self, **state)
        vars(self).update(content, _keys=None)

    def _get(self, key: str) -> Value:
        record, data = self._entry(key)
        return Value(record, BytesOpener(data, key))

    def _record(self, key: str) -> Record:
        return self._entry(key)[0]

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        with self._lock:
            if self._keys is None:
                self._keys = sorted(self._entries)
            keys = self._keys
        # `keys` is replaced, never changed, so that a listing goes on while keys come and go.
        start = bisect.bisect_left(keys, prefix)
        if after is not None:
            start = max(start, bisect.bisect_right(keys, after))
        for index in range(start, len(keys)):
            key = keys[index]
            if not key.startswith(prefix):
                return
            with self._lock:
                entry = self._entries.get(key)
            if entry is not None:
                yield entry[0]

    def _write(self, key: str, change: Change) -> Written:
        # Refuse before the data is read, and check again when nobody can come between.
        with self._lock:
            change.check(key, self._known(key))
        data = change.data.whole() if change.data is not None else None
        digest = sha256(data) if data is not None else ""
        with self._lock:
            old = self._entries.get(key)
            before = old[0] if old is not None else None
            change.check(key, before)
            record = self._changed(key, change, before)
            if data is not None or old is None:
                data = data or b""
                kind = change.mimetype or DEFAULT_MIMETYPE
                digest = digest or sha256(data)
                record = replace(record, size=len(data), mimetype=kind, digest=digest)
            else:
                data = old[1]
            self._put(key, (record, data))
        return Written(
            record.revision, before is not None, record.metadata, record.modified, record.digest
        )

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        with self._lock:
            record, _ = self._entry(key)
            condition.check(key, record.revision, exists=True)
            self._put(key, None)
        return record.metadata

    def _sequence(self) -> int:
        return self._seq

    def _stamp(self) -> object:
        return self._seq if self.is_connected() else None

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        with self._lock:
            oldest = self._seq - len(self._journal) + 1
            check_since(since, oldest=oldest, newest=self._seq)
            first = since + 1 - oldest
            last = len(self._journal)
            last = last if limit is None else min(first + limit, last)
            return iter(list(islice(self._journal, first, last)))

    def _versions(self, key: str) -> list[Record]:
        return [record for record, _ in self._kept(key)]

    def _get_version(self, key: str, version: str) -> Value:
        for record, data in self._kept(key):
            if record.revision == version:
                return Value(record, BytesOpener(data, key))
        raise missing_version(key, version)

    def _kept(self, key: str) -> list[_Entry]:
        with self._lock:
            current = self._entries.get(key)
            return [*([] if current is None else [current]), *self._versions_of.get(key, ())]

    def _begin(self) -> None:
        self._lock.acquire()
        self._owner, self._undo, self._pending = threading.get_ident(), {}, []

    def _commit(self) -> None:
        pending, self._pending = self._pending or [], None
        for entry in pending:
            self._remember(entry)
        self._end()

    def _rollback(self) -> None:
        for key, (entry, versions) in (self._undo or {}).items():
            self._keys = None
            _place(self._entries, key, entry)
            _place(self._versions_of, key, versions or None)
        self._end()

    def _end(self) -> None:
        self._undo = self._pending = self._owner = None
        self._lock.release()

    def _after_fork(self) -> None:
        # Only the thread that forked is in the child. A lock that another one held would stay
        # held for ever, and what the transaction of another one did is not committed.
        owner = self._owner
        self._lock = threading.RLock()
        if owner == threading.get_ident():
            self._lock.acquire()
        elif owner is not None:
            self._lock.acquire()
            self._rollback()

    def _entry(self, key: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            raise missing(key)
        return entry

    def _known(self, key: str) -> Record | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None else None

    def _changed(self, key: str, change: Change, old: Record | None) -> Record:
        now = time.time()
        return Record(
            key=key,
            metadata=change.new_metadata(old),
            size=old.size if old else 0,
            created=old.created if old else now,
            modified=now,
            mimetype=old.mimetype if old else DEFAULT_MIMETYPE,
            revision=secrets.token_hex(8),
            digest=old.digest if old else None,
            permissions=change.new_permissions(old, self._user_tag),
        )

    def _put(self, key: str, entry: _Entry | None) -> None:
        old, versions = self._entries.get(key), self._versions_of.get(key, ())
        if self._undo is not None:
            self._undo.setdefault(key, (old, versions))
        if old is None:
            self._keys = None  # a key that is gone may stay: listings leave it out
        elif self._keep_versions:
            self._versions_of[key] = (old, *versions)[: self._keep_versions]
        _place(self._entries, key, entry)
        change = _journaled(key, old, entry)
        if self._pending is None:
            self._remember(change)
        else:
            self._pending.append(change)

    def _remember(self, change: JournalEntry) -> None:
        self._seq += 1
        self._journal.append(replace(change, seq=self._seq))


def _journaled(key: str, old: _Entry | None, new: _Entry | None) -> JournalEntry:
    if new is not None:
        record, action = new[0], _WRITTEN[old is not None]
        when = record.modified
    else:
        assert old is not None  # noqa: S101 - nobody deletes what is not there
        record, action = old[0], "delete"
        when = time.time()
    assert record.revision is not None and when is not None  # noqa: S101, PT018 - ours have both
    return JournalEntry(0, action, key, record.revision, record.metadata, when, record.permissions)


def _place(entries: dict[str, T], key: str, entry: T | None) -> None:
    if entry is None:
        entries.pop(key, None)
    else:
        entries[key] = entry


_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
