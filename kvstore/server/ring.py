"""The newest changes, ready to be sent: bounded, whatever happens in the store."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

#: What is remembered at most.
ENTRIES: Final = 8192
BYTES: Final = 8 << 20
#: Bytes that are sent at a time, and a little more.
BATCH: Final = 1 << 16


class Ring:
    """Events of a feed by the numbers of their changes, without a gap behind the *floor*.

    Args:
        at: number of the change behind which it begins.
    """

    def __init__(self, at: int, *, entries: int = ENTRIES, size: int = BYTES) -> None:
        #: All changes with higher numbers, up to *end*, are here.
        self.floor = at
        self.end = at
        self._most = entries, size
        self._seqs: list[int] = []
        self._events: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, events: Iterable[tuple[int, bytes]]) -> None:
        """Take in what follows the *end*; forget the oldest."""
        for seq, event in events:
            self._seqs.append(seq)
            self._events.append(event)
            self._size += len(event)
            self.end = seq
        entries, size = self._most
        count = 0
        while len(self._seqs) - count > entries or self._size > size:
            self._size -= len(self._events[count])
            count += 1
        if count:
            self.floor = self._seqs[count - 1]
            del self._seqs[:count], self._events[:count]

    def after(self, at: int) -> tuple[int, bytes] | None:
        """Return some events behind *at*, with the number of the last one.

        None where some of them are forgotten; no bytes where there are none yet.
        """
        if at < self.floor:
            return None
        begin = end = bisect_right(self._seqs, at)
        size = 0
        while end < len(self._seqs) and size < BATCH:
            size += len(self._events[end])
            end += 1
        if begin == end:
            return at, b""
        found = self._events[begin:end]
        # Most watchers are sent the newest one alone, and then all of them the same object.
        return self._seqs[end - 1], found[0] if len(found) == 1 else b"".join(found)
