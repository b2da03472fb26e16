"""Metadata as properties of nodes and back, and the other facts that are properties.

====================================  =====================================================
field of the metadata                 property
====================================  =====================================================
a text, and its name is one of the    ``ivo://ivoa.net/vospace/core#NAME``, the text
core vocabulary (title, …)
any other                             ``urn:kvstore:meta:NAME``, the value as JSON
``vospace``: {"properties": {…}}      each by its own URI: what other clients have set
====================================  =====================================================

A property whose name has no colon, as the ``vtag`` of CADC's client sets them, is read as the field
of that name. What only a service sets, and who may read and write, are no metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from kvstore.documents import JsonObject, dump_json, parse_json
from kvstore.errors import InvalidMetadataError, InvalidRequestError
from kvstore.profiles.xmltext import can_say
from kvstore.transport.mapped.replies import checked_metadata
from kvstore.transport.vospace.markup import say_json
from kvstore.transport.vospace.names import CORE
from kvstore.transport.vospace.nodes import Node
from kvstore.values import Record

#: Begins the URIs of fields whose value is told as JSON.
META = "urn:kvstore:meta:"
#: The field for properties that are nothing but properties.
FIELD = "vospace"
#: Texts of the core vocabulary; each is the field of that name.
TEXTS = frozenset(
    {
        *("contributor", "coverage", "description", "format", "identifier", "language"),
        *("publisher", "relation", "rights", "source", "subject", "title"),
    }
)
#: Locks and what is inherited are the service's own affair, even where a client may set them.
_SYSTEM = (CORE, "ivo://cadc.nrc.ca/vospace/core#")
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.\-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Told:
    """The metadata of a node, and which properties tell them."""

    metadata: JsonObject
    #: URI to text, of the properties that are metadata.
    properties: dict[str, str]


def told_by(node: Node, key: str) -> Told:
    """Return the metadata of a node.

    Raises:
        TransportError: they are none that a store can have.
    """
    metadata: JsonObject = {}
    own: dict[str, str] = {}
    counted: dict[str, str] = {}
    # JSON last: it is what a client of ours wrote, and wins over what another wrote beside it.
    for uri, text in sorted(node.properties.items(), key=lambda one: one[0].startswith(META)):
        if uri in node.fixed:
            continue
        field = _field(uri, text)
        if field is not None:
            metadata[field[0]] = field[1]
        elif uri.startswith(_SYSTEM):
            continue
        else:
            own[uri] = text
        counted[uri] = text
    if own:
        metadata[FIELD] = {"properties": own}
    return Told(checked_metadata(metadata, key), counted)


def properties_for(metadata: JsonObject) -> dict[str, str]:
    """Return the properties that stand for metadata, URI to text.

    Raises:
        InvalidMetadataError: the field ``vospace`` holds what is no property.
    """
    found: dict[str, str] = {}
    for name, value in metadata.items():
        if name == FIELD:
            found |= _own(value)
        else:
            uri = _uri_of(name, value)
            found[uri] = say_json(dump_json(value).decode()) if uri.startswith(META) else value
    return found


def changes(before: Told, metadata: JsonObject) -> dict[str, str | None]:
    """Return what is to be set, or deleted (None), so that a node has *metadata*.

    Raises:
        InvalidMetadataError: as for :func:`properties_for`.
    """
    wanted = properties_for(metadata)
    made: dict[str, str | None] = {}
    for uri, text in before.properties.items():
        field = _field(uri, text)
        if field is None:
            says_it, spelled = wanted.get(uri) == text, uri
        else:
            name, value = field
            says_it = name in metadata and dump_json(value) == dump_json(metadata[name])
            spelled = _uri_of(name, metadata.get(name))
        if says_it:
            # In whichever spelling: others may read it in that.
            wanted.pop(spelled, None)
        elif uri not in wanted:
            made[uri] = None
    return {**made, **wanted}


def record_of(node: Node, key: str, metadata: JsonObject) -> Record:
    """Return the facts about *key* that its node tells."""
    return Record(
        key,
        metadata,
        node.length or 0,
        created=node.time("btime"),
        modified=node.time("date"),
        mimetype=node.mimetype,
    )


def _field(uri: str, text: str) -> tuple[str, Any] | None:
    """Name and value of the field that a property is; None: it is no field of its own."""
    if uri.startswith(META):
        try:
            return unquote(uri.removeprefix(META), errors="strict"), parse_json(text.encode())
        except (InvalidRequestError, UnicodeError):
            return None
    if uri.startswith(CORE):
        name = uri.removeprefix(CORE)
        return (name, text) if name in TEXTS else None
    return (uri, text) if _PLAIN_NAME.fullmatch(uri) and uri != FIELD else None


def _uri_of(name: str, value: Any) -> str:
    is_text = name in TEXTS and isinstance(value, str) and _is_plain(value)
    return CORE + name if is_text else META + quote(name, safe="")


def _is_plain(text: str) -> bool:
    """Tell whether a text is the same again after services have kept it as that of an element."""
    return bool(text) and text == text.strip() and text.isprintable()


def _own(value: Any) -> dict[str, str]:
    told: dict[str, Any] = value if isinstance(value, dict) else {"": None}
    # What a gateway of ours has noted there about the bytes is not ours to tell: it notes its own.
    properties = told.get("properties", {})
    is_known = told.keys() <= {"properties", "data"} and isinstance(properties, dict)
    for uri, text in properties.items() if is_known else [("", None)]:
        if not _may_be_property(uri, text):
            message = (
                f"The field {FIELD!r} of the metadata is {{'properties': {{URI: text}}}}, with URIs"
                f" that stand for no other field; it is not {value!r:.100}."
            )
            raise InvalidMetadataError(message, pointer=f"/{FIELD}")
    return dict(properties)


def _may_be_property(uri: str, text: Any) -> bool:
    if not (uri and isinstance(text, str) and can_say(text) and can_say(uri)):
        return False
    return uri == uri.strip() and not uri.startswith(_SYSTEM) and _field(uri, text) is None
