"""What filters mean: one language for all stores, as clauses and as a predicate on metadata.

Equality is that of JSON values: ``true`` is not ``1``, ``1`` equals ``1.0``, arrays and objects
compare whole. A comparison between different types is false, never an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal, TypeAlias

from kvstore.documents import JsonObject, dump_json, json_type
from kvstore.errors import InvalidRequestError

Predicate: TypeAlias = Callable[[JsonObject], bool]

#: What :func:`lookup` gives where there is no such field.
MISSING: Any = object()
_SCALARS = (str, int, float, type(None))


def lookup(metadata: JsonObject, name: str) -> Any:
    """Return the value of a field, or a value equal to nothing.

    A name with dots is first taken as it stands, then as a path into objects.
    """
    value = metadata.get(name, MISSING)
    if value is not MISSING or "." not in name:
        return value
    node: Any = metadata
    for step in name.split("."):
        if not isinstance(node, dict) or step not in node:
            return MISSING
        node = node[step]
    return node


def json_equal(a: Any, b: Any) -> bool:
    """Tell whether two JSON values are equal."""
    kind = json_type(a)
    if kind != json_type(b):
        return False
    if kind == "array":
        return len(a) == len(b) and all(map(json_equal, a, b))
    if kind == "object":
        return a.keys() == b.keys() and all(json_equal(item, b[name]) for name, item in a.items())
    return bool(a == b)


@dataclass(frozen=True, slots=True)
class Test:
    """A field and what is asked of it."""

    name: str
    #: One of ``eq ne lt le gt ge in prefix contains exists``.
    operator: str
    operand: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Of the parts ``all`` hold, or ``any``."""

    how: Literal["all", "any"]
    parts: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """The part does not hold."""

    part: Clause


Clause: TypeAlias = Test | Group | Negation


def parse_where(where: object) -> Group:
    """Return the clauses of a filter document.

    ``{"field": literal}`` is equality; ``{"field": {operator: operand, ...}}`` all of the
    operators ``eq ne lt le gt ge in prefix contains exists``; several fields must all hold;
    ``{"all": [...]}``, ``{"any": [...]}`` and ``{"not": {...}}`` combine. Dotted names reach into
    objects. ``lt le gt ge`` hold between two numbers or two strings (by code point) only.
    ``contains`` looks for an element of an array or a part of a string. ``ne`` is the contrary of
    ``eq`` for fields that are there: but for ``{"exists": false}`` no operator holds for others.

    Raises:
        InvalidRequestError: naming the part that is malformed.
    """
    if not isinstance(where, Mapping):
        raise InvalidRequestError(f"A filter is an object, not {where!r:.100}.")
    return Group("all", tuple(_clause(name, operand) for name, operand in where.items()))


def compile_where(where: object) -> Predicate:
    """Return the predicate that a filter document means; see :func:`parse_where`."""
    return predicate_of(parse_where(where))


def predicate_of(clause: Clause) -> Predicate:
    """Return the function that tells whether metadata fit.

    Raises:
        InvalidRequestError: an operand that its operator cannot take.
    """
    if isinstance(clause, Negation):
        inner = predicate_of(clause.part)
        return lambda metadata: not inner(metadata)
    if isinstance(clause, Group):
        parts = [predicate_of(part) for part in clause.parts]
        if len(parts) == 1:
            return parts[0]
        combine = all if clause.how == "all" else any
        return lambda metadata: combine(part(metadata) for part in parts)
    name = clause.name
    if clause.operator == "exists":
        wanted = clause.operand
        return lambda metadata: (lookup(metadata, name) is not MISSING) is wanted
    return functools.partial(_test_field, name, _OPERATORS[clause.operator](clause.operand))


def _clause(name: object, operand: Any) -> Clause:
    if not isinstance(name, str):
        raise InvalidRequestError(f"A filter names fields by str, not {name!r:.100}.")
    if name in ("all", "any") and isinstance(operand, (list, tuple)):
        return Group("all" if name == "all" else "any", tuple(map(parse_where, operand)))
    if name == "not" and isinstance(operand, Mapping):
        return Negation(parse_where(operand))
    if not isinstance(operand, Mapping):
        return Test(name, "eq", operand)
    if not operand:
        example = '{"eq": {}}'
        message = f"An empty object names no operator for {name!r:.100}; to compare, use {example}."
        raise InvalidRequestError(message)
    return Group("all", tuple(_test(name, *item) for item in operand.items()))


def _test(name: str, operator: object, operand: Any) -> Test:
    if operator == "exists" and not isinstance(operand, bool):
        raise InvalidRequestError(f"'exists' takes true or false, not {operand!r:.100}.")
    if not isinstance(operator, str) or operator not in {*_OPERATORS, "exists"}:
        known = ", ".join(sorted([*_OPERATORS, "exists"]))
        wrong = f"There is no filter operator {operator!r:.100} (for {name!r:.100})"
        raise InvalidRequestError(f"{wrong}; one of {known}.")
    return Test(name, operator, operand)


def _test_field(name: str, test: Callable[[Any], bool], metadata: JsonObject) -> bool:
    value = lookup(metadata, name)
    return value is not MISSING and test(value)


def equals_field(name: str, operand: Any, metadata: JsonObject) -> bool:
    """Tell whether a field equals *operand*, as keywords of a query ask."""
    # A keyword names a field of the metadata as it stands; only filters reach into objects.
    value = metadata.get(name, MISSING)
    return value is not MISSING and json_equal(value, operand)


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any], Callable[[Any], bool]]:
    def build(operand: Any) -> Callable[[Any], bool]:
        kind = json_type(operand)
        has_order = kind in ("number", "string")
        return lambda value: has_order and json_type(value) == kind and holds(value, operand)

    return build


def _one_of(operand: Any) -> Callable[[Any], bool]:
    if not isinstance(operand, (list, tuple, set, frozenset)):
        raise InvalidRequestError(f"'in' takes a list of values, not {operand!r:.100}.")
    # By type too, as True == 1 in Python. A list may be long, so that trying each takes too long.
    scalars = {(json_type(item), item) for item in operand if isinstance(item, _SCALARS)}
    others = [item for item in operand if not isinstance(item, _SCALARS)]

    def test(value: Any) -> bool:
        if isinstance(value, _SCALARS):
            return (json_type(value), value) in scalars
        return any(json_equal(value, other) for other in others)

    return test


def _begins(operand: Any) -> Callable[[Any], bool]:
    if not isinstance(operand, str):
        raise InvalidRequestError(f"'prefix' takes a string, not {operand!r:.100}.")
    return lambda value: isinstance(value, str) and value.startswith(operand)


def _contains(operand: Any) -> Callable[[Any], bool]:
    is_scalar = isinstance(operand, _SCALARS)

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        # Whatever JSON takes for equal, so does Python: a long array is passed over at once.
        if not isinstance(value, list) or (is_scalar and operand not in value):
            return False
        return any(json_equal(item, operand) for item in value)

    return test


_OPERATORS: dict[str, Callable[[Any], Callable[[Any], bool]]] = {
    "eq": lambda operand: functools.partial(json_equal, operand),
    "ne": lambda operand: lambda value: not json_equal(operand, value),
    "lt": _ordered(lt),
    "le": _ordered(le),
    "gt": _ordered(gt),
    "ge": _ordered(ge),
    "in": _one_of,
    "prefix": _begins,
    "contains": _contains,
}


def canonical_text(value: Any) -> bytes:
    """Return the JSON text of *value*, the same for all values that are equal to it."""
    return dump_json(_canonical(value))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
