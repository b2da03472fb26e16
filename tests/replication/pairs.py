"""Stores that count what is asked of them, and what two of them hold."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from kvstore.errors import StoreError
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.rules import RESERVED
from kvstore.stores.memory import MemoryStore
from kvstore.values import Record, Value
from kvstore.writes import Change, Condition, Written


class Counted(MemoryStore):
    """Counts its reads and writes of keys, and fails as it is told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: The keys whose data was read, and how often.
        self.read: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.passes: list[str] = []
        #: What is raised for a key, once for each entry.
        self.broken: dict[str, list[StoreError]] = {}

    def _get(self, key: str) -> Value:
        self.read[key] += 1
        self._break(key)
        return super()._get(key)

    def _query(self, query: Query) -> Iterator[Record]:
        self.passes.append(query.prefix)
        return super()._query(query)

    def _write(self, key: str, change: Change) -> Written:
        self.written[key] += 1
        self._break(key)
        return super()._write(key, change)

    def _delete(self, key: str, condition: Condition) -> Any:
        self.written[key] += 1
        self._break(key)
        return super()._delete(key, condition)

    def _break(self, key: str) -> None:
        errors = self.broken.get(key)
        if errors:
            raise errors.pop()

    def forget(self) -> None:
        """Begin to count anew."""
        self.read.clear()
        self.written.clear()
        self.passes.clear()


def is_ours(key: str) -> bool:
    return not key.startswith(RESERVED)


def content(store: ReadOnlyStore, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Return all that *store* holds but what `sync` remembers there."""
    keys = [key for key in store.query_keys(prefix=prefix) if is_ours(key)]
    return {
        value.key: (value.read(), value.metadata, value.mimetype) for value in store.multiget(keys)
    }


def fill(store: MemoryStore, keys: Iterable[str]) -> None:
    with store.transaction():
        for number, key in enumerate(keys):
            store.set(key, key.encode(), metadata={"n": number})


@contextlib.contextmanager
def pair() -> Iterator[tuple[Counted, Counted]]:
    with Counted() as source, Counted() as destination:
        yield source, destination
