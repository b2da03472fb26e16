"""Entries of an XML document, one at a time, without what makes XML dangerous."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kvstore.errors import TransportError
from kvstore.profiles.xmlevents import MalformedXmlError, xml_events

#: Bytes of a document, and levels in it.
_MOST = 1 << 28
_LEVELS = 64


def xml_entries(
    pieces: Iterable[bytes], path: str, namespaces: Mapping[str, str]
) -> Iterator[Callable[[str], str | None]]:
    """Yield for each element at *path* a function that gives the text at a path below it.

    The text of an element that is there and has none is ``""``. A path that ends in ``/@name``
    names an attribute. A document type declaration is refused, and with it every entity.

    Args:
        path: the name of the elements, such as ``D:response``; they may be at any level.
        namespaces: prefix to namespace.

    Raises:
        TransportError: no XML, cut short, or more than 64 levels or 256 MiB.
        UnsupportedOperationError: defusedxml is not installed.
    """
    wanted = _expanded(path, namespaces)
    stack: list[Any] = []
    try:
        for is_whole, element in xml_events(_Stream(pieces), levels=_LEVELS):
            if not is_whole:
                stack.append(element)
                continue
            stack.pop()
            if element.tag == wanted:
                yield functools.partial(_found, element, namespaces)
            if not any(outer.tag == wanted for outer in stack):
                element.clear()  # else all of the document would be kept
                if stack:
                    stack[-1].remove(element)
    except MalformedXmlError as error:
        raise TransportError(f"The server sent no XML that is accepted: {error}.") from error


def _found(element: Any, namespaces: Mapping[str, str], path: str) -> str | None:
    where, _, attribute = path.partition("/@")
    found = element.find(where, dict(namespaces)) if where not in ("", ".") else element
    if found is None:
        return None
    if attribute:
        value: str | None = found.get(_expanded(attribute, namespaces))
        return value
    return (found.text or "").strip()


def _expanded(name: str, namespaces: Mapping[str, str]) -> str:
    prefix, colon, local = name.rpartition(":")
    return f"{{{namespaces.get(prefix, prefix)}}}{local}" if colon else name


class _Stream:
    """Pieces as the file that a parser wants."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = _MOST

    def read(self, size: int = -1) -> bytes:
        piece = next(self._pieces, b"")
        self._left -= len(piece)
        if self._left < 0:
            raise TransportError(f"The server sent XML of over {_MOST} bytes.")
        return piece
