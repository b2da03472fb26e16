"""The query URL: keys as lines of text, records and folders as lines of JSON, or a number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from kvstore.documents import dump_json
from kvstore.errors import InvalidRequestError
from kvstore.profiles import wire
from kvstore.query import Query, trim
from kvstore.server.answers import NO_STORE, SAFE, Field, Reply, json_reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.folders import Entry, Folder, entries
from kvstore.server.handlers.parameters import Asked, parse_parameters
from kvstore.server.handlers.patience import Patience
from kvstore.server.handlers.spooling import VARY, spooled
from kvstore.server.site import Site
from kvstore.server.workers import begin_on, result_of
from kvstore.values import Record

#: Bytes of lines that are sent at a time.
_BATCH = 1 << 16

_RECORDS: Field = (b"content-type", wire.RECORDS_TYPE.encode())
_TEXT: Field = (b"content-type", b"text/plain; charset=utf-8")


async def get_query(site: Site, exchange: Exchange) -> Reply | None:
    """Answer GET and HEAD. None: the answer has been sent up to its end, which is to follow."""
    asked = parse_parameters(exchange.scope["query_string"])
    patience = Patience(exchange, site.limits.query_time)
    asked = replace(asked, query=replace(asked.query, halt=patience))
    async with exchange.watched():
        return await _answered(site, exchange, asked, patience)


async def _answered(
    site: Site, exchange: Exchange, asked: Asked, patience: Patience
) -> Reply | None:
    if asked.is_count:
        # A filter that no index answers looks at every key: a few of these must not keep all others
        # waiting for a thread.
        count = await site.workers.run_long(site.count, asked.query)
        return json_reply({"count": count}, [NO_STORE])
    if not exchange.accepts(wire.RECORDS_TYPE):
        return await site.workers.run_long(_keys, site, asked)
    is_page = asked.query.limit is not None or asked.delimiter is not None
    # HTTP/1.0 knows no chunks (RFC 9112 section 6.1), so the length must be known beforehand.
    if is_page or exchange.scope["http_version"] == "1.0":
        return await site.workers.run_long(_page, site, asked)
    return await _stream(site, exchange, asked, patience)


def _keys(site: Site, asked: Asked) -> Reply:
    """The answer that clients without extensions know: its header tells how many are left out."""
    omitted = 0
    found, links = _found(site, asked, site.keys)

    def lines() -> Iterator[bytes]:
        nonlocal omitted
        for record in found:
            if "\n" in record.key or "\r" in record.key:
                omitted += 1
            else:
                yield record.key.encode() + b"\n"

    reply = spooled([_TEXT], lines())
    reply.fields += [*links, (b"x-keys-omitted", b"%d" % omitted)]
    return reply


def _page(site: Site, asked: Asked) -> Reply:
    """One page of records; a header field says where the next one is."""
    found, links = _found(site, asked, site.records)
    reply = spooled([_RECORDS], (_line(asked, record) for record in found))
    reply.fields += links
    return reply


def _found(
    site: Site, asked: Asked, find: Callable[..., Iterator[Record]]
) -> tuple[Iterator[Entry], list[Field]]:
    """What to list, and the ``Link`` to the next page, which is there once all was taken."""
    if asked.query.limit is None and asked.delimiter is None:
        return find(asked.query), []
    links: list[Field] = []
    most = site.limits.page
    limit = most if asked.query.limit is None else min(asked.query.limit, most)
    more: Iterator[Entry] = iter(())
    if limit and asked.delimiter is not None:
        more = entries(asked.query, asked.delimiter, find)
    elif limit:
        more = find(replace(asked.query, limit=limit + 1))

    def page() -> Iterator[Entry]:
        last: Entry | None = None
        for number, record in enumerate(more):
            if number == limit and last is not None:
                links.append(_link(site, asked, _cursor(asked.query, last)))
                return
            yield record
            last = record

    return page(), links


def _cursor(query: Query, last: Entry) -> str:
    return last.key if isinstance(last, Folder) else query.cursor(last)


def _link(site: Site, asked: Asked, cursor: str) -> Field:
    url = asked.next_page(cursor)
    if len(url) > site.limits.target * 7 // 8:  # the path and what stands before it need some room
        raise InvalidRequestError(
            "The URL of the next page would be too long: it holds the place in the order, here "
            f"{len(cursor)} characters. Order by a field of shorter values, or ask for no limit."
        )
    return (b"link", f'<{url}>; rel="next"'.encode())


async def _stream(site: Site, exchange: Exchange, asked: Asked, patience: Patience) -> Reply | None:
    """All records, as they are found. The store's iterator stays in one thread."""
    loop = asyncio.get_running_loop()

    def wait(coroutine: Coroutine[Any, Any, None]) -> None:
        result_of(begin_on(loop, coroutine), loop)

    def send() -> Reply | None:
        records = site.records(asked.query)
        try:
            batches = _batches(_line(asked, record) for record in records)
            first = next(batches, b"")  # may be an error, which is told only now
            second = next(batches, None)
            fields = [_RECORDS, *SAFE, NO_STORE, VARY]
            if second is None:
                return Reply(200, [*fields, length_field(len(first))], first)
            wait(exchange.begin(200, fields))
            if not exchange.is_head:
                for batch in chain((first, second), batches):
                    wait(exchange.write(batch))
                    patience.renew()
            return None
        finally:
            close = getattr(records, "close", None)
            if close is not None:
                close()

    return await site.workers.run_long(send)


def _batches(lines: Iterable[bytes]) -> Iterator[bytes]:
    batch = bytearray()
    for line in lines:
        batch += line
        if len(batch) >= _BATCH:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


def _line(asked: Asked, record: Entry) -> bytes:
    if isinstance(record, Folder):
        return dump_json({"folder": record.key}) + b"\n"
    if asked.select is not None:
        record = replace(record, metadata=trim(record.metadata, asked.select))
    return wire.record_line(record) + b"\n"
