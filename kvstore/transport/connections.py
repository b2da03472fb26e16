"""Connections whose answers are bounded in time and refused when they are cut short or malformed.

``http.client`` takes the end of the connection for the end of the header block, so that an answer
cut inside it is a success with an empty body. It also bounds each read of the socket but not their
sum: a server that sends a byte every few seconds is waited for without end.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from time import monotonic
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from kvstore.transport.heads import Head, plain_head
from kvstore.transport.policy import CURRENT, Patience

_BUFFER = 1 << 16
#: Bytes for which ``write_timeout`` is meant.
_PIECE = 1 << 17
#: Bytes of a body that it pays to copy behind its head, so that both go as one.
_TOGETHER = 1 << 14
#: Seconds for which an idle connection is as good as new: servers keep them longer.
_FRESH = 1.0
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n", re.DOTALL)
#: A field that is sent as it is. What begins with @ may tell urllib3 to leave it out.
_PLAIN_FIELD = re.compile(r"[A-Za-z0-9-]+: [!-?A-~][ -~]*")
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

    _may_hold = True

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        patience = self._patience = CURRENT.patience
        if patience is not None:
            patience.begin()
            sock = _PatientSocket(sock, patience)
        super().__init__(sock, *args, **kwargs)

    def readinto1(self, buffer: Any) -> int:
        """Read what comes next into *buffer*; nothing at the end.

        ``readinto`` waits until the buffer is full; what had come of it is lost if that fails.
        """
        if self.chunked or self.length is None:
            piece = self.read1(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        fp: Any = self.fp
        if fp is None:
            return 0
        # A BufferedReader that holds something would wait for more, to fill a buffer above its own.
        size = min(len(buffer), self.length, _BUFFER if self._may_hold else self.length)
        with memoryview(buffer) as whole, whole[:size] as view:
            count: int = fp.readinto1(view)
        self._may_hold = count == size <= _BUFFER
        self.length -= count
        if not count or not self.length:
            self._close_conn()  # type: ignore[attr-defined]
        return count

    def end(self) -> None:
        """Be done with an answer that has no body, as reading it would."""
        if not self.isclosed():
            self._close_conn()  # type: ignore[attr-defined]

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
        end = came.find(b"\r\n\r\n")
        if end >= 0 and came[8:10] in _FINAL:
            # The common case: it is here whole, and none follows an interim one.
            head = plain_head(came[:end])
            if head is None:
                super().begin()
            else:
                stream.read(end + 4)
                self._adopt(*head)
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

    def _adopt(self, version: int, status: int, reason: str, head: Head) -> None:
        """Do what ``http.client`` does with a header block that it has read (RFC 9112, 6.3)."""
        self.version = 10 + version
        self.code = self.status = status
        self.reason = reason
        self.headers = self.msg = head
        coding = head.get("transfer-encoding")
        self.chunked = bool(coding and coding.lower() == "chunked")
        self.chunk_left = None
        self.will_close = bool(self._check_close())  # type: ignore[attr-defined]
        length = head.get("content-length")
        self.length = None
        if status in (204, 304) or self._method == "HEAD":  # type: ignore[attr-defined]
            self.length = 0
        elif length and not self.chunked:
            with contextlib.suppress(ValueError):
                size = int(length)
                self.length = size if size >= 0 else None
        if not self.chunked and self.length is None:
            self.will_close = True

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

    #: When the last answer had come, and how many have.
    _used = 0.0
    _answers = 0
    #: Pieces of a request that is short and goes as one, while they are being made.
    _held: list[bytes] | None = None

    @property
    def is_connected(self) -> bool:
        # Asked before a connection is used again. A request that must not be sent twice is lost if
        # the server's end of the connection is on its way meanwhile. That is likely only right
        # after the first answer, from a server that keeps none open, and when it lay idle.
        patience = CURRENT.patience
        if patience is not None and patience.once:
            is_proven = self._answers > 1 and monotonic() - self._used < _FRESH
            return is_proven and super().is_connected
        return super().is_connected

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._answers += 1
        self._used = monotonic()
        return response

    def connect(self) -> None:
        patience = CURRENT.patience
        self._answers = 0
        if patience is None:
            super().connect()
            return
        self.timeout = wait = patience.connecting()
        try:
            super().connect()
        except urllib3.exceptions.NewConnectionError:  # refused; to urllib3 this is one of those
            raise
        except urllib3.exceptions.ConnectTimeoutError as error:
            raise error from patience.expired(wait)

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        # urllib3 sends bodies under the time-out for connecting.
        if self.sock is None:
            self.connect()
        patience = CURRENT.patience
        if patience is not None:
            self.timeout = patience.writing()
        if not isinstance(body, bytes) or len(body) > _TOGETHER:
            super().request(method, url, body, *args, **kwargs)
            return
        # Two packets are two calls of the system here, and two to wake the server by.
        held = self._held = []
        try:
            super().request(method, url, body, *args, **kwargs)
        finally:
            self._held = None
        self.send(b"".join(held))

    def putheader(self, header: Any, *values: Any) -> None:
        # http.client takes values of many kinds, and looks twice at each.
        if len(values) == 1 and isinstance(values[0], str):
            line = f"{header}: {values[0]}"
            if _PLAIN_FIELD.fullmatch(line):
                self._output(line.encode("ascii"))  # type: ignore[attr-defined]
                return
        super().putheader(header, *values)

    def send(self, data: Any) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        try:
            # sendall() bounds all that it is given: at 60 s a megabyte would need 17 kB/s.
            if isinstance(data, bytes) and len(data) > _PIECE:
                whole = memoryview(data)
                for start in range(0, len(data), _PIECE):
                    self._send_piece(whole[start : start + _PIECE])
            else:
                self._send_piece(data)
        except ConnectionResetError as error:
            # The answer may have come before the end. urllib3 looks for it; before 2.3 only if
            # the pipe is broken.
            raise BrokenPipeError(*error.args) from error

    def _send_piece(self, piece: Any) -> None:
        patience = CURRENT.patience
        if patience is None or self.sock is None:
            super().send(piece)
            return
        wait = patience.writing()
        if self.sock.gettimeout() != wait:
            self.sock.settimeout(wait)
        try:
            super().send(piece)
        except TimeoutError:
            raise patience.expired(wait) from None


class _PatientTLSConnection(_PatientConnection, HTTPSConnection):
    pass


class PatientHTTPPool(urllib3.HTTPConnectionPool):
    """Pool of connections that are patient within limits."""

    ConnectionCls = _PatientConnection


class PatientHTTPSPool(urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _PatientTLSConnection


POOLS = {"http": PatientHTTPPool, "https": PatientHTTPSPool}
