"""Nodes as documents (VOSpace 2.1 section 3.1): read from a service, and written for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kvstore.errors import InvalidRequestError, TransportError
from kvstore.profiles.xmltext import attribute, text_of
from kvstore.transport.vospace.markup import below, document, elements, local, space, text_in
from kvstore.transport.vospace.names import CORE, VOS, VOS_TOO, XSI, path_in
from kvstore.values import DEFAULT_MIMETYPE, check_mimetype

DATA, CONTAINER, LINK = "DataNode", "ContainerNode", "LinkNode"
_TYPE, _NIL = f"{{{XSI}}}type", f"{{{XSI}}}nil"
_NAMES = f'xmlns:vos="{VOS}" xmlns:xsi="{XSI}" version="2.1"'
_TRUE = ("true", "1")
#: Digits that are looked at of a length.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Node:
    """What a service tells of one node."""

    #: As the service calls it.
    uri: str
    #: ``DataNode`` for all that hold bytes.
    kind: str
    #: URI to text.
    properties: Mapping[str, str] = field(default_factory=dict)
    #: URIs of those that only the service sets.
    fixed: frozenset[str] = frozenset()
    #: Where a link leads.
    target: str = ""

    @property
    def is_data(self) -> bool:
        """Whether it holds bytes."""
        return self.kind == DATA

    def core(self, name: str) -> str | None:
        """Return the property of the core vocabulary of that name, None if it is not told."""
        return self.properties.get(CORE + name)

    @property
    def length(self) -> int | None:
        """Bytes; None if they are not told."""
        text = (self.core("length") or "").strip()
        is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS
        return int(text) if is_number else None

    @property
    def md5(self) -> str | None:
        """MD5 of the bytes in 32 hexadecimal digits; None if it is not told."""
        text = (self.core("MD5") or "").strip().lower()
        return text if len(text) == 32 and set(text) <= set("0123456789abcdef") else None

    @property
    def mimetype(self) -> str:
        """Media type of the bytes."""
        try:
            return check_mimetype(self.core("type")) or DEFAULT_MIMETYPE
        except InvalidRequestError:
            return DEFAULT_MIMETYPE

    def time(self, name: str) -> float | None:
        """Return the time in a property of the core vocabulary, None if it tells none."""
        try:
            when = datetime.fromisoformat((self.core(name) or "").strip())
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None


def read_node(body: bytes) -> Node:
    """Return the node that a document is about.

    Raises:
        TransportError: it is no such document.
    """
    return _node(document(body, "node", VOS, VOS_TOO))


def read_children(pieces: Iterable[bytes], path: str) -> Iterator[Node | None]:
    """Yield the nodes in a container, in the order of the document; one is in memory at a time.

    The last is None where what was read is no container at *path*.

    Raises:
        TransportError: it is no such document, or cut short.
    """
    for is_outermost, element in elements(pieces, keep="node"):
        if local(element) != "node" or space(element) not in (VOS, VOS_TOO):
            raise TransportError(f"The service sent {element.tag!r:.100} in place of a node.")
        node = _node(element)
        if not is_outermost:
            yield node
        elif node.kind != CONTAINER or path_in(node.uri) != path:
            yield None


def document_of(uri: str, properties: Mapping[str, str | None], *, kind: str = DATA) -> bytes:
    """Return a node as a document; a property that is None is to be deleted."""
    # Those first: a service that goes by what a property means may know one by two names.
    told = "".join(
        f'<vos:property uri="{attribute(name)}" xsi:nil="true"/>'
        for name, text in properties.items()
        if text is None
    )
    told += "".join(
        f'<vos:property uri="{attribute(name)}">{text_of(text)}</vos:property>'
        for name, text in properties.items()
        if text is not None
    )
    tail = "<vos:accepts/><vos:provides/>" + ("<vos:nodes/>" if kind == CONTAINER else "")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<vos:node {_NAMES} xsi:type="vos:{kind}" uri="{attribute(uri)}">'
        f"<vos:properties>{told}</vos:properties>{tail}</vos:node>"
    ).encode()


def _node(element: Any) -> Node:
    uri = (element.get("uri") or "").strip()
    if not uri:
        raise TransportError("The service sent a node without a uri.")
    name = element.get(_TYPE, "").rpartition(":")[2].strip()
    kind = name if name in (CONTAINER, LINK) else DATA
    properties: dict[str, str] = {}
    fixed = set()
    for listed in below(element, "properties"):
        for one in below(listed, "property"):
            known = (one.get("uri") or "").strip()
            if not known or len(one) or one.get(_NIL, "").strip() in _TRUE:
                continue
            properties[known] = one.text or ""
            if one.get("readOnly", "").strip() in _TRUE:
                fixed.add(known)
    return Node(uri, kind, properties, frozenset(fixed), text_in(element, "target") or "")
