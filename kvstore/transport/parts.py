"""Answers to requests for a range (RFC 9110, sections 14.4 and 15.5.17), checked."""

from __future__ import annotations

from kvstore.errors import TransportError
from kvstore.profiles.ranges import parse_content_range
from kvstore.transport.bodies import Answer
from kvstore.values import resolve_range


def check_part(answer: Answer, start: int, end: int | None) -> int:
    """Return how many bytes of data a 206 has, which are those asked for.

    Raises:
        TransportError: they are others.
    """
    try:
        first, last, size = parse_content_range(answer.headers.get("Content-Range", ""))
    except TransportError:
        answer.close()
        raise
    wanted = size if end is None else end if size is None else min(end, size)
    if first != start or last != wanted:
        # With an end left open and no size told, nobody could tell that it is the end.
        raise answer.refused(f"has the bytes {first} to {last}, not {start} to {wanted}")
    if answer.length not in (None, last - first):
        raise answer.refused(f"has {answer.length} bytes, not {last - first}")
    return last - first


def check_denied(answer: Answer, start: int, size: int, key: str) -> None:
    """Check that a 416 is right: a range from *start* on has no byte of data of *size* bytes.

    Raises:
        TransportError: it has.
        RangeError: *start* lies behind the data; at their end it is an empty range.
    """
    if size > start:
        raise answer.refused(f"denies a range from {start} within {size} bytes")
    resolve_range(start, None, size, key=key)
