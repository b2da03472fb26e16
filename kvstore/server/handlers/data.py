"""``{key}/data``: the bytes of a key, whole or a range; and ``DELETE {key}``."""

from __future__ import annotations

from kvstore.server.answers import Reply, type_fields
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import guard_write, is_conditional
from kvstore.server.handlers.reading import Plan, digest_fields, read_key, span_asked
from kvstore.server.handlers.receiving import (
    Pieces,
    check_upload,
    mimetype_of,
    stored_reply,
    take_body,
    verified,
)
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Record
from kvstore.writes import Change


async def get_data(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer GET and HEAD: 200, 206 for a range, 304, 412, 416."""
    return await site.workers.run(_read, site, exchange, key)


async def put_data(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer PUT: 201, or 204 where the key existed."""
    store = site.writer
    check = check_upload(exchange, site.limits.data)
    mimetype = mimetype_of(exchange)

    def write(data: Pieces) -> Reply:
        known = site.find(key) if is_conditional(exchange) else None
        guard = guard_write(site, exchange, key, known)
        change = Change(
            data=Source(verified(data, check, key)), mimetype=mimetype, condition=guard.condition
        )
        with guard.held():
            written = store.write(key, change)
        return stored_reply(site, key, written, has_data=True)

    return await take_body(site, exchange, write)


async def delete_key(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer DELETE: 204."""
    store = site.writer

    def delete() -> Reply:
        known = site.record(key) if is_conditional(exchange) else None
        guard = guard_write(site, exchange, key, known)
        with guard.held():
            store.delete(key, if_match=guard.condition.if_match)
        return Reply(204, [])

    return await site.workers.run(delete)


def _read(site: Site, exchange: Exchange, key: str) -> Reply:
    def plan(record: Record) -> Plan:
        fields = [*type_fields(record.mimetype), (b"accept-ranges", b"bytes")]
        fields += digest_fields(record.digest)
        span = span_asked(exchange, record)
        if span is None:
            return Plan(200, fields)
        fields.append((b"content-range", span.content_range.encode()))
        return Plan(206, fields, span=span)

    return read_key(site, exchange, key, plan)
