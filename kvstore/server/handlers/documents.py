"""``{key}/metadata`` and ``{key}/auth``: what is known of a key, as JSON documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvstore.documents import JsonObject, parse_object
from kvstore.errors import InvalidMetadataError, InvalidPermissionsError, InvalidRequestError
from kvstore.server.answers import Reply, json_reply, key_fields
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import Guard, guard_write, judge_read
from kvstore.server.handlers.reading import not_modified
from kvstore.server.handlers.receiving import check_upload, stored_reply, verified
from kvstore.server.site import Site
from kvstore.values import Record, permissions_document
from kvstore.writes import Change, Condition


async def get_metadata(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer GET and HEAD: 200, 304, 412."""
    return await site.workers.run(_read, site, exchange, key, lambda record: record.metadata)


async def put_metadata(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer PUT: 201, or 204 where the key existed. A new key gets empty data."""

    def change(document: JsonObject, condition: Condition) -> Change:
        return Change(metadata=document, condition=condition)

    return await _change(site, exchange, key, InvalidMetadataError, change, find=site.find)


async def post_metadata(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer POST: 204; the fields given are changed, the others stay."""

    def change(document: JsonObject, condition: Condition) -> Change:
        return Change(metadata=document, merge=True, condition=condition)

    return await _change(site, exchange, key, InvalidMetadataError, change, find=site.record)


async def get_permissions(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer GET and HEAD: 200, 304, 412; 403 to who is no owner."""
    store = site.authorizer

    def show(record: Record) -> Any:
        return permissions_document(store.get_permissions(record.key))

    return await site.workers.run(_read, site, exchange, key, show)


async def put_permissions(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer PUT: 204."""
    _ = site.authorizer

    def change(document: JsonObject, condition: Condition) -> Change:
        return Change(permissions=document, condition=condition)

    return await _change(site, exchange, key, InvalidPermissionsError, change, find=site.record)


async def post_permissions(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer POST: 204; tags are added to those that are there."""
    _ = site.authorizer

    def change(document: JsonObject, condition: Condition) -> Change:
        return Change(permissions=document, merge=True, condition=condition)

    return await _change(site, exchange, key, InvalidPermissionsError, change, find=site.record)


def _read(site: Site, exchange: Exchange, key: str, show: Callable[[Record], Any]) -> Reply:
    record = site.record(key)
    if judge_read(exchange, record):
        return not_modified(record)
    return json_reply(show(record), key_fields(record))


async def _change(
    site: Site,
    exchange: Exchange,
    key: str,
    invalid: type[InvalidMetadataError | InvalidPermissionsError],
    make: Callable[[JsonObject, Condition], Change],
    *,
    find: Callable[[str], Record | None],
) -> Reply:
    store = site.writer
    check = check_upload(exchange, site.limits.metadata)

    def guarded() -> Guard:
        return guard_write(site, exchange, key, find(key))

    def change(body: bytes) -> Reply:
        guard = guarded()
        verified(body, check, key)
        try:
            document = parse_object(body)
        except InvalidRequestError as error:
            raise invalid(error.message, key=key) from None
        with guard.held():
            written = store.write(key, make(document, guard.condition))
        return stored_reply(site, key, written, has_data=False)

    if not exchange.body.is_small:  # it may be worth refusing before it comes
        await site.workers.run(guarded)
    return await site.workers.run(change, await exchange.body.gather())
