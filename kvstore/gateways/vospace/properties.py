"""Properties of nodes: how they are told of a key, and what setting them changes.

Those of the core vocabulary that are plain texts, and names without a colon, are fields of the
metadata that every client sees. Other fields are told as JSON under ``urn:kvstore:meta:NAME``.
What has a URI of its own is kept under that, in the field of this protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from kvstore.documents import dump_json
from kvstore.gateways.vospace.checksums import stored_facts
from kvstore.gateways.vospace.names import CORE
from kvstore.gateways.vospace.tree import FIELD, Node
from kvstore.profiles.xmltext import can_say
from kvstore.values import OWNED, PUBLIC, Permissions, Record

#: Texts of the core vocabulary; each is the field of that name.
TEXTS = frozenset(
    {
        *("contributor", "coverage", "description", "format", "identifier", "language"),
        *("publisher", "relation", "rights", "source", "subject", "title"),
    }
)
#: What the server alone says.
READ_ONLY = frozenset(
    CORE + name
    for name in (
        *("availableSpace", "btime", "creator", "ctime", "date", "length", "MD5", "mtime"),
        "quota",
    )
)
TYPE = CORE + "type"
ISPUBLIC, PUBLICREAD = CORE + "ispublic", CORE + "publicread"
GROUPS = {CORE + "groupread": "read", CORE + "groupwrite": "write"}
#: Everything of the core vocabulary that means something here.
KNOWN = frozenset(
    {*READ_ONLY, TYPE, ISPUBLIC, PUBLICREAD, *GROUPS, *(CORE + name for name in TEXTS)}
)
#: Begins the URIs of fields of the metadata, whose value is told as JSON.
META = "urn:kvstore:meta:"
#: Begins the URIs of groups, as the clients of CADC write them.
GROUP = "ivo://cadc.nrc.ca/gms?"

_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.\-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Property:
    """One property."""

    uri: str
    #: None: it is to be deleted.
    text: str | None
    is_readonly: bool = False


def properties_of(node: Node, md5: str | None) -> Iterator[Property]:
    """Yield all properties of a node.

    Args:
        md5: of its bytes, if that is known.
    """
    record = node.record
    if node.is_data and record is not None:
        yield Property(CORE + "length", str(record.size), True)
        if md5 is not None:
            yield Property(CORE + "MD5", md5, True)
        yield Property(TYPE, _type_of(record))
    else:
        yield Property(CORE + "length", "0", True)  # ``vls -S`` wants one of every node
    changed = node.changed if record is None else record.modified
    yield Property(CORE + "date", format_date(changed or 0.0), True)
    if record is None:
        return
    if record.created is not None:
        yield Property(CORE + "btime", format_date(record.created), True)
    if record.permissions is not None:
        yield from _of_permissions(record.permissions)
    for name, value in record.metadata.items():
        if name != FIELD:
            yield _of_field(name, value)
    yield from _own(node)


def format_date(seconds: float) -> str:
    """Return a time as this protocol writes it: UTC, with milliseconds and without a zone."""
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        when = datetime.fromtimestamp(0, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}"


def field_of(uri: str) -> str | None:
    """Return the field of the metadata that holds a property as its plain text, None: none does."""
    if uri.startswith(CORE):
        name = uri.removeprefix(CORE)
        return name if name in TEXTS else None
    return uri if _PLAIN_NAME.fullmatch(uri) and uri != FIELD else None


def _type_of(record: Record) -> str:
    told = stored_facts(record).get("type")
    return told if isinstance(told, str) else record.mimetype


def _of_permissions(permissions: Permissions) -> Iterator[Property]:
    owners = sorted(permissions.get(OWNED, ()))
    if owners:
        yield Property(CORE + "creator", owners[0], True)
    is_public = "true" if PUBLIC in permissions.get("read", ()) else "false"
    yield Property(ISPUBLIC, is_public)
    yield Property(PUBLICREAD, is_public)
    for uri, right in GROUPS.items():
        tags = sorted(permissions.get(right, set()) - {PUBLIC})
        if tags:  # clients take an empty one for a group
            yield Property(uri, " ".join(GROUP + quote(tag, safe="") for tag in tags))


def _of_field(name: str, value: Any) -> Property:
    if isinstance(value, str) and can_say(value) and value:
        if name in TEXTS:
            return Property(CORE + name, value)
        if field_of(name) == name:
            return Property(name, value)
    text = dump_json(value).decode()
    if not can_say(text):
        text = _ascii(value)
    return Property(META + quote(name, safe=""), text)


def _ascii(value: Any) -> str:
    """JSON without any character that XML cannot hold."""
    text = dump_json(value).decode()
    return "".join(letter if can_say(letter) else f"\\u{ord(letter):04x}" for letter in text)


def _own(node: Node) -> Iterator[Property]:
    own = node.facts.get("properties")
    if isinstance(own, dict):
        for uri, text in own.items():
            if isinstance(text, str):
                yield Property(uri, text)
