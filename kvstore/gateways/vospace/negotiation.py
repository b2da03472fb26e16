"""Where a client is to send bytes to, or to get them from."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from kvstore.gateways.vospace.faults import Fault, unsupported
from kvstore.gateways.vospace.names import AUTO, CORE, NULL, name_of, quote_path
from kvstore.gateways.vospace.transfers import PROTOCOLS, PULL_FROM, Protocol, Transfer
from kvstore.gateways.vospace.tree import CONTAINER, Tree
from kvstore.streams import Source
from kvstore.writes import Change

#: Views in which bytes come and go: all of them mean the bytes as they are.
VIEWS = (
    *(CORE + "anyview", CORE + "binaryview", CORE + "defaultview"),
    "ivo://cadc.nrc.ca/vospace/view#data",
)
#: Ways to say who one is that this server understands: a token, or one as a password.
METHODS = (
    "ivo://ivoa.net/sso#anon",
    "ivo://ivoa.net/sso#token",
    "ivo://ivoa.net/sso#BasicAA",
    "vos://cadc.nrc.ca~vospace/CADC/std/Auth#token-1.0",
)


def endpoints(tree: Tree, transfer: Transfer, base: str, query: str = "") -> list[Protocol]:
    """Return the protocols of a transfer that there are, each with a URL for it.

    Args:
        base: the URL of the gateway.
        query: what stands behind these URLs.

    Raises:
        Fault: why there is none.
        AuthorizationError: the caller may not read, or write, there.
    """
    if transfer.direction not in PROTOCOLS:
        # Fetching whatever URL a client names would let it reach what only this machine reaches.
        raise unsupported(f"This server connects to no other one ({transfer.direction!r:.50}).")
    if transfer.view is not None and transfer.view not in VIEWS:
        raise Fault("ViewNotSupported", 400, f"There is no view {transfer.view!r:.100}.")
    known = PROTOCOLS[transfer.direction]
    path = place_of(tree, transfer)
    endpoint = f"{base}/files/{quote_path(path)}{query}"
    found = list(_offered(transfer, known, endpoint))
    if not found:
        message = f"A transfer is by one of {', '.join(known)}, as the caller of this server can."
        raise Fault("ProtocolNotSupported", 400, message)
    return found


def place_of(tree: Tree, transfer: Transfer) -> str:
    """Return the path of the node whose bytes a transfer is about, behind links.

    Raises:
        Fault: there is no such place, or it holds no bytes.
        AuthorizationError: the caller may not read, or write, there.
    """
    path = tree.space.path(transfer.target)
    if transfer.direction == PULL_FROM:
        node = tree.source(path)
        if node.kind == CONTAINER:
            raise unsupported(f"A container has no bytes: {path!r:.200}.")
        return node.path
    if name_of(path) == NULL:
        return path
    if name_of(path) == AUTO:
        path = path.removesuffix(AUTO) + secrets.token_hex(8)
    path = tree.place(path)
    _ = tree.site.writer
    tree.site.demand_change(path, Change(data=Source(b"")))
    return path


def _offered(transfer: Transfer, known: tuple[str, ...], endpoint: str) -> Iterator[Protocol]:
    for protocol in transfer.protocols:
        methods = tuple(method for method in protocol.security if method in METHODS)
        if protocol.uri in known and (methods or not protocol.security):
            yield Protocol(protocol.uri, endpoint, methods)
