"""Values and data of nodes: never short, never of other bytes than the node was said to have."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from typing import Any, BinaryIO

from kvstore.errors import ConflictError, IntegrityError, KeyNotFoundError
from kvstore.profiles.ranges import format_range, parse_unsatisfied
from kvstore.readers import CheckedReader, buffered
from kvstore.transport.bodies import INLINE, Answer, BodyStream
from kvstore.transport.parts import check_denied, check_part
from kvstore.transport.resuming import Rest, ResumingReader
from kvstore.transport.tries import Tries
from kvstore.transport.vospace.names import quoted
from kvstore.transport.vospace.nodes import Node
from kvstore.transport.vospace.talk import Asked, FaultError, Talk
from kvstore.transport.vospace.transfers import PULL, endpoint
from kvstore.values import resolve_range
from kvstore.writes import missing

_PIECE = 1 << 18


class NodeOpener:
    """Opens the bytes of one node; ConflictError where it has others by then."""

    def __init__(self, talk: Talk, key: str, node: Node) -> None:
        self._talk = talk
        self._key = key
        self._node = node

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        return open_data(self._talk, self._key, start, end, node=self._node)


def open_data(
    talk: Talk, key: str, start: int | None, end: int | None, *, node: Node | None = None
) -> BinaryIO:
    """Return a stream over the bytes of *key*, of a range of them if one is given.

    Args:
        node: what was told of them; they must be these.

    Raises:
        KeyNotFoundError, RangeError; ConflictError: they are others now.
    """
    if start is None and end is None:
        return _whole(talk, key, node)
    first = start or 0
    if first == end or (node is not None and node.length is not None):
        # HTTP has no empty range; and who knows the size need not ask for what is not there.
        node = talk.data_node(key) if node is None else node
        if node.length is not None:
            first, end = resolve_range(start, end, node.length, key=key)
            if first == end:
                return io.BytesIO()
    return _part(talk, key, first, end, node)


def ask_for_data(
    talk: Talk, key: str, headers: dict[str, str] | None = None, tries: Tries | None = None
) -> Answer:
    """Return the answer to GET: 200, 204, 206, or 416.

    Raises:
        KeyNotFoundError: there are no such bytes.
    """
    files = talk.service().files
    asked = Asked(key, None, headers, (200, 204, 206, 416), streaming=True, tries=tries)
    try:
        path = quoted(talk.path(key))
        url = endpoint(talk, key, PULL) if files is None else f"{files}/{path}"
        return talk.move_data("GET", url, asked)
    except FaultError as fault:
        if isinstance(fault.error, KeyNotFoundError):
            raise missing(key) from None
        if not isinstance(fault.error, PermissionError) and not _holds_bytes(talk, key):
            raise missing(key) from None  # a container, of which services say this or that
        raise fault.error from None


def md5_in(answer: Answer) -> str | None:
    """Return the MD5 that a header tells (RFC 3230), in hexadecimal digits; None if none."""
    for part in answer.headers.get("Digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "md5":
            try:
                raw = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                return None
            return raw.hex() if len(raw) == 16 else None
    return None


def _holds_bytes(talk: Talk, key: str) -> bool:
    node = talk.find(key)
    return node is not None and node.is_data


def _whole(talk: Talk, key: str, node: Node | None) -> BinaryIO:
    answer = ask_for_data(talk, key)
    told = _checked(answer, key, node)
    if answer.status == 204:
        answer.finish()
        return io.BytesIO()
    if answer.status != 200:
        raise answer.refused("has a part of the data, which nobody asked for")
    size = answer.length
    if node is not None and None not in (size, node.length) and size != node.length:
        answer.close()
        raise _changed(key)
    md5 = told if talk.verify_digests else None
    ask = _Again(talk, key, answer, told)
    tries = talk.exchange.tries(is_small=False)
    tries.made = 1  # the answer that is there
    vouched = md5 is not None or ask.etag is not None
    reader: Any = ResumingReader(
        Rest(BodyStream(answer), 0), ask, tries, end=size, vouched=vouched, key=key
    )
    if md5 is not None:
        reader = _Md5Reader(reader, md5, key)
    checked = CheckedReader(reader, size=size, digest=None, key=key)
    if size is not None and size <= INLINE:
        with checked:  # so that the connection is free again
            return io.BytesIO(checked.readall())
    return buffered(checked)


def _part(talk: Talk, key: str, start: int, end: int | None, node: Node | None) -> BinaryIO:
    answer = ask_for_data(talk, key, {"Range": format_range(start, end)})
    if answer.status == 416:
        size = parse_unsatisfied(answer.headers.get("Content-Range", ""))
        answer.finish()
        if size is None:
            size = talk.data_node(key).length or 0
        check_denied(answer, start, size, key)
        return io.BytesIO()
    told = _checked(answer, key, node)
    if answer.status == 206:
        count = check_part(answer, start, end)
        ask = _Again(talk, key, answer, told, start + count)
        tries = talk.exchange.tries(is_small=False)
        tries.made = 1
        begun = Rest(BodyStream(answer), start)
        vouched = ask.etag is not None
        reader = ResumingReader(
            begun, ask, tries, start=start, end=start + count, vouched=vouched, key=key
        )
        return buffered(CheckedReader(reader, size=count, digest=None, key=key))
    return _cut_out(answer, start, end, key)


def _cut_out(answer: Answer, start: int, end: int | None, key: str) -> BinaryIO:
    """The service sends everything: read up to the start, and stop at the end."""
    if answer.status == 204 or answer.length is None:
        answer.finish()
        resolve_range(start, end, 0, key=key)
        if answer.length is None:
            raise answer.refused("has no length, so that no range of it can be told")
        return io.BytesIO()
    try:
        first, last = resolve_range(start, end, answer.length, key=key)
    except ValueError:
        answer.close()
        raise
    stream = BodyStream(answer, limit=last)
    left = first
    piece = bytearray(min(_PIECE, max(left, 1)))
    while left:
        with memoryview(piece)[: min(left, _PIECE)] as view:
            count = stream.readinto(view)
        if not count:
            raise answer.broken("it ended before the range began")
        left -= count
    return buffered(CheckedReader(stream, size=last - first, digest=None, key=key))


def _checked(answer: Answer, key: str, node: Node | None) -> str | None:
    """Return the MD5 of all bytes, as far as it is told; by the node, too, if they are its own."""
    told = md5_in(answer)
    known = None if node is None else node.md5
    if told is not None and known is not None and told != known:
        answer.close()
        raise _changed(key)
    return told or known


def _changed(key: str) -> ConflictError:
    return ConflictError(f"The data of {key!a} was changed since its node was read.", key=key)


class _Again:
    """Asks for the bytes from a position on, once more."""

    def __init__(
        self, talk: Talk, key: str, first: Answer, md5: str | None, end: int | None = None
    ) -> None:
        self._talk = talk
        self._key = key
        self._md5 = md5
        self._end = end
        etag = first.headers.get("ETag", "")
        self.etag = etag if etag.startswith('"') else None

    def __call__(self, position: int, tries: Tries) -> Rest | None:
        headers = {}
        if position:
            headers["Range"] = format_range(position, self._end)
            if self.etag is not None:
                headers["If-Range"] = self.etag
        answer = ask_for_data(self._talk, self._key, headers, tries)
        if answer.status == 416:
            answer.finish()
            return None
        told = md5_in(answer)
        etag = answer.headers.get("ETag", self.etag)
        if (None not in (told, self._md5) and told != self._md5) or etag != self.etag:
            answer.close()
            raise _changed(self._key)
        if answer.status == 206:
            check_part(answer, position, self._end)
            return Rest(BodyStream(answer), position)
        if self._end is not None:
            raise answer.refused("has no range of the data any more")
        return Rest(io.BytesIO() if answer.status == 204 else BodyStream(answer), 0)


class _Md5Reader(io.RawIOBase):
    """Raw stream that is an error at its end unless it had the MD5 it should have."""

    def __init__(self, stream: Any, md5: str, key: str) -> None:
        self._stream = stream
        self._md5 = md5
        self._hash = hashlib.md5(usedforsecurity=False)
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer) or 0
        if count:
            with memoryview(buffer) as whole, whole[:count] as view:
                self._hash.update(view)
        elif len(buffer) and self._hash.hexdigest() != self._md5:
            told = f"has the MD5 {self._hash.hexdigest()}, not {self._md5} as the service says"
            raise IntegrityError(f"The data of {self._key!a} {told}.", key=self._key)
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
