"""The have URL: which of many keys need to be sent, so that nothing travels that is here."""

from __future__ import annotations

from collections.abc import Iterator

from kvstore.errors import TooLargeError
from kvstore.profiles import wire
from kvstore.profiles.having import finding_line, judge, parse_claim
from kvstore.server.answers import Field, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.receiving import Pieces, check_upload, take_body, verified
from kvstore.server.handlers.spooling import spooled
from kvstore.server.site import Site

_LINES: Field = (b"content-type", wire.RECORDS_TYPE.encode())
#: Bytes that a line may have beside the metadata.
_ROOM = 1 << 16


async def post_have(site: Site, exchange: Exchange) -> Reply:
    """Answer POST: 200 and a line for each line, or the problem of the first that is malformed.

    What the caller may not see is as what is not there.
    """
    check = check_upload(exchange, site.limits.have_bytes)

    def work(body: Pieces) -> Reply:
        # Nothing is sent before all has come: a client reads when it has sent all, and two that
        # wait for each other would wait for ever.
        return spooled([_LINES], _answers(site, exchange, verified(body, check, None)))

    return await take_body(site, exchange, work)


def _answers(site: Site, exchange: Exchange, body: Pieces) -> Iterator[bytes]:
    pieces = iter((body,)) if isinstance(body, bytes) else body
    limit = site.limits.have
    for number, line in enumerate(_lines(pieces, site.limits.metadata + _ROOM)):
        exchange.members = {"line": number}
        if number == limit:
            raise TooLargeError(f"At most {limit} keys are asked for at a time.")
        claim = parse_claim(line)
        finding = judge(claim, site.find(claim.key))
        exchange.members = {}  # what fails between two lines is the fault of none
        yield finding_line(finding) + b"\n"


def _lines(pieces: Iterator[bytes], longest: int) -> Iterator[bytes]:
    """Yield the lines; the end of the last one may be missing."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > longest:
            raise TooLargeError(f"A line has at most {longest} bytes.")
    if rest:
        yield rest
