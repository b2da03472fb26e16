"""XML from a service, read within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from kvstore.errors import TransportError
from kvstore.profiles.xmlevents import MalformedXmlError, xml_events
from kvstore.profiles.xmltext import UNSAYABLE

#: Bytes of a document, and of the part of it that is in memory at a time; levels of it.
_MOST, _MOST_AT_ONCE, _LEVELS = 1 << 30, 1 << 25, 64
#: Bytes within which an encoding is declared, and those that the parser itself knows.
_HEAD = 512
_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")
_ENCODINGS = (b"utf-8", b"us-ascii", b"iso-8859-1")


def elements(
    pieces: Iterable[bytes], *, keep: str | None = None, most: int = _MOST
) -> Iterator[tuple[bool, Any]]:
    """Yield True and the outermost element of a document, once it is read whole.

    A document type declaration is refused, and with it every entity; nothing is ever fetched.

    Args:
        keep: local name of elements, at the third level, that are yielded one by one before the
            outermost, with False, and are not in it then.
        most: bytes that are read.

    Raises:
        TransportError: no XML, cut short, or over a bound.
        UnsupportedOperationError: defusedxml is not installed.
    """
    stream = _Stream(pieces, most)
    stack: list[Any] = []
    try:
        for is_whole, element in xml_events(stream, levels=_LEVELS):
            if not is_whole:
                stack.append(element)
                continue
            stack.pop()
            if not stack:
                yield True, element
            elif keep is not None and len(stack) == 2 and local(element) == keep:
                yield False, element
                stack[-1].remove(element)  # else all of the document would be kept
                stream.since = 0
    except MalformedXmlError as error:
        message = f"The service sent no XML that is accepted: {error!s:.200}."
        raise TransportError(message) from error


def document(body: bytes, name: str, *namespaces: str) -> Any:
    """Return the outermost element of a document, which must be called *name*.

    Raises:
        TransportError: it is another one; as for :func:`elements`.
    """
    _, found = next(elements([body]))
    if local(found) != name or (namespaces and space(found) not in namespaces):
        raise TransportError(f"The service sent {found.tag!r:.100}, no document {name!r}.")
    return found


def local(element: Any) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def space(element: Any) -> str:
    """Return the namespace of an element, empty for none."""
    return str(element.tag).rpartition("}")[0].removeprefix("{")


def below(element: Any, name: str) -> Iterator[Any]:
    """Yield the elements directly in *element* that are called *name*, in whatever namespace."""
    return (child for child in element if local(child) == name)


def text_in(element: Any, name: str) -> str | None:
    """Return the text of the first element *name* in *element*, without blanks around it."""
    for child in below(element, name):
        return (child.text or "").strip()
    return None


def say_json(text: str) -> str:
    """Return JSON with escapes for what XML cannot hold; it means the same."""
    return UNSAYABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Stream:
    """Pieces as the file that a parser wants, as long as they are not too many."""

    def __init__(self, pieces: Iterable[bytes], most: int) -> None:
        self._pieces = iter(pieces)
        self._left = most
        self._is_begun = False
        #: Bytes since something was given out that is not kept.
        self.since = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._next()
        if not self._is_begun:
            while len(piece) < _HEAD and (more := self._next()):
                piece += more
            self._is_begun = True
            _check_encoding(piece[:_HEAD])
        return piece

    def _next(self) -> bytes:
        piece = next(self._pieces, b"")
        self._left -= len(piece)
        self.since += len(piece)
        if self._left < 0 or self.since > _MOST_AT_ONCE:
            raise TransportError(f"The service sent XML of over {_MOST_AT_ONCE} bytes.")
        return piece


def _check_encoding(head: bytes) -> None:
    """Others would reach the codecs of Python, which know some that no parser should."""
    told = _ENCODING.match(head.removeprefix(b"\xef\xbb\xbf"))
    if b"\0" in head or (told is not None and told[1].lower() not in _ENCODINGS):
        shown = b"UTF-16" if told is None else told[1]
        raise TransportError(f"The service sent XML in {shown!r:.50}, not in UTF-8.")
