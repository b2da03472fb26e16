"""A store of your own: four methods over a dict, and the contract that tests it.

Run the tests with ``python -m pytest examples/own_store.py``.
"""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from kvstore import Change, Condition, Record, Store, Value, Written, missing
from kvstore.testing import StoreContract
from kvstore.values import DEFAULT_MIMETYPE, BytesOpener


class DictStore(Store):
    """Events, checks, progress, queries and the rest come with ``Store``."""

    capabilities: ClassVar[dict[str, Any]] = {**Store.capabilities, "digests": False}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rows: dict[str, tuple[Record, bytes]] = {}
        self._lock, self._numbers = threading.Lock(), itertools.count(1)

    def _get(self, key: str) -> Value:
        row = self._rows.get(key)
        if row is None:
            raise missing(key)
        return Value(row[0], BytesOpener(row[1], key))

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        rows = sorted(self._rows.copy().items())
        return (record for key, (record, _) in rows if key.startswith(prefix))

    def _write(self, key: str, change: Change) -> Written:
        data = change.data.whole() if change.data is not None else None
        with self._lock:  # from the check of the condition to the end nobody comes between
            old, before = self._rows.get(key, (None, b""))
            change.check(key, old)
            metadata, revision = change.new_metadata(old), str(next(self._numbers))
            record = replace(old or Record(key, {}, 0), metadata=metadata, revision=revision)
            if data is not None:
                kind = change.mimetype or DEFAULT_MIMETYPE
                record, before = replace(record, size=len(data), mimetype=kind), data
            self._rows[key] = record, before
        return Written(revision, old is not None, metadata)

    def _delete(self, key: str, condition: Condition) -> dict[str, Any]:
        with self._lock:
            record = self._get(key).record
            condition.check(key, record.revision, exists=True)
            return self._rows.pop(key)[0].metadata


class TestDictStore(StoreContract):
    def make_store(self) -> Store:
        return DictStore()
