"""A client that sends exactly the bytes it is told to, and reads answers one by one."""

from __future__ import annotations

import http.client
import json
import select
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["Content-Type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        return document


class Wire:
    """One connection to the server at *url*."""

    def __init__(self, url: str, *, timeout: float = 20.0) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, method: str, target: str, *lines: str, host: bool = True) -> None:
        """Send the header of a request."""
        fields = [f"Host: {self.host}", *lines] if host else list(lines)
        text = "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""])
        self.send(text.encode("latin-1"))

    def read(self, method: str = "GET") -> Answer:
        """Read one answer; raises ``http.client.IncompleteRead`` if it is cut short."""
        with http.client.HTTPResponse(self.socket, method=method) as response:
            response.begin()
            body = response.read()
            return Answer(response.status, response.headers, body)

    def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
        if body:
            lines = (*lines, f"Content-Length: {len(body)}")
        self.head(method, target, *lines)
        # A server that refuses a large body reads only a part of it: look for the answer meanwhile.
        for begin in range(0, len(body), 1 << 18):
            if select.select([self.socket], [], [], 0)[0]:
                break
            self.send(body[begin : begin + (1 << 18)])
        return self.read(method)

    def is_closed(self) -> bool:
        """Wait for the server to say something: whether that is that it closes the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def ask(url: str, method: str, target: str, *lines: str, body: bytes = b"") -> Answer:
    """Send one request, whose target no library has touched, on a connection of its own."""
    with Wire(url) as wire:
        return wire.ask(method, target, *lines, body=body)


def chunked(*pieces: bytes) -> bytes:
    """The body of pieces in chunked transfer coding, without the chunk that ends it."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
