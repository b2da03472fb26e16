"""The parameters of a query URL: fields to compare, and what begins with ``$``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from kvstore.documents import parse_json
from kvstore.errors import InvalidRequestError
from kvstore.profiles.wire import VERSION_PARAMETER
from kvstore.query import Query

Pairs: TypeAlias = tuple[tuple[str, str], ...]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WORDS = {"": True, "1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query URL asks for."""

    #: Its limit is that of the URL.
    query: Query
    select: frozenset[str] | None
    #: Whether only the number of keys is asked for.
    is_count: bool
    #: What ends the name of a folder; None: keys are listed, not folders.
    delimiter: str | None
    _pairs: Pairs

    def next_page(self, after: str) -> str:
        """The URL, relative to this one, that goes on behind the cursor *after*."""
        pairs = [pair for pair in self._pairs if pair[0] != "$after"]
        return "?" + "&".join(
            f"{_quoted(name)}={_quoted(value)}" for name, value in [*pairs, ("$after", after)]
        )


def parse_parameters(query_string: bytes) -> Asked:
    """Read the query of a URL, in the form that HTML forms have (``+`` is a space).

    Raises:
        InvalidRequestError: naming the parameter that is malformed, unknown or repeated.
    """
    pairs = tuple(map(_pair, filter(None, query_string.decode("latin-1").split("&"))))
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise InvalidRequestError(f"The parameter {name!r:.100} is given twice.")
        given[name] = value
    options = {name: given.pop(name) for name in list(given) if name.startswith("$")}
    unknown = options.keys() - _OPTIONS.keys() - {"$select", "$count", "$delimiter"}
    if unknown:
        raise InvalidRequestError(f"There is no parameter {min(unknown)!r:.100}.")
    query = Query(match={name: _json(name, value) for name, value in given.items()})
    for name, (attribute, parse) in _OPTIONS.items():
        if name in options:
            query = replace(query, **{attribute: parse(name, options[name])})
    select = options.get("$select")
    is_count = "$count" in options and _word("$count", options["$count"])
    if is_count and (query.limit is not None or query.after is not None):
        raise InvalidRequestError(
            "All keys are counted: '$count' goes without '$limit' and '$after'."
        )
    delimiter = options.get("$delimiter")
    if delimiter is not None and (not delimiter or is_count or query.order_by is not None):
        raise InvalidRequestError(
            "Folders are listed in the order of keys: '$delimiter' is not empty, and goes without "
            "'$order' and '$count'."
        )
    names = None if select is None else frozenset(filter(None, select.split(",")))
    query.predicate()
    return Asked(query, names, is_count, delimiter, pairs)


def parse_version(query_string: bytes) -> str | None:
    """Read the query of a URL of data, which may name a version; what is no ``$`` is not ours.

    Raises:
        InvalidRequestError: it is malformed, given twice, or there is another ``$`` parameter.
    """
    version = None
    for text in filter(None, query_string.decode("latin-1").split("&")):
        if not text.startswith(("$", "%24")):
            continue  # as proxies and pages add, so that no cache answers
        name, value = _pair(text)
        if name != VERSION_PARAMETER:
            raise InvalidRequestError(
                f"There is no parameter {name!r:.100} here, only {VERSION_PARAMETER!r}."
            )
        if version is not None:
            raise InvalidRequestError(f"The parameter {name!r:.100} is given twice.")
        version = value
    return version


def refuse_version(query_string: bytes) -> None:
    """Refuse a version where there is only the current one.

    Raises:
        InvalidRequestError: one is asked for.
    """
    if parse_version(query_string) is not None:
        raise InvalidRequestError(f"{VERSION_PARAMETER!r} is for reading data and values.")


def parse_numbers(query_string: bytes, *names: str) -> dict[str, int]:
    """Read the query of a URL that has numbers of these names only, each at most once.

    Raises:
        InvalidRequestError: naming the parameter that is malformed, unknown or repeated.
    """
    numbers: dict[str, int] = {}
    for name, value in map(_pair, filter(None, query_string.decode("latin-1").split("&"))):
        if name not in names:
            message = f"There is no parameter {name!r:.100}, only {', '.join(names)}."
            raise InvalidRequestError(message)
        if name in numbers:
            raise InvalidRequestError(f"The parameter {name!r:.100} is given twice.")
        numbers[name] = parse_number(name, value)
    return numbers


def parse_number(name: str, text: str) -> int:
    """Read a number from 0.

    Raises:
        InvalidRequestError: naming it, where it is none.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidRequestError(f"{name!r:.100} is a number from 0, not {text!r:.100}.")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequestError(f"The parameter {text!r:.100} has no value.")
    return _decoded(name), _decoded(value)


def _decoded(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise InvalidRequestError(f"{text!r:.100} has a malformed percent escape.")
    try:
        # latin-1 gives back the bytes of the URL that stood there without an escape.
        return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{text!r:.100} is no UTF-8.") from None


def _quoted(text: str) -> str:
    return quote(text, safe="$,:/")


def _text(_name: str, value: str) -> str:
    return value


def _json(name: str, value: str) -> Any:
    return parse_json(value.encode(), what=f"value of {name!r:.100}")


def _word(name: str, value: str) -> bool:
    if value not in _WORDS:
        raise InvalidRequestError(f"{name!r} is 'true' or 'false', not {value!r:.100}.")
    return _WORDS[value]


_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "$where": ("where", _json),
    "$prefix": ("prefix", _text),
    "$glob": ("glob", _text),
    "$order": ("order_by", _text),
    "$limit": ("limit", parse_number),
    "$after": ("after", _text),
}
