"""Bodies of requests: replayable where their source is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from kvstore.streams import Source

#: Bytes of a chunk where the size is not known: urllib3 formats chunks, which costs twenty times as
#: much from 128 KiB on, and what it adds must fit into one piece that is sent.
_CHUNK = (1 << 17) - 32


class SourceFailedError(Exception):
    """Carries what a source raised past ``urllib3``, which takes some of it for its own.

    Args:
        error: what the caller is to get.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Upload:
    """A request body: a few bytes, then the pieces of a source; counted and hashed as it goes.

    Args:
        source: the data.
        head: what goes before it.
        hashed: whether ``digest`` will be asked for.
    """

    def __init__(self, source: Source, head: bytes = b"", *, hashed: bool = True) -> None:
        self._head = head
        self._source = source
        self._hash: Any = None
        self._hashed = hashed
        #: Bytes in all; None if not known before.
        self.size = None if source.size is None else len(head) + source.size
        #: What the source raised while it was read, if it did.
        self.error: Exception | None = None
        #: Whether it was begun, and so cannot be sent again unless it is replayable.
        self.begun = False
        #: Whether all of it was read the last time.
        self.ended = False

    @property
    def may_send(self) -> bool:
        """Whether it can be sent (again) from its beginning."""
        return self._source.replayable or not self.begun

    @property
    def replayable(self) -> bool:
        """Whether it can be sent more than once."""
        return self._source.replayable

    @property
    def digest(self) -> str | None:
        """Digest of the source's bytes, after they were sent; None if they were not hashed."""
        return None if self._hash is None else f"sha256:{self._hash.hexdigest()}"

    @property
    def len(self) -> int:
        """The size, for ``requests``, which chooses by it between the two framings."""
        if self.size is None:
            raise AttributeError("the length is not known")
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        self.ended = False
        self.error = None
        self._hash = hashlib.sha256() if self._hashed else None
        head = self._head
        try:
            for piece in self._source:
                if self._hash is not None:
                    self._hash.update(piece)
                if head:
                    # One packet where it can be one: the data of most values is small.
                    if len(piece) <= 1 << 14:
                        piece = head + piece
                    else:
                        yield head
                    head = b""
                if self.size is None and len(piece) > _CHUNK:
                    for start in range(0, len(piece), _CHUNK):
                        yield piece[start : start + _CHUNK]
                else:
                    yield piece
        except Exception as error:
            self.error = error
            raise SourceFailedError(error) from error
        self.ended = True
        if head:
            yield head
