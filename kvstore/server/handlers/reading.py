"""Data on its way out: one consistent revision, the first megabyte in the same hop as the facts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from kvstore.errors import ConflictError, IntegrityError, InvalidRequestError, RangeError
from kvstore.profiles.conditions import if_range_matches
from kvstore.profiles.digests import field_of_digest
from kvstore.profiles.ranges import ByteSpan, Unsatisfiable, parse_range
from kvstore.readers import FileSpan, span_of
from kvstore.server.answers import (
    IMMUTABLE,
    REVALIDATE,
    Field,
    Reply,
    etag_fields,
    key_fields,
    length_field,
)
from kvstore.server.bodies import PIECE
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.parameters import parse_version
from kvstore.server.handlers.preconditions import judge_read
from kvstore.server.site import Site
from kvstore.values import Record, Value

#: How often a key is looked up anew that is changed between the look at its facts and its data.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send of a key: some bytes of ours, then its data or a span of it."""

    status: int
    fields: list[Field]
    head: bytes = b""
    span: ByteSpan | None = None


def read_key(site: Site, exchange: Exchange, key: str, plan: Callable[[Record], Plan]) -> Reply:
    """Answer a GET or HEAD with the data of a key, or of a version of it, as *plan* wants it.

    Raises:
        KeyNotFoundError: no such key, or no such version.
        ConflictError: a condition failed.
        IntegrityError: the stored bytes are damaged (500).
    """
    query_string = exchange.scope["query_string"]
    version = parse_version(query_string) if query_string else None
    caching = (REVALIDATE,) if version is None else IMMUTABLE
    for tries_left in reversed(range(_TRIES)):
        value = site.store.get(key) if version is None else site.version(key, version)
        record = value.record
        if judge_read(exchange, record):
            value.close()
            return not_modified(record, caching)
        planned = plan(record)
        length = record.size if planned.span is None else planned.span.length
        size = length_field(len(planned.head) + length)
        fields = [*planned.fields, *key_fields(record, caching), size]
        if exchange.is_head or length == 0:
            value.close()
            return Reply(planned.status, fields, planned.head)
        try:
            body, stream, file = begun(site, exchange, value, planned.span)
        except ConflictError:
            if not tries_left:
                raise
            continue
        left = length - len(body)
        return Reply(planned.status, fields, planned.head + body, stream, left, file)
    raise AssertionError("unreachable")


def span_asked(exchange: Exchange, record: Record) -> ByteSpan | None:
    """Return the range that a GET asks for; None for everything.

    Args:
        record: of the key, with the time of change that clients are told.

    Raises:
        RangeError: no byte of it lies in the data.
    """
    ranges = exchange.lines(b"range")
    if exchange.method != "GET" or len(ranges) != 1:
        return None
    conditions = exchange.lines(b"if-range")
    if conditions and (
        len(conditions) > 1 or not if_range_matches(conditions[0], record.revision, record.modified)
    ):
        return None
    span = parse_range(ranges[0], record.size)
    if isinstance(span, Unsatisfiable):
        exchange.fields += etag_fields(record.revision)
        message = f"The range {ranges[0]!r:.100} lies outside the {record.size} bytes."
        raise RangeError(message, key=record.key, size=record.size)
    return span


def begun(
    site: Site, exchange: Exchange, value: Value, span: ByteSpan | None
) -> tuple[bytes, BinaryIO | None, FileSpan | None]:
    """Begin to read data, or a span of them, for a :class:`Reply`.

    Returns:
        the first megabyte, and the stream with what follows if that is not all. Where the kernel
        can send the data there are no first bytes, but where they stand in a file.

    Raises:
        ConflictError: the key has been changed since *value* was read.
        IntegrityError: the stored bytes are damaged (500).
    """
    length = value.size if span is None else span.length
    as_file = length > PIECE and exchange.sends_files is not None
    if span is None and as_file and site.reads == "plain":
        span = ByteSpan(0, length, length)
    try:
        stream = value.open() if span is None else value.range(span.start, span.end)
        try:
            file = span_of(stream) if as_file else None
            if file is not None:
                return b"", stream, file
            body = stream.read(min(length, PIECE))
        except BaseException:
            stream.close()
            raise
    except IntegrityError as error:
        error.status = 500  # the client sent nothing that could disagree
        raise
    if len(body) < length:
        return body, stream, None
    stream.close()
    return body, None, None


def not_modified(record: Record, caching: Iterable[Field] = (REVALIDATE,)) -> Reply:
    """The answer 304: what a cache keeps is still right."""
    return Reply(304, key_fields(record, caching))


def digest_fields(digest: str | None) -> list[Field]:
    """``Repr-Digest`` of the data, where the store recorded a digest."""
    return [] if digest is None else _digest_fields(digest)


@functools.lru_cache(maxsize=1024)
def _digest_fields(digest: str) -> list[Field]:
    try:
        return [(b"repr-digest", field_of_digest(digest).encode())]
    except InvalidRequestError:  # of another kind than we check
        return []
