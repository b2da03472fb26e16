"""Values and data from a server, as streams that are an error when they are not whole."""

from __future__ import annotations

import io
from typing import BinaryIO

from kvstore.errors import ConflictError, IntegrityError, RangeError, TransportError
from kvstore.profiles import wire
from kvstore.profiles.ranges import format_range, parse_content_range, parse_unsatisfied
from kvstore.profiles.service import VALUE_PART
from kvstore.streams import CheckedReader, buffered, sha256
from kvstore.transport.bodies import INLINE, MAX_DOCUMENT, Answer, BodyStream
from kvstore.transport.conversation import Conversation
from kvstore.values import BytesOpener, Opener, Record, resolve_range
from kvstore.writes import Condition


def read_value(talk: Conversation, key: str) -> tuple[Record, Opener]:
    """Return record and data of *key*, with one request where the server has *value*."""
    if not talk.has("value"):
        answer = talk.ask("HEAD", key, "data")
        metadata = talk.document(key, "metadata")
        record = wire.record_of_headers(key, answer.headers, metadata)
        return record, RemoteOpener(talk, record)
    answer = talk.ask("GET", key, VALUE_PART, streaming=True)
    if answer.length is not None and answer.length <= INLINE:
        line, newline, data = answer.read(INLINE).partition(b"\n")
        record = _record(answer, line if newline else b"", key)
        _check_whole(talk, record, data)
        return record, BytesOpener(data, key)
    line, ahead = _first_line(answer)
    record = _record(answer, line, key)
    if answer.length is not None and answer.length != len(line) + 1 + record.size:
        raise answer.refused(f"has {answer.length} bytes, not those of a value of {record.size}")
    return record, RemoteOpener(talk, record, (answer, ahead))


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
    condition = Condition(revision) if revision is not None and talk.has("conditional") else None
    if start is not None or end is not None:
        return _open_range(talk, key, start or 0, end, condition, revision)
    answer = talk.ask("GET", key, "data", condition=condition, streaming=True)
    _check_revision(talk, answer, key, revision)
    digest = _announced(talk, answer)
    if answer.length is not None and answer.length <= INLINE:
        data = answer.read(INLINE)
        _check_digest(key, data, digest)
        return io.BytesIO(data)
    raw = CheckedReader(BodyStream(answer), size=answer.length, digest=digest, key=key)
    return buffered(raw)


def size_of(talk: Conversation, key: str) -> int:
    """Return how many bytes of data *key* has."""
    return wire.record_of_headers(key, talk.ask("HEAD", key, "data").headers, {}).size


class RemoteOpener:
    """Opens the data of one revision on a server; the first time from the answer at hand."""

    def __init__(
        self, talk: Conversation, record: Record, begun: tuple[Answer, bytes] | None = None
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
            return open_data(self._talk, record.key, start, end, revision=record.revision)
        digest = record.digest if self._talk.verify_digests else None
        stream = BodyStream(*begun)
        return buffered(CheckedReader(stream, size=record.size, digest=digest, key=record.key))

    def close(self) -> None:
        """Give up the answer at hand, if nobody read it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[0].close()

    def __del__(self) -> None:
        self.close()


def _open_range(
    talk: Conversation,
    key: str,
    start: int,
    end: int | None,
    condition: Condition | None,
    revision: str | None,
) -> BinaryIO:
    if start == end:  # HTTP has no empty range; only the size tells whether it lies in the data
        resolve_range(start, end, size_of(talk, key), key=key)
        return io.BytesIO()
    answer = talk.ask(
        "GET",
        key,
        "data",
        headers={"Range": format_range(start, end)},
        expect=(200, 206, 416),
        condition=condition,
        streaming=True,
    )
    if answer.status == 416:
        return _no_range(talk, answer, key, start)
    _check_revision(talk, answer, key, revision)
    if answer.status == 200:
        return _cut_out(answer, key, start, end)
    count = _part(answer, start, end)
    if count <= INLINE:
        data = answer.read(INLINE)
        if len(data) != count:
            raise answer.broken(f"{len(data)} of {count} bytes came")
        return io.BytesIO(data)
    return buffered(CheckedReader(BodyStream(answer), size=count, digest=None, key=key))


def _part(answer: Answer, start: int, end: int | None) -> int:
    """Return how many bytes of data a 206 has, which are those asked for."""
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


def _no_range(talk: Conversation, answer: Answer, key: str, start: int) -> BinaryIO:
    size = parse_unsatisfied(answer.headers.get("Content-Range", ""))
    answer.finish()
    if size is None:
        size = size_of(talk, key)
    if size > start:
        raise answer.refused(f"denies a range from {start} within {size} bytes")
    if size < start:
        message = f"The range begins at {start}, behind the data of {size} bytes."
        raise RangeError(message, key=key, size=size)
    return io.BytesIO()


def _cut_out(answer: Answer, key: str, start: int, end: int | None) -> BinaryIO:
    """The server ignores ranges and sends everything: read up to the start, stop at the end."""
    if answer.length is None:
        raise answer.refused("has no range of the data, and no length")
    try:
        first, last = resolve_range(start, end, answer.length, key=key)
    except RangeError:
        answer.close()
        raise
    left = first
    while left:
        piece = answer.read1(min(left, 1 << 20))
        if not piece:
            raise answer.broken(f"it ended before byte {first}")
        left -= len(piece)
    stream = BodyStream(answer, limit=last - first)
    return buffered(CheckedReader(stream, size=last - first, digest=None, key=key))


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


def _announced(talk: Conversation, answer: Answer) -> str | None:
    try:
        return wire.digest_of(answer.headers) if talk.verify_digests else None
    except TransportError:
        answer.close()
        raise


def _check_revision(talk: Conversation, answer: Answer, key: str, revision: str | None) -> None:
    # A server may have no conditions, or ignore them on GET. Only where it has *value* but no
    # conditions is its ETag, which is perhaps that of a proxy, not what the record came with.
    if revision is None or (talk.has("value") and not talk.has("conditional")):
        return
    told = wire.revision_of(answer.headers)
    if told not in (None, revision):
        answer.close()
        message = f"The key {key!a} is at revision {told} now, not {revision!a:.100}."
        raise ConflictError(message, key=key)


def _check_whole(talk: Conversation, record: Record, data: bytes) -> None:
    if len(data) != record.size:
        message = f"The data of {record.key!a} has {len(data)} bytes, not {record.size}."
        raise IntegrityError(message, key=record.key)
    if talk.verify_digests:
        _check_digest(record.key, data, record.digest)


def _check_digest(key: str, data: bytes, digest: str | None) -> None:
    if digest is not None and sha256(data) != digest:
        message = f"The data of {key!a} has {sha256(data)}, not {digest} as announced."
        raise IntegrityError(message, key=key)
