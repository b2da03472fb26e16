"""Data that goes on where a transfer broke off: one stream over as many answers as it takes.

Above the readers of bodies, and beside the loop of `exchange`, whose `Tries` decide here too how
often and after which pause.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from kvstore.errors import ConflictError, StoreError
from kvstore.transport.bodies import BrokenOffError
from kvstore.transport.tries import Tries

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Rest:
    """The data from a position on, as far as it comes.

    Args:
        stream: has ``readinto``, which raises BrokenOffError where it breaks off, and ``close``.
        start: position of its first byte in the data.
    """

    stream: Any
    start: int


#: Asks for the data from a position on. What comes may begin before that, never behind it; None
#: says that the data ends there. Raises ConflictError if it is known to have changed.
Ask = Callable[[int, Tries], Rest | None]


class ResumingReader(io.RawIOBase):
    """Raw stream of data that asks for the rest where an answer breaks off. For one thread.

    It never mixes two contents: either *ask* vouches for what it returns (the same strong ETag, or
    a digest over everything that is checked by who reads this), or everything is asked for again,
    and must begin with the bytes that were given out.

    Args:
        begun: the first answer; what it has before *start* is skipped.
        ask: asks for the rest.
        tries: how often; progress renews them.
        start: position where the data wanted begins.
        end: where it ends; None if only its answers know.
        vouched: whether *ask* vouches.
        key: for the error.
    """

    def __init__(
        self,
        begun: Rest,
        ask: Ask,
        tries: Tries,
        *,
        start: int = 0,
        end: int | None = None,
        vouched: bool,
        key: str,
    ) -> None:
        self._rest: Rest | None = begun
        self._ask = ask
        self._tries = tries
        self._start = start
        self._position = start
        self._end = end
        self._hash = None if vouched else hashlib.sha256()
        self._key = key
        self._lead = start - begun.start
        self._failure: StoreError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not len(buffer):
            return 0
        if self._failure is not None:
            raise self._failure
        while True:
            began = monotonic()
            try:
                count = self._read_some(buffer)
            except BrokenOffError as error:
                self._tries.received(0, monotonic() - began)
                rest, self._rest = self._rest, None
                if rest is not None:
                    rest.stream.close()
                try:
                    self._tries.wait(error)
                except StoreError:
                    self._failure = error
                    raise
            except StoreError as error:
                self._failure = error
                raise
            else:
                self._tries.received(count, monotonic() - began)
                return count

    def close(self) -> None:
        if not self.closed and self._rest is not None:
            self._rest.stream.close()
        super().close()

    def _read_some(self, buffer: Any) -> int:
        if self._rest is None:
            if self._position == self._end:
                return 0  # only what ends the answer did not come
            self._rest = self._asked()
            if self._rest is None:
                self._end = self._position
                return 0
        if self._lead:
            self._skip(self._rest.stream)
        count: int = self._rest.stream.readinto(buffer) or 0
        self._position += count
        if self._hash is not None:
            with memoryview(buffer) as whole, whole[:count] as view:
                self._hash.update(view)
        return count

    def _asked(self) -> Rest | None:
        wanted = self._position if self._hash is None else self._start
        rest = self._ask(wanted, self._tries)
        if rest is not None:
            self._lead = self._position - rest.start
        elif wanted != self._position:
            raise self._changed()
        return rest

    def _skip(self, stream: Any) -> None:
        """Read what was given out before, or lies before what is wanted."""
        given = self._position - self._start
        check = None if self._hash is None else hashlib.sha256()
        piece = memoryview(bytearray(min(self._lead, _PIECE)))
        while self._lead:
            wanted = self._lead - given if self._lead > given else self._lead
            count = stream.readinto(piece[:wanted])
            if not count:
                raise self._changed()
            if check is not None and self._lead <= given:
                check.update(piece[:count])
            self._lead -= count
        if check is not None and self._hash is not None and check.digest() != self._hash.digest():
            raise self._changed()

    def _changed(self) -> ConflictError:
        message = f"The data of {self._key!a} was changed while it was read, and cannot be read on."
        return ConflictError(message, key=self._key)
