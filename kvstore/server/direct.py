"""A whole answer as one write: what most requests get, without the two messages of ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from kvstore.server.answers import CLOSE, Field

#: Sends a whole answer; tells whether it did, else it has to go the way of all others.
SendWhole = Callable[[int, list[Field], bytes], bool]

#: The name of a :data:`SendWhole` among the extensions of a request's scope.
EXTENSION: Final = "kvstore.whole"

_BODILESS = (204, 304)


class WholeSender:
    """Writes whole answers to the transport of one request.

    uvicorn looks through every field with two regular expressions, and writes header and body one
    after the other, which makes two packets; together that takes longer than to find a small value.

    Args:
        cycle: uvicorn's request and response, to which nothing has been answered.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle

    def __call__(self, status: int, fields: list[Field], body: bytes) -> bool:
        """Send an answer whose body is there; for HEAD without it.

        Raises:
            RuntimeError: a field that would be two lines; nothing has been sent.
        """
        cycle = self._cycle
        if cycle.disconnected or cycle.response_started or cycle.flow.write_paused:
            return False
        lines = [STATUS_LINE[status]]
        length = None
        for field in (*cycle.default_headers, *fields):
            if field == CLOSE:
                return False
            name, value = field
            if name == b"content-length":
                length = int(value)
            lines += (name, b": ", value, b"\r\n")
        if cycle.scope["method"] == "HEAD":
            body = b""
        elif length != len(body) and not (status in _BODILESS and length is None and not body):
            return False
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        ends = 1 + len(cycle.default_headers) + len(fields) + (not cycle.keep_alive)
        if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
            raise RuntimeError("A header field is no single line.")
        cycle.transport.write(b"%b\r\n%b" % (head, body))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True
