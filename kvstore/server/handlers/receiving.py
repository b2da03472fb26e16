"""Data on its way in: what is refused before it comes, checked while it comes, told afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from kvstore.errors import InvalidRequestError
from kvstore.profiles.digests import DigestCheck
from kvstore.server.answers import (
    REVALIDATE,
    Refusal,
    Reply,
    etag_fields,
    key_fields,
    length_field,
    state_fields,
)
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.reading import digest_fields
from kvstore.server.site import Site
from kvstore.values import check_mimetype
from kvstore.writes import Written

Pieces: TypeAlias = bytes | Iterator[bytes]

# What curl says of any data if it is told nothing.
_SAYS_NOTHING = "application/x-www-form-urlencoded"


def check_upload(exchange: Exchange, limit: int) -> DigestCheck | None:
    """Refuse a body by what its header says of it; return the check of its digests, if it has any.

    Raises:
        Refusal: a content coding (415): what is stored are the bytes that come.
        TooLargeError: a length over *limit*.
        InvalidRequestError: a malformed digest, or a part of a body (RFC 9110 section 14.5).
    """
    codings = ", ".join(exchange.lines(b"content-encoding")).strip().lower()
    if codings not in ("", "identity"):
        message = f"A body comes without content coding here, not with {codings!r:.100}."
        raise Refusal(415, message, [(b"accept-encoding", b"identity")])
    if exchange.has(b"content-range"):
        raise InvalidRequestError("A part of the data cannot be written (Content-Range).")
    exchange.body.check_length(limit)
    return check_digests(exchange)


def check_digests(exchange: Exchange) -> DigestCheck | None:
    """Return the check of the digests that a header has of its body, None if it has none.

    Raises:
        InvalidRequestError: one is malformed.
    """
    announced = [
        ", ".join(exchange.lines(name))
        for name in (b"content-digest", b"repr-digest")
        if exchange.has(name)
    ]
    if not announced:
        return None
    check = DigestCheck(announced)
    return check if check.algorithms else None


def mimetype_of(exchange: Exchange) -> str | None:
    """The media type of data that is uploaded; None if the client did not say.

    Raises:
        InvalidRequestError: it is given twice, or no header can carry it.
    """
    text = exchange.single(b"content-type")
    if text is None or text.strip().lower() in ("", _SAYS_NOTHING):
        return None
    return check_mimetype(text)


def verified(data: Pieces, check: DigestCheck | None, key: str | None) -> Pieces:
    """Return *data*, which raises IntegrityError at its end if it has another digest."""
    if check is None:
        return data
    if isinstance(data, bytes):
        check.update(data)
        check.verify(key=key)
        return data
    return _verified(data, check, key)


async def take_body(site: Site, exchange: Exchange, write: Callable[[Pieces], Reply]) -> Reply:
    """Run *write* on the body in a worker thread: whole if it is small, else as it comes."""
    if exchange.body.is_small:
        return await site.workers.run(write, await exchange.body.gather())
    loop = asyncio.get_running_loop()

    def write_stream() -> Reply:
        with contextlib.closing(exchange.body.pieces(loop)) as pieces:
            return write(pieces)

    return await site.workers.run_long(write_stream)


def stored_reply(site: Site, key: str, written: Written, *, has_data: bool) -> Reply:
    """The answer to a write: 201 for a new key, else 204."""
    status = 204 if written.existed else 201
    fields = [] if written.existed else [length_field(0)]
    revision = written.revision
    if written.modified is not None:
        fields += [REVALIDATE, *state_fields(revision, written.modified)]
        if has_data:
            fields += digest_fields(written.digest)
        return Reply(status, fields)
    record = site.find(key)
    if record is not None and revision is not None and record.revision == revision:
        fields += key_fields(record)
        if has_data:
            fields += digest_fields(record.digest)
    else:  # somebody has changed it since; what is known of our revision is its name
        fields += etag_fields(revision)
    return Reply(status, fields)


def _verified(pieces: Iterator[bytes], check: DigestCheck, key: str | None) -> Iterator[bytes]:
    for piece in pieces:
        check.update(piece)
        yield piece
    check.verify(key=key)
