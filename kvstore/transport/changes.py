"""The journal of a server: what has changed since, page by page, and what changes, as it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from kvstore.documents import parse_object
from kvstore.errors import ChangesLostError, InvalidRequestError, TransportError
from kvstore.history import JournalEntry
from kvstore.noticing import Halt
from kvstore.profiles import wire
from kvstore.transport.bodies import Answer
from kvstore.transport.conversation import Conversation
from kvstore.transport.exchange import Request

_PIECE = 1 << 16
#: Bytes of a line: an entry has metadata, which a server may have grown.
_LINE = 1 << 22


def newest_change(talk: Conversation) -> int:
    """Return the number of the newest change."""
    answer = _ask(talk, limit=0)
    answer.finish()
    told = answer.headers.get(wire.SEQUENCE_FIELD, "")
    if not (told.isascii() and told.isdigit() and len(told) < 20):
        raise TransportError(f"The server sent no {wire.SEQUENCE_FIELD}: {told!r:.50}.")
    return int(told)


def changes_since(talk: Conversation, since: int, limit: int | None) -> Iterator[JournalEntry]:
    """Return the changes after *since*, *limit* at most.

    Raises:
        ChangesLostError: at once, or from the iterator.
    """
    answer = _ask(talk, since=since, limit=limit)  # now: they may be forgotten
    return _pages(talk, answer, since, limit)


def follow_changes(talk: Conversation, since: int, halt: Halt) -> Iterator[JournalEntry]:
    """Yield the changes after *since* as the server makes them, until the *halt*.

    Returns when the server ends its answer; raises when the connection breaks. Whoever asks again
    with the last ``seq`` misses nothing and is told nothing twice.

    Raises:
        ChangesLostError, TransportError.
    """
    # A feed is silent for as long as nothing is changed, but for its heartbeat.
    exchange = talk.exchange.without_rate()
    headers = {"Accept": wire.EVENTS_TYPE, "Last-Event-ID": str(since)}
    answer = exchange(Request("GET", talk.service.changes, headers=headers, streaming=True))
    with contextlib.closing(answer), halt.closing(answer.abort):
        if wire.EVENTS_TYPE not in answer.headers.get("Content-Type", ""):
            raise answer.refused(f"is no {wire.EVENTS_TYPE}")
        for name, data in _events(answer):
            if name == "lost":
                raise _lost(data)
            if name != "message":
                continue  # of a later version
            entry = wire.parse_entry(data)
            _check_next(answer, entry, since)
            since = entry.seq
            yield entry


def _ask(talk: Conversation, **parameters: int | None) -> Answer:
    given = {name: value for name, value in parameters.items() if value is not None}
    url = talk.service.changes
    url = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(given)}"
    return talk.exchange(Request("GET", url, headers={"Accept": wire.RECORDS_TYPE}, streaming=True))


def _pages(
    talk: Conversation, answer: Answer, since: int, left: int | None
) -> Iterator[JournalEntry]:
    while True:
        count = 0
        for entry in _entries(answer):
            _check_next(answer, entry, since)
            since = entry.seq
            count += 1
            yield entry
        if left is not None:
            left -= count
        if not count or left == 0:  # a server gives so many at a time as it likes
            return
        answer = _ask(talk, since=since, limit=left)


def _entries(answer: Answer) -> Iterator[JournalEntry]:
    with contextlib.closing(answer):
        for line in wire.lines_of(iter(lambda: answer.read1(_PIECE), b""), limit=_LINE):
            yield wire.parse_entry(line)


def _check_next(answer: Answer, entry: JournalEntry, since: int) -> None:
    # One that is left out is one that this caller may not see.
    if entry.seq <= since:
        raise answer.refused(f"tells change {entry.seq} after {since}")


def _events(answer: Answer) -> Iterator[tuple[str, bytes]]:
    """Yield name and data of server-sent events (HTML, section 9.2.6)."""
    name = "message"
    data: list[bytes] = []
    for line in _lines(answer):
        if not line:
            if data:
                yield name, b"\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")


def _lines(answer: Answer) -> Iterator[bytes]:
    rest = b""
    while piece := answer.next_bytes(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        if len(rest) > _LINE:
            raise answer.refused(f"has a line of over {_LINE} bytes")


def _lost(data: bytes) -> ChangesLostError:
    try:
        oldest = parse_object(data, what="event").get("oldest")
    except InvalidRequestError:
        oldest = None
    message = "The server has forgotten changes that were not told yet."
    return ChangesLostError(message, oldest=oldest if isinstance(oldest, int) else None)
