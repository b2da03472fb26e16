"""What a watch needs to tell the changes of others from its own, and from those it has seen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

from kvstore.documents import JsonObject
from kvstore.history import Action, JournalEntry
from kvstore.values import Record
from kvstore.where import canonical_text

#: Seconds that a watch waits for what cannot be hurried: a write of its own store that is to say
#: which revision it made, a listing under way.
PATIENCE = 10.0
#: Revisions of this store's own that are remembered until they are seen.
_OWN = 10_000


class Halt:
    """Says when to end, also to what waits for a network. Thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._closers: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Tell whether it is time to end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; tell whether it is time to end."""
        return self._event.wait(seconds)

    def set(self) -> None:
        """Say it, and close what waits. Idempotent."""
        with self._lock:
            self._event.set()
            closers, self._closers = self._closers, []
        for close in closers:
            close()

    @contextlib.contextmanager
    def closing(self, close: Callable[[], object]) -> Iterator[None]:
        """Have *close* called, in whatever thread, if the end is said during the ``with`` block."""
        with self._lock:
            if not self._event.is_set():
                self._closers.append(close)
        if self._event.is_set():
            close()
        try:
            yield
        finally:
            with self._lock:
                if close in self._closers:
                    self._closers.remove(close)


class OwnChanges:
    """The changes that this store object makes, so that they are not taken for those of others."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._begun: Counter[str] = Counter()
        self._revisions: dict[tuple[str, str], None] = {}
        # Deletions, and writes to stores without revisions: how many of each key. Those of an
        # earlier turn are older than the listing that is looked at.
        self._unnamed: Counter[tuple[str, bool]] = Counter()
        self._earlier: Counter[tuple[str, bool]] = Counter()

    def begin(self, key: str) -> None:
        """A change of *key* is on its way: its entry may be seen before its revision is known."""
        with self._changed:
            self._begun[key] += 1

    def end(self, change: OwnChange) -> None:
        """It was done and made a revision, or it failed."""
        key, revision = change.key, change.revision
        with self._changed:
            self._begun[key] -= 1
            if not self._begun[key]:
                del self._begun[key]
            if change.done and (revision is None or change.is_delete):
                self._unnamed[key, change.is_delete] += 1
            elif change.done and revision is not None:
                self._revisions[key, revision] = None
                if len(self._revisions) > _OWN:
                    del self._revisions[next(iter(self._revisions))]
            self._changed.notify_all()

    def has(self, entry: JournalEntry) -> bool:
        """Tell whether *entry* is one of them, and forget it then."""
        key, is_delete = entry.key, entry.action == "delete"
        with self._changed:
            if (key, entry.revision) not in self._revisions:
                self._changed.wait_for(lambda: key not in self._begun, PATIENCE)
            if not is_delete and (key, entry.revision) in self._revisions:
                del self._revisions[key, entry.revision]
                return True
            for unnamed in (self._earlier, self._unnamed):
                if unnamed[key, is_delete]:
                    unnamed[key, is_delete] -= 1
                    return True
            return False

    def turn(self) -> None:
        """A listing begins: what was changed before the last one began has been seen by now.

        Two changes are one to who compares listings. The count of a change that nobody will see
        would hide one of somebody else.
        """
        with self._changed:
            self._earlier, self._unnamed = self._unnamed, Counter()


class OwnChange:
    """One change by this store, from before it is sent until its outcome is known."""

    __slots__ = ("_lists", "done", "is_delete", "key", "revision")

    def __init__(self, lists: list[OwnChanges], key: str, *, is_delete: bool) -> None:
        self._lists = lists
        self.key = key
        self.is_delete = is_delete
        #: Whether it was made.
        self.done = False
        #: The one that it made, once that is known.
        self.revision: str | None = None

    def __enter__(self) -> Self:
        for own in self._lists:
            own.begin(self.key)
        return self

    def __exit__(self, kind: object, *exc_info: object) -> None:
        self.done = kind is None
        for own in self._lists:
            own.end(self)


class Listing:
    """What a store held when it was last listed, to tell what has changed since."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._seen = {record.key: _print_of(record) for record in records}

    def compare(self, records: Iterator[Record]) -> Iterator[JournalEntry]:
        """Yield how a new listing differs; it counts for what was compared, if it breaks off."""
        left = set(self._seen)
        for record in records:
            left.discard(record.key)
            before, now = self._seen.get(record.key), _print_of(record)
            if before != now:
                self._seen[record.key] = now
                action: Action = "set" if before is None else "update"
                yield _noticed(action, record.key, record.revision or "", record.metadata)
        for key in sorted(left):
            del self._seen[key]
            yield _noticed("delete", key, "", {})


def _print_of(record: Record) -> object:
    if record.revision is not None:
        return record.revision
    facts = (record.size, record.modified, record.digest, record.mimetype)
    return hash((facts, canonical_text(record.metadata)))


def _noticed(action: Action, key: str, revision: str, metadata: JsonObject) -> JournalEntry:
    return JournalEntry(0, action, key, revision, metadata, time.time())
