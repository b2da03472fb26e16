"""A remote store for the tests of caches: it counts what it is asked, and fails as it is told."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kvstore import BytesOpener, MemoryStore, Query, Record, StoreError, Value
from kvstore.readers import CheckedReader, buffered


class FarStore(MemoryStore):
    """A store in memory at the end of a bad line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Keys whose data were asked for.
        self.downloads: list[str] = []
        #: What everything that is asked raises.
        self.failure: StoreError | None = None
        #: Bytes after which each download is cut off.
        self.cut: int | None = None
        #: Called when data are asked for.
        self.on_download: Callable[[], object] = lambda: None

    def _entry(self, key: str) -> Any:
        self._fail()
        return super()._entry(key)

    def _query(self, query: Query) -> Iterator[Record]:
        self._fail()
        return super()._query(query)

    def _get(self, key: str) -> Value:
        record, data = self._entry(key)

        def opened(start: int | None, end: int | None) -> BinaryIO:
            self.downloads.append(key)
            self.on_download()
            if start is not None or end is not None:
                return BytesOpener(data)(start, end)
            stream = io.BytesIO(data[: self.cut])
            return buffered(CheckedReader(stream, size=record.size, digest=record.digest, key=key))

        return Value(record, opened)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@contextlib.contextmanager
def together(count: int, call: Callable[[], object]) -> Iterator[list[object]]:
    """Begin *call* in so many threads; at the end they are done, and the list has what came."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except StoreError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(60)
