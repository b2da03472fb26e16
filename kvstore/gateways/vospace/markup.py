"""XML that comes from outside, read within bounds; and XML that goes out, in pieces."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kvstore.gateways.vospace.faults import invalid_argument
from kvstore.gateways.vospace.names import UWS, VERSION, VOS, VOS_TOO, XLINK, XSI
from kvstore.profiles.xmlevents import MalformedXmlError, xml_events

#: Bytes of a document, which may be metadata of a megabyte of which many characters are entities;
#: the elements in it, and how deep they may be.
MOST_BYTES = 8 << 20
_MOST_ELEMENTS = 20_000
_DEEPEST = 32

#: Other encodings would reach the codecs of Python, which know some that no parser should.
_ENCODING = re.compile(r"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMES = f'xmlns:vos="{VOS}" xmlns:xsi="{XSI}"'
VOS_NAMES = f'{NAMES} version="{VERSION}"'
UWS_NAMES = f'xmlns:uws="{UWS}" xmlns:xlink="{XLINK}" xmlns:xsi="{XSI}" version="1.1"'


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a document that was read."""

    #: Its name without the namespace.
    name: str
    #: Whether it is in the namespace of VOSpace.
    is_ours: bool
    #: Attributes; those with a namespace as ``{namespace}name``.
    attributes: dict[str, str]
    #: All text in it, that before, between and behind the elements within.
    text: str
    children: tuple[Element, ...]

    def all(self, name: str) -> Iterator[Element]:
        """Yield the elements of that name directly within."""
        return (child for child in self.children if child.is_ours and child.name == name)

    def one(self, name: str) -> Element | None:
        """Return the only element of that name, None if there is none.

        Raises:
            Fault: InvalidArgument: there are more.
        """
        found = list(self.all(name))
        if len(found) > 1:
            raise invalid_argument(f"There is one {name!r} in {self.name!r:.50}, not {len(found)}.")
        return found[0] if found else None

    def value(self, name: str) -> str | None:
        """Return the text of the only element of that name, without blanks around it."""
        found = self.one(name)
        return None if found is None else found.text.strip()


def read_document(body: bytes, root: str) -> Element:
    """Return the document that a client sent, whose outermost element is called *root*.

    A document type declaration is refused, and with it every entity; nothing is ever fetched.

    Raises:
        Fault: InvalidArgument: no XML in UTF-8 of that kind, or one that is over a bound.
    """
    if len(body) > MOST_BYTES:
        raise invalid_argument(f"A document has at most {MOST_BYTES} bytes, not {len(body)}.")
    _check_encoding(body)
    try:
        found = _parsed(body)
    except MalformedXmlError as error:
        raise invalid_argument(f"The body is no XML that is taken here: {error!s:.200}.") from None
    if not found.is_ours or found.name != root:
        message = f"The body is a document {found.name!r:.50}, not {root!r} of {VOS}."
        raise invalid_argument(message)
    return found


def _check_encoding(body: bytes) -> None:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise invalid_argument("The body is XML in UTF-8; this is another encoding.") from None
    declared = _ENCODING.match(text)
    if declared is not None and declared[1].lower() not in _UTF8:
        raise invalid_argument(f"The body is XML in UTF-8, not in {declared[1]!r:.50}.")


def _parsed(body: bytes) -> Element:
    """The tree, made from the leaves up, so that deep documents end early and need no recursion."""
    stack: list[list[Element]] = [[]]
    count = 0
    for is_whole, element in xml_events(io.BytesIO(body), levels=_DEEPEST):
        if not is_whole:
            count += 1
            stack.append([])
            if count > _MOST_ELEMENTS:
                raise MalformedXmlError(f"over {_MOST_ELEMENTS} elements")
            continue
        children = stack.pop()
        stack[-1].append(_element(element, tuple(children)))
    return stack[0][0]


def _element(element: Any, children: tuple[Element, ...]) -> Element:
    namespace, _, name = element.tag.rpartition("}")
    ours = namespace.removeprefix("{") in (VOS, VOS_TOO)
    # A comment splits a text, and what stands before it alone would be another text.
    text = (element.text or "") + "".join(child.tail or "" for child in element)
    attributes = {str(key): str(value) for key, value in element.attrib.items()}
    return Element(name, ours, attributes, text, children)


def encoded(pieces: Iterable[str]) -> Iterator[bytes]:
    """Yield the parts of a document as bytes, the declaration first."""
    yield HEAD.encode()
    for piece in pieces:
        yield piece.encode()
