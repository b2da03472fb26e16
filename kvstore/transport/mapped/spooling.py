"""Data that have to be read to their end before they can be sent on, in a temporary file."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from kvstore.hashing import sha256
from kvstore.profiles.operations import Operation
from kvstore.readers import buffered
from kvstore.streams import Source
from kvstore.transport.upload import Upload
from kvstore.values import resolve_range

_PIECE = 1 << 18
#: Bytes that are kept in memory rather than in a file.
_IN_MEMORY = 8 << 20
#: Data up to this many bytes travels as one piece.
_SMALL = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS


class Spool:
    """Data in a temporary file that lives as long as this; an `Opener`.

    Args:
        file: stands at the end.
        key: for errors.
    """

    def __init__(self, file: Any, key: str) -> None:
        self._file = file
        self._key = key
        #: Bytes of data.
        self.size: int = file.tell()

    @classmethod
    def of(cls, stream: Any, key: str) -> Spool:
        """Return all that can be read from *stream*."""
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the spool
        try:
            while piece := stream.read(_PIECE):
                file.write(piece)
        except BaseException:
            file.close()
            raise
        return cls(file, key)

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over a range of the data."""
        first, last = resolve_range(start, end, self.size, key=self._key)
        return buffered(_Window(self, self._file, first, last))

    def __del__(self) -> None:
        self._file.close()


class _Window(io.RawIOBase):
    """A part of a file that others read, too."""

    def __init__(self, owner: Spool, file: Any, start: int, end: int) -> None:
        self._owner = owner  # which closes the file when nobody refers to it any more
        self._file = file
        self._at = start
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._at)
        piece = self._file.read(min(len(buffer), self._end - self._at))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@dataclass
class Prepared:
    """A body that can be sent, and what was found out about the data."""

    body: bytes | Upload
    #: By source, as profiles name them: ``data.size``, ``data.sha256``.
    values: dict[str, Any] = field(default_factory=dict)


@contextmanager
def prepared(source: Source, operation: Operation, *, replayed: bool) -> Iterator[Prepared]:
    """Prepare data for an operation: small ones as bytes, else as an upload.

    What the server must know before the data (their length, their digest, how long they are when
    they are compressed) is found out by reading them first; where they cannot be read twice, from
    a temporary file. Progress is told of the first time that they are read.

    Args:
        replayed: whether it may have to be sent a second time, as another request.
    """
    gzips = operation.body_encoding == "gzip"
    needs_digest = "data.sha256" in operation.sources()
    needs_size = operation.needs_length or "data.size" in operation.sources()
    if source.size is not None and source.size <= _SMALL:
        data = source.whole()
        values = {"data.size": len(data), "data.sha256": sha256(data) if needs_digest else None}
        yield Prepared(_compressed(data) if gzips else data, values)
        return
    must_keep = (replayed or needs_digest) and not source.replayable
    if gzips or must_keep or (needs_size and source.size is None):
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            size, digest = _spooled(source, file, gzips=gzips)
            file.seek(0)
            kept: Any = file
            upload = Upload(Source(kept, buffer_size=source.buffer_size), hashed=False)
            yield Prepared(upload, {"data.size": size, "data.sha256": digest})
        return
    values = {"data.size": source.size}
    if needs_digest:
        values["data.sha256"] = _digest(source)
    yield Prepared(Upload(source, hashed=False), values)


def _spooled(source: Source, file: Any, *, gzips: bool) -> tuple[int, str]:
    hashed = hashlib.sha256()
    size = 0
    coder = zlib.compressobj(wbits=_GZIP) if gzips else None
    for piece in source:
        hashed.update(piece)
        size += len(piece)
        file.write(piece if coder is None else coder.compress(piece))
    if coder is not None:
        file.write(coder.flush())
    return size, f"sha256:{hashed.hexdigest()}"


def _digest(source: Source) -> str:
    hashed = hashlib.sha256()
    report, source.report = source.report, None  # progress is that of the sending
    try:
        for piece in source:
            hashed.update(piece)
    finally:
        source.report = report
    return f"sha256:{hashed.hexdigest()}"


def _compressed(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=_GZIP)
    return coder.compress(data) + coder.flush()
