"""Which keys a query finds and in what order: one pure meaning for all stores.

Equality is that of JSON values: ``true`` is not ``1``, ``1`` equals ``1.0``, arrays and objects
compare whole. A comparison between different types is false, never an error.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from operator import ge, gt, itemgetter, le, lt
from typing import Any, TypeAlias

from kvstore.documents import Json, JsonObject, check_metadata, dump_json, json_type, parse_json
from kvstore.errors import InvalidMetadataError, InvalidRequestError
from kvstore.values import Record, is_integer

Predicate: TypeAlias = Callable[[JsonObject], bool]

MAX_GLOB = 1024
_MISSING: Any = object()
_SCALARS = (str, int, float, type(None))
_RANKS = {"null": 0, "boolean": 1, "number": 2, "string": 3, "array": 4, "object": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; see :meth:`kvstore.store.ReadOnlyStore.query` for the meaning."""

    match: Mapping[str, Json] = field(default_factory=dict)
    where: JsonObject | None = None
    prefix: str = ""
    glob: str | None = None
    order_by: str | None = None
    limit: int | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "match", _json_values(self.match))
        if self.where is not None:
            object.__setattr__(self, "where", _json_values(self.where))
        for name in ("prefix", "glob", "order_by", "after"):
            text = getattr(self, name)
            if text is None and name != "prefix":
                continue
            if not isinstance(text, str):
                raise InvalidRequestError(f"{name} is a str, not {text!r:.100}.")
            if name == "after" and self.order_by is not None:
                continue  # a cursor, which is judged below
            try:
                text.encode()
            except UnicodeEncodeError:  # no key and no field has one, and no URL can hold it
                message = f"{name} holds a lone surrogate: {text!a:.100}."
                raise InvalidRequestError(message) from None
        limit = self.limit
        if limit is not None and (not is_integer(limit) or limit < 0):
            raise InvalidRequestError(f"A limit is an integer from 0, not {limit!r:.100}.")
        if self.glob is not None and len(self.glob) > MAX_GLOB:
            raise InvalidRequestError(f"A glob has at most {MAX_GLOB} characters.")
        if self.order_by is not None and self.after is not None:
            _parse_cursor(self.after)

    def predicate(self) -> Callable[[Record], bool]:
        """Return the function that tells whether a record is found, limit and order aside.

        Raises:
            InvalidRequestError: a filter that is malformed, naming the part.
        """
        tests: list[Predicate] = [
            functools.partial(_equals_field, name, value) for name, value in self.match.items()
        ]
        if self.where is not None:
            tests.append(compile_where(self.where))
        key_matches = glob_matcher(self.glob) if self.glob is not None else None
        prefix = self.prefix

        def found(record: Record) -> bool:
            return (
                record.key.startswith(prefix)
                and (key_matches is None or key_matches(record.key))
                and all(test(record.metadata) for test in tests)
            )

        return found

    def key_prefix(self) -> str:
        """Return what every key that is found begins with, as far as that is plain to see."""
        if self.glob is None or self.prefix:
            return self.prefix
        return re.split(r"[*?\[]", self.glob, maxsplit=1)[0]

    def cursor(self, record: Record) -> str:
        """Return the ``after`` that goes on behind *record* in this query's order."""
        if self.order_by is None:
            return record.key
        value = lookup(record.metadata, self.order_by.removeprefix("-"))
        return dump_json([record.key] if value is _MISSING else [record.key, value]).decode()


def run(query: Query, records: Iterable[Record]) -> Iterator[Record]:
    """Yield what *query* finds among *records*, which come in the order of their keys.

    In the order of keys this holds one record at a time; with ``order_by`` and ``limit`` as many
    as the limit; with ``order_by`` alone all that are found. Nothing is read before the first is
    asked for; closing the iterator closes *records*.
    """
    found: Iterator[Record] = filter(query.predicate(), records)
    limit = None if query.limit is None else min(query.limit, sys.maxsize)
    if query.order_by is not None:
        return _closing(records, _ordered_by(query.order_by, query.after, limit, found))
    if query.after is not None:
        after = query.after
        found = (record for record in found if record.key > after)
    return _closing(records, islice(found, limit))


def _closing(records: Iterable[Record], found: Iterator[Record]) -> Iterator[Record]:
    try:
        yield from found
    finally:
        _close(records)


def _close(records: Iterable[Record]) -> None:
    close = getattr(records, "close", None)
    if close is not None:
        close()


def _ordered_by(
    order_by: str, after: str | None, limit: int | None, found: Iterable[Record]
) -> Iterator[Record]:
    name = order_by.removeprefix("-")
    place = functools.cmp_to_key(functools.partial(_compare, order_by))
    where = ((lookup(record.metadata, name), record) for record in found)
    placed = ((place(_ranked(value, record.key)), record) for value, record in where)
    if after is not None:
        start = place(_parse_cursor(after))
        placed = (item for item in placed if start < item[0])
    first = itemgetter(0)
    chosen = sorted(placed, key=first) if limit is None else nsmallest(limit, placed, key=first)
    for _, record in chosen:
        yield record


def trim(metadata: JsonObject, select: frozenset[str] | None) -> JsonObject:
    """Return only the selected fields of *metadata*, all if *select* is None."""
    if select is None:
        return metadata
    return {name: value for name, value in metadata.items() if name in select}


def check_select(select: Iterable[str] | None) -> frozenset[str] | None:
    """Return *select* as a set.

    Raises:
        InvalidRequestError: one ``str`` (whose letters would be taken for names), or no strs.
    """
    if select is None:
        return None
    if isinstance(select, Iterable) and not isinstance(select, (str, bytes)):
        names = list(select)
        if all(isinstance(name, str) for name in names):
            return frozenset(names)
    raise InvalidRequestError(f"select is an iterable of names, not {select!r:.100}.")


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a matcher for shell wildcards; ``*`` crosses ``/``, and case counts."""
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda key: match(key) is not None


def lookup(metadata: JsonObject, name: str) -> Any:
    """Return the value of a field, or a value equal to nothing.

    A name with dots is first taken as it stands, then as a path into objects.
    """
    value = metadata.get(name, _MISSING)
    if value is not _MISSING or "." not in name:
        return value
    node: Any = metadata
    for step in name.split("."):
        if not isinstance(node, dict) or step not in node:
            return _MISSING
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


def compile_where(where: object) -> Predicate:
    """Return the predicate that a filter document means.

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
    tests = [_clause(name, operand) for name, operand in where.items()]
    return lambda metadata: all(test(metadata) for test in tests)


def _clause(name: object, operand: Any) -> Predicate:
    if not isinstance(name, str):
        raise InvalidRequestError(f"A filter names fields by str, not {name!r:.100}.")
    if name in ("all", "any") and isinstance(operand, (list, tuple)):
        parts = [compile_where(part) for part in operand]
        combine = all if name == "all" else any
        return lambda metadata: combine(part(metadata) for part in parts)
    if name == "not" and isinstance(operand, Mapping):
        inner = compile_where(operand)
        return lambda metadata: not inner(metadata)
    if not isinstance(operand, Mapping):
        return functools.partial(_test_field, name, functools.partial(json_equal, operand))
    if not operand:
        example = '{"eq": {}}'
        message = f"An empty object names no operator for {name!r:.100}; to compare, use {example}."
        raise InvalidRequestError(message)
    tests = [_operator(name, operator, value) for operator, value in operand.items()]
    return lambda metadata: all(test(metadata) for test in tests)


def _operator(name: str, operator: object, operand: Any) -> Predicate:
    if operator == "exists":
        if not isinstance(operand, bool):
            raise InvalidRequestError(f"'exists' takes true or false, not {operand!r:.100}.")
        return lambda metadata: (lookup(metadata, name) is not _MISSING) is operand
    build = _OPERATORS.get(operator) if isinstance(operator, str) else None
    if build is None:
        known = ", ".join(sorted([*_OPERATORS, "exists"]))
        wrong = f"There is no filter operator {operator!r:.100} (for {name!r:.100})"
        raise InvalidRequestError(f"{wrong}; one of {known}.")
    return functools.partial(_test_field, name, build(operand))


def _test_field(name: str, test: Callable[[Any], bool], metadata: JsonObject) -> bool:
    value = lookup(metadata, name)
    return value is not _MISSING and test(value)


def _equals_field(name: str, operand: Any, metadata: JsonObject) -> bool:
    # A keyword names a field of the metadata as it stands; only filters reach into objects.
    value = metadata.get(name, _MISSING)
    return value is not _MISSING and json_equal(value, operand)


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
    def test(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        return isinstance(value, list) and any(json_equal(item, operand) for item in value)

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

# Where a record stands in the order of a field: its rank (missing last), its value, its key.
_Position: TypeAlias = tuple[int, Any, str]


def _ranked(value: Any, key: str) -> _Position:
    if value is _MISSING:
        return 6, None, key
    kind = json_type(value)
    if kind in ("array", "object"):  # any total order will do; that of the JSON text is one
        return _RANKS[kind], dump_json(_canonical(value)), key
    return _RANKS[kind], value, key


def _canonical(value: Any) -> Any:
    # Values that are equal must have equal texts.
    if isinstance(value, dict):
        return {name: _canonical(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _compare(order_by: str, a: _Position, b: _Position) -> int:
    """Order by type and value, ``-field`` downwards; missing last and ties by key either way."""
    missing = (a[0] == 6) - (b[0] == 6)
    if missing:
        return missing
    sign = -1 if order_by.startswith("-") else 1
    for mine, other in zip(a[:2], b[:2], strict=True):
        if mine != other:
            return sign if mine > other else -sign
    return (a[2] > b[2]) - (a[2] < b[2])


def _parse_cursor(text: str) -> _Position:
    try:
        position = parse_json(text.encode("utf-8"), what="cursor")
    except (InvalidRequestError, UnicodeError):
        position = None
    match position:
        case [str(key)]:
            return _ranked(_MISSING, key)
        case [str(key), value]:
            return _ranked(value, key)
    raise InvalidRequestError(f"That is no cursor of an ordered query: {text!r:.100}.")


def _json_values(document: object) -> JsonObject:
    # Tuples become lists here, and what no metadata can hold is refused rather than never found.
    if not isinstance(document, Mapping):
        raise InvalidRequestError(f"A filter is an object, not {document!r:.100}.")
    try:
        return check_metadata(dict(document))
    except InvalidMetadataError as error:
        message = f"A filter is made of JSON values; at {error.pointer!r}: {error.message}"
        raise InvalidRequestError(message) from None
