"""Parts of the data of a key, from servers that know ranges and from those that do not."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

from kvstore.errors import StoreError
from kvstore.profiles.ranges import format_range, parse_unsatisfied
from kvstore.readers import CheckedReader, buffered
from kvstore.transport.bodies import Answer, BodyStream
from kvstore.transport.mapped.contents import check_revision, check_stored_part, decoded
from kvstore.transport.mapped.metadata import size_of
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.resuming import resuming
from kvstore.transport.mapped.spooling import Spool
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.parts import check_denied
from kvstore.transport.resuming import Rest
from kvstore.values import resolve_range

_PIECE = 1 << 18


def open_range(talk: Talk, key: str, start: int, end: int | None, revision: str | None) -> BinaryIO:
    """Return a stream over the bytes from *start* to before *end* of the data.

    Where the server ignores ranges it sends everything, and the rest is dropped here.

    Raises:
        KeyNotFoundError, RangeError; ConflictError: the key is not at *revision* any more.
    """
    operation = talk.operation("get", key)
    asks = operation.ranges and start != end  # HTTP has no empty range
    headers = {"Range": format_range(start, end)} if asks else {}
    reply = talk.ask("get", key, headers=headers, judged=False)
    answer = reply.answer
    if asks and answer.status == 416:
        return _no_range(talk, reply, key, start)
    if asks and answer.status == 206:
        told = reply.told()
        check_revision(reply, told, revision)
        count = check_stored_part(answer, start, end)
        begun = Rest(BodyStream(answer), start)
        reader = resuming(talk, begun, told, key, part=(start, start + count))
        return buffered(CheckedReader(reader, size=count, digest=None, key=key))
    talk.judge(reply)
    told = reply.told()
    check_revision(reply, told, revision)
    return _cut_out(reply, told, key, start, end)


def _no_range(talk: Talk, reply: Reply, key: str, start: int) -> BinaryIO:
    size = parse_unsatisfied(reply.answer.headers.get("Content-Range", ""))
    reply.answer.finish()
    if size is None:
        size = size_of(talk, key)
    check_denied(reply.answer, start, size, key)
    return io.BytesIO()


def _cut_out(
    reply: Reply, told: Mapping[str, Any], key: str, start: int, end: int | None
) -> BinaryIO:
    """The server sends everything: read up to the start, stop at the end."""
    if reply.is_empty:
        reply.answer.finish()
        resolve_range(start, end, 0, key=key)
        return io.BytesIO()
    stream, size = decoded(reply, told, key)
    try:
        if size is None:
            with stream:
                return Spool.of(stream, key)(start, end)
        first, last = resolve_range(start, end, size, key=key)
        _skip(stream, first, reply.answer)
    except StoreError:
        stream.close()
        raise
    if first == last:
        stream.close()
        return io.BytesIO()
    count = last - first
    return buffered(CheckedReader(_Limited(stream, count), size=count, digest=None, key=key))


def _skip(stream: io.RawIOBase, left: int, answer: Answer) -> None:
    piece = bytearray(_PIECE)
    while left:
        with memoryview(piece)[: min(left, _PIECE)] as view:
            count = stream.readinto(view) or 0
        if not count:
            raise answer.broken("it ended before the range began")
        left -= count


class _Limited(io.RawIOBase):
    """The next bytes of a stream; closing this closes it."""

    def __init__(self, stream: io.RawIOBase, left: int) -> None:
        self._stream = stream
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer)[: self._left] as view:
            count = self._stream.readinto(view) or 0 if len(view) else 0
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
