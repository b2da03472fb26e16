"""How nodes are called: URIs of VOSpace, paths of URLs, and the keys that both stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from kvstore.errors import InvalidKeyError, InvalidRequestError
from kvstore.gateways.vospace.faults import invalid_uri
from kvstore.keys import check_key

#: Namespace of all documents, of version 2.1 of the standard, too.
VOS = "http://www.ivoa.net/xml/VOSpace/v2.0"
#: What early servers and the text of some examples have in its place; read, never written.
VOS_TOO = "http://www.ivoa.net/xml/VOSpace/v2.1"
UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
VERSION = "2.1"
#: Begins the URIs of the properties, views and protocols of the standard.
CORE = "ivo://ivoa.net/vospace/core#"

#: Names that stand for another one: the server chooses it, or what is written is thrown away.
AUTO, NULL = ".auto", ".null"

_SAFE = "-._~!$&'()*+,;=:@"  # what a segment of a path may hold as it is (RFC 3986 section 3.3)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_IDENTIFIER = re.compile(r"ivo://([A-Za-z0-9][\w\-.]{2,}(?:/[\w\-.]+)+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Space:
    """The name of a space: ``vos://AUTHORITY~PATH`` of what registries call ``ivo://AUTHORITY/PATH``.

    Args:
        identifier: as in registries, an IVOA identifier with a path.

    Raises:
        InvalidRequestError: it is none.
    """

    identifier: str

    def __post_init__(self) -> None:
        if not _IDENTIFIER.fullmatch(self.identifier):
            message = f"A VOSpace is named as ivo://authority/name, not {self.identifier!r:.100}."
            raise InvalidRequestError(message)

    @property
    def authority(self) -> str:
        """What stands behind ``vos://`` in the URIs that this server writes: with the tilde."""
        return self.identifier.removeprefix("ivo://").replace("/", "~")

    def uri(self, path: str) -> str:
        """Return the URI of the node at *path*, which is empty for the root."""
        return f"vos://{self.authority}{'/' if path else ''}{quote_path(path)}"

    def path(self, uri: str) -> str:
        """Return the path of a node by its URI, with either separator.

        Raises:
            Fault: InvalidURI: it is no URI of a node here.
        """
        scheme, _, rest = uri.strip().partition("://")
        authority, _, path = rest.partition("/")
        if scheme.lower() != "vos" or "?" in path or "#" in path:
            raise invalid_uri(f"This is no URI of a node: {uri!r:.200}.")
        if authority.replace("!", "~").lower() != self.authority.lower():
            raise invalid_uri(f"Nodes here begin with vos://{self.authority}/, not {uri!r:.200}.")
        return read_path(path)


def quote_path(path: str) -> str:
    """Return *path* as it stands in URLs and URIs."""
    return quote(path, safe=_SAFE + "/")


def read_path(text: str) -> str:
    """Return the path of a node as it is written in a URL: without slashes around it, decoded.

    Raises:
        Fault: InvalidURI: no key is called so, or a segment is empty or holds a slash.
    """
    text = text.removeprefix("/").removesuffix("/")
    if not text:
        return ""
    if _BAD_ESCAPE.search(text):
        raise invalid_uri(f"An escape is two hexadecimal digits behind '%': {text!r:.200}.")
    names = text.split("/")
    try:
        decoded = [unquote_to_bytes(name).decode() for name in names]
        if not all(decoded) or any("/" in name for name in decoded):
            raise invalid_uri(f"Names of nodes are not empty and hold no slash: {text!r:.200}.")
        return check_key("/".join(decoded))
    except InvalidKeyError as error:
        raise invalid_uri(error.message) from None
    except UnicodeDecodeError:
        raise invalid_uri(f"Names of nodes are UTF-8: {text!r:.200}.") from None


def parent_of(path: str) -> str:
    """Return the path of the container of a node; the root is its own."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition("/")[2]


def below(path: str) -> str:
    """Return what the keys of all nodes in a container begin with."""
    return f"{path}/" if path else ""


def is_within(path: str, container: str) -> bool:
    """Tell whether a node is a container, or somewhere in it."""
    return path == container or path.startswith(below(container))
