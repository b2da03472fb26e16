"""Setting properties: from what a client sends to one change of a key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from kvstore.documents import JsonObject, copy_json, parse_json
from kvstore.errors import InvalidRequestError
from kvstore.gateways.vospace.faults import denied, invalid_argument
from kvstore.gateways.vospace.names import CORE
from kvstore.gateways.vospace.properties import (
    GROUPS,
    ISPUBLIC,
    KNOWN,
    META,
    PUBLICREAD,
    READ_ONLY,
    TYPE,
    Property,
    field_of,
    properties_of,
)
from kvstore.gateways.vospace.tree import FIELD, Node
from kvstore.server.site import Site
from kvstore.values import PUBLIC, Permissions, copy_permissions

_WORDS = {"true": True, "1": True, "false": False, "0": False, "": False}
_BETWEEN = re.compile(r"[\s,]+")
#: What promises that nobody writes here: only clients of this protocol would keep to it.
_LOCKS = (CORE + "immutable", "ivo://cadc.nrc.ca/vospace/core#islocked")


@dataclass(slots=True)
class Patch:
    """What is to be stored of a node once its properties are set."""

    metadata: JsonObject
    permissions: Permissions | None = None
    #: Whether the metadata are others than before.
    is_changed: bool = False
    facts: JsonObject = field(default_factory=dict)

    def done(self) -> JsonObject:
        """Return the metadata as they are to be stored."""
        facts = {name: value for name, value in self.facts.items() if value not in ({}, None)}
        rest = {name: value for name, value in self.metadata.items() if name != FIELD}
        return {**rest, FIELD: facts} if facts else rest


def patch(
    site: Site, node: Node, given: Iterable[Property], md5: str | None, *, is_new: bool = False
) -> Patch:
    """Return what setting *given* makes of a node; what is not given stays.

    A property that is given as it is now changes nothing. Of those that only the server sets, one
    that says so itself is passed over, as clients send back whole nodes; another value is refused.

    Args:
        md5: of the bytes of the node, if that is known.
        is_new: the node is being made, and what the server sets means nothing yet.

    Raises:
        Fault: PermissionDenied: a property that only the server sets; InvalidArgument: a name or a
            value that means nothing.
        AuthorizationError: the caller may not change who may see it.
        UnsupportedOperationError: the store has no permissions.
    """
    record = node.record
    made = Patch({} if record is None else copy_json(record.metadata))
    made.facts = copy_json(node.facts)
    before = {one.uri: one.text for one in properties_of(node, md5)}
    for one in given:
        if one.uri in READ_ONLY:
            if not (is_new or one.is_readonly or one.text == before.get(one.uri)):
                raise denied(f"Only the server sets {one.uri!r}.")
        elif one.text != before.get(one.uri):
            _set(site, node, made, one)
    return made


def _set(site: Site, node: Node, made: Patch, given: Property) -> None:
    uri, text = given.uri, given.text
    if uri in (ISPUBLIC, PUBLICREAD) or uri in GROUPS:
        _permit(site, node, made, given)
        return
    made.is_changed = True
    if uri in _LOCKS:
        if _truth(given):
            raise invalid_argument("Nodes cannot be locked: who else may write here would not see.")
        made.is_changed = False
    elif uri == TYPE and node.is_data:
        _set_type(node, made, text)
    elif uri.startswith(META):
        _set_field(made, given)
    elif (name := field_of(uri)) is not None:
        _put(made.metadata, name, text or None)
    elif uri.startswith(CORE) and uri not in KNOWN:
        raise invalid_argument(f"The core vocabulary has no {uri!r:.200}.")
    elif not uri or uri == FIELD:
        raise invalid_argument(f"No property is called {uri!r}.")
    else:
        own = made.facts.setdefault("properties", {})
        if not isinstance(own, dict):
            own = made.facts["properties"] = {}
        _put(own, uri, text)


def _put(where: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        where.pop(name, None)
    else:
        where[name] = value


def _set_type(node: Node, made: Patch, text: str | None) -> None:
    """Keep a media type that a client gives apart from that of the bytes, with which it goes."""
    data = made.facts.get("data")
    digest = None if node.record is None else node.record.digest
    if digest is None or not text:
        made.is_changed = isinstance(data, dict) and data.pop("type", None) is not None
        return
    if not isinstance(data, dict) or data.get("digest") != digest:
        data = made.facts["data"] = {"digest": digest}
    data["type"] = text


def _set_field(made: Patch, given: Property) -> None:
    name = unquote(given.uri.removeprefix(META))
    if name == FIELD:
        raise invalid_argument(f"The field {FIELD!r} is what other properties are kept in.")
    if given.text is None:
        made.metadata.pop(name, None)
        return
    try:
        made.metadata[name] = parse_json(given.text.encode())
    except InvalidRequestError as error:
        raise invalid_argument(f"The value of {given.uri!r:.100}: {error.message}") from None


def _permit(site: Site, node: Node, made: Patch, given: Property) -> None:
    if made.permissions is None:
        made.permissions = _permissions_of(site, node)
    now = made.permissions
    if given.uri in GROUPS:
        right = GROUPS[given.uri]
        names = filter(None, _BETWEEN.split(given.text or ""))
        now[right] = {_tag_of(name) for name in names} | (now.get(right, set()) & {PUBLIC})
    else:
        read = now.setdefault("read", set())
        read.add(PUBLIC) if _truth(given) else read.discard(PUBLIC)
    made.permissions = {name: tags for name, tags in now.items() if tags}


def _permissions_of(site: Site, node: Node) -> Permissions:
    store = site.authorizer
    if node.record is None:
        return {"owned": {site.user_tag()}}
    if node.record.permissions is not None:
        return copy_permissions(node.record.permissions)
    return store.get_permissions(node.record.key)


def _tag_of(group: str) -> str:
    """The tag that a group is here: what stands behind ``?`` in its URI, or the whole text."""
    scheme, _, rest = group.partition("://")
    name = rest.partition("?")[2] if scheme.lower() == "ivo" else ""
    return unquote(name) if name else group


def _truth(given: Property) -> bool:
    word = _WORDS.get((given.text or "").strip().lower())
    if word is None:
        raise invalid_argument(f"{given.uri!r} is true or false, not {given.text!r:.50}.")
    return word
