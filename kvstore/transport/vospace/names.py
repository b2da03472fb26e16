"""Names of the standard, and keys as paths of nodes (VOSpace 2.1 section 2)."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from kvstore.errors import InvalidKeyError, TransportError
from kvstore.keys import MAX_KEY_BYTES

#: Namespace of all documents, of version 2.1 of the standard, too.
VOS = "http://www.ivoa.net/xml/VOSpace/v2.0"
#: What some services have in its place; read, never written.
VOS_TOO = "http://www.ivoa.net/xml/VOSpace/v2.1"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
#: Begins the URIs of the properties, views and protocols of the standard.
CORE = "ivo://ivoa.net/vospace/core#"

#: Names that stand for another one: the server chooses it, or what is written is thrown away.
_RESERVED = (".auto", ".null")
_SAFE = "-._~!$&'()*+,;=:@/"  # what a path may hold as it is (RFC 3986 section 3.3)


def path_of(root: str, key: str) -> str:
    """Return the path of the node that a key is.

    Args:
        root: path of the container that is the store, empty for the whole space.

    Raises:
        InvalidKeyError: no node is called so.
    """
    names = key.split("/")
    if not all(names):
        message = f"A key of a VOSpace has no empty segment and no slash at its ends: {key!a:.200}."
        raise InvalidKeyError(message, key=key)
    if any(name in _RESERVED for name in names):
        message = f"{_RESERVED[0]} and {_RESERVED[1]} are no names of nodes: {key!a:.200}."
        raise InvalidKeyError(message, key=key)
    return f"{root}/{key}" if root else key


def quoted(path: str) -> str:
    """Return *path* as it stands in URLs and URIs."""
    return quote(path, safe=_SAFE)


def path_in(uri: str) -> str:
    """Return the path of the node that a service calls *uri*; empty for the root of its space.

    Raises:
        TransportError: it is no URI of a node.
    """
    scheme, separator, rest = uri.strip().partition("://")
    if scheme.lower() != "vos" or not separator:
        raise TransportError(f"The service called a node {uri!r:.200}, which is no vos://… URI.")
    try:
        return unquote_to_bytes(rest.partition("/")[2].strip("/")).decode()
    except UnicodeDecodeError:
        raise TransportError(f"The service called a node {uri!r:.200}, no UTF-8.") from None


def name_in(uri: str) -> str:
    """Return the last name of the URI of a node, decoded; it may hold a slash then.

    Raises:
        TransportError: it is no URI of a node, or has no name.
    """
    name = path_in(f"vos:///{uri.strip().rstrip('/').rpartition('/')[2]}")
    if not name or not uri.strip().lower().startswith("vos://"):
        raise TransportError(f"The service called a node {uri!r:.200}, which names none.")
    return name


def may_be_key(key: str) -> bool:
    """Tell whether a path that a service lists, relative to the store, can be a key."""
    try:
        path_of("", key)
    except InvalidKeyError:
        return False
    return (
        "\0" not in key
        and len(key.encode()) <= MAX_KEY_BYTES
        and {".", ".."}.isdisjoint(key.split("/"))
    )
