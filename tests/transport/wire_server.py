"""A scripted HTTP server on loopback, for answers that no real server gives.

The script is a list of steps, one to a request, whichever connection it comes over. A step is the
bytes to answer with, after the request was read; or a function of the :class:`Wire`, which finds
the head of the request read and does what it likes. Requests for the service document are
answered apart (404 unless told) and counted in ``lookups``. What a client sends is kept byte for
byte in ``seen``. A request beyond the script is answered by a reset and a failure at the end.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from kvstore.profiles.wire import SERVICE_PATH

Step: TypeAlias = "bytes | Callable[[Wire], object]"

#: Seconds after which a test that waits has failed.
BOUND = 10.0


def answer(
    status: int = 200, body: bytes = b"", *, reason: str = "Told", **headers: object
) -> bytes:
    """An answer with a length; header names are given with ``_`` for ``-``, None leaves one out."""
    fields = {"Content_Length": len(body), **headers}
    if status == 204 and "Content_Length" not in headers:
        del fields["Content_Length"]
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [
        f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(pieces: Iterable[bytes], **headers: object) -> bytes:
    """An answer in chunks."""
    head = answer(Content_Length=None, Transfer_Encoding="chunked", **headers)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def as_json(document: object, status: int = 200, **headers: object) -> bytes:
    """An answer with a JSON body."""
    kind = "application/problem+json" if status >= 400 else "application/json"
    return answer(status, json.dumps(document).encode(), Content_Type=kind, **headers)


@dataclass
class Seen:
    """One request as it came."""

    method: str
    target: str
    #: Names in lower case; a name that came twice has its values joined by ``", "``.
    headers: dict[str, str]
    #: Which connection it came over, from 0.
    connection: int
    raw_head: bytes
    body: bytes = b""
    #: Whether all of the body came.
    is_whole: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Broken(Exception):
    """The client is gone."""


@dataclass
class Wire:
    """One request on its connection, for a step that is a function."""

    sock: Any
    seen: Seen
    _rest: bytearray
    server: WireServer
    is_open: bool = True

    def body(self) -> bytes:
        """Read the body of the request."""
        if not self.seen.is_whole:
            if self.seen.headers.get("transfer-encoding") == "chunked":
                self._read_chunks()
            else:
                self._read_sized(int(self.seen.headers.get("content-length", "0")))
            self.seen.is_whole = True
        return self.seen.body

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Broken from error

    def reset(self) -> None:
        """End the connection with RST, as a crashed machine does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def half_close(self) -> None:
        """Send no more, but keep listening."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.is_open = False
        self.sock.close()

    def hang(self) -> None:
        """Say nothing until the client gives up."""
        with contextlib.suppress(OSError, Broken):
            while True:
                self._more()
        self.close()

    def _more(self) -> None:
        try:
            piece = self.sock.recv(1 << 16)
        except OSError as error:
            raise Broken from error
        if not piece:
            raise Broken
        self._rest += piece

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return line

    def _read_sized(self, size: int) -> None:
        start = len(self.seen.body)
        while len(self.seen.body) - start < size:
            if not self._rest:
                self._more()
            left = size - (len(self.seen.body) - start)
            self.seen.body += bytes(self._rest[:left])
            del self._rest[:left]

    def _read_chunks(self) -> None:
        while size := int(self._line(), 16):
            self._read_sized(size)
            assert self._line() == b""
        assert self._line() == b""


@dataclass
class WireServer:
    """See the module. A context manager; leaving it ends every connection and checks the script."""

    steps: Sequence[Step] = ()
    #: Answer to requests for the service document.
    service: bytes = field(default_factory=lambda: answer(404))
    #: Answers whatever comes after the script; None is a failure.
    default: Step | None = None
    context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.seen: list[Seen] = []
        self.lookups: list[Seen] = []
        self.failures: list[str] = []
        self.connections = 0
        self._script = iter(self.steps)
        self._left = len(self.steps)
        self._is_done = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._socks: list[Any] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        scheme = "https" if self.context else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    @property
    def told(self) -> list[str]:
        """Method and target of the requests but those for the service document."""
        return [str(seen) for seen in self.seen]

    def connection_ended(self, number: int) -> bool:
        """Wait until the client has given up a connection; False if it does not."""
        thread = self._threads[number + 1]
        thread.join(BOUND)
        return not thread.is_alive()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: object, *exc_info: object) -> None:
        if kind is None and self._left:
            self._is_done.wait(BOUND)  # a client may be gone before its request was looked at
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(BOUND)
        for sock in self._socks:
            sock.close()
        if kind is None:
            assert not self.failures, self.failures
            assert not self._left, f"the client asked only {self.told}"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(BOUND)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks.append(sock)
            number = self.connections
            self.connections += 1  # before it is served: a test may look right after its answer
            self._start(self._serve, sock, number)

    def _serve(self, sock: Any, number: int) -> None:
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                self._socks.append(sock)
            self._serve_requests(sock, number)
        except (Broken, OSError):
            pass
        except Exception as error:  # noqa: BLE001 - shown when the server is left
            self.failures.append(repr(error))
        finally:
            sock.close()

    def _serve_requests(self, sock: Any, number: int) -> None:
        rest = bytearray()
        while True:
            wire = _begun(sock, rest, number, self)
            step = self._next_step(wire)
            if callable(step):
                step(wire)
            else:
                wire.body()
                wire.send(step)
            if not wire.is_open:
                return
            wire.body()

    def _next_step(self, wire: Wire) -> Step:
        with self._lock:
            if wire.seen.target.startswith(SERVICE_PATH):
                self.lookups.append(wire.seen)
                return self.service
            self.seen.append(wire.seen)
            step = next(self._script, self.default)
            self._left -= self._left > 0
            if not self._left:
                self._is_done.set()
        if step is None:
            self.failures.append(f"unexpected: {wire.seen}")
            return Wire.reset
        return step


def _begun(sock: Any, rest: bytearray, number: int, server: WireServer) -> Wire:
    wire = Wire(sock, Seen("", "", {}, number, b""), rest, server)
    while (end := rest.find(b"\r\n\r\n")) < 0:
        wire._more()
    head = bytes(rest[: end + 4])
    del rest[: end + 4]
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    seen = wire.seen
    seen.raw_head = head
    seen.method, seen.target, _ = first.split(" ")
    for line in lines:
        name, _, value = line.partition(":")
        before = seen.headers.get(name.lower())
        value = value.strip()
        seen.headers[name.lower()] = value if before is None else f"{before}, {value}"
    return wire


def refused_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
