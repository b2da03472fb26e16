"""What a server has of many keys, asked before anything is sent there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from kvstore.profiles import wire
from kvstore.profiles.having import Claim, Finding, claim_line, parse_finding
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request
from kvstore.transport.writing import content_digest

#: What one request has at most, where the server does not announce less.
_MOST = 1000
_MOST_BYTES = 4 << 20
_PIECE = 1 << 16


def compare(talk: Conversation, claims: Iterable[Claim]) -> Iterator[Finding]:
    """Yield what the server says of each claim, in their order.

    As many as fit into a request are taken ahead of what is yielded.

    Raises:
        TransportError: the server answers something else.
    """
    limits = talk.service.limits
    most = min(_MOST, limits.get("have", _MOST))
    most_bytes = min(_MOST_BYTES, limits.get("have_bytes", _MOST_BYTES))
    keys: list[str] = []
    lines: list[bytes] = []
    size = 0
    for claim in claims:
        line = claim_line(claim) + b"\n"
        if len(lines) == most or (lines and size + len(line) > most_bytes):
            yield from _ask(talk, keys, lines)
            keys, lines, size = [], [], 0
        keys.append(claim.key)
        lines.append(line)
        size += len(line)
    if lines:
        yield from _ask(talk, keys, lines)


def _ask(talk: Conversation, keys: list[str], lines: list[bytes]) -> list[Finding]:
    body = b"".join(lines)
    fields = {"Content-Type": wire.RECORDS_TYPE, "Accept": wire.RECORDS_TYPE}
    answer = talk.exchange(
        Request(
            "POST",
            talk.service.have,
            headers={**fields, **content_digest(talk, body)},
            body=body,
            streaming=True,
            repeatable=True,
        )
    )
    pieces = iter(lambda: answer.read1(_PIECE), b"")
    told = list(islice(wire.lines_of(pieces, limit=_PIECE), len(keys) + 1))
    answer.finish()
    if len(told) != len(keys):
        raise answer.refused(f"has {len(told)} lines for {len(keys)} keys")
    return [parse_finding(line, key=key) for line, key in zip(told, keys, strict=True)]
