"""``{key}/versions``: which versions of a key are kept, and back to one of them.

What a version held is at ``{key}/data`` and ``{key}/value``, see
:mod:`kvstore.server.handlers.reading`.
"""

from __future__ import annotations

from kvstore.documents import parse_object
from kvstore.errors import InvalidRequestError
from kvstore.profiles import wire
from kvstore.server.answers import Field, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import guard_write
from kvstore.server.handlers.receiving import check_upload, stored_reply, verified
from kvstore.server.handlers.spooling import spooled
from kvstore.server.site import Site

_LINES: Field = (b"content-type", wire.RECORDS_TYPE.encode())
#: Bytes of the longest request that could be meant.
_ROOM = 1 << 16


async def get_versions(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer GET and HEAD: 200 and a record a line, the newest first.

    Of what never was there are none; so there are of what the caller may not see.
    """
    return await site.workers.run_long(_listed, site, key)


async def post_versions(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer POST of ``{"restore": REVISION}``: 204, or 201 where the key was deleted."""
    _ = site.writer  # refuses before the body comes
    check = check_upload(exchange, _ROOM)

    def restore(body: bytes) -> Reply:
        guard = guard_write(site, exchange, key, site.find(key))
        verified(body, check, key)
        version = _version_in(body)
        with guard.held():
            written = site.restore(key, version, guard.condition)
        return stored_reply(site, key, written, has_data=True)

    # Not every store has the data at hand: some are copied.
    return await site.workers.run_long(restore, await exchange.body.gather())


def _listed(site: Site, key: str) -> Reply:
    records = site.store.versions(key)
    return spooled([_LINES], (wire.record_line(record) + b"\n" for record in records))


def _version_in(body: bytes) -> str:
    document = parse_object(body, what="request")
    version = document.pop("restore", None)
    if document or not isinstance(version, str):
        raise InvalidRequestError(
            'What can be done to versions is {"restore": <revision>}, not '
            f"{body.decode('utf-8', 'replace')!r:.100}."
        )
    return version
