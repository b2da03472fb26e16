"""Where a service has its parts, as its capabilities say (VOSI 1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvstore.errors import TransportError
from kvstore.transport.addresses import origin_of, shown_url
from kvstore.transport.vospace.markup import below, document

_STD = "ivo://ivoa.net/std/VOSpace"
_NODES = (f"{_STD}/v2.0#nodes", f"{_STD}#nodes-2.1")
_SYNC = (f"{_STD}#sync-2.1", f"{_STD}/v2.0#sync")
_FILES = (f"{_STD}#files-proto", f"{_STD}#files")
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Service:
    """URLs of one service, without a slash at their ends."""

    nodes: str
    #: Where transfers are negotiated; None: nowhere at once.
    sync: str | None
    #: Where the bytes of nodes are, by their paths; None where each transfer is negotiated.
    files: str | None

    @classmethod
    def of_document(cls, body: bytes, url: str) -> Service:
        """Return what the document at *url* describes.

        Of several URLs for a part the first at the same origin counts: the credentials are for
        that alone.

        Raises:
            TransportError: it describes no VOSpace, or one at another origin.
        """
        told: dict[str, list[str]] = {}
        for name, address in _listed(document(body, "capabilities")):
            told.setdefault(name, []).append(address)
        found = {
            part: _first(told, names, url)
            for part, names in {"nodes": _NODES, "sync": _SYNC, "files": _FILES}.items()
        }
        nodes = found["nodes"]
        if nodes is None:
            message = f"The capabilities at {shown_url(url)} are not those of a VOSpace 2"
            raise TransportError(f"{message}: they have no {_NODES[0]}.")
        return cls(nodes, found["sync"], found["files"])


def _listed(root: Any) -> Iterator[tuple[str, str]]:
    for number, capability in enumerate(below(root, "capability")):
        if number >= _MOST:
            raise TransportError(f"The service has over {_MOST} capabilities.")
        name = capability.get("standardID", "").strip()
        for interface in below(capability, "interface"):
            for url in below(interface, "accessURL"):
                yield name, (url.text or "").strip().rstrip("/")


def _first(told: dict[str, list[str]], names: tuple[str, ...], url: str) -> str | None:
    elsewhere = None
    for name in names:
        for address in told.get(name, ()):
            try:
                is_there = origin_of(address) == origin_of(url)
            except ValueError:
                continue
            if is_there and "?" not in address and "#" not in address:
                return address
            elsewhere = address
    if elsewhere is not None and names is _NODES:
        message = f"{shown_url(url)} describes a VOSpace at another origin"
        raise TransportError(f"{message}: {shown_url(elsewhere):.200}.")
    return None
