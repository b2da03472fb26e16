"""What of a document the index holds: pure functions, and the reason for its shape.

A term is (slot, value, entry). A slot is a field and a kind of value, ``field * 16 + kind``: the
kinds 0 to 5 are the types of JSON in their order, so that the terms of a field lie in the order
that ``order_by`` wants; 8 to 13 are those of the elements of an array, for ``contains``.

Two shapes of index were measured with 1,000,000 keys of eight fields (2 shared cores, SQLite 3.40):
rows with the number of the entry, as here, and rows with its key, which are in the order of keys.
The latter answer pages of broad queries from the index alone, but cost twice as much: 581 us
against 345 to change an entry with eight terms, 703 MB against 446. And a term costs some 25 us of
each write, so that a field has terms only since somebody first asked for it: headers of scientific
files have a hundred fields, of which few are ever asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from kvstore.documents import JsonObject, json_type
from kvstore.query import RANKS
from kvstore.where import canonical_text

#: Kinds of slots beside the types of JSON.
ELEMENT = 8
#: The kind that says that an array has more elements than the index holds.
MANY = 7
#: To a field.
SLOTS = 16

#: Characters of the longest name that can have an index. Paths may be as long as documents are
#: deep, and each would be kept.
NAME_LIMIT = 256
#: Characters of a text that the index holds.
TEXT_LIMIT = 128
#: Elements of an array that the index holds.
_ELEMENT_LIMIT = 256
#: Integers from here on are floats in SQLite, and so are neither exact nor all different.
BIG = 1 << 63

#: What SQLite compares: a number or a text.
Stored: TypeAlias = int | float | str
Term: TypeAlias = tuple[int, Stored]


def names_of(metadata: JsonObject) -> Iterator[str]:
    """Yield every name that :func:`kvstore.where.lookup` finds something by, but long ones."""
    for name, value in metadata.items():
        if len(name) > NAME_LIMIT:
            continue
        yield name
        if type(value) is dict and "." not in name:
            for path, _ in _below(name, value):
                if path not in metadata:
                    yield path


def terms_of(metadata: JsonObject, fields: Mapping[str, int]) -> set[Term]:
    """Return the terms of a document: (slot, value).

    Args:
        fields: the names that have terms, and their numbers.
    """
    terms: set[Term] = set()
    nested = False
    for name, value in metadata.items():
        number = fields.get(name)
        if number is not None:
            _add(terms, number * SLOTS, value)
        nested = nested or type(value) is dict
    if nested:
        for name, value in metadata.items():
            if type(value) is dict and "." not in name:
                for path, inner in _below(name, value):
                    number = fields.get(path)
                    if number is not None and path not in metadata:
                        _add(terms, number * SLOTS, inner)
    return terms


def changed_terms(
    old: JsonObject | None, new: JsonObject | None, fields: Mapping[str, int]
) -> tuple[Collection[Term], Collection[Term]]:
    """Return the terms that go and those that come when a document changes."""
    before = terms_of(old, fields) if old else set()
    after = terms_of(new, fields) if new else set()
    return before - after, after - before


def stored(value: Any) -> tuple[int, Stored]:
    """Return the kind of a value and what stands for it in the index.

    A greater value never has a smaller one standing for it. It is the value itself, but for long
    text and great numbers, where different ones may have the same: see :func:`is_exact`.
    """
    kind = RANKS[json_type(value)]
    if kind == 2:
        return kind, _number(value)
    if kind == 3:
        return kind, value[:TEXT_LIMIT]
    if kind > 3:
        return kind, canonical_text(value).decode()[:TEXT_LIMIT]
    return kind, int(bool(value))


def is_exact(value: Stored) -> bool:
    """Tell whether what stands in the index stands for one value only."""
    if isinstance(value, str):
        return len(value) < TEXT_LIMIT
    return -BIG < value < BIG


def _below(path: str, node: JsonObject) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if "." in name:  # no path leads there
            continue
        inner = f"{path}.{name}"
        if len(inner) > NAME_LIMIT:
            continue
        yield inner, value
        if type(value) is dict:
            yield from _below(inner, value)


def _add(terms: set[Term], slot: int, value: Any) -> None:
    kind, text = stored(value)
    terms.add((slot + kind, text))
    if kind != 4:
        return
    if len(value) > _ELEMENT_LIMIT:
        terms.add((slot + MANY, 0))
        return
    for item in value:
        kind, text = stored(item)
        terms.add((slot + ELEMENT + kind, text))


def _number(value: float) -> int | float:
    if -BIG < value < BIG:
        return value
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf") if value > 0 else float("-inf")
