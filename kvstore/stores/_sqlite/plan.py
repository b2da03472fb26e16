"""Filters as conditions on the index: pure functions from clauses to nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvstore.documents import json_type
from kvstore.query import Query
from kvstore.stores._sqlite.nodes import NOTHING, Bounds, Combined, Leaf, Node, Not, Span, Unknown
from kvstore.stores._sqlite.terms import (
    ELEMENT,
    MANY,
    NAME_LIMIT,
    SLOTS,
    TEXT_LIMIT,
    Stored,
    is_exact,
    stored,
)
from kvstore.where import Clause, Group, Negation, Test, parse_where

#: Values that one statement looks for at most; a filter with more is left to the predicate.
_MOST_VALUES = 10_000
#: Parts of a filter, and levels of it, that SQLite is asked for at most.
_MOST_PARTS, _MOST_LEVELS = 200, 12
_OBJECT = 5
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def names_in(query: Query) -> set[str]:
    """Return the names of all fields that a query asks for, but for the one of its order."""
    names = set(query.match)
    if query.where is not None:
        names.update(_names(parse_where(query.where)))
    return names


def parts_of(query: Query, fields: Mapping[str, int]) -> list[Node]:
    """Return what has to hold, each part by itself.

    Args:
        fields: the names that documents have had and their numbers, negative without index.
    """
    match = list(query.match.items())
    parts = [_keyword(fields, name, value) for name, value in match[:_MOST_PARTS]]
    if len(match) > _MOST_PARTS:
        parts.append(Unknown())
    if query.where is not None:
        where = parse_where(query.where)
        parts.append(_node(fields, where) if _is_short(where) else Unknown())
    return _merged(parts)


def _merged(nodes: Iterable[Node]) -> list[Node]:
    """Return parts that all have to hold with none of them such a list itself.

    Bounds of the same values are put together: one alone may leave far too much.
    """
    merged: list[Node] = []
    places: dict[int, int] = {}
    for node in _flattened(nodes):
        if isinstance(node, Bounds):
            place = places.setdefault(node.slot, len(merged))
            if place < len(merged):
                before = merged[place]
                assert isinstance(before, Bounds)  # noqa: S101 - that is what places are of
                merged[place] = before & node
                continue
        merged.append(node)
    return merged


def _flattened(nodes: Iterable[Node]) -> Iterable[Node]:
    for node in nodes:
        if isinstance(node, Combined) and (node.is_all or len(node.parts) == 1):
            yield from _flattened(node.parts)
        else:
            yield node


def _names(clause: Clause) -> Iterable[str]:
    if isinstance(clause, Test):
        yield clause.name
    elif isinstance(clause, Negation):
        yield from _names(clause.part)
    else:
        for part in clause.parts:
            yield from _names(part)


def _is_short(where: Clause) -> bool:
    """Tell whether SQLite takes a filter: its parser, its stack and its variables have limits."""
    parts = values = 0
    waiting: list[tuple[Clause, int]] = [(where, 0)]
    while waiting:
        clause, level = waiting.pop()
        parts += 1
        if level > _MOST_LEVELS or parts > _MOST_PARTS:
            return False
        if isinstance(clause, Test):
            values += len(clause.operand) if clause.operator == "in" else 1
        elif isinstance(clause, Negation):
            waiting.append((clause.part, level + 1))
        else:
            waiting += [(part, level + 1) for part in clause.parts]
    return values <= _MOST_VALUES


def _node(fields: Mapping[str, int], clause: Clause) -> Node:
    if isinstance(clause, Negation):
        return Not(_node(fields, clause.part))
    if isinstance(clause, Group):
        parts = [_node(fields, part) for part in clause.parts]
        is_all = clause.how == "all"
        return Combined(is_all, tuple(_merged(parts) if is_all else parts))
    if clause.operator == "exists" and not clause.operand:
        return Not(_node(fields, Test(clause.name, "exists", operand=True)))
    number = fields.get(clause.name)
    if number is None and len(clause.name) <= NAME_LIMIT:
        return NOTHING  # no document has such a field, and so no operator holds
    if number is None:
        return Unknown()
    if number < 0:
        return Unknown()
    return _OPERATORS[clause.operator](number * SLOTS, clause.operand)


def _keyword(fields: Mapping[str, int], name: str, value: Any) -> Node:
    node = _node(fields, Test(name, "eq", value))
    if "." in name and isinstance(node, Leaf):  # it does not reach into objects, as the index does
        return Leaf(node.spans, is_exact=False)
    return node


def _equal(slot: int, operand: Any) -> Node:
    return _points(slot, [operand])


def _one_of(slot: int, operand: Any) -> Node:
    return _points(slot, list(operand))


def _points(slot: int, values: list[Any]) -> Leaf:
    by_kind: dict[int, set[Stored]] = {}
    for value in values:
        kind, text = stored(value)
        by_kind.setdefault(kind, set()).add(text)
    exact = all(is_exact(text) for texts in by_kind.values() for text in texts)
    spans = tuple(_point(slot + kind, *texts) for kind, texts in by_kind.items())
    return Leaf(spans, is_exact=exact)


def _point(slot: int, *values: Stored) -> Span:
    if len(values) == 1:
        return Span("slot = ? AND value = ?", (slot, *values), is_point=True)
    marks = ", ".join("?" * len(values))
    return Span(f"slot = ? AND value IN ({marks})", (slot, *values), is_point=True)


def _unequal(slot: int, operand: Any) -> Node:
    return Combined(is_all=True, parts=(_exists(slot, operand=True), Not(_equal(slot, operand))))


def _exists(slot: int, operand: Any) -> Node:
    span = Span("slot BETWEEN ? AND ?", (slot, slot + _OBJECT), is_point=False)
    return Leaf((span,), is_exact=True)


def _ordered(operator: str) -> Callable[[int, Any], Node]:
    def build(slot: int, operand: Any) -> Node:
        if json_type(operand) not in ("number", "string"):
            return NOTHING
        kind, value = stored(operand)
        exact = is_exact(value)
        # A value that the index holds as this one may be on either side of it.
        sign = _COMPARED[operator] if exact else f"{_COMPARED[operator][0]}="
        is_low = sign[0] == ">"
        end = (sign, value)
        return Bounds(slot + kind, end if is_low else None, None if is_low else end, exact)

    return build


def _begins(slot: int, operand: Any) -> Node:
    kind, text = stored(operand)
    assert isinstance(text, str)  # noqa: S101 - the predicate has refused others
    if not is_exact(text):
        return Leaf((_point(slot + kind, text),), is_exact=False)
    end = text_after(text)
    return Bounds(slot + kind, (">=", text), None if end is None else ("<", end), is_exact=True)


def _contains(slot: int, operand: Any) -> Node:
    kind, value = stored(operand)
    # Of long arrays the index knows that they are long.
    spans = [_point(slot + ELEMENT + kind, value), _point(slot + MANY, 0)]
    if isinstance(operand, str):
        # The sum is a text cut off, whose rest may hold it.
        condition = (
            f"slot = ? AND (instr(value, ?) > 0 OR length(CAST(value AS BLOB)) >= {TEXT_LIMIT})"
        )
        spans.append(Span(condition, (slot + kind, value), is_point=False))
    return Leaf(tuple(spans), is_exact=False)


_OPERATORS: dict[str, Callable[[int, Any], Node]] = {
    "eq": _equal,
    "ne": _unequal,
    "in": _one_of,
    "prefix": _begins,
    "contains": _contains,
    "exists": _exists,
    **{operator: _ordered(operator) for operator in _COMPARED},
}


def text_after(text: str) -> str | None:
    """Return the first text behind all that begin with *text*, None if there is none."""
    text = text.rstrip("\U0010ffff")
    if not text:
        return None
    last = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if last == 0xD800 else last)
