"""Bytes of a file on their way to a client, sent by the kernel: nothing here reads them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kvstore.readers import FileSpan
from kvstore.server.workers import Disconnected, Workers

#: Sends a span of a file as a part of an answer's body; returns when the kernel has all of it.
SendFile = Callable[[FileSpan, Workers, Callable[[int], object]], Awaitable[None]]

#: The name of a :data:`SendFile` among the extensions of a request's scope.
EXTENSION: Final = "kvstore.sendfile"

#: Bytes asked for at a time. The buffer of a socket takes less; one call does not go on for ever.
_MOST = 8 << 20


class FileSender:
    """Sends files on one connection in clear text, in the place of its transport.

    Args:
        cycle: uvicorn's request and response, of which the header has been sent.
        idle_time: seconds without a byte after which the client is given up.
    """

    __slots__ = ("_cycle", "_idle_time")

    def __init__(self, cycle: Any, idle_time: float) -> None:
        self._cycle = cycle
        self._idle_time = idle_time

    async def __call__(
        self, span: FileSpan, workers: Workers, sent: Callable[[int], object]
    ) -> None:
        """Send the bytes of a span.

        Args:
            workers: in their threads the file is read, which may have to come from a disk.
            sent: called with the number of bytes that the kernel has taken anew.

        Raises:
            Disconnected: the client went away, or takes nothing.
            EOFError: the file ends before the span does.
            OSError: the file cannot be read.
        """
        await self._flushed()
        # The event loop lets nobody wait for a descriptor of its own.
        socket = os.dup(self._cycle.transport.get_extra_info("socket").fileno())
        try:
            await self._send(socket, span, workers, sent)
        finally:
            os.close(socket)

    async def _flushed(self) -> None:
        """Wait until the transport has nothing left to write, and so the next bytes are ours."""
        transport, flow = self._cycle.transport, self._cycle.flow
        transport.set_write_buffer_limits(0)
        try:
            while transport.get_write_buffer_size():
                await flow.drain()
                self._check()
        finally:
            transport.set_write_buffer_limits()

    async def _send(
        self, socket: int, span: FileSpan, workers: Workers, sent: Callable[[int], object]
    ) -> None:
        place = span.start
        while place < span.end:
            self._check()
            try:
                wanted = min(span.end - place, _MOST)
                count = await workers.run(os.sendfile, socket, span.descriptor, place, wanted)
            except BlockingIOError:
                await self._writable(socket)
                continue
            except ConnectionError:
                raise self._gone() from None
            if not count:
                raise EOFError(f"The file ended {span.end - place} bytes before its announced end.")
            place += count
            self._cycle.expected_content_length -= count
            sent(count)

    async def _writable(self, socket: int) -> None:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(socket, writable.set)
        try:
            async with asyncio.timeout(self._idle_time):
                await writable.wait()
        except TimeoutError:
            raise self._gone() from None
        finally:
            loop.remove_writer(socket)

    def _check(self) -> None:
        if self._cycle.disconnected or self._cycle.transport.is_closing():
            raise self._gone()

    def _gone(self) -> Disconnected:
        """Take note that nobody takes the answer; uvicorn would log one that was forgotten."""
        self._cycle.disconnected = True
        self._cycle.transport.abort()
        return Disconnected()
