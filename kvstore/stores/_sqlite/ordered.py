"""Queries in the order of a field: along the index, group by group of equal values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from kvstore.query import MISSING_RANK, Order, Query, parse_cursor
from kvstore.stores._sqlite.engine import Engine
from kvstore.stores._sqlite.nodes import Condition
from kvstore.stores._sqlite.terms import SLOTS, Stored, is_exact, stored
from kvstore.values import Record
from kvstore.where import MISSING, lookup

#: Terms in a page, growing.
_PAGES = (256, 2_048, 16_384, 65_536)
_LAST_KIND = 5

#: Slot, value, key, number of the row.
_Found = tuple[int, Stored, str, int]
_SELECT = "SELECT t.slot, t.value, e.key, e.seq FROM term t CROSS JOIN entry e ON e.id = t.id WHERE"


class Ordered:
    """Walks along the terms of a field.

    Args:
        number: of the field; None where no document has it.
        condition: what the entries have to fulfil.
        load: gives the records of keys and rows.
    """

    def __init__(
        self,
        engine: Engine,
        query: Query,
        number: int | None,
        condition: Condition,
        load: Callable[[list[tuple[str, int]]], Iterator[Record]],
    ) -> None:
        self._engine = engine
        self._order = Order(query.order_by or "")
        self._slot = (number or 0) * SLOTS
        self._condition = condition
        self._load = load
        # With a limit no more than that is looked at where the index alone decides.
        limit = query.limit if condition.is_complete and query.glob is None else None
        self._first = _PAGES[0] if limit is None else min(limit, _PAGES[0])
        self._has_moved = False
        self._start = None if query.after is None else parse_cursor(query.after)

    @property
    def begins_with_values(self) -> bool:
        """Whether entries that have the field may come still, or only those without."""
        return self._start is None or self._start[0] != MISSING_RANK

    @property
    def after_missing(self) -> str | None:
        """The key behind which the entries without the field are wanted."""
        return None if self._start is None or self.begins_with_values else self._start[2]

    def is_missing(self, record: Record) -> bool:
        """Tell whether a record lacks the field."""
        return lookup(record.metadata, self._order.name) is MISSING

    def has_all(self) -> bool:
        """Tell whether every entry has the field."""
        (having,) = self._engine.one(
            "SELECT count(*) FROM term WHERE slot BETWEEN ? AND ?",
            self._slot,
            self._slot + _LAST_KIND,
        )
        (entries,) = self._engine.one("SELECT count(*) FROM entry")
        return bool(having == entries)

    def values(self) -> Iterator[Record]:
        """Yield the records that have the field, in its order."""
        place = None if self._start is None else self._place(*self._start)
        number = 0
        while True:
            size = _PAGES[min(number, len(_PAGES) - 1)] if number else self._first
            found = self._rest_of_group(place, size) if place is not None else []
            if len(found) < size:
                found += self._groups_behind(place, size - len(found))
            is_last = len(found) < size
            if found and not is_exact(found[-1][1]):
                # Whoever sorts the values that share a place has to see all of them.
                found += self._rest_of_group(found[-1][:3], -1)
            self._has_moved = False
            yield from self._records(found)
            if is_last and not self._has_moved:
                return
            if not found:
                return
            place = found[-1][:3]
            number += 1

    def _records(self, found: list[_Found]) -> Iterator[Record]:
        for group, some in groupby(found, key=_shared_place):
            places = {key: (slot, value, seq) for slot, value, key, seq in some}
            loaded = self._load([(key, seq) for key, (_, _, seq) in places.items()])
            # One that was changed meanwhile, and has another place now, would lead the cursor away.
            # It is told at that place, if that is still ahead.
            records = (record for record in loaded if self._has_place(record, *places[record.key]))
            if group is None:
                yield from records
            else:
                placed = sorted(records, key=self._order.place)
                yield from filter(self._is_behind_start, placed)

    def _has_place(self, record: Record, slot: int, value: Stored, seq: int) -> bool:
        found = lookup(record.metadata, self._order.name)
        if found is not MISSING:
            kind, held = stored(found)
            if (self._slot + kind, held) == (slot, value):
                return True
        self._has_moved = True
        return False

    def _is_behind_start(self, record: Record) -> bool:
        if self._start is None:
            return True
        return bool(self._order.place_of(self._start) < self._order.place(record))

    def _place(self, kind: int, value: Any, key: str) -> tuple[int, Stored, str]:
        """Return the place in the index that goes with one in the order."""
        # Of arrays and objects both have the text, so that it is cut off as other text is.
        held = stored(value.decode() if isinstance(value, bytes) else value)[1]
        # Where several values share a place, whoever sorts them has to see them all.
        return self._slot + kind, held, key if is_exact(held) else ""

    def _rest_of_group(self, place: tuple[int, Stored, str], size: int) -> list[_Found]:
        sql = f"{_SELECT} t.slot = ? AND t.value = ? AND e.key > ? AND {self._condition.sql}"
        return self._found(f"{sql} ORDER BY e.key LIMIT {size}", place)

    def _groups_behind(self, place: tuple[int, Stored, str] | None, size: int) -> list[_Found]:
        down = " DESC" if self._order.descending else ""
        bounds = "t.slot BETWEEN ? AND ?"
        arguments: tuple[Stored, ...] = (self._slot, self._slot + _LAST_KIND)
        if place is not None:
            # The sign keeps SQLite from using the first bound for the index, and not the second.
            bounds = f"+{bounds} AND (t.slot, t.value) {'<' if down else '>'} (?, ?)"
            arguments += place[:2]
        sql = f"{_SELECT} {bounds} AND {self._condition.sql}"
        order = f"ORDER BY t.slot{down}, t.value{down}, e.key LIMIT {size}"
        return self._found(f"{sql} {order}", arguments)

    def _found(self, sql: str, arguments: tuple[Stored, ...]) -> list[_Found]:
        return self._engine.all(sql, *arguments, *self._condition.arguments)


def _shared_place(found: _Found) -> tuple[int, Stored] | None:
    """Return the place in the index of values that it cannot tell apart; None for others."""
    return None if is_exact(found[1]) else found[:2]
