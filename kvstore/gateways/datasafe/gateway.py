"""Which URL of the datasafe is answered how."""

from __future__ import annotations

import json
from typing import ClassVar

from kvstore.errors import KeyNotFoundError
from kvstore.gateways.datasafe import downloads, uploads
from kvstore.gateways.datasafe.answers import text_reply
from kvstore.gateways.datasafe.lois import parse_family, parse_loi
from kvstore.server.answers import NotAllowedError, Refusal, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.gateways import Gateway
from kvstore.server.routes import allow, options
from kvstore.server.site import Site

_API = "/api/"
_ALIVE = ("/heartbeat", "/api", _API)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH")
#: What of an error is told in the header, beside its text.
_TOLD = frozenset({b"allow", b"retry-after", b"www-authenticate", b"accept-encoding"})


class DatasafeGateway(Gateway):
    """Serves datasets under lab object identifiers, as the server of labinform-datasafe 0.1.0b1."""

    name: ClassVar[str] = "datasafe"
    prefix: ClassVar[str] = "/datasafe"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        """Answer a request; see :class:`Gateway`."""
        if path in _ALIVE:
            return _alive(exchange)
        if not path.startswith(_API):
            raise Refusal(404, "There is nothing at this URL.")
        method, text = exchange.method, path.removeprefix(_API)
        if method == "OPTIONS":
            return options(_METHODS)
        if method == "POST":
            return await uploads.reserve(site, parse_family(text))
        if method in ("GET", "HEAD"):
            return await downloads.download(site, exchange, parse_loi(text))
        if method in ("PUT", "PATCH"):
            loi = parse_loi(text)
            return await uploads.upload(site, exchange, loi, replace=method == "PATCH")
        raise NotAllowedError(method, allow(_METHODS))

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        """Return an error as plain text, in which clients look for certain words."""
        detail = json.loads(reply.body)
        text = str(detail.get("detail") or detail["title"])
        if isinstance(error, KeyNotFoundError):
            text = "LOI does not exist."
        told = [field for field in reply.fields if field[0] in _TOLD]
        return text_reply(reply.status, text, told)


def _alive(exchange: Exchange) -> Reply:
    methods = ("GET", "HEAD")
    if exchange.method == "OPTIONS":
        return options(methods)
    if exchange.method not in methods:
        raise NotAllowedError(exchange.method, allow(methods))
    return text_reply(200, "alive")
