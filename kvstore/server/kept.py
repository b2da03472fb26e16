"""Small whole answers, for as long as nothing in the store is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from kvstore.server.answers import Field, Reply
from kvstore.server.direct import lines_of

#: Bytes of an answer's body that is kept, at most: what an embedded store has in its index.
LARGEST: Final = 1 << 16
#: What one is taken to need beside its bytes, and for each of its readers.
_OVERHEAD: Final = 2048
_PER_READER: Final = 64
#: Different readers of all answers, at most.
_MOST_READERS: Final = 1024

# What `answers.key_fields` gives.
_STATE: Final = frozenset({b"cache-control", b"etag", b"last-modified"})
# Equal to no value of a field.
_NEVER: Final = b"\n"

#: The tags of who was given an answer; None where callers are not told apart.
Reader: TypeAlias = frozenset[str] | None


@dataclass(slots=True)
class Kept:
    """An answer to GET with the status 200, ready to be sent.

    It is for those readers alone who were given it before: who may see it is decided in one place.
    """

    target: bytes
    #: Its own header fields, and as lines.
    fields: tuple[Field, ...]
    lines: bytes
    #: Those of them that an answer 304 has.
    state_lines: bytes
    etag: bytes
    modified: bytes
    body: bytes
    #: What kind of URL it is of, in metrics.
    route: str
    readers: set[Reader] = field(default_factory=set)

    @property
    def size(self) -> int:
        """What it needs of memory, about."""
        own = len(self.target) + len(self.lines) + len(self.body) + _OVERHEAD
        return own + _PER_READER * len(self.readers)


class KeptAnswers:
    """Answers by the targets of their requests. Lives on the event loop.

    All are forgotten when the store has another *stamp*, whoever has changed it, and the oldest
    ones where they are too many.

    Args:
        stamp: tells one state of the store from another, without waiting; None: that cannot be
            told, and nothing is kept.
        most: bytes of memory for all of them.
    """

    def __init__(self, stamp: Callable[[], object], most: int) -> None:
        self.stamp = stamp
        self._most = most
        self._now: object = None
        self._answers: dict[bytes, Kept] = {}
        self._size = 0
        self._has_looked = self._is_held = False
        # Each once, though it comes anew with each token.
        self._readers: dict[Reader, Reader] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, target: bytes) -> Kept | None:
        """Return the answer that is kept for a target; :meth:`holds` tells whether it still is."""
        return self._answers.get(target)

    def holds(self) -> bool:
        """Whether what is kept is what the store would say now; if not it is forgotten."""
        now = self.stamp()
        if now is not None and now == self._now:
            return True
        self.clear()
        return False

    def held(self) -> bool:
        """As :meth:`holds`, for the first request in what the event loop finds to be read.

        One look is enough for all that is found at a time: it is later than they are. What comes
        behind the first request of a connection may be later than the look.
        """
        if not self._has_looked:
            self._has_looked = True
            asyncio.get_running_loop().call_soon(self._look_again)
            self._is_held = self.holds()
        return self._is_held

    def keep(self, target: bytes, stamp: object, reply: Reply, route: str, reader: Reader) -> None:
        """Keep an answer, if it is one to keep.

        Args:
            stamp: of the store before *reply* was made.
            reader: who is given it.
        """
        if stamp is None or stamp != self.stamp():
            return  # something was changed meanwhile, before the store was read or after it
        if stamp != self._now or len(self._readers) >= _MOST_READERS:
            self.clear()
            self._now = stamp
        kept = _kept(target, reply, route)
        if kept is None:
            return
        old = self._answers.pop(target, None)
        if old is not None:
            self._size -= old.size
            if (old.lines, old.body) == (kept.lines, kept.body):
                kept.readers |= old.readers
        kept.readers.add(self._readers.setdefault(reader, reader))
        self._answers[target] = kept
        self._size += kept.size
        while self._size > self._most:
            self._size -= self._answers.pop(next(iter(self._answers))).size

    def _look_again(self) -> None:
        self._has_looked = False

    def clear(self) -> None:
        """Forget all of them."""
        self._answers.clear()
        self._readers.clear()
        self._size = 0
        self._now = None


def _kept(target: bytes, reply: Reply, route: str) -> Kept | None:
    if reply.status != 200 or reply.stream is not None or len(reply.body) > LARGEST:
        return None
    fields = dict(reply.fields)
    if fields.get(b"content-length") != b"%d" % len(reply.body):
        return None
    state = lines_of([field for field in reply.fields if field[0] in _STATE])
    etag, modified = (fields.get(name, _NEVER) for name in (b"etag", b"last-modified"))
    lines = lines_of(reply.fields)
    return Kept(target, tuple(reply.fields), lines, state, etag, modified, reply.body, route)
