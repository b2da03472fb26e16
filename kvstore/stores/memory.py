"""A store in memory: for tests, caches, and as the reference for what the contract means."""

from __future__ import annotations

import bisect
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError
from kvstore.hub import EventHub
from kvstore.store import AuthorizingStore
from kvstore.streams import sha256
from kvstore.values import DEFAULT_MIMETYPE, BytesOpener, Record, Value
from kvstore.writes import Change, Condition, Written, missing

_Entry = tuple[Record, bytes]


class MemoryStore(AuthorizingStore):
    """Everything in the contract, transactions included, and nothing on disk.

    A transaction keeps other threads out, readers too, until it ends. A pickle, or a copy, is a
    snapshot of configuration and content; it and the original then go their own ways. So does
    the child of a ``fork``.

    Args:
        user_tag: who owns new keys.
        events, metadata_schema: as for every store.
    """

    capabilities: ClassVar[dict[str, Any]] = {**AuthorizingStore.capabilities, "transactions": True}

    def __init__(
        self,
        *,
        user_tag: str = "local",
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        super().__init__(events=events, metadata_schema=metadata_schema)
        self._user_tag = user_tag
        self._entries: dict[str, _Entry] = {}
        self._keys: list[str] | None = []  # sorted; None while out of date
        # What a key held before the transaction in progress changed it; None outside of one.
        self._undo: dict[str, _Entry | None] | None = None
        self._lock = threading.RLock()
        self._owner: int | None = None  # the thread of the transaction in progress
        _stores.add(self)

    def user_tag(self) -> str:
        """Return the tag given to the constructor or, later, to ``connect``."""
        return self._user_tag

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)} keys>"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {
                "user_tag": self._user_tag,
                "metadata_schema": self.metadata_schema,
                "entries": dict(self._entries),
                "connected": self.is_connected(),
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        MemoryStore.__init__(
            self, user_tag=state["user_tag"], metadata_schema=state["metadata_schema"]
        )
        self._entries, self._keys = state["entries"], None
        self._connected = state["connected"]

    def _connect(self, credentials: Any) -> None:
        if credentials is not None and not isinstance(credentials, str):
            kind = type(credentials).__name__
            message = f"The credentials of a MemoryStore are a user tag, not {kind}."
            raise InvalidRequestError(message)
        self._user_tag = credentials or self._user_tag

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
        return Written(record.revision, before is not None, record.metadata)

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        with self._lock:
            record, _ = self._entry(key)
            condition.check(key, record.revision, exists=True)
            self._put(key, None)
        return record.metadata

    def _begin(self) -> None:
        self._lock.acquire()
        self._owner, self._undo = threading.get_ident(), {}

    def _commit(self) -> None:
        self._end()

    def _rollback(self) -> None:
        for key, entry in (self._undo or {}).items():
            self._put(key, entry)
        self._end()

    def _end(self) -> None:
        self._undo = self._owner = None
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
        if self._undo is not None:
            self._undo.setdefault(key, self._entries.get(key))
        if entry is not None and key not in self._entries:
            self._keys = None  # a key that is gone may stay: listings leave it out
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry


_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
