"""Filters as Python expressions: ``where=(field("exposure") >= 10) & ~field("bad").exists()``.

What they build is the document that :func:`kvstore.where.parse_where` takes, so that every store
and every server answers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kvstore.documents import Json, JsonObject, copy_json
from kvstore.errors import InvalidRequestError


class Filter(Mapping[str, Any]):
    """A filter document that combines: ``a & b`` both, ``a | b`` either, ``~a`` not.

    It is a mapping, read only, and can be given wherever a filter document can.
    """

    __slots__ = ("_document",)

    def __init__(self, document: JsonObject) -> None:
        self._document = document

    def __getitem__(self, name: str) -> Any:
        return copy_json(self._document[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def __and__(self, other: Filter) -> Filter:
        return self._joined("all", other)

    def __or__(self, other: Filter) -> Filter:
        return self._joined("any", other)

    def __invert__(self) -> Filter:
        return Filter({"not": self._document})

    def __bool__(self) -> bool:
        # `a and b` would be b alone, and `1 < field("x") < 3` only its second half.
        raise TypeError("A filter is neither true nor false; combine them by & | ~, in brackets.")

    def __repr__(self) -> str:
        return f"Filter({self._document!r})"

    def _joined(self, how: str, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        parts: list[Json] = []
        for part in (self._document, other._document):
            # a & b & c is one list of three.
            is_list = part.keys() == {how} and isinstance(part[how], list)
            parts += part[how] if is_list else [part]
        return Filter({how: parts})


class Field:
    """A field of the metadata; comparing it gives a :class:`Filter`.

    Args:
        name: the field; with dots it reaches into objects.

    Raises:
        InvalidRequestError: no text, or ``not``, which no filter document can ask for.
    """

    __slots__ = ("_name",)
    __hash__ = None  # type: ignore[assignment]  # == makes filters, so no dict could find it

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or name == "not":
            raise InvalidRequestError(f"A filter cannot ask for a field named {name!r:.100}.")
        self._name = name

    def __eq__(self, value: Json) -> Filter:  # type: ignore[override]
        return self._is("eq", value)

    def __ne__(self, value: Json) -> Filter:  # type: ignore[override]
        return self._is("ne", value)

    def __lt__(self, value: float | str) -> Filter:
        return self._is("lt", value)

    def __le__(self, value: float | str) -> Filter:
        return self._is("le", value)

    def __gt__(self, value: float | str) -> Filter:
        return self._is("gt", value)

    def __ge__(self, value: float | str) -> Filter:
        return self._is("ge", value)

    def is_in(self, values: Iterable[Json]) -> Filter:
        """The field equals one of *values*."""
        return self._is("in", list(values))

    def startswith(self, text: str) -> Filter:
        """The field is text that begins with *text*."""
        return self._is("prefix", text)

    def contains(self, item: Json) -> Filter:
        """The field is an array with the element *item*, or text of which it is a part."""
        return self._is("contains", item)

    def exists(self) -> Filter:
        """There is such a field, if it is null."""
        return self._is("exists", True)

    def __repr__(self) -> str:
        return f"field({self._name!r})"

    def _is(self, operator: str, operand: Any) -> Filter:
        return Filter({self._name: {operator: operand}})


def field(name: str) -> Field:
    """Return the field *name* of the metadata, to be compared in ``where=``.

    >>> (field("exposure") >= 10) & (field("filter") == "B")
    Filter({'all': [{'exposure': {'ge': 10}}, {'filter': {'eq': 'B'}}]})
    """
    return Field(name)
