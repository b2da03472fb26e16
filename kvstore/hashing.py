"""SHA-256 of data in one piece, and of data on its way."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

#: Bytes after which a thread is begun to hash more.
_WORTH_A_THREAD = 4 << 20
#: Bytes that are worth handing to it.
_WORTH_A_CALL = 1 << 18
#: Bytes of small pieces that are gathered for it.
_GATHERED = 1 << 20


class ParallelHash:
    """SHA-256 of data that come in pieces, worked out beside what else is done with these.

    Large data are hashed by a thread while the next piece is fetched and this one is written, as
    all three let other threads run. Use it in a ``with`` statement, which ends the thread.

    Args:
        algorithm: another one that hashlib knows, for formats that ask for it.
    """

    def __init__(self, algorithm: str = "sha256") -> None:
        is_ours = algorithm == "sha256"  # which `new` takes five times as long to find
        self._hash = hashlib.sha256() if is_ours else hashlib.new(algorithm, usedforsecurity=False)
        self._size = 0
        # One is filled while the other is hashed; memory that is new to each piece costs as much as
        # its hash.
        self._filled = 0
        self._buffer = bytearray()
        self._other = bytearray()
        self._helper: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def update(self, piece: bytes | bytearray) -> None:
        """Take in the next piece, which must not be changed any more."""
        self._size += len(piece)
        if self._size < _WORTH_A_THREAD or len(piece) < _WORTH_A_CALL:
            self._wait()
            self._hash.update(piece)
        else:
            self._hand_over(piece)

    def update_copied(self, piece: memoryview) -> None:
        """Take in the next piece, which may be changed afterwards. Not to be mixed with the other.

        Pieces of a network are small, and a copy of them costs a tenth of their hash.
        """
        self._size += len(piece)
        if self._size < _WORTH_A_THREAD:
            self._hash.update(piece)
            return
        if not self._buffer:
            self._buffer, self._other = bytearray(_GATHERED), bytearray(_GATHERED)
        while len(piece):
            count = min(len(piece), _GATHERED - self._filled)
            self._buffer[self._filled : self._filled + count] = piece[:count]
            self._filled += count
            piece = piece[count:]
            if self._filled == _GATHERED:
                self._hand_over(self._buffer)
                self._buffer, self._other = self._other, self._buffer
                self._filled = 0

    def digest(self) -> bytes:
        """Return the digest of all."""
        self._wait()
        with memoryview(self._buffer) as rest:
            self._hash.update(rest[: self._filled])
        self._filled = 0
        return self._hash.digest()

    def close(self) -> None:
        """End the thread. Idempotent."""
        if self._helper is not None:
            self._helper.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _hand_over(self, piece: bytes | bytearray) -> None:
        if self._helper is None:
            self._helper = ThreadPoolExecutor(1, thread_name_prefix="kvstore-hash")
        self._wait()
        try:
            self._running = self._helper.submit(self._hash.update, piece)
        except RuntimeError:  # Python is ending, and begins nothing any more
            self._hash.update(piece)

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.result()


def sha256(data: bytes) -> str:
    """Return the digest of *data* as records spell it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
