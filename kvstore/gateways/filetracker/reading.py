"""GET and HEAD of a file: plain, or as gzip where the client takes that and it is worth it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from kvstore.errors import ConflictError
from kvstore.gateways.filetracker.gzipped import (
    is_worth_packing,
    packed,
    packed_whole,
    takes_gzip,
)
from kvstore.gateways.filetracker.versions import version_field, version_of
from kvstore.readers import FileSpan
from kvstore.server.answers import (
    REVALIDATE,
    Field,
    Reply,
    etag_fields,
    length_field,
    type_fields,
)
from kvstore.server.bodies import PIECE
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import judge_read
from kvstore.server.handlers.reading import begun, span_asked
from kvstore.server.site import Site
from kvstore.values import Record

#: How often a name is looked at anew that is changed between the look at its facts and its data.
_TRIES: Final = 20
_GZIP: Field = (b"content-encoding", b"gzip")
_VARY: Field = (b"vary", b"accept-encoding")
_RANGES: Field = (b"accept-ranges", b"bytes")


@dataclass(frozen=True, slots=True)
class _Rest:
    """What follows the first bytes of an answer that is packed while it is sent."""

    stream: BinaryIO
    left: int


async def get_file(site: Site, exchange: Exchange, key: str) -> Reply | None:
    """Answer GET and HEAD: 200, 206 for a range, 304, 412, 416.

    Returns:
        None where the answer has been sent up to its end, which is to follow.
    """
    reply, rest = await site.workers.run(_answer, site, exchange, key)
    if rest is None:
        return reply
    await _send_packed(site, exchange, reply, rest)
    return None


def _answer(site: Site, exchange: Exchange, key: str) -> tuple[Reply, _Rest | None]:
    """The answer; or how it begins, not packed, and what follows."""
    if exchange.is_head:
        record = site.record(key)
        facts = _facts(record)
        is_kept = judge_read(exchange, _dated(record))
        return Reply(304, facts) if is_kept else _plain(200, facts, size=record.size), None
    for tries_left in reversed(range(_TRIES)):
        value = site.store.get(key)
        facts = _facts(value.record)
        if judge_read(exchange, _dated(value.record)):
            value.close()
            return Reply(304, facts), None
        span = span_asked(exchange, _dated(value.record))
        try:
            begin, stream, file = begun(site, exchange, value, span)
        except ConflictError:
            if not tries_left:
                raise
            continue
        if span is not None:
            facts.append((b"content-range", span.content_range.encode()))
            return _plain(206, facts, begin, stream, file, size=span.length), None
        if file is not None or not takes_gzip(exchange.lines(b"accept-encoding")):
            return _plain(200, facts, begin, stream, file, size=value.size), None
        return _perhaps_packed(exchange, facts, begin, stream, value.size)
    raise AssertionError("unreachable")


def _perhaps_packed(
    exchange: Exchange, facts: list[Field], begin: bytes, stream: BinaryIO | None, size: int
) -> tuple[Reply, _Rest | None]:
    if stream is None:
        body = packed_whole(begin)
        if body is not None:
            return Reply(200, [*_of_packed(facts), length_field(len(body))], body), None
    elif exchange.scope["http_version"] != "1.0" and is_worth_packing(begin):
        # How long it is nobody knows, and HTTP/1.0 has no chunks.
        return Reply(200, _of_packed(facts), begin), _Rest(stream, size - len(begin))
    return _plain(200, facts, begin, stream, size=size), None


def _plain(
    status: int,
    facts: list[Field],
    begin: bytes = b"",
    stream: BinaryIO | None = None,
    file: FileSpan | None = None,
    *,
    size: int,
) -> Reply:
    return Reply(status, [*facts, length_field(size)], begin, stream, size - len(begin), file)


async def _send_packed(site: Site, exchange: Exchange, reply: Reply, rest: _Rest) -> None:
    # A thread for each part and not for the whole: those who read slowly would keep the few that
    # all uploads and lists have to share.
    parts = packed(_pieces(reply.body, rest))
    try:
        async with exchange.watched():
            await exchange.begin(reply.status, reply.fields)
            while part := await site.workers.run(next, parts, b""):
                await exchange.write(part)
    finally:
        await site.workers.run(rest.stream.close)


def _pieces(begin: bytes, rest: _Rest) -> Iterator[bytes]:
    yield begin
    left = rest.left
    while left:
        piece = rest.stream.read(min(left, PIECE))
        if not piece:
            raise EOFError(f"The data ended {left} bytes before its announced size.")
        left -= len(piece)
        yield piece


def _dated(record: Record) -> Record:
    """The record as clients are told of it, whose conditions are about the version."""
    return replace(record, modified=float(version_of(record)))


def _facts(record: Record) -> list[Field]:
    fields = [
        *type_fields(record.mimetype),
        REVALIDATE,
        _VARY,
        _RANGES,
        *etag_fields(record.revision),
    ]
    fields += [version_field(version_of(record)), (b"logical-size", b"%d" % record.size)]
    if record.digest is not None and record.digest.startswith("sha256:"):
        fields.append((b"sha256-checksum", record.digest.removeprefix("sha256:").encode()))
    return fields


def _of_packed(facts: list[Field]) -> list[Field]:
    """The facts of an answer in gzip, whose bytes are others: its tag is a weak one."""
    own = [
        (name, b"W/" + value if name == b"etag" else value)
        for name, value in facts
        if name != b"accept-ranges"
    ]
    return [*own, _GZIP]
