"""Values and data from a server, as streams that are an error when they are not whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from kvstore.errors import IntegrityError, TransportError
from kvstore.hashing import sha256
from kvstore.profiles import wire
from kvstore.profiles.conditions import format_etag
from kvstore.profiles.service import VALUE_PART
from kvstore.query import Query
from kvstore.transport.bodies import INLINE, MAX_DOCUMENT, Answer, BodyStream, BrokenOffError
from kvstore.transport.conversation import Conversation
from kvstore.transport.downloads import Download, size_of
from kvstore.transport.listing import find_records
from kvstore.transport.resuming import Rest
from kvstore.transport.tries import Tries
from kvstore.values import BytesOpener, Opener, Record, resolve_range

_T = TypeVar("_T")


def read_value(talk: Conversation, key: str) -> tuple[Record, Opener]:
    """Return record and data of *key*, with one request where the server has *value*."""
    if not talk.has("value"):
        answer = talk.ask("HEAD", key, "data")
        metadata = talk.document(key, "metadata")
        record = wire.record_of_headers(key, answer.headers, metadata)
        return record, RemoteOpener(talk, record)

    def ask(tries: Tries) -> tuple[Record, Opener]:
        answer = talk.ask("GET", key, VALUE_PART, streaming=True, tries=tries)
        return _value(talk, key, answer, tries)

    return _going_on(talk, ask)


def read_if_changed(talk: Conversation, key: str, revision: str) -> tuple[Record, Opener] | None:
    """Return record and data of *key*, None if it is at *revision* (RFC 9110 section 13.1.2).

    For servers with *value* and *conditional*.
    """

    def ask(tries: Tries) -> tuple[Record, Opener] | None:
        answer = talk.ask(
            "GET",
            key,
            VALUE_PART,
            headers={"If-None-Match": format_etag(revision)},
            expect=(200, 304),
            streaming=True,
            tries=tries,
        )
        return None if answer.status == 304 else _value(talk, key, answer, tries)

    return _going_on(talk, ask)


def read_record(talk: Conversation, key: str) -> Record:
    """Return all facts about *key*, without its data."""
    if talk.has("records"):
        # A listing has all the facts, also the digest, and of one moment.
        for record in find_records(talk, Query(prefix=key, limit=1)):
            if record.key == key:
                return record
    answer = talk.ask("HEAD", key, "data")
    return wire.record_of_headers(key, answer.headers, talk.document(key, "metadata"))


def open_data(
    talk: Conversation,
    key: str,
    start: int | None,
    end: int | None,
    *,
    revision: str | None = None,
) -> BinaryIO:
    """Return a stream over the data of *key*, of a range of it if one is given.

    Args:
        revision: the revision it must have.

    Raises:
        KeyNotFoundError, RangeError; ConflictError: it has another revision now.
    """
    download = Download(talk, key, revision=revision)
    if start is None and end is None:
        return download.open()
    start = start or 0
    if start == end:  # HTTP has no empty range; only the size tells whether it lies in the data
        resolve_range(start, end, size_of(talk, key), key=key)
        return io.BytesIO()
    return download.open_range(start, end)


class RemoteOpener:
    """Opens the data of one revision on a server; the first time from the answer at hand."""

    def __init__(
        self,
        talk: Conversation,
        record: Record,
        begun: tuple[Answer, bytes, Tries] | None = None,
    ) -> None:
        self._talk = talk
        self._record = record
        self._begun = begun

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        record = self._record
        begun, self._begun = self._begun, None
        if begun is None or start is not None or end is not None:
            if begun is not None:
                begun[0].close()
            talk = self._talk.begun()
            return open_data(talk, record.key, start, end, revision=record.revision)
        answer, ahead, tries = begun
        rest = Rest(BodyStream(answer, ahead), 0)
        download = Download(self._talk, record.key, revision=record.revision, digest=record.digest)
        return download.stream(rest, tries, record.size)

    def close(self) -> None:
        """Give up the answer at hand, if nobody read it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[0].close()

    def __del__(self) -> None:
        self.close()


def _going_on(talk: Conversation, ask: Callable[[Tries], _T]) -> _T:
    """Return what *ask* does, which is called again where its answer breaks off."""
    tries = talk.exchange.tries(is_small=False)
    while True:
        try:
            return ask(tries)
        except BrokenOffError as error:
            tries.wait(error)


def _value(talk: Conversation, key: str, answer: Answer, tries: Tries) -> tuple[Record, Opener]:
    if answer.is_loaded:
        line, newline, data = answer.read(INLINE).partition(b"\n")
        record = _record(answer, line if newline else b"", key)
        _check_whole(talk, record, data)
        return record, BytesOpener(data, key)
    line, ahead = _first_line(answer)
    record = _record(answer, line, key)
    if answer.length is not None and answer.length != len(line) + 1 + record.size:
        raise answer.refused(f"has {answer.length} bytes, not those of a value of {record.size}")
    return record, RemoteOpener(talk, record, (answer, ahead, tries))


def _first_line(answer: Answer) -> tuple[bytes, bytes]:
    head = bytearray()
    while (end := head.find(b"\n")) < 0:
        piece = answer.read1(1 << 16)
        if not piece or len(head) > MAX_DOCUMENT:
            raise answer.refused("has no first line")
        head += piece
    return bytes(head[:end]), bytes(head[end + 1 :])


def _record(answer: Answer, line: bytes, key: str) -> Record:
    try:
        return wire.parse_record(line, key=key)
    except TransportError:
        answer.close()
        raise


def _check_whole(talk: Conversation, record: Record, data: bytes) -> None:
    if len(data) != record.size:
        message = f"The data of {record.key!a} has {len(data)} bytes, not {record.size}."
        raise IntegrityError(message, key=record.key)
    if talk.verify_digests and record.digest not in (None, sha256(data)):
        told = f"has {sha256(data)}, not {record.digest} as announced"
        message = f"The data of {record.key!a} {told}."
        raise IntegrityError(message, key=record.key)
