"""Which keys a query finds and in what order: one pure meaning for all stores."""

from __future__ import annotations

import fnmatch
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from typing import Any, TypeAlias

from kvstore.documents import Json, JsonObject, check_metadata, dump_json, json_type, parse_json
from kvstore.errors import InvalidMetadataError, InvalidRequestError
from kvstore.values import Record, is_integer
from kvstore.where import (
    MISSING,
    Predicate,
    canonical_text,
    compile_where,
    equals_field,
    lookup,
)

MAX_GLOB = 1024
#: The order of values of different types.
RANKS = {"null": 0, "boolean": 1, "number": 2, "string": 3, "array": 4, "object": 5}
MISSING_RANK = 6

#: Where a record stands in the order of a field: its rank, its value (text of an array or object),
#: its key.
Position: TypeAlias = tuple[int, Any, str]


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
    #: Called for each record that is looked at; what it raises ends the search. For who answers
    #: queries of others, who may go away, or ask for what takes hours.
    halt: Callable[[], object] | None = field(default=None, compare=False, repr=False)

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
            parse_cursor(self.after)

    def predicate(self) -> Callable[[Record], bool]:
        """Return the function that tells whether a record is found, limit and order aside.

        Raises:
            InvalidRequestError: a filter that is malformed, naming the part.
        """
        tests: list[Predicate] = [
            functools.partial(equals_field, name, value) for name, value in self.match.items()
        ]
        if self.where is not None:
            tests.append(compile_where(self.where))
        key_matches = glob_matcher(self.glob) if self.glob is not None else None
        prefix, halt = self.prefix, self.halt

        def found(record: Record) -> bool:
            if halt is not None:
                halt()
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
        return dump_json([record.key] if value is MISSING else [record.key, value]).decode()


def run(query: Query, records: Iterable[Record]) -> Iterator[Record]:
    """Yield what *query* finds among *records*, which come in the order of their keys.

    In the order of keys this holds one record at a time; with ``order_by`` and ``limit`` as many
    as the limit; with ``order_by`` alone all that are found. Nothing is read before the first is
    asked for; closing the iterator closes *records*.
    """
    found: Iterator[Record] = filter(query.predicate(), records)
    limit = None if query.limit is None else min(query.limit, sys.maxsize)
    if query.order_by is not None:
        return closing(records, _ordered_by(query.order_by, query.after, limit, found))
    if query.after is not None:
        after = query.after
        found = (record for record in found if record.key > after)
    return closing(records, islice(found, limit))


def closing(records: Iterable[Record], found: Iterator[Record] | None = None) -> Iterator[Record]:
    """Yield *records*, or what is *found* among them; *records* are closed at the end of that."""
    try:
        yield from records if found is None else found
    finally:
        close = getattr(records, "close", None)
        if close is not None:
            close()


def _ordered_by(
    order_by: str, after: str | None, limit: int | None, found: Iterable[Record]
) -> Iterator[Record]:
    order = Order(order_by)
    placed = ((order.place(record), record) for record in found)
    if after is not None:
        start = order.place_of(parse_cursor(after))
        placed = (item for item in placed if start < item[0])
    first = itemgetter(0)
    chosen = sorted(placed, key=first) if limit is None else nsmallest(limit, placed, key=first)
    for _, record in chosen:
        yield record


class Order:
    """The order of a field: by type and value, ``-field`` downwards; ties by key.

    Records without the field come last, either way.
    """

    def __init__(self, order_by: str) -> None:
        self.name = order_by.removeprefix("-")
        self.descending = order_by.startswith("-")
        #: Turns a :data:`Position` into what can be compared.
        self.place_of = functools.cmp_to_key(functools.partial(_compare, self.descending))

    def place(self, record: Record) -> Any:
        """Return what compares as the records do."""
        return self.place_of(position(lookup(record.metadata, self.name), record.key))


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


def position(value: Any, key: str) -> Position:
    """Return where a record stands whose field is *value*, which may be MISSING."""
    if value is MISSING:
        return MISSING_RANK, None, key
    kind = json_type(value)
    if kind in ("array", "object"):  # any total order will do; that of the JSON text is one
        return RANKS[kind], canonical_text(value), key
    return RANKS[kind], value, key


def parse_cursor(text: str) -> Position:
    """Return where the record stood that a cursor of an ordered query is of.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        found = parse_json(text.encode("utf-8"), what="cursor")
    except (InvalidRequestError, UnicodeError):
        found = None
    match found:
        case [str(key)]:
            return position(MISSING, key)
        case [str(key), value]:
            return position(value, key)
    raise InvalidRequestError(f"That is no cursor of an ordered query: {text!r:.100}.")


def _compare(descending: bool, a: Position, b: Position) -> int:
    missing = (a[0] == MISSING_RANK) - (b[0] == MISSING_RANK)
    if missing:
        return missing
    sign = -1 if descending else 1
    for mine, other in zip(a[:2], b[:2], strict=True):
        if mine != other:
            return sign if mine > other else -sign
    return (a[2] > b[2]) - (a[2] < b[2])


def _json_values(document: object) -> JsonObject:
    # Tuples become lists here, and what no metadata can hold is refused rather than never found.
    if not isinstance(document, Mapping):
        raise InvalidRequestError(f"A filter is an object, not {document!r:.100}.")
    try:
        return check_metadata(dict(document))
    except InvalidMetadataError as error:
        message = f"A filter is made of JSON values; at {error.pointer!r}: {error.message}"
        raise InvalidRequestError(message) from None
