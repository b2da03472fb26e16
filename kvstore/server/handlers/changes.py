"""The change feed: what was changed after a number, as a list of lines or as it happens."""

from __future__ import annotations

from collections.abc import Iterator

from kvstore.documents import dump_json
from kvstore.errors import ChangesLostError, InvalidRequestError
from kvstore.profiles import wire
from kvstore.server.answers import NO_STORE, SAFE, Field, Reply
from kvstore.server.ending import ending_of
from kvstore.server.exchange import Exchange
from kvstore.server.feed import Viewer, Watcher
from kvstore.server.handlers.parameters import parse_number, parse_numbers
from kvstore.server.handlers.spooling import VARY, spooled
from kvstore.server.site import Site

#: Bytes of lines after which an answer ends, though there may be more to tell.
_ENOUGH = 16 << 20

#: Seconds between two looks of a feed, in which nothing happens, at the credentials of its reader.
_LOOK = 1.0

_LINES: Field = (b"content-type", wire.RECORDS_TYPE.encode())
_EVENTS: Field = (b"content-type", wire.EVENTS_TYPE.encode())
# Of nginx, which would gather the events of half a minute.
_AT_ONCE: Field = (b"x-accel-buffering", b"no")
_SEQUENCE = wire.SEQUENCE_FIELD.lower().encode()


async def get_changes(site: Site, exchange: Exchange) -> Reply | None:
    """Answer GET and HEAD: 200, or 410 where the journal has forgotten what comes next."""
    asked = parse_numbers(exchange.scope["query_string"], "since", "limit")
    if exchange.accepts(wire.EVENTS_TYPE):
        return await _live(site, exchange, asked)
    limit = min(asked.get("limit", site.limits.changes), site.limits.changes)
    return await site.workers.run_long(_listed, site, asked.get("since", 0), limit)


def _listed(site: Site, since: int, limit: int) -> Reply:
    newest = site.store.sequence()
    lines = _lines(site, since, limit) if limit else ()
    reply = spooled([_LINES], lines)
    reply.fields.append((_SEQUENCE, b"%d" % newest))
    return reply


def _lines(site: Site, since: int, limit: int) -> Iterator[bytes]:
    size = 0
    for entry in site.store.changes(since, limit):
        line = wire.entry_line(entry) + b"\n"
        yield line
        size += len(line)
        if size > _ENOUGH:
            return


async def _live(site: Site, exchange: Exchange, asked: dict[str, int]) -> Reply | None:
    if "limit" in asked:
        raise InvalidRequestError("A live feed has no end, so 'limit' has no meaning for it.")
    if exchange.scope["http_version"] == "1.0":  # some proxies speak it unless told otherwise
        raise InvalidRequestError("A live feed comes in chunks, which HTTP/1.0 has not.")
    last = exchange.single(b"last-event-id")
    since = asked.get("since") if last is None else parse_number("Last-Event-ID", last)
    place = await site.feed.begin(since)
    fields = [_EVENTS, *SAFE, NO_STORE, VARY, _AT_ONCE, (_SEQUENCE, b"%d" % place[1])]
    if exchange.is_head:
        return Reply(200, fields)
    exchange.is_live = True
    with (
        site.feed.watching(place, _viewer(site)) as watcher,
        ending_of(exchange.scope).told(watcher.close),
    ):
        async with exchange.watched(watcher.close):
            await exchange.begin(200, fields)
            await _tell(site, exchange, watcher)
    return None


def _viewer(site: Site) -> Viewer:
    if site.caller is None or not site.is_authorizing:
        return Viewer(site.store)
    return Viewer(site.store, site.caller.reads)


async def _tell(site: Site, exchange: Exchange, watcher: Watcher) -> None:
    await exchange.write(b": the feed is open\n\n")
    heartbeat, silence = site.limits.heartbeat, 0.0
    patience = heartbeat if site.caller is None else min(heartbeat, _LOOK)
    try:
        while (events := await watcher.next(patience)) is not None:
            if site.caller is not None and not site.caller.holds():
                return  # ended as at the end of the server: who comes back is told why
            silence = 0.0 if events else silence + patience
            if events or silence >= heartbeat:
                silence = 0.0
                await exchange.write(events or b": heartbeat\n\n")
    except ChangesLostError as error:
        lost = dump_json({"oldest": error.oldest})
        await exchange.write(b"event: lost\ndata: %b\n\n" % lost)
