"""Members of the documents that an exporter sends, each checked and named where it is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from kvstore.documents import JsonObject, json_type
from kvstore.errors import InvalidRequestError

_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Separators of folders on any system, and what no name of a file that is shown to people needs.
_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f]")
#: Milliseconds within which a time has a year of four digits.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999


def check_hex(text: object, what: str) -> str:
    """Return the 32 hexadecimal digits of an id or an MD5 in lower case.

    Raises:
        InvalidRequestError: naming *what* is none.
    """
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise InvalidRequestError(f"{what} is 32 hexadecimal digits, not {text!r:.100}.")
    return text.lower()


def hex_of(document: JsonObject, name: str) -> str:
    """The id or MD5 in a member; errors as :func:`check_hex`."""
    return check_hex(document.get(name), name)


def text_of(document: JsonObject, name: str) -> str:
    """The text in a member.

    Raises:
        InvalidRequestError: there is none.
    """
    text: str = _typed(document.get(name), name, "string")
    return text


def list_of(document: JsonObject, name: str) -> list[Any]:
    """The array in a member, which may be left out; errors as :func:`text_of`."""
    items: list[Any] = _typed(document.get(name, []), name, "array")
    return items


def objects_of(document: JsonObject, name: str) -> list[JsonObject]:
    """The array of objects in a member, which may be left out; errors as :func:`text_of`."""
    return [
        _typed(item, f"{name}[{at}]", "object") for at, item in enumerate(list_of(document, name))
    ]


def optional(document: JsonObject, kinds: dict[str, str]) -> JsonObject:
    """Return those members that are there, of the names and JSON types in *kinds*.

    An exporter leaves out what it does not know, or sends null.

    Raises:
        InvalidRequestError: one of another type.
    """
    return {
        name: _typed(document[name], name, kind)
        for name, kind in kinds.items()
        if document.get(name) is not None
    }


def time_of(document: JsonObject, name: str) -> int | float:
    """The milliseconds since the epoch in a member.

    Raises:
        InvalidRequestError: no number, or in no year from 1 to 9999.
    """
    milliseconds: int | float = _typed(document.get(name), name, "number")
    if not _FIRST <= milliseconds <= _LAST:
        raise InvalidRequestError(f"{name} is milliseconds since 1970, not {milliseconds!r:.100}.")
    return milliseconds


def iso(milliseconds: float) -> str:
    """The same time as people read it (RFC 3339), in UTC."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_file_name(name: str) -> str:
    """Return the name of a file that leads nowhere else, whoever saves the file under it.

    Raises:
        InvalidRequestError: it has a separator of folders or a control character, or is a dot or
            two.
    """
    if _NO_NAME.search(name) or name in ("", ".", ".."):
        raise InvalidRequestError(f"file_name is the name of a file, not {name!r:.100}.")
    return name


def meta_of(document: JsonObject) -> JsonObject:
    """The items of ``meta`` as ``meta``: an object by their keys, so that queries find them.

    A key that comes several times has an array of its values. JSON has no dates, which travel as
    milliseconds: ``dates`` names the keys that have one, where there are any.

    Raises:
        InvalidRequestError: an item that is none.
    """
    values: dict[str, list[Any]] = {}
    dates: dict[str, None] = {}
    for item in objects_of(document, "meta"):
        key, kind = text_of(item, "key"), item.get("type")
        if kind not in ("number", "string", "date"):
            raise InvalidRequestError(f"The type of meta {key!r:.100} is not {kind!r:.100}.")
        value = time_of(item, "value") if kind == "date" else item.get("value")
        values.setdefault(key, []).append(_typed(value, f"meta {key!r:.100}", _JSON[kind]))
        if kind == "date":
            dates[key] = None
    meta = {key: items[0] if len(items) == 1 else items for key, items in values.items()}
    return {"meta": meta, "dates": list(dates)} if dates else {"meta": meta}


_JSON = {"number": "number", "string": "string", "date": "number"}


def _typed(value: Any, name: str, kind: str) -> Any:
    if json_type(value) != kind:
        raise InvalidRequestError(f"{name} is a JSON {kind}, not {value!r:.100}.")
    return value
