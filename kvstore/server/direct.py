"""A whole answer as one write: what most requests get, without the two messages of ASGI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from kvstore.server.answers import CLOSE, Field

#: Sends a whole answer; tells whether it did, else it has to go the way of all others.
SendWhole = Callable[[int, list[Field], bytes], bool]

#: The name of a :data:`SendWhole` among the extensions of a request's scope.
EXTENSION: Final = "kvstore.whole"

_BODILESS = (204, 304)


def lines_of(fields: Sequence[Field]) -> bytes:
    """Return fields as lines.

    Raises:
        RuntimeError: one of them would be no single line.
    """
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    if lines.count(b"\n") != len(fields) or lines.count(b"\r") != len(fields) or b"\0" in lines:
        raise RuntimeError("A header field is no single line.")
    return lines


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
        if CLOSE in fields:
            return False
        length = next((int(value) for name, value in fields if name == b"content-length"), None)
        if cycle.scope["method"] == "HEAD":
            body = b""
        elif length != len(body) and not (status in _BODILESS and length is None and not body):
            return False
        fields = [*cycle.default_headers, *fields]
        if not cycle.keep_alive:
            fields.append(CLOSE)
        cycle.transport.write(b"".join((STATUS_LINE[status], lines_of(fields), b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True
