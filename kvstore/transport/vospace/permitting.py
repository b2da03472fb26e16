"""Permissions as properties: who made a node, the groups that may read and write it, everybody."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from kvstore.transport.vospace.names import CORE
from kvstore.transport.vospace.nodes import Node
from kvstore.transport.vospace.talk import Talk
from kvstore.values import OWNED, PUBLIC, Permissions, Record
from kvstore.writes import Change

#: Begins the URIs of groups, as the clients of CADC write them.
_GROUP = "ivo://cadc.nrc.ca/gms?"
_PUBLIC = (CORE + "ispublic", CORE + "publicread")
_GROUPS = {"read": CORE + "groupread", "write": CORE + "groupwrite"}
_BETWEEN = re.compile(r"[\s,]+")


def permissions_of(talk: Talk, key: str, node: Node) -> Permissions:
    """Return who may do what.

    Raises:
        UnsupportedOperationError: the service does not tell whose the node is.
    """
    creator = (node.core("creator") or "").strip()
    if not creator:
        raise talk.unsupported("permissions of what has no creator", key)
    found: Permissions = {OWNED: {creator}}
    for name, uri in _GROUPS.items():
        groups = filter(None, _BETWEEN.split(node.properties.get(uri, "")))
        tags = {_tag_of(group) for group in groups}
        if name == "read" and _is_public(node):
            tags.add(PUBLIC)
        if tags:
            found[name] = tags
    return found


def changes(talk: Talk, key: str, node: Node, change: Change) -> dict[str, str | None]:
    """Return the properties to set for a change of permissions.

    Raises:
        UnsupportedOperationError: nodes have another owner only as the service decides, and no
            permission but to read and to write, the latter for groups alone.
    """
    before = permissions_of(talk, key, node)
    after = change.new_permissions(Record(key, {}, 0, permissions=before), "")
    after = {name: tags for name, tags in after.items() if tags}
    if after.get(OWNED) != before[OWNED]:
        raise talk.unsupported("another owner of a node", key)
    odd = after.keys() - {OWNED, *_GROUPS}
    if odd or PUBLIC in after.get("write", ()):
        named = sorted(odd)[0] if odd else "write for everybody"
        raise talk.unsupported(f"the permission {named!r:.100}", key)
    made: dict[str, str | None] = {}
    is_public = PUBLIC in after.get("read", ())
    if is_public != _is_public(node):
        told = [uri for uri in _PUBLIC if uri in node.properties] or [_PUBLIC[0]]
        made |= dict.fromkeys(told, "true" if is_public else "false")
    for name, uri in _GROUPS.items():
        tags = after.get(name, set()) - {PUBLIC}
        if tags != before.get(name, set()) - {PUBLIC}:
            text = " ".join(_GROUP + quote(tag, safe="") for tag in sorted(tags))
            made[uri] = text or None
    return made


def lost(before: Node, now: Node) -> dict[str, str | None]:
    """Return the permissions that a node had and has no more, as properties to set again."""
    names = (*_PUBLIC, *_GROUPS.values())
    return {
        uri: before.properties[uri]
        for uri in names
        if uri in before.properties and uri not in now.properties and uri not in before.fixed
    }


def _is_public(node: Node) -> bool:
    return any(node.properties.get(uri, "").strip().lower() in ("true", "1") for uri in _PUBLIC)


def _tag_of(group: str) -> str:
    """The tag that a group is here: what stands behind ``?`` in its URI, or the whole text."""
    scheme, _, rest = group.partition("://")
    name = rest.partition("?")[2] if scheme.lower() == "ivo" else ""
    return unquote(name) if name else group
