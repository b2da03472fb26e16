"""A proxy before a real server that does to requests and answers what bad networks do.

It reads each request whole (if its fault lets it), passes it on over a connection of its own, and
gives back the answer as it came, byte for byte. A fault takes the place of that for the requests
that it is planned for. Requests for the service document are passed on unharmed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tests.transport.wire_server import BOUND, Broken, Wire, WireServer, answer

Fault: TypeAlias = Callable[["FaultProxy", Wire], object]


class FaultProxy(WireServer):
    """See the module. A context manager, as every `WireServer`.

    Args:
        url: of the real server.
        plan: a fault, or None, for each request in turn.
        ever: the fault for all requests behind the plan; None passes them on.
    """

    def __init__(
        self, url: str, plan: Iterable[Fault | None] = (), *, ever: Fault | None = None
    ) -> None:
        self.target: Any = urlsplit(url)
        self._plan = list(plan)
        self._ever = ever
        self._held: list[tuple[bytes, bytes]] = []
        #: Statuses of the answers of the real server, and what it was asked.
        self.passed: list[tuple[str, int]] = []
        service = self.exchanged(b"GET /.well-known/kvstore HTTP/1.1\r\n\r\n", b"")
        super().__init__(default=self._step, service=service)

    def _step(self, wire: Wire) -> None:
        number = len(self.seen) - 1
        fault = self._plan[number] if number < len(self._plan) else self._ever
        if fault is None:
            pass_on(self, wire)
        else:
            fault(self, wire)

    def ask(self, wire: Wire) -> bytes:
        """Pass on the request and return the answer."""
        return self.exchanged(wire.seen.raw_head, wire.body())

    def exchanged(self, head: bytes, body: bytes, *, size: int | None = None) -> bytes:
        """Send this to the real server, and return what it answers; nothing if that breaks.

        Args:
            size: what is announced as the size of the body; as it is by default. After a body that
                is shorter the connection is cut, and there is no answer.
        """
        lines = head[:-4].split(b"\r\n")
        dropped = (b"content-length", b"transfer-encoding", b"connection", b"expect", b"host")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in dropped]
        announced = len(body) if size is None else size
        kept += [b"Host: " + self.target.netloc.encode(), b"Connection: close"]
        if announced or lines[0].split()[0] not in (b"GET", b"HEAD", b"DELETE"):
            kept.append(b"Content-Length: %d" % announced)
        place = (self.target.hostname, self.target.port)
        with socket.create_connection(place, timeout=BOUND) as sock:
            came = bytearray()
            with contextlib.suppress(OSError):  # it may answer, and close, before the body came
                sock.sendall(b"\r\n".join([*kept, b"", b""]) + body)
            if announced > len(body):
                return b""
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(1 << 16):
                    came += piece
        self.passed.append((lines[0].decode().split(" H")[0], int(came[9:12] or b"0")))
        return bytes(came)

    def hold(self, wire: Wire) -> None:
        """Keep a request, to be delivered by `deliver`."""
        self._held.append((wire.seen.raw_head, wire.body()))

    def deliver(self) -> list[int]:
        """Deliver what was held, and return the statuses of the answers."""
        held, self._held = self._held, []
        return [int(self.exchanged(head, body)[9:12]) for head, body in held]


def pass_on(proxy: FaultProxy, wire: Wire) -> None:
    wire.send(proxy.ask(wire))
    wire.close()


def refuse(proxy: FaultProxy, wire: Wire) -> None:
    """Reset before anything was read."""
    wire.reset()


def says(status: int, **headers: object) -> Fault:
    """Answer so, without the server having been asked."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        wire.body()
        wire.send(answer(status, **headers))

    return fault


def done_but(status: int) -> Fault:
    """Answer so although the server has done it, as a gateway does."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        proxy.ask(wire)
        wire.send(answer(status))

    return fault


# -- on the way down -----------------------------------------------------------------------


def down(change: Callable[[bytes], bytes], end: Callable[[Wire], object] = Wire.close) -> Fault:
    """Send what *change* makes of the answer, then end the connection."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        wire.send(change(proxy.ask(wire)))
        end(wire)

    return fault


def nothing(page: bytes) -> bytes:
    return b""


def whole(page: bytes) -> bytes:
    return page


def half_the_head(page: bytes) -> bytes:
    return page[: page.index(b"\r\n\r\n") // 2]


def half_the_body(page: bytes) -> bytes:
    begin = page.index(b"\r\n\r\n") + 4
    return page[: begin + (len(page) - begin) // 2]


def a_flipped_bit(page: bytes) -> bytes:
    return _flipped(page, page.index(b"\r\n\r\n") + 4)


def garbage_inside(page: bytes) -> bytes:
    half = half_the_body(page)
    return half + b"\x00garbage\xff" + page[len(half) :]


def garbage_before(page: bytes) -> bytes:
    return b"\x16\x03\x01garbage\r\n" + page


def garbage_behind(page: bytes) -> bytes:
    return page + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ngarbage"


def slowly(change: Callable[[bytes], bytes]) -> Fault:
    """Send the last part of it byte by byte, until the client gives up."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        page = proxy.ask(wire)
        begun = change(page)
        wire.send(begun)
        pause = threading.Event()
        for byte in page[len(begun) :]:
            wire.send(bytes([byte]))
            pause.wait(0.01)
        wire.close()

    return fault


def late(seconds: float) -> Fault:
    """Every answer takes its time: the latency of the network."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        page = proxy.ask(wire)
        threading.Event().wait(seconds)
        wire.send(page)
        wire.close()

    return fault


# -- on the way up -------------------------------------------------------------------------


def up(end: Callable[[Wire], object]) -> Fault:
    """Pass on half of the body, and cut that connection; then end the client's."""

    def fault(proxy: FaultProxy, wire: Wire) -> None:
        seen = wire.seen
        size = int(seen.headers.get("content-length", "0"))
        if not size and "transfer-encoding" not in seen.headers:
            end(wire)  # there is no body to be cut
            return
        with contextlib.suppress(Broken):
            wire._read_sized(size // 2) if size else wire._more()
        proxy.exchanged(seen.raw_head, seen.body, size=size or 1 << 20)
        end(wire)

    return fault


def up_flipped(proxy: FaultProxy, wire: Wire) -> None:
    """Flip a bit in the middle of the body."""
    body = wire.body()
    wire.send(proxy.exchanged(wire.seen.raw_head, _flipped(body, 0) if body else body))
    wire.close()


def up_garbage(proxy: FaultProxy, wire: Wire) -> None:
    """Insert bytes into the body; those that are too many at its end are lost."""
    body = wire.body()
    middle = len(body) // 2
    changed = (body[:middle] + b"\x00garbage\xff" + body[middle:])[: len(body)]
    wire.send(proxy.exchanged(wire.seen.raw_head, changed))
    wire.close()


def lost_but_late(proxy: FaultProxy, wire: Wire) -> None:
    """The request is held up on its way, and arrives when the test delivers it."""
    proxy.hold(wire)
    wire.reset()


def _flipped(data: bytes, begin: int) -> bytes:
    at = begin + (len(data) - begin) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if at < len(data) else data
