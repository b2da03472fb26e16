"""Request bodies: bounded, timed, and read in step with the store that takes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from typing import Final

from starlette.types import Receive

from kvstore.errors import InvalidRequestError, TooLargeError
from kvstore.server.answers import Refusal
from kvstore.server.limits import Limits
from kvstore.server.workers import Disconnected, begin_on, result_of

#: Bytes handed to the store at a time: each hop between threads costs as much as copying these.
PIECE: Final = 1 << 20
#: Bodies up to so many bytes are gathered before a thread is asked for.
SMALL: Final = 1 << 16

_RATE_WINDOW = 30.0  # seconds of waiting after which the rate of a body is looked at


class Body:
    """The body of one request, read once, on the event loop.

    Args:
        receive: of ASGI.
        length: its ``Content-Length``, None if there is none.
        chunked: whether it comes with a ``Transfer-Encoding``.
        expects: whether the client waits to be asked for it (``Expect: 100-continue``).
    """

    __slots__ = (
        "_expects", "_limits", "_receive", "_waited", "_window", "at_end", "complete", "length",
        "limit", "received",
    )  # fmt: skip

    def __init__(
        self, receive: Receive, limits: Limits, *, length: int | None, chunked: bool, expects: bool
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._expects = expects
        self._waited = 0.0
        self._window = 0
        self.length = length
        #: Called when all of it has come, before that is told; may raise to refuse it.
        self.at_end: Callable[[], object] | None = None
        #: Bytes that it may have; more are a TooLargeError.
        self.limit = limits.data
        #: Bytes that came so far.
        self.received = 0
        #: Whether all of it was read. What has neither length nor coding has no body.
        self.complete = not length and not chunked

    @property
    def is_small(self) -> bool:
        """Whether it is worth gathering: its length is known, and the client sends it unasked."""
        return self.complete or (
            self.length is not None and self.length <= SMALL and not self._expects
        )

    def check_length(self, limit: int) -> None:
        """Set the limit, and refuse at once a body that says that it is larger.

        Raises:
            TooLargeError: it is.
        """
        self.limit = limit
        if self.length is not None and self.length > limit:
            raise _too_large(self.length, limit)

    async def gather(self) -> bytes:
        """Return all of it, which must be small or limited."""
        pieces = []
        while not self.complete:
            pieces.append(await self._next())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def part(self) -> bytes:
        """Return what comes next of it, as it comes; nothing at its end."""
        return b"" if self.complete else await self._next()

    async def piece(self) -> bytes:
        """Return about 1 MiB of it, nothing at its end."""
        pieces: list[bytes] = []
        size = 0
        while size < PIECE and not self.complete:
            part = await self._next()
            pieces.append(part)
            size += len(part)
        return b"".join(pieces)

    def pieces(self, loop: asyncio.AbstractEventLoop) -> Generator[bytes, None, None]:
        """Yield its pieces in another thread; the next one is on its way while one is used.

        Raises whatever ends the body early, so that the store that reads gives up.
        """
        future = begin_on(loop, self.piece())
        try:
            while piece := result_of(future, loop):
                future = begin_on(loop, self.piece())
                yield piece
        finally:
            future.cancel()

    async def drain(self) -> None:
        """Throw away a bounded part of what is still coming.

        A connection that is closed with bytes unread is reset, and a reset takes from the client
        the answer that it has not read yet (RFC 9112 section 9.6).
        """
        if self.complete or self._expects:
            return
        left = self._limits.drain_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_time):
                while left > 0 and not self.complete:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return
                    size = len(message.get("body", b""))
                    left -= size
                    self.received += size
                    self.complete = not message.get("more_body", False)

    async def _next(self) -> bytes:
        self._expects = False
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.idle_time):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.idle_time
            raise Refusal(408, f"The body stood still for {seconds:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        self.received += len(part)
        self.complete = not message.get("more_body", False)
        if self.received > self.limit:
            raise _too_large(None, self.limit)
        if self.complete and self.at_end is not None:
            self.at_end()
        if not self.complete:
            self._check_rate(len(part), time.monotonic() - began)
        return part

    def _check_rate(self, size: int, waited: float) -> None:
        # Only the time spent waiting counts: a slow store is no fault of the client.
        self._window += size
        self._waited += waited
        if self._waited >= _RATE_WINDOW:
            if self._window < self._waited * self._limits.rate:
                raise Refusal(408, f"The body comes slower than {self._limits.rate} bytes/s.")
            self._window, self._waited = 0, 0.0


def parse_length(lines: list[str]) -> int | None:
    """The value of ``Content-Length``.

    Raises:
        InvalidRequestError: it is malformed or repeated (RFC 9112 section 6.3).
    """
    if not lines:
        return None
    text = lines[0]
    if len(lines) > 1 or not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise InvalidRequestError(f"Content-Length is one number, not {', '.join(lines)!r:.100}.")
    return int(text)


def _too_large(size: int | None, limit: int) -> TooLargeError:
    told = "" if size is None else f", not {size}"
    return TooLargeError(f"This body has at most {limit} bytes{told}.")
