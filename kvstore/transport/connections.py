"""Connections whose answers are bounded in time and refused when they are cut short or malformed.

``http.client`` takes the end of the connection for the end of the header block, so that an answer
cut inside it is a success with an empty body. It also bounds each read of the socket but not their
sum: a server that sends a byte every few seconds is waited for without end.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from time import monotonic
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from kvstore.transport.policy import CURRENT, Patience

_BUFFER = 1 << 16
#: Bytes for which ``write_timeout`` is meant.
_PIECE = 1 << 17
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n", re.DOTALL)
_FINAL = (b" 2", b" 3", b" 4", b" 5")
_MALFORMED = (FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect)


class MalformedAnswerError(http.client.HTTPException):
    """What came is whole, and no HTTP: it would be no other if it were asked for again."""


class _PatientSocket(io.RawIOBase):
    """Reads a socket as long as the patience for this answer lasts."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed
        self._patience = patience

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand in for the socket that ``http.client`` makes its file from."""
        return io.BufferedReader(self, _BUFFER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        sock, patience = self._sock, self._patience
        timeout = patience.wait()
        if sock.gettimeout() != timeout:
            sock.settimeout(timeout)
        began = monotonic()
        try:
            count = self._raw.readinto(buffer) or 0
        except TimeoutError:
            raise patience.expired(timeout) from None
        patience.received(count, monotonic() - began)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _HeadLines:
    """The lines of a header block, and what the last one was."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self.stream.readline(limit)
        return self.last

    def close(self) -> None:
        self.stream.close()

    def flush(self) -> None:
        self.stream.flush()


class StrictResponse(http.client.HTTPResponse):
    """An answer that counts only if its header block came whole, and each size of its chunks."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        patience = self._patience = CURRENT.patience
        if patience is not None:
            patience.begin()
            sock = _PatientSocket(sock, patience)
        super().__init__(sock, *args, **kwargs)

    def begin(self) -> None:
        begun: Any = self.headers
        if begun is not None:
            return
        self._begin()
        while 101 < self.status < 200:  # http.client knows no interim answer but 100
            self.headers = self.msg = None  # type: ignore[assignment]
            self._begin()
        if self.headers.defects and any(isinstance(d, _MALFORMED) for d in self.headers.defects):
            # What stands behind the malformed line, a digest or a length, is not seen.
            self.close()
            raise MalformedAnswerError("the answer's header block is malformed")
        if self.length is None and not self.chunked and "Content-Length" in self.headers:
            # urllib3 refuses some of these too, but leaves the socket open.
            self.close()
            length = self.headers["Content-Length"]
            raise MalformedAnswerError(f"the answer's length is {length!r:.50}")
        if self._patience is not None:
            self._patience.body()

    def _begin(self) -> None:
        stream: Any = self.fp
        came = stream.peek()
        if b"\r\n\r\n" in came and came[8:10] in _FINAL:
            super().begin()  # the common case: it is here whole, and none follows an interim one
            return
        lines: Any = _HeadLines(stream)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:
                self.fp = stream
        if lines.last not in (b"\r\n", b"\n"):
            self.close()
            raise http.client.HTTPException("the answer was cut short inside its header block")

    def _read_next_chunk_size(self) -> int:
        # That of http.client takes a line that was cut ("0" of "0A") for a size, and so cut data
        # for whole; it also takes "-5".
        line = self.fp.readline(_BUFFER)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            self.close()
            if line.endswith(b"\n"):
                raise MalformedAnswerError(f"the size of a chunk is {line!r:.50}")
            raise http.client.HTTPException("the answer was cut short inside the size of a chunk")
        return int(size[1], 16)


class _PatientConnection(HTTPConnection):
    response_class = StrictResponse

    def request(self, *args: Any, **kwargs: Any) -> None:
        # urllib3 sends bodies under the time-out for connecting.
        if self.sock is None:
            self.connect()
        patience = CURRENT.patience
        if patience is not None:
            self.timeout = patience.policy.write_timeout
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        try:
            # sendall() bounds all that it is given: at 60 s a megabyte would need 17 kB/s.
            if isinstance(data, bytes) and len(data) > _PIECE:
                whole = memoryview(data)
                for start in range(0, len(data), _PIECE):
                    super().send(whole[start : start + _PIECE])
            else:
                super().send(data)
        except ConnectionResetError as error:
            # The answer may have come before the end. urllib3 looks for it; before 2.3 only if
            # the pipe is broken.
            raise BrokenPipeError(*error.args) from error


class _PatientTLSConnection(_PatientConnection, HTTPSConnection):
    pass


class PatientHTTPPool(urllib3.HTTPConnectionPool):
    """Pool of connections that are patient within limits."""

    ConnectionCls = _PatientConnection


class PatientHTTPSPool(urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _PatientTLSConnection


POOLS = {"http": PatientHTTPPool, "https": PatientHTTPSPool}
