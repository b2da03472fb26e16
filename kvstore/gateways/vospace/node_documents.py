"""Nodes as documents (VOSpace 2.1 section 3.1), from clients and for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvstore.gateways.vospace.faults import Fault, invalid_argument, invalid_uri
from kvstore.gateways.vospace.markup import VOS_NAMES, Element, read_document
from kvstore.gateways.vospace.names import CORE, XSI, Space
from kvstore.gateways.vospace.properties import Property
from kvstore.gateways.vospace.tree import CONTAINER, DATA, LINK, SUBTYPES, Node
from kvstore.profiles.xmltext import attribute, text_of

#: Types that a document may name; a plain ``Node`` is one that holds bytes.
_KINDS = {"Node": DATA, **{kind: kind for kind in (DATA, CONTAINER, LINK, *SUBTYPES)}}
_TRUE = ("true", "1")
#: Bytes come and go as they are: every view is theirs.
_ACCEPTS = f'<vos:accepts><vos:view uri="{CORE}anyview"/></vos:accepts>'
_PROVIDES = f'<vos:provides><vos:view uri="{CORE}defaultview"/></vos:provides>'


@dataclass(frozen=True, slots=True)
class Given:
    """A node as a client describes it."""

    uri: str
    kind: str
    properties: tuple[Property, ...]
    target: str | None


def read_node(body: bytes) -> Given:
    """Return what a document says of a node.

    Raises:
        Fault: InvalidArgument: no such document; InvalidURI: it names no node; TypeNotSupported.
    """
    root = read_document(body, "node")
    uri = root.attributes.get("uri")
    if not uri:
        raise invalid_uri("The document of a node has the attribute uri.")
    kind = _kind_of(root)
    target = root.value("target")
    if kind == LINK and not target:
        raise invalid_argument("A link has a target.")
    return Given(uri, kind, tuple(_properties_in(root)), target)


def check_uri(space: Space, given: Given, path: str) -> None:
    """Refuse a document about another node than the URL is for.

    Raises:
        Fault: InvalidURI.
    """
    if space.path(given.uri) != path:
        raise invalid_uri(f"The document is about {given.uri!r:.200}, the URL {path!r:.200}.")


def document_of(
    space: Space, node: Node, properties: Iterable[Property], children: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the document of a node in pieces.

    Args:
        children: of a container, from :func:`child_of`.
    """
    yield (
        f'<vos:node {VOS_NAMES} xsi:type="vos:{node.kind}"'
        f' uri="{attribute(space.uri(node.path))}">{_properties(properties)}'
    )
    if node.kind == LINK:
        yield _target(node)
    elif node.kind == CONTAINER:
        yield "<vos:accepts/><vos:provides/><vos:capabilities/><vos:nodes>"
        yield from children
        yield "</vos:nodes>"
    else:
        yield f"{_ACCEPTS}{_PROVIDES}<vos:capabilities/>"
    yield "</vos:node>"


def child_of(space: Space, node: Node, properties: Iterable[Property]) -> str:
    """Return a node as it stands in the document of its container."""
    tail = {LINK: _target(node), CONTAINER: "<vos:nodes/>"}.get(node.kind, "")
    return (
        f'<vos:node xsi:type="vos:{node.kind}" uri="{attribute(space.uri(node.path))}">'
        f"{_properties(properties)}{tail}</vos:node>"
    )


def _properties(properties: Iterable[Property]) -> str:
    told = "".join(
        f'<vos:property uri="{attribute(one.uri)}" readOnly="{str(one.is_readonly).lower()}">'
        f"{text_of(one.text or '')}</vos:property>"
        for one in properties
    )
    return f"<vos:properties>{told}</vos:properties>" if told else "<vos:properties/>"


def _target(node: Node) -> str:
    return f"<vos:target>{text_of(node.target or '')}</vos:target>"


def _kind_of(root: Element) -> str:
    told = root.attributes.get(f"{{{XSI}}}type", "Node")
    name = told.rpartition(":")[2].strip()
    if name not in _KINDS:
        raise Fault("TypeNotSupported", 400, f"There is no type of nodes {told!r:.100}.")
    return _KINDS[name]


def _properties_in(root: Element) -> Iterator[Property]:
    listed = root.one("properties")
    for one in () if listed is None else listed.all("property"):
        uri = one.attributes.get("uri", "").strip(" \t\r\n")
        if not uri:
            raise invalid_argument("A property has the attribute uri.")
        if one.children:
            raise invalid_argument(f"The property {uri!r:.100} is a text, and holds no elements.")
        is_nil = one.attributes.get(f"{{{XSI}}}nil", "").strip() in _TRUE
        is_readonly = one.attributes.get("readOnly", "").strip() in _TRUE
        yield Property(uri, None if is_nil else one.text, is_readonly)
