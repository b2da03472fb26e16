"""The list of the names below a folder, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvstore.errors import InvalidRequestError
from kvstore.gateways.filetracker.versions import asked_version, version_of
from kvstore.query import Query, closing
from kvstore.server.answers import Field, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.patience import Patience
from kvstore.server.handlers.spooling import spooled
from kvstore.server.site import Site

_TEXT: Final[Field] = (b"content-type", b"text/plain; charset=utf-8")


async def get_list(site: Site, exchange: Exchange, folder: str) -> Reply:
    """Answer GET and HEAD: the names below *folder*, relative to it, not newer than asked for.

    A name with a line break would be two, and that of the folder itself is none: these are left
    out, and ``X-Keys-Omitted`` tells how many they are.

    Args:
        folder: the path of it, empty for all names.
    """
    version = asked_version(exchange)
    async with exchange.watched():
        return await site.workers.run_long(_listed, site, exchange, folder, version)


def _listed(site: Site, exchange: Exchange, folder: str, version: int | None) -> Reply:
    prefix = folder if folder.endswith("/") or not folder else f"{folder}/"
    patience = Patience(exchange, site.limits.query_time)
    query = Query(prefix=prefix, halt=patience)
    omitted = found = 0

    def lines() -> Iterator[bytes]:
        nonlocal omitted, found
        for record in closing(site.records(query)):
            found += 1
            patience.renew()  # each is looked at because it was asked for
            if version is not None and version_of(record) > version:
                continue
            name = record.key.removeprefix(prefix)
            if not name or "\n" in name or "\r" in name:
                omitted += 1
            else:
                yield name.encode() + b"\n"

    reply = spooled([_TEXT], lines())
    if not found and prefix:
        raise InvalidRequestError(f"There is no folder {folder!a:.100}.")
    reply.fields.append((b"x-keys-omitted", b"%d" % omitted))
    return reply
