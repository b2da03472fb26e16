"""The newest changes, ready to be sent: bounded, whatever happens in the store."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from kvstore.values import Permissions

#: What is remembered at most.
ENTRIES: Final = 8192
BYTES: Final = 8 << 20
#: Bytes that are sent at a time, and a little more.
BATCH: Final = 1 << 16


#: Tells whether a watcher may read what has such permissions.
Reads: TypeAlias = Callable[[Permissions | None], bool]


class Told(NamedTuple):
    """A change, ready to be sent."""

    seq: int
    event: bytes
    key: str
    permissions: Permissions | None


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
        self._told: list[Told] = []
        # Of each key the newest change that is here, which is the newest there is.
        self._newest: dict[str, Told] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, changes: Iterable[Told]) -> None:
        """Take in what follows the *end*; forget the oldest."""
        for told in changes:
            self._seqs.append(told.seq)
            self._told.append(told)
            self._newest[told.key] = told
            self._size += len(told.event)
            self.end = told.seq
        entries, size = self._most
        count = 0
        while len(self._seqs) - count > entries or self._size > size:
            forgotten = self._told[count]
            self._size -= len(forgotten.event)
            if self._newest[forgotten.key] is forgotten:
                del self._newest[forgotten.key]
            count += 1
        if count:
            self.floor = self._seqs[count - 1]
            del self._seqs[:count], self._told[:count]

    def after(self, at: int, reads: Reads | None = None) -> tuple[int, bytes] | None:
        """Return some events behind *at*, with the number of the last one that was looked at.

        None where some of them are forgotten; no bytes where there are none yet.

        Args:
            reads: who may read a key now and could read it then is told of a change; None: all are.
        """
        if at < self.floor:
            return None
        end = bisect_right(self._seqs, at)
        found: list[bytes] = []
        size = 0
        while end < len(self._seqs) and size < BATCH:
            told = self._told[end]
            end += 1
            if reads is None or (
                reads(told.permissions) and reads(self._newest[told.key].permissions)
            ):
                found.append(told.event)
                size += len(told.event)
        last = self._seqs[end - 1] if end and self._seqs[end - 1] > at else at
        # Most watchers are sent the newest one alone, and then all of them the same object.
        return last, found[0] if len(found) == 1 else b"".join(found)
