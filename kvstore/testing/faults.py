"""Sources of data that misbehave as the sources of users do."""

from __future__ import annotations

import io
from collections.abc import Iterator


class SourceBrokenError(Exception):
    """What the sources here raise; no store knows it."""


def broken_pieces(*pieces: bytes) -> Iterator[bytes]:
    """Yield *pieces*, then raise SourceBrokenError."""
    yield from pieces
    raise SourceBrokenError("the source broke")


class BrokenFile(io.BytesIO):
    """A file that says it has all its bytes, and raises when the second half is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes of the first half, at most *size*."""
        half = len(self.getbuffer()) // 2
        left = half - self.tell()
        if left <= 0:
            raise SourceBrokenError("the file broke")
        return super().read(left if size is None or size < 0 else min(size, left))


class Unseekable(io.RawIOBase):
    """A stream as from a pipe: no size, no way back, few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read at most 1,000 bytes."""
        with memoryview(buffer) as view:
            return self._inner.readinto(view[:1000])


class OnlyRead:
    """The least that counts as a file: a ``read`` and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        """Return at most *size* bytes."""
        return self._inner.read(size)
