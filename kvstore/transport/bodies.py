"""Bodies of answers: never silently short."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from typing import Any

import requests
import urllib3

from kvstore.errors import TransportError
from kvstore.profiles.problems import quoted, request_id_of
from kvstore.transport.connections import MalformedAnswerError, StrictResponse
from kvstore.transport.reasons import causes, reason_of

#: What ``requests`` and what lies below it raise when a conversation breaks.
BROKEN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
#: Longest metadata or permissions document that is accepted from a server.
MAX_DOCUMENT = 1 << 22
#: Bodies of data up to this many bytes are read at once, so that their connection is free again.
INLINE = 1 << 18
#: Bytes of a piece that is copied; larger ones are slower: their memory is mapped anew for each.
_PIECE = 1 << 18
#: Bytes that it pays to read, so that their connection can be used again.
_LITTLE = 1 << 16
#: Above the size of all stores, and of what a length may claim.
_MAX_SIZE = 1 << 50


class BrokenOffError(TransportError):
    """An answer broke off within its body; the rest may be asked for."""


class Answer:
    """An answer with the status asked for; its body unread.

    Must be read to the end or closed, or its connection is lost to the pool.

    Args:
        response: with a stream as its ``raw``.
        method: of the request.
        context: what shows as the request in errors.

    Raises:
        TransportError: nobody could tell whether the body is whole, or it is encoded.
    """

    __slots__ = ("_body", "_context", "_failure", "_raw", "headers", "length", "status", "url")

    def __init__(self, response: requests.Response, method: str, context: object) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.url = response.url
        self._raw: Any = response.raw
        self._context = context
        self._body: bytes | None = None
        self._failure: str | None = None
        if self._raw is None or getattr(response, "_content", False) is not False:
            self._body = response.content or b""  # a hook of the session has read it
        #: Bytes of the body; None where chunks tell its end.
        self.length = self._framing(method)
        if self._body and self.length not in (None, len(self._body)):
            raise self.broken(f"{len(self._body)} of {self.length} bytes came")

    @property
    def is_loaded(self) -> bool:
        """Whether the body is here whole."""
        return self._body is not None

    def load(self, limit: int) -> None:
        """Read the body, if it has *limit* bytes at most as far as is told.

        Raises:
            One of `BROKEN`, as it comes: this is for who may try again.
        """
        if self._body is None and (self.length is None or self.length <= limit):
            body = self._raw.read(None if self.length is not None else limit + 1) or b""
            if self.length is not None and len(body) != self.length:
                raise http.client.IncompleteRead(body, self.length - len(body))
            self._body = bytes(body)

    def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransportError: it was cut short, or is longer than *limit*.
        """
        try:
            self.load(limit)
        except BROKEN as error:
            raise self.broken(error) from error
        body = self._body
        if body is None or len(body) > limit:
            raise self.refused(f"is over {limit} bytes")
        self._body = b""
        return body

    def read1(self, size: int) -> bytes:
        """Return what has come, *size* bytes at most, as soon as there is any; none at the end.

        Raises:
            BrokenOffError: it was cut short.
        """
        if self._body:
            piece, self._body = self._body[:size], self._body[size:]
            return piece
        source = self._source()
        try:
            if source is None:
                return bytes(self._raw.read(size) or b"") if self._raw is not None else b""
            piece = source.read1(size)
        except BROKEN as error:
            raise self.broken(error) from error
        self._check_end(source)
        return piece

    def next_bytes(self, size: int) -> bytes:
        """As `read1`, but never waits for more where there is something."""
        stream: Any = getattr(self._raw, "_fp", None)
        if self._body or self._source() is not None or not hasattr(stream, "read1"):
            return self.read1(size)
        try:
            return bytes(stream.read1(size))  # that of urllib3 waits until it has all
        except BROKEN as error:
            raise self.broken(error) from error

    def abort(self) -> None:
        """Cut the connection, called in any thread: who waits for bytes sees it broken."""
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                # Not that of a TLS socket, which would pull the ground from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            return
        stream = getattr(getattr(self._raw, "_fp", None), "raw", None)
        if stream is not None:  # an answer that comes from no socket
            stream.close()

    def readinto(self, buffer: Any) -> int:
        """Read what has come into *buffer*; nothing at the end.

        Raises:
            BrokenOffError: it was cut short.
        """
        # urllib3 gives out each piece as new bytes; from our own connections it can come straight
        # from the socket. What urllib3 does besides, for a body that is not encoded, is done here.
        source = self._source()
        if source is None:
            piece = self.read1(min(len(buffer), _PIECE))
            buffer[: len(piece)] = piece
            return len(piece)
        try:
            count = source.readinto1(buffer)
        except BROKEN as error:
            raise self.broken(error) from error
        self._check_end(source)
        return count

    def close(self) -> None:
        """Give up the rest. The connection is closed unless the body was read."""
        close_raw(self._raw)

    def finish(self) -> None:
        """Be done with a body that nobody wants, so that the connection can be used again."""
        if self._body is None:
            discard_raw(self._raw)

    def broken(self, reason: object) -> TransportError:
        """Give up the rest, and return the error for an answer that broke off.

        A BrokenOffError where asking again may help.
        """
        self.close()
        text = reason_of(reason) if isinstance(reason, BaseException) else str(reason)
        self._failure = text  # who reads on must not take this for the end
        is_final = isinstance(reason, BaseException) and any(
            isinstance(cause, MalformedAnswerError) for cause in causes(reason)
        )
        kind = TransportError if is_final else BrokenOffError
        request_id = request_id_of(self.headers)
        told = f"broke off: {text}{quoted(request_id)}"
        return kind(f"The answer to {self._context} {told}.", request_id=request_id)

    def refused(self, problem: str) -> TransportError:
        """Give up the rest, and return the error for an answer that came but is not to be taken."""
        self.close()
        request_id = request_id_of(self.headers)
        message = f"The answer to {self._context} {problem}{quoted(request_id)}."
        return TransportError(message, status=self.status, request_id=request_id)

    def _source(self) -> StrictResponse | None:
        if self._failure is not None:
            raise self.broken(self._failure)
        source = getattr(self._raw, "_fp", None)
        return source if self._body is None and isinstance(source, StrictResponse) else None

    def _check_end(self, source: StrictResponse) -> None:
        if not source.length and source.isclosed():
            self._raw.release_conn()
        elif source.isclosed():
            raise self.broken(f"{source.length} of {self.length} bytes did not come")

    def _framing(self, method: str) -> int | None:
        headers = self.headers
        is_coded = "Transfer-Encoding" in headers
        if self.status in (204, 304) or method == "HEAD":
            # There is no body, but only reading it frees the connection; and where chunks are
            # announced nevertheless they may follow.
            if is_coded and method != "HEAD":
                self.close()
            elif self._body is None:
                source = self._source()
                if source is None:
                    self._raw.read()
                else:
                    source.end()
                    self._raw.release_conn()
            self._body = b""
            return 0
        if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
            # A size, a range or a digest of other bytes than those stored would pass for theirs.
            raise self.refused(f"is encoded as {headers['Content-Encoding']!r:.50}")
        length = headers.get("Content-Length")
        if is_coded:
            coding = headers["Transfer-Encoding"]
            # RFC 9112 section 6.1 and 6.3: other codings are not asked for, and who sends both
            # fields may be two who do not agree where the answer ends.
            if coding.lower() != "chunked" or length is not None:
                raise self.refused(f"has an unclear end ({coding!r:.50}, length {length!r:.50})")
            return None
        size = size_of_field(length)
        if size is None:
            told = f"has no length ({length!r:.50})"
            raise self.refused(f"{told}, so that nobody could tell whether it was cut short")
        return size


class BodyStream(io.RawIOBase):
    """The body of an answer as a raw stream.

    Args:
        answer: is closed with this.
        ahead: bytes of it that were read already.
        limit: end after so many bytes.
    """

    def __init__(self, answer: Answer, ahead: bytes = b"", *, limit: int | None = None) -> None:
        self._answer = answer
        self._ahead = ahead
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        if self._left is None:
            return self._answer.readinto(buffer) if len(buffer) else 0
        if not self._left or not len(buffer):
            return 0
        with memoryview(buffer)[: self._left] as view:
            count = self._answer.readinto(view)
        self._left -= count
        return count

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()


def close_raw(raw: Any) -> None:
    """Close the stream of a response, and give its connection back."""
    for name in ("close", "release_conn"):
        method = getattr(raw, name, None)  # an adapter of a user may have any stream
        if method is not None:
            method()


def discard_raw(raw: Any) -> None:
    """Read a body to its end, so that the connection can be used again; close it if it is long."""
    try:
        if raw is not None:
            raw.read(_LITTLE)
    except BROKEN:
        pass
    close_raw(raw)


def size_of_field(value: str | None) -> int | None:
    """Return the number in ``Content-Length``, None for what is none that could be meant."""
    value = (value or "").strip(" \t")
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        return None
    size = int(value)
    return size if size < _MAX_SIZE else None
