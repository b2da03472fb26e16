"""A client of live feeds, and a way to wait for what the server does by itself."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.server.sockets import Wire, ask

ACCEPT = "Accept: text/event-stream"
#: The end of a chunk, and that of all.
_END = b"\r\n0\r\n\r\n"


class Stream:
    """One live feed at *url*; what it says comes in blocks, without the empty line behind each."""

    def __init__(self, url: str, *lines: str, target: str = "/changes") -> None:
        self.wire = Wire(url)
        self.wire.head("GET", target, ACCEPT, *lines)
        self._response = http.client.HTTPResponse(self.wire.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self.wire.socket.close()

    def begin(self) -> http.client.HTTPMessage:
        """Return the header, once the feed says that it is open."""
        self._response.begin()
        assert self._response.status == 200
        assert self.block() == [b": the feed is open"]
        return self._response.headers

    def block(self) -> list[bytes]:
        """Return the lines of the next block; none at the end."""
        lines = []
        while (line := self._response.readline().removesuffix(b"\n")) != b"":
            lines.append(line)
        return lines

    def rest(self) -> bytes:
        """Return what still comes, up to the end; fails where the feed is cut off."""
        # By hand, as http.client takes a connection that breaks off for the end of the chunks.
        rest = self._response.fp.read()
        assert rest.endswith(_END), rest
        return rest.removesuffix(_END)

    def event(self) -> tuple[int, bytes]:
        """Return number and data of the next event; heartbeats are passed over."""
        lines = self.block()
        while lines == [b": heartbeat"]:
            lines = self.block()
        seq, data = lines
        assert seq.startswith(b"id: ")
        assert data.startswith(b"data: ")
        return int(seq[4:]), data[6:]


def until(url: str, condition: Callable[[], bool]) -> None:
    """Ask the server until what is to happen in it has: each answer is a round of its loop."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        assert ask(url, "GET", "/query?$limit=0").status == 200
