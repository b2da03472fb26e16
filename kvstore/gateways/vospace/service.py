"""What the service says of itself: capabilities, availability, protocols, views, properties."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kvstore.gateways.vospace.asking import xml_reply
from kvstore.gateways.vospace.markup import NAMES
from kvstore.gateways.vospace.names import CORE
from kvstore.gateways.vospace.negotiation import METHODS
from kvstore.gateways.vospace.properties import KNOWN, READ_ONLY
from kvstore.profiles.xmltext import attribute, text_of
from kvstore.server.answers import Reply

_STD = "ivo://ivoa.net/std/"
#: What there is below the path of the gateway, by the names that registries have for it.
_CAPABILITIES = (
    (f"{_STD}VOSI#capabilities", "capabilities"),
    (f"{_STD}VOSI#availability", "availability"),
    (f"{_STD}VOSpace/v2.0#nodes", "nodes"),
    (f"{_STD}VOSpace/v2.0#transfers", "transfers"),
    (f"{_STD}VOSpace/v2.0#sync", "synctrans"),
    (f"{_STD}VOSpace#sync-2.1", "synctrans"),
    (f"{_STD}VOSpace/v2.0#protocols", "protocols"),
    (f"{_STD}VOSpace/v2.0#views", "views"),
    (f"{_STD}VOSpace/v2.0#properties", "properties"),
    (f"{_STD}VOSpace#files-proto", "files"),
    (f"{_STD}VOSpace#recursive-delete-proto", "async-delete"),
    (f"{_STD}VOSpace#recursive-nodeprops-proto", "async-setprops"),
)
_VOSI = "http://www.ivoa.net/xml/VOSI"


def capabilities(base: str) -> Reply:
    """Answer GET: where everything is (VOSI 1.1)."""
    methods = "".join(
        f'<securityMethod standardID="{attribute(method)}"/>'
        for method in METHODS
        if not method.endswith("#anon")
    )
    told = "".join(
        f'<capability standardID="{attribute(name)}">'
        '<interface xsi:type="vs:ParamHTTP" role="std" version="2.1">'
        f'<accessURL use="base">{text_of(base)}/{path}</accessURL>'
        f"<securityMethod/>{methods}</interface></capability>"
        for name, path in _CAPABILITIES
    )
    return xml_reply(
        f'<vosi:capabilities xmlns:vosi="{_VOSI}Capabilities/v1.0"'
        ' xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"{told}</vosi:capabilities>"
    )


def availability(_base: str) -> Reply:
    """Answer GET: that the service is there."""
    return xml_reply(
        f'<vosi:availability xmlns:vosi="{_VOSI}Availability/v1.0">'
        "<vosi:available>true</vosi:available></vosi:availability>"
    )


def protocols(_base: str) -> Reply:
    """Answer GET: those that clients use; as a client the service connects to nobody."""
    names = ("httpget", "httpsget", "httpput", "httpsput")
    return _lists("protocol", (), [CORE + name for name in names])


def views(_base: str) -> Reply:
    """Answer GET: data come and go as they are."""
    return _lists("view", [CORE + "anyview"], [CORE + "defaultview", CORE + "binaryview"])


def properties(_base: str) -> Reply:
    """Answer GET: those that mean something here; any other is kept as a text."""
    every = sorted(KNOWN)
    accepted = [name for name in every if name not in READ_ONLY]
    reply = _listed("property", accepted, every)
    contained = f"<vos:contains>{_items('property', every)}</vos:contains>"
    return xml_reply(f"<vos:properties {NAMES}>{reply}{contained}</vos:properties>")


#: The documents, by the last part of their path. Everybody may read them: clients ask for the
#: first before they say who they are.
DOCUMENTS: dict[str, Callable[[str], Reply]] = {
    "capabilities": capabilities,
    "availability": availability,
    "protocols": protocols,
    "views": views,
    "properties": properties,
}


def _lists(kind: str, accepts: Iterable[str], provides: Iterable[str]) -> Reply:
    return xml_reply(f"<vos:{kind}s {NAMES}>{_listed(kind, accepts, provides)}</vos:{kind}s>")


def _listed(kind: str, accepts: Iterable[str], provides: Iterable[str]) -> str:
    return (
        f"<vos:accepts>{_items(kind, accepts)}</vos:accepts>"
        f"<vos:provides>{_items(kind, provides)}</vos:provides>"
    )


def _items(kind: str, names: Iterable[str]) -> str:
    return "".join(f'<vos:{kind} uri="{attribute(name)}"/>' for name in names)
