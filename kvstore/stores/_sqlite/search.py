"""Queries: how one is answered is decided by what the index says of its size; then page by page.

No connection is kept between two pages, so that whoever reads slowly keeps no log from being cut.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from kvstore.query import Query, glob_matcher, run
from kvstore.stores._sqlite import rows
from kvstore.stores._sqlite.engine import Engine
from kvstore.stores._sqlite.nodes import Condition, Node, Span, best_spans, condition_of, joined
from kvstore.stores._sqlite.ordered import Ordered
from kvstore.stores._sqlite.plan import names_in, parts_of, text_after
from kvstore.stores._sqlite.terms import NAME_LIMIT, Stored
from kvstore.values import Record

#: Counts stop here, one after the other, until it is plain which is least.
_CAPS = (64, 4_096, 131_072)
#: From so many on it pays to look for the first ones where the keys begin.
_BROAD = 2_048
#: How many entries are looked through for that, before all that match are sorted.
_LOOKS = (1_024, 8_192)
#: Keys in a page, growing: each sorts anew all that match.
_PAGES = (1_024, 8_192, 262_144)
#: Records in a page, at most and in the first.
_RECORDS, _FEW = 512, 64

Pair = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is answered."""

    #: Where the entries are found; None: all are looked at.
    spans: tuple[Span, ...] | None
    #: How many there are, about.
    size: int
    #: What they have to fulfil, too.
    condition: Condition
    #: The numbers of fields, see `Fields.find`.
    fields: dict[str, int]


class _Choice(NamedTuple):
    """One of the parts that have to hold, by which to look for entries."""

    number: int
    size: int
    spans: tuple[Span, ...]
    #: Whether the spans hold no entry for which it does not hold.
    is_all: bool


class Search:
    """One query, answered once."""

    def __init__(self, engine: Engine, query: Query) -> None:
        self._engine = engine
        self._query = query
        self._predicate = query.predicate()

    def records(self) -> Iterator[Record]:
        """Yield what is found, as :func:`kvstore.query.run` does."""
        limit = self._query.limit
        if limit == 0:
            return iter(())
        found = self._by_key() if self._query.order_by is None else self._in_order()
        return found if limit is None else islice(found, min(limit, sys.maxsize))

    def keys(self) -> Iterator[Record]:
        """Yield the same, with nothing but the key where that is all the index need look at."""
        query = self._query
        if query.order_by is not None or query.limit == 0:
            return self.records()
        found = self._keys_alone()
        return found if query.limit is None else islice(found, min(query.limit, sys.maxsize))

    def count(self) -> int:
        """Return how many are found."""
        plan = self._plan
        if not plan.condition.is_complete:
            return sum(1 for _ in self._by_key())
        if self._query.glob is not None:
            return sum(1 for _ in self._keys_alone())
        if plan.spans and plan.condition.sql == "1" and not self._query.prefix:
            sql, arguments = _terms(plan.spans)
            sql = f"FROM ({sql})"
        else:
            sql, arguments = self._from(None)
        count: int = self._engine.one(f"SELECT count(*) {sql}", *arguments)[0]
        return count

    # -- the plan --------------------------------------------------------------------------

    @cached_property
    def _plan(self) -> Plan:
        query, engine = self._query, self._engine
        names = names_in(query)
        if query.order_by is not None:
            names.add(query.order_by.removeprefix("-"))
        fields = engine.fields.find(engine, names)
        lacking = [-number for number in fields.values() if number < 0]
        if lacking and engine.fields.ensure(lacking):
            fields = engine.fields.find(engine, names)
        parts = parts_of(query, fields)
        best = self._best(parts)
        if best is not None and self._is_prefix_better(best.size):
            best = None

        def is_small(span: Span) -> bool:
            # To gather some entries costs a thirtieth of reading as many documents.
            if best is not None:
                return self._terms_in(span, best.size * 32 + 1) <= best.size * 32
            return query.limit is None or self._terms_in(span, _BROAD) < _BROAD

        conditions = [
            condition_of(part, is_small)
            for number, part in enumerate(parts)
            if best is None or number != best.number or not best.is_all
        ]
        condition = joined(conditions, is_all=True)
        if best is None:
            return Plan(None, 0, condition, fields)
        return Plan(best.spans, best.size, condition, fields)

    def _best(self, parts: list[Node]) -> _Choice | None:
        """Return the part with the fewest terms."""
        best = None
        for cap in _CAPS:
            best = None
            for number, part in enumerate(parts):
                found = best_spans(part, functools.partial(self._terms_in, cap=cap))
                if found is not None and (best is None or found[0] < best.size):
                    best = _Choice(number, *found)
            if best is None or best.size < cap or (len(parts) == 1 and cap >= _BROAD):
                return best
        return best

    def _terms_in(self, span: Span, cap: int) -> int:
        """Return how many terms there are in a span, up to so many."""
        terms = f"SELECT 1 FROM term WHERE {span.condition} LIMIT {cap}"
        count: int = self._engine.one(f"SELECT count(*) FROM ({terms})", *span.arguments)[0]
        return count

    def _is_prefix_better(self, size: int) -> bool:
        if not self._query.prefix or size <= _CAPS[0]:
            return False
        condition, arguments = self._keys_within(None)
        keys = f"SELECT 1 FROM entry e WHERE {condition} LIMIT {size}"
        return bool(self._engine.one(f"SELECT count(*) FROM ({keys})", *arguments)[0] < size)

    def _decides(self, condition: Condition) -> bool:
        """Tell whether entries that fulfil a condition are what is meant, and nothing else."""
        return condition.is_complete and self._query.glob is None

    def _has_few_keys(self) -> bool:
        condition, arguments = self._keys_within(None)
        keys = f"SELECT 1 FROM entry e WHERE {condition} LIMIT {_BROAD}"
        return bool(self._engine.one(f"SELECT count(*) FROM ({keys})", *arguments)[0] < _BROAD)

    # -- by key ----------------------------------------------------------------------------

    def _by_key(self, after: str | None = None) -> Iterator[Record]:
        for pairs, condition in self._pages(after):
            records = self._load(pairs)
            yield from records if self._decides(condition) else filter(self._predicate, records)

    def _keys_alone(self) -> Iterator[Record]:
        glob = self._query.glob
        matches = None if glob is None else glob_matcher(glob)
        for pairs, condition in self._pages(None):
            if not condition.is_complete:
                yield from filter(self._predicate, self._load(pairs))
                continue
            for key, _ in pairs:
                if matches is None or matches(key):
                    yield Record(key, {}, 0)

    def _pages(self, after: str | None) -> Iterator[tuple[list[Pair], Condition]]:
        """Yield keys, in order, with the numbers of their rows, and the condition they fulfil."""
        plan, query = self._plan, self._query
        if after is None and query.order_by is None:
            after = query.after
        if plan.spans is not None and query.limit is not None and plan.size >= _BROAD:
            for size in _LOOKS:
                pairs, after = self._look(after, size)
                yield pairs, self._full_condition
                if after is None:
                    return
        number = 0
        while True:
            size = _PAGES[min(number, len(_PAGES) - 1)]
            is_plain = query.order_by is None and self._decides(plan.condition)
            if query.limit is not None and is_plain:
                size = min(size, query.limit)
            sql, arguments = self._from(after)
            pairs = self._engine.all(
                f"SELECT e.key, e.seq {sql} ORDER BY e.key LIMIT {size}", *arguments
            )
            if pairs:
                yield pairs, plan.condition
            if len(pairs) < size:
                return
            after = pairs[-1][0]
            number += 1

    def _look(self, after: str | None, size: int) -> tuple[list[Pair], str | None]:
        """Look through so many entries for those that match; return where that ended."""
        within, arguments = self._keys_within(after)
        last = self._engine.one(
            f"SELECT key FROM entry e WHERE {within} ORDER BY key LIMIT 1 OFFSET {size - 1}",
            *arguments,
        )
        if last is not None:
            within, arguments = self._keys_within(after, upto=last[0])
        condition = self._full_condition
        pairs = self._engine.all(
            f"SELECT e.key, e.seq FROM entry e WHERE {within} AND {condition.sql} ORDER BY e.key",
            *arguments,
            *condition.arguments,
        )
        return pairs, None if last is None else last[0]

    @cached_property
    def _full_condition(self) -> Condition:
        # All that can be asked of an entry, of what the spans stand for as well.
        parts = parts_of(self._query, self._plan.fields)
        is_small = lambda span: self._terms_in(span, _BROAD) < _BROAD  # noqa: E731
        return joined([condition_of(part, is_small) for part in parts], is_all=True)

    def _from(self, after: str | None) -> tuple[str, tuple[Stored, ...]]:
        """Return the FROM and WHERE that find the entries, as ``e``."""
        plan = self._plan
        within, bounds = self._keys_within(after)
        where = f"WHERE {within} AND {plan.condition.sql}"
        arguments = (*bounds, *plan.condition.arguments)
        if plan.spans is None:
            return f"FROM entry e {where}", arguments
        terms, values = _terms(plan.spans)
        return f"FROM ({terms}) t CROSS JOIN entry e ON e.id = t.id {where}", (*values, *arguments)

    def _keys_within(
        self, after: str | None, *, upto: str | None = None
    ) -> tuple[str, tuple[str, ...]]:
        prefix = self._query.key_prefix()
        conditions, arguments = ["1"], []
        if after is not None:
            conditions.append("e.key > ?")
            arguments.append(after)
        if prefix and (after is None or after < prefix):
            conditions.append("e.key >= ?")
            arguments.append(prefix)
        end = text_after(prefix) if prefix else None
        if upto is not None:
            # Alone: of two upper bounds SQLite may look up the wider one, and read all below it.
            conditions.append("e.key <= ?")
            arguments.append(upto)
        elif end is not None:
            conditions.append("e.key < ?")
            arguments.append(end)
        return " AND ".join(conditions), tuple(arguments)

    def _load(self, pairs: list[Pair]) -> Iterator[Record]:
        """Yield the records of the rows; of keys that were changed meanwhile, the present one."""
        start, size = 0, _FEW
        while start < len(pairs):
            part = pairs[start : start + size]
            start += len(part)
            numbers = json.dumps([seq for _, seq in part])
            found = {row[9]: row for row in self._engine.all(rows.BY_NUMBER, numbers)}
            # As many more as the size of these allows.
            length = sum(len(row[2]) for row in found.values()) // len(part) + 1
            size = max(min(size * 4, _RECORDS, rows.PAGE_SIZE // length), 1)
            for key, seq in part:
                row = found.get(seq)
                # A number that was rolled back may be that of another key now.
                if row is None or row[0] != key:
                    row = self._engine.one(rows.RECORD, key)
                if row is not None:
                    yield rows.record_of(row)

    # -- by field --------------------------------------------------------------------------

    def _in_order(self) -> Iterator[Record]:
        plan, query = self._plan, self._query
        order_by = query.order_by or ""
        number = plan.fields.get(order_by.removeprefix("-"))
        few = plan.spans is not None and plan.size < _BROAD
        few = few or (bool(query.prefix) and self._has_few_keys())
        # A field that has no index: it could not be made now, or its name is too long for one.
        unknown = number < 0 if number is not None else len(order_by) > NAME_LIMIT
        if few or unknown:
            yield from run(query, self._by_key())
            return
        ordered = Ordered(self._engine, query, number, self._full_condition, self._load)
        if number is not None and ordered.begins_with_values:
            yield from filter(self._predicate, ordered.values())
            if ordered.has_all():
                return
        yield from filter(ordered.is_missing, self._by_key(ordered.after_missing))


def _terms(spans: tuple[Span, ...]) -> tuple[str, tuple[Stored, ...]]:
    """Return the statement that finds the entries with a term in one of the spans."""
    if not spans:
        return "SELECT 0 AS id WHERE 0", ()
    # An entry has one term in a span: of the values of a field, or of equal elements.
    sql = " UNION ".join(f"SELECT id FROM term WHERE {span.condition}" for span in spans)
    return sql, tuple(value for span in spans for value in span.arguments)
