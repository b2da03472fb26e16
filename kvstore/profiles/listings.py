"""Lists of keys in the formats that servers have: lines, TSV, JSON, a JSON a line, XML."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kvstore.documents import parse_json
from kvstore.errors import InvalidRequestError, TransportError
from kvstore.profiles.facts import Fact, Place, at_pointer, facts_of, read_facts
from kvstore.profiles.xmllists import xml_entries

#: Bytes of a line; of a document that has to be read whole.
_LINE = 1 << 22
_DOCUMENT = 1 << 26

#: Gives what one entry has at a place.
Entry: TypeAlias = Callable[[Place], Any]


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer lists."""

    #: The facts of each entry, and whether it is a folder. Read in constant memory but for ``json``
    #: (64 MiB at most); TransportError where the text is not of its format, or was cut short.
    entries: Iterator[tuple[dict[str, Any], bool]]
    #: What a JSON document says of where the next page is.
    following: Any = None


@dataclass(frozen=True, slots=True)
class Listing:
    """How a server lists its keys."""

    format: str
    #: JSON: pointer to the array of entries.
    items: str
    #: XML: path of an entry, and what its prefixes stand for.
    entry: str
    namespaces: Mapping[str, str]
    facts: Mapping[str, Fact]
    #: ``key``, ``relative`` to the folder asked for, or the ``url`` of the data.
    key_is: str
    #: What ``{prefix}`` is: the ``folder`` of the prefix that is asked for, or its whole ``text``.
    prefix: str
    #: Present in an entry that is a folder, and no key.
    folder: Place | None
    #: Whether folders are listed one by one.
    descend: bool
    is_sorted: bool
    next: Place | None
    next_is: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Listing:
        """Return what a profile describes."""
        following = document.get("next", {})
        return cls(
            format=document["format"],
            items=document.get("items", ""),
            entry=document.get("entry", "*"),
            namespaces=document.get("namespaces", {}),
            facts=facts_of(document["facts"]),
            key_is=document.get("key_is", "key"),
            prefix=document.get("prefix", "text"),
            folder=Place.of(document["folder"]) if "folder" in document else None,
            descend=document.get("descend", False),
            is_sorted=document.get("sorted", False),
            next=Place.of(following["from"]) if following else None,
            next_is=following.get("is", "url"),
        )

    def read(self, pieces: Iterable[bytes]) -> Page:
        """Return what one answer lists."""
        following = None
        if self.format == "json":
            document = _parsed(_whole(pieces))
            if self.next is not None and self.next.kind == "json":
                following = at_pointer(document, self.next.name)
            entries = _items(self, document)
        else:
            entries = _FORMATS[self.format](self, pieces)
        return Page(self._told(entries), following)

    def _told(self, entries: Iterable[Entry]) -> Iterator[tuple[dict[str, Any], bool]]:
        for find in entries:
            told = read_facts(self.facts, find)
            if "key" not in told:
                raise TransportError(f"The server listed an entry without {self._key_place()}.")
            told["key"] = str(told["key"])
            yield told, self.folder is not None and find(self.folder) is not None

    def _key_place(self) -> Place:
        return self.facts["key"].place


def _lines(_: Listing, pieces: Iterable[bytes]) -> Iterator[Entry]:
    for line in _split(pieces):
        text = _text(line).removesuffix("\r")
        if text:
            yield functools.partial(_line, text)


def _line(text: str, place: Place) -> str | None:
    return text if place.kind in ("line", "text") else None


def _tsv(_: Listing, pieces: Iterable[bytes]) -> Iterator[Entry]:
    for line in _split(pieces):
        columns = _text(line).removesuffix("\r").split("\t")
        if columns != [""]:
            yield functools.partial(_column, columns)


def _column(columns: list[str], place: Place) -> str | None:
    number = int(place.name) if place.kind == "column" else len(columns)
    return columns[number] or None if number < len(columns) else None


def _ndjson(_: Listing, pieces: Iterable[bytes]) -> Iterator[Entry]:
    for line in _split(pieces):
        if line.strip():
            yield _entry(_parsed(line))


def _items(listing: Listing, document: Any) -> Iterator[Entry]:
    items = at_pointer(document, listing.items)
    if isinstance(items, dict):  # name -> entry; the name is then at `json:/`
        items = [{**item, "": name} for name, item in items.items() if isinstance(item, dict)]
    if not isinstance(items, list):
        where = listing.items or "/"
        raise TransportError(f"The server sent no array of entries at {where!r:.100}.")
    return map(_entry, items)


def _xml(listing: Listing, pieces: Iterable[bytes]) -> Iterator[Entry]:
    for find in xml_entries(pieces, listing.entry, listing.namespaces):
        yield functools.partial(_element, find)


def _element(find: Callable[[str], str | None], place: Place) -> str | None:
    return find(place.name) if place.kind == "xml" else None


_FORMATS: dict[str, Callable[[Listing, Iterable[bytes]], Iterator[Entry]]] = {
    "lines": _lines,
    "tsv": _tsv,
    "ndjson": _ndjson,
    "xml": _xml,
}


def _entry(document: Any) -> Entry:
    return lambda place: at_pointer(document, place.name) if place.kind == "json" else None


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # As bytes: str.splitlines would also split at U+2028 and others that keys may hold. Whether
    # the body is whole its framing tells, so that the last line may lack its end.
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _LINE:
            raise TransportError(f"The server sent a line of over {_LINE} bytes.")
    if rest:
        yield rest


def _whole(pieces: Iterable[bytes]) -> bytes:
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > _DOCUMENT:
            raise TransportError(f"The server sent a list of over {_DOCUMENT} bytes.")
    return bytes(whole)


def _parsed(raw: bytes) -> Any:
    try:
        return parse_json(raw, what="list")
    except InvalidRequestError as error:
        raise TransportError(f"The server sent no list: {error.message}") from error


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TransportError(f"The server listed what is no UTF-8: {line!r:.100}.") from error
