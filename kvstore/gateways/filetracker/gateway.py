"""Which request is answered by what, and how errors are told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import ClassVar, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from kvstore.documents import parse_object
from kvstore.errors import InvalidKeyError
from kvstore.gateways.filetracker.listing import get_list
from kvstore.gateways.filetracker.reading import get_file
from kvstore.gateways.filetracker.writing import delete_file, put_file
from kvstore.keys import check_key
from kvstore.server.answers import NO_STORE, Field, Refusal, Reply, json_reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.gateways import Gateway
from kvstore.server.routes import chosen, options
from kvstore.server.site import Site

_Methods: TypeAlias = Mapping[str, Callable[[Site, Exchange, str], Awaitable[Reply | None]]]

_FILES: Final[_Methods] = {
    "GET": get_file,
    "HEAD": get_file,
    "PUT": put_file,
    "DELETE": delete_file,
}
_LISTS: Final[_Methods] = {"GET": get_list, "HEAD": get_list}
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_TEXT: Field = (b"content-type", b"text/plain; charset=utf-8")
_REPLACED = (b"content-type", b"content-length")


class FiletrackerGateway(Gateway):
    """Protocol 2 of filetracker, and what its protocol 1 has: files, versions, lists."""

    name: ClassVar[str] = "filetracker"
    prefix: ClassVar[str] = "/filetracker"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        """Answer a request: as its method and what stands behind ``/files/`` or ``/list/`` say."""
        _, top, *rest = path.split("/", 2) if path else ("", "")
        if top == "files" and rest:
            handler = chosen(exchange, _FILES)
            key = check_key(_decoded(rest[0]))
            return options(_FILES) if handler is None else await handler(site, exchange, key)
        if top == "list":
            handler = chosen(exchange, _LISTS)
            folder = _decoded(rest[0] if rest else "")
            return options(_LISTS) if handler is None else await handler(site, exchange, folder)
        if top == "version" and rest in ([], [""]):
            handler = chosen(exchange, _VERSION)
            return options(_VERSION) if handler is None else await handler(site, exchange, "")
        raise Refusal(404, "There are /version, /files/ and /list/ here.")

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        """Tell an error in ``X-Exception``, in one line, and as text."""
        problem = parse_object(reply.body)
        told = problem.get("detail") or problem.get("title") or HTTPStatus(reply.status).phrase
        text = str(told).encode("ascii", "backslashreplace")
        body = text + b"\n"
        kept = [field for field in reply.fields if field[0] not in _REPLACED]
        fields = [_TEXT, (b"x-exception", text), length_field(len(body)), *kept]
        return Reply(reply.status, fields, body)


async def _get_version(site: Site, exchange: Exchange, rest: str) -> Reply:
    return json_reply({"protocol_versions": [2]}, [NO_STORE])


_VERSION: Final[_Methods] = {"GET": _get_version, "HEAD": _get_version}


def _decoded(raw: str) -> str:
    """Return a path of a URL as text.

    Raises:
        InvalidKeyError: it is not percent-encoded UTF-8.
    """
    try:
        if _BAD_ESCAPE.search(raw):
            raise ValueError(raw)
        return unquote_to_bytes(raw).decode()
    except ValueError:
        message = f"A path is percent-encoded UTF-8, not {raw!r:.100}."
        raise InvalidKeyError(message) from None
