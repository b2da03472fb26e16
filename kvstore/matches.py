"""What a query found, one by one, and where to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from kvstore.query import Query
from kvstore.values import Record

T_co = TypeVar("T_co", covariant=True)


class Matches(Iterator[T_co]):
    """What a query found, one by one; ``cursor`` tells where to go on.

    Belongs to one thread.
    """

    def __init__(
        self, query: Query, records: Iterator[Record], show: Callable[[Record], T_co]
    ) -> None:
        self._query = query
        self._records = records
        self._show = show
        self._last: Record | None = None

    def __iter__(self) -> Matches[T_co]:
        return self

    def __next__(self) -> T_co:
        self._last = record = next(self._records)
        return self._show(record)

    @property
    def cursor(self) -> str | None:
        """The ``after`` of a query that goes on behind the last item; None before the first."""
        return None if self._last is None else self._query.cursor(self._last)

    def close(self) -> None:
        """Give up the rest, and what the store holds open for it."""
        close = getattr(self._records, "close", None)
        if close is not None:
            close()
