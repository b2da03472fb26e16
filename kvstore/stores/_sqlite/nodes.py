"""Conditions on the index, and the SQL that asks for them.

What the index cannot decide (see ``terms.is_exact``, and parts of text) it narrows; the predicate
of :mod:`kvstore.query` then decides, so that both always agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from kvstore.stores._sqlite.terms import Stored


@dataclass(frozen=True, slots=True)
class Span:
    """Terms that are neighbours: a condition on the columns slot and value of term."""

    condition: str
    arguments: tuple[Stored, ...]
    #: Whether one slot and its values are named, so that it can be asked for a single entry.
    is_point: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """The entries that have a value of one slot between two; a sign and a value, or none."""

    slot: int
    low: tuple[str, Stored] | None
    high: tuple[str, Stored] | None
    #: Whether these are just the entries that are meant, and not some more.
    is_exact: bool

    @property
    def span(self) -> Span:
        """The terms between the bounds."""
        ends = [end for end in (self.low, self.high) if end is not None]
        conditions = ["slot = ?", *(f"value {sign} ?" for sign, _ in ends)]
        arguments = (self.slot, *(value for _, value in ends))
        return Span(" AND ".join(conditions), arguments, is_point=False)

    def __and__(self, other: Bounds) -> Bounds:
        return Bounds(
            self.slot,
            _nearer(self.low, other.low, lower=True),
            _nearer(self.high, other.high, lower=False),
            self.is_exact and other.is_exact,
        )


@dataclass(frozen=True, slots=True)
class Leaf:
    """The entries that have a term in one of the spans; no spans, no entries."""

    spans: tuple[Span, ...]
    #: Whether these are just the entries that are meant, and not some more.
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Combined:
    """All of the parts hold, or any."""

    is_all: bool
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


@dataclass(frozen=True, slots=True)
class Unknown:
    """The index has nothing to say."""


Node: TypeAlias = Leaf | Bounds | Combined | Not | Unknown
NOTHING = Leaf((), is_exact=True)


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL about an entry ``e`` that holds for all that are meant."""

    sql: str
    arguments: tuple[Stored, ...]
    #: Whether it holds for no others.
    is_complete: bool


def best_spans(
    node: Node, count: Callable[[Span], int]
) -> tuple[int, tuple[Span, ...], bool] | None:
    """Return spans that hold every entry that is meant, if there are any.

    With them how many terms are in there, and whether they hold no entry but these.
    """
    if isinstance(node, Bounds):
        return count(node.span), (node.span,), node.is_exact
    if isinstance(node, Leaf):
        return sum(map(count, node.spans)), node.spans, node.is_exact
    if not isinstance(node, Combined):
        return None
    found = [best_spans(part, count) for part in node.parts]
    if node.is_all:
        some = [choice for choice in found if choice is not None]
        if not some:
            return None
        size, spans, exact = min(some, key=lambda choice: choice[0])
        return size, spans, exact and len(found) == 1
    several = [choice for choice in found if choice is not None]
    if len(several) < len(found):
        return None
    spans = tuple(dict.fromkeys(span for _, spans, _ in several for span in spans))
    return sum(size for size, *_ in several), spans, all(exact for *_, exact in several)


def condition_of(node: Node, is_small: Callable[[Span], bool]) -> Condition:
    """Return what can be asked about a single entry.

    Args:
        is_small: whether the entries of a span that is no point may all be gathered for that.
    """
    if isinstance(node, Bounds):
        node = Leaf((node.span,), is_exact=node.is_exact)
    if isinstance(node, Leaf):
        return _condition_of_leaf(node, is_small)
    if isinstance(node, Not):
        inner = condition_of(node.part, is_small)
        if not inner.is_complete:
            return _ANYTHING
        return Condition(f"NOT {inner.sql}", inner.arguments, is_complete=True)
    if isinstance(node, Unknown):
        return _ANYTHING
    return joined([condition_of(part, is_small) for part in node.parts], is_all=node.is_all)


def joined(conditions: Iterable[Condition], *, is_all: bool) -> Condition:
    """Return the condition that all of these hold, or any."""
    parts = list(conditions)
    complete = all(part.is_complete for part in parts)
    if is_all:
        parts = [part for part in parts if part.sql != "1"]
    elif any(part.sql == "1" for part in parts):
        return Condition("1", (), is_complete=complete)
    if not parts:
        return Condition("1" if is_all else "0", (), is_complete=complete)
    sql = (" AND " if is_all else " OR ").join(part.sql for part in parts)
    arguments = tuple(value for part in parts for value in part.arguments)
    return Condition(f"({sql})", arguments, is_complete=complete)


_ANYTHING = Condition("1", (), is_complete=False)


def _condition_of_leaf(leaf: Leaf, is_small: Callable[[Span], bool]) -> Condition:
    parts = []
    for span in leaf.spans:
        terms = f"FROM term WHERE {span.condition}"
        if span.is_point:
            sql = f"EXISTS (SELECT 1 {terms} AND id = e.id)"
        elif is_small(span):
            sql = f"e.id IN (SELECT id {terms})"
        else:
            return _ANYTHING
        parts.append(Condition(sql, span.arguments, is_complete=leaf.is_exact))
    return joined(parts, is_all=False)


def _nearer(
    one: tuple[str, Stored] | None, other: tuple[str, Stored] | None, *, lower: bool
) -> tuple[str, Stored] | None:
    """Return the bound that leaves less. They are of one slot: both numbers, or both texts."""
    if one is None or other is None:
        return other if one is None else one
    # Of equal values `>` leaves less than `>=`.
    by_value: Any = lambda end: (end[1], len(end[0]) == (1 if lower else 2))  # noqa: E731
    return max(one, other, key=by_value) if lower else min(one, other, key=by_value)
