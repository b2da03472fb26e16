"""Streams over stored bytes: checked, or cut to a range, and what stands in a file as it is."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from kvstore.errors import IntegrityError
from kvstore.hashing import ParallelHash


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Bytes of an open file, which belongs to the stream that this was asked of."""

    descriptor: int
    start: int
    end: int


class CheckedReader(io.RawIOBase):
    """Raw stream that is an error unless it has the length and the digest it should have.

    The last bytes are given out only after the check. Closing it closes what it reads from.

    Args:
        stream: has ``readinto`` and ``close``.
        size: bytes that must come; None where the stream itself knows whether it is whole.
        digest: ``sha256:<hex>`` over them, or None to check the length alone.
        key: for the error.
    """

    def __init__(self, stream: Any, *, size: int | None, digest: str | None, key: str) -> None:
        self._stream = stream
        self._left = size
        self._size = size
        self._digest = digest
        self._hash = ParallelHash() if digest is not None else None
        self._key = key
        self._excess = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, as `io.RawIOBase` says; IntegrityError if they are not as announced."""
        if self._left == 0:
            self._check()
            return 0
        with memoryview(buffer) as whole, whole[: self._left] as view:
            count = self._stream.readinto(view) or 0
            ended = count == 0 and len(view) > 0
            if self._hash is not None:
                self._hash.update_copied(view[:count])
        if self._left is not None:
            if ended:
                short = f"ended {self._left} bytes before its {self._size}"
                raise IntegrityError(f"The data of {self._key!a} {short}.", key=self._key)
            self._left -= count
        if self._left == 0 or (ended and self._left is None):
            self._check()
        return count

    def readall(self) -> bytes:
        """Read the rest, in one piece of memory where the size is known."""
        if self._left is None:
            return super().readall() or b""
        # BytesIO gives out its own buffer; bytes(bytearray) would hold everything twice.
        data = io.BytesIO()
        size = self._left
        if size:
            data.seek(size - 1)
            data.write(b"\0")
        done = 0
        with data.getbuffer() as view:
            while done < size:
                with view[done:] as rest:
                    done += self.readinto(rest)
        if not size:
            self._check()
        return data.getvalue()

    def close(self) -> None:
        """Close this and what it reads from."""
        if not self.closed:
            self._stream.close()
            if self._hash is not None:
                self._hash.close()
        super().close()

    def _check(self) -> None:
        if self._size is not None and not self._excess:
            self._excess = bool(self._stream.readinto(bytearray(1)))
        if self._excess:
            message = f"The data of {self._key!a} does not end with its {self._size} bytes."
            raise IntegrityError(message, key=self._key)
        if self._hash is None:
            return
        actual = f"sha256:{self._hash.digest().hex()}"
        if actual != self._digest:
            message = f"The data of {self._key!a} has {actual}, not {self._digest} as recorded."
            raise IntegrityError(message, key=self._key)


class LimitedReader(io.RawIOBase):
    """Raw stream of the bytes of a seekable one from *start* to before *end*; closes it too.

    An error if that ends before *end*.
    """

    def __init__(self, stream: Any, start: int, end: int, *, key: str | None = None) -> None:
        stream.seek(start)
        self._stream = stream
        self._left = end - start
        self._key = key

    def readable(self) -> bool:
        """Return True."""
        return True

    def span(self) -> FileSpan | None:
        """Return what is still to come, where it stands in a file as it is."""
        try:
            start = self._stream.tell()
            return FileSpan(self._stream.fileno(), start, start + self._left)
        except OSError:  # io.UnsupportedOperation is one
            return None

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, as `io.RawIOBase` says; IntegrityError if too few of them come."""
        with memoryview(buffer) as whole, whole[: self._left] as view:
            count: int = self._stream.readinto(view) or 0
            if count == 0 and len(view):
                message = f"The data ended {self._left} bytes before the end of the range."
                raise IntegrityError(message, key=self._key)
        self._left -= count
        return count

    def close(self) -> None:
        """Close this and what it reads from."""
        if not self.closed:
            self._stream.close()
        super().close()


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """Return *raw* as a stream with ``read`` of exact sizes and fast lines."""
    return io.BufferedReader(raw, 1 << 16)


def span_of(stream: BinaryIO) -> FileSpan | None:
    """Return the bytes of a file that *stream*, of which nothing was read, gives out unchecked.

    None for any other stream. Who has the kernel send these bytes needs not read them.
    """
    raw = getattr(stream, "raw", None)
    return raw.span() if isinstance(raw, LimitedReader) else None
