"""Transfers as documents (VOSpace 2.1 section 3.6), from clients and for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvstore.gateways.vospace.faults import invalid_argument
from kvstore.gateways.vospace.markup import VOS_NAMES, Element, read_document
from kvstore.gateways.vospace.names import CORE
from kvstore.profiles.xmltext import attribute, text_of

PULL_FROM, PUSH_TO = "pullFromVoSpace", "pushToVoSpace"
PULL_TO, PUSH_FROM = "pullToVoSpace", "pushFromVoSpace"
_DIRECTIONS = (PULL_FROM, PUSH_TO, PULL_TO, PUSH_FROM)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
#: Protocols of each direction that the client is to use with us.
PROTOCOLS = {
    PULL_FROM: (CORE + "httpget", CORE + "httpsget"),
    PUSH_TO: (CORE + "httpput", CORE + "httpsput"),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to transfer bytes."""

    uri: str
    endpoint: str | None = None
    #: How the client can say who it is; empty: it does not, or does it its own way.
    security: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a client wants to be moved, copied, or transferred."""

    target: str
    #: One of the four words, or the URI of a node.
    direction: str
    view: str | None = None
    protocols: tuple[Protocol, ...] = ()
    keeps: bool | None = None
    #: Names and texts.
    params: tuple[tuple[str, str], ...] = ()

    @property
    def is_internal(self) -> bool:
        """Whether it is from one node to another."""
        return self.direction not in _DIRECTIONS


def read_transfer(body: bytes) -> Transfer:
    """Return what a document asks for.

    Raises:
        Fault: InvalidArgument: no such document, or one that makes no sense.
    """
    root = read_document(body, "transfer")
    target, direction = root.value("target"), root.value("direction")
    if not target or not direction:
        raise invalid_argument("A transfer has a target and a direction.")
    view = root.one("view")
    keeps = _truth(root.value("keepBytes"))
    transfer = Transfer(
        target,
        direction,
        None if view is None else view.attributes.get("uri", ""),
        tuple(map(_protocol, root.all("protocol"))),
        keeps,
        tuple((one.attributes.get("uri", ""), one.text.strip()) for one in root.all("param")),
    )
    if transfer.is_internal and not direction.lower().startswith("vos://"):
        known = ", ".join(_DIRECTIONS)
        raise invalid_argument(f"A direction is {known}, or a node, not {direction!r:.100}.")
    return transfer


def document_of(transfer: Transfer, protocols: Iterable[Protocol]) -> str:
    """Return a transfer as a document, with *protocols* in place of those that it has."""
    pieces = [
        f"<vos:transfer {VOS_NAMES}><vos:target>{text_of(transfer.target)}</vos:target>",
        f"<vos:direction>{text_of(transfer.direction)}</vos:direction>",
    ]
    if transfer.view is not None:
        pieces.append(f'<vos:view uri="{attribute(transfer.view)}"/>')
    pieces += map(_told, protocols)
    if transfer.keeps is not None:
        pieces.append(f"<vos:keepBytes>{str(transfer.keeps).lower()}</vos:keepBytes>")
    pieces += (
        f'<vos:param uri="{attribute(uri)}">{text_of(text)}</vos:param>'
        for uri, text in transfer.params
    )
    return "".join([*pieces, "</vos:transfer>"])


def _told(protocol: Protocol) -> str:
    inner = ""
    if protocol.endpoint is not None:
        inner = f"<vos:endpoint>{text_of(protocol.endpoint)}</vos:endpoint>"
    inner += "".join(
        f'<vos:securityMethod uri="{attribute(method)}"/>' for method in protocol.security
    )
    return f'<vos:protocol uri="{attribute(protocol.uri)}">{inner}</vos:protocol>'


def _protocol(element: Element) -> Protocol:
    uri = element.attributes.get("uri", "").strip()
    if not uri:
        raise invalid_argument("A protocol has the attribute uri.")
    methods = (one.attributes.get("uri", "").strip() for one in element.all("securityMethod"))
    return Protocol(uri, element.value("endpoint"), tuple(filter(None, methods)))


def _truth(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in _TRUTH:
        raise invalid_argument(f"keepBytes is true or false, not {text!r:.50}.")
    return _TRUTH[text.lower()]
