"""PUT and DELETE of a file: the newer version wins, and of two that are equal the later request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final, cast

from kvstore.errors import ConflictError, UnavailableError
from kvstore.gateways.filetracker.receiving import Announced, Received, received
from kvstore.gateways.filetracker.versions import (
    demanded_version,
    stamp,
    version_field,
    version_of,
)
from kvstore.server.answers import REVALIDATE, Reply, etag_fields, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import guard_write
from kvstore.server.handlers.receiving import check_digests, verified
from kvstore.server.site import Site
from kvstore.values import Record
from kvstore.writes import ALWAYS, Change, Condition

#: How often a name is looked at anew that others change between the look and the write.
_TRIES: Final = 50


async def put_file(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer PUT: 200 and the version that the name has now, which may be a newer one."""
    _ = site.writer
    announced = Announced.of(exchange, site.limits.data)
    check = check_digests(exchange)  # of the bytes as they come, in gzip or not (RFC 9530)

    def store(body: Iterator[bytes]) -> Reply:
        pieces = cast(Iterator[bytes], verified(body, check, key))
        with received(pieces, announced, site.partials.folder) as file:
            return _stored(site, exchange, key, announced, file)

    if exchange.body.is_small:
        return await site.workers.run(store, iter([await exchange.body.gather()]))
    # It may be worth refusing before it comes.
    await site.workers.run(site.demand_change, key, Change(metadata={}))
    loop = asyncio.get_running_loop()

    def store_stream() -> Reply:
        with contextlib.closing(exchange.body.pieces(loop)) as pieces:
            return store(pieces)

    return await site.workers.run_long(store_stream)


async def delete_file(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer DELETE: 200, also where there is a newer version, which stays and is told."""
    _ = site.writer
    version = demanded_version(exchange)
    return await site.workers.run(_deleted, site, exchange, key, version)


def _stored(
    site: Site, exchange: Exchange, key: str, announced: Announced, file: Received
) -> Reply:
    for _ in range(_TRIES):
        old = site.find(key)
        guard_write(site, exchange, key, old)
        if old is not None and version_of(old) > announced.version:
            return _ignored(site, old)
        change = Change(
            data=file.source(),
            metadata=stamp({} if old is None else old.metadata, announced.version, file.digest),
            mimetype=announced.mimetype,
            condition=_unchanged(site, old),
        )
        try:
            written = site.writer.write(key, change)
        except ConflictError:
            if old is None and site.find(key) is None:
                raise  # it is there, for who may write it and not read: which is newer nobody knows
            continue
        if written.digest == file.digest:
            fields = [version_field(announced.version), *etag_fields(written.revision)]
            return Reply(200, [REVALIDATE, *fields, length_field(0)])
        now = site.find(key)
        return _reply(now, announced.version if now is None else version_of(now))
    raise _busy(key)


def _deleted(site: Site, exchange: Exchange, key: str, version: int) -> Reply:
    for _ in range(_TRIES):
        record = site.record(key)
        guard_write(site, exchange, key, record)
        if version_of(record) > version:
            return _ignored(site, record)
        try:
            site.writer.delete(key, if_match=_unchanged(site, record).if_match)
        except ConflictError:
            continue
        return Reply(200, [length_field(0)])
    raise _busy(key)


def _unchanged(site: Site, record: Record | None) -> Condition:
    """The condition that nobody has come between, as far as the store can hold to any."""
    if not site.info.get("conditional", False):
        return ALWAYS
    if record is None:
        return Condition(create_only=True)
    return ALWAYS if record.revision is None else Condition(record.revision)


def _ignored(site: Site, newer: Record) -> Reply:
    """Tell the version that stays, to who might have written; who might not hears that."""
    site.demand_change(newer.key, Change(metadata={}))
    return _reply(newer, version_of(newer))


def _reply(record: Record | None, version: int) -> Reply:
    revision = None if record is None else record.revision
    fields = [REVALIDATE, version_field(version), *etag_fields(revision), length_field(0)]
    return Reply(200, fields)


def _busy(key: str) -> UnavailableError:
    message = f"The key {key!a} is changed by others again and again; try later."
    return UnavailableError(message, key=key, retry_after=1)
