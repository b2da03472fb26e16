"""XML that comes from outside, read within bounds; and XML that goes out, in pieces."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from kvstore.gateways.vospace.faults import invalid_argument
from kvstore.gateways.vospace.names import UWS, VERSION, VOS, VOS_TOO, XLINK, XSI

#: Bytes of a document, which may be metadata of a megabyte of which many characters are entities;
#: the elements in it, and how deep they may be.
MOST_BYTES = 8 << 20
_MOST_ELEMENTS = 20_000
_DEEPEST = 32

#: Other encodings would reach the codecs of Python, which know some that no parser should.
_ENCODING = re.compile(r"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")
# What XML 1.0 has no way to say (section 2.2).
_UNSAYABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What stands for itself, between tags and in quotes; nearly all that there is.
_PLAIN = re.compile(r"[ !#-%'-;=?-~]*")
_ENTITIES = {'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}

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
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
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
    parsed = iterparse(io.BytesIO(body), events=("start", "end"), forbid_dtd=True)
    for event, element in parsed:
        if event == "start":
            count += 1
            stack.append([])
            if len(stack) > _DEEPEST or count > _MOST_ELEMENTS:
                raise ValueError(f"over {_DEEPEST} levels or {_MOST_ELEMENTS} elements")
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


def can_say(text: str) -> bool:
    """Tell whether XML can hold a text so that the same is read again."""
    return _UNSAYABLE.search(text) is None


def text_of(text: str) -> str:
    """Return a text as it stands between tags; what XML cannot say is replaced."""
    if _PLAIN.fullmatch(text):
        return text
    return escape(_UNSAYABLE.sub("\ufffd", text), {"\r": "&#13;"})


def attribute(text: str) -> str:
    """Return a text as it stands in double quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return escape(_UNSAYABLE.sub("\ufffd", text), _ENTITIES)


def encoded(pieces: Iterable[str]) -> Iterator[bytes]:
    """Yield the parts of a document as bytes, the declaration first."""
    yield HEAD.encode()
    for piece in pieces:
        yield piece.encode()
