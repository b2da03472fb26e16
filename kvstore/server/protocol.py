"""HTTP/1.1 on a connection: uvicorn's protocol, with bounds that it has not.

A header block is bounded while it comes, not once it is all in memory; a request that is refused
before the application sees it gets a problem document, and the time to read it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from kvstore.documents import dump_json
from kvstore.profiles.problems import MEDIA_TYPE
from kvstore.server import direct, sendfile
from kvstore.server.answers import CLOSE, NO_STORE, NOSNIFF, Field, blank_problem, length_field
from kvstore.server.direct import WholeSender, lines_of
from kvstore.server.ending import Ending, note_client_ended
from kvstore.server.limits import Limits
from kvstore.server.observing import ids
from kvstore.server.observing.observer import Observer
from kvstore.server.sendfile import FileSender
from kvstore.server.shortcut import Shortcut


class _Refused(Exception):  # noqa: N818 - thrown through the parser, to stop it
    """The request is answered already."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Lives on the event loop."""

    limits: ClassVar[Limits] = Limits()
    ending: ClassVar[Ending] = Ending()
    observer: ClassVar[Observer] = Observer()
    shortcut: ClassVar[Shortcut | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_lines = 0
        self._head_bytes = 0
        #: Bytes since the last one of a body, or since the header began.
        self._quiet_bytes = 0
        self._requests = 0
        #: Whether the answers on their way are the last, so that what still comes is ignored.
        self._ended = False
        #: Bytes still to be thrown away after a refusal; None while there was none.
        self._discard: int | None = None
        #: Whether a header has begun to come of which there is no request yet.
        self._is_new = False
        #: Whether the next request is the first one in what was received.
        self._is_first = False
        #: When an answer that was kept was sent, in seconds of the loop.
        self._idle_since = 0.0
        self._default: tuple[list[Field], bytes] = [], b""
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        #: The request that is answered now, of which others may be waiting behind it.
        self._answered: RequestResponseCycle | None = None

    # -- the connection --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.observer.connections += 1
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.observer.connections -= 1
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        answered = self._answered
        if answered is not None and not answered.response_complete:
            # uvicorn tells the last request alone, and others would write to what is closed.
            answered.disconnected = True
            answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._discard is not None:
            self._discard -= len(data)
            if self._discard <= 0:
                self.transport.close()
            return
        self._quiet_bytes += len(data)
        # Behind an empty line the first request may have come later than the line.
        self._is_first = data[0] not in b"\r\n"
        try:
            self.parser.feed_data(data)
        except _REFUSED:
            if self._discard is None and not self._ended and not self.transport.is_closing():
                self._refuse(400, "That is no HTTP/1.1 request.")
            return
        except httptools.HttpParserUpgrade:
            return  # answered as if nothing had been asked for; see on_headers_complete
        if self._quiet_bytes > self._most_quiet():
            self._refuse(431, "The header, or what frames the body, is too long.")
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._in_head or (is_idle and self.timeout_keep_alive_task is None):
            self._await_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to keep what can still be sent to a client that has ended its own side.

        Clients such as ``nc -N`` do so once they have asked, and wait for the answer. Who has gone
        altogether is found out in writing, so an answer that may have nothing to write for long,
        as a live feed, is given up.
        """
        cycle = self.cycle
        if self._discard is not None or cycle is None or cycle.response_complete:
            return False
        is_live = cycle.response_started and cycle.chunked_encoding
        if cycle.more_body or is_live or self.scheme == "https":  # TLS has no half of its own
            return False
        cycle.keep_alive = False
        note_client_ended(cycle.scope)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # -- what the parser finds -------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._requests >= self.limits.requests:
            self._ended = True  # the last answer says that the connection will be closed
            raise _Refused
        # Not uvicorn's own: what it makes for each request is not needed where an answer is kept.
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head = self._is_new = True
        self._head_lines = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.target:
            self._refuse(414, f"The target of a request has at most {self.limits.target} bytes.")
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines += 1
        self._head_bytes += len(name) + len(value) + 4
        if self._head_lines > self.limits.header_lines:
            self._refuse(431, f"A request has at most {self.limits.header_lines} header lines.")
            raise _Refused
        if self._head_bytes > self.limits.header_bytes:
            self._refuse(431, f"The header has at most {self.limits.header_bytes} bytes.")
            raise _Refused
        # Fields behind a body must not pass for fields of the header (RFC 9110 section 6.5.1).
        if self._in_head:
            # As uvicorn does; most of the time of a header goes to calls.
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            # The parser leaves blanks behind a value, which are none of it (section 5.5).
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._quiet_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        upgrade = self.parser.should_upgrade()
        self._check_message(upgrade=upgrade)
        self._requests += 1
        if len(self.connections) > self.limits.connections:
            self.app = self._unavailable
        elif not upgrade and self._answer_kept():
            return
        self._unset_keepalive_if_required()  # of an answer that was kept, in front of this request
        self._make_scope()
        extensions: dict[str, Any] = {}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        self._is_new = False
        extensions[direct.EXTENSION] = WholeSender(self.cycle)
        if self.scheme == "http" and hasattr(os, "sendfile"):  # else all bytes are encrypted here
            extensions[sendfile.EXTENSION] = FileSender(self.cycle, self.limits.idle_time)
        if upgrade or self._requests >= self.limits.requests:
            self.cycle.keep_alive = False
        if upgrade:
            self.cycle.more_body = False

    def _make_scope(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # in the list that the scope has
        self.ending.enter(self.scope)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _answer_kept(self) -> bool:
        """Answer a request whose answer is kept; tell whether that was done."""
        before = self.cycle
        is_first, self._is_first = self._is_first, False
        if (
            self.shortcut is None
            or self.parser.get_method() != b"GET"
            or self.parser.get_http_version() != "1.1"
            or not self.parser.should_keep_alive()
            or self._requests >= self.limits.requests
            or self.flow.write_paused
            or self.transport.is_closing()
            or not (before is None or before.response_complete)
            or self.root_path
        ):
            return False
        default = self._default_lines()
        answer = self.shortcut.answer(
            self.url, self.headers, self.client, default, is_first=is_first
        )
        if answer is None:
            return False
        self._is_new = False
        self.transport.write(answer)
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._await_next(self.timeout_keep_alive)
        return True

    def _default_lines(self) -> bytes:
        fields = self.server_state.default_headers
        if fields is not self._default[0]:  # once a second, for the date
            self._default = fields, lines_of(fields)
        return self._default[1]

    def on_message_complete(self) -> None:
        if self.cycle is not None:  # else all requests yet had an answer that was kept
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        super().on_body(body)

    # -- refusing --------------------------------------------------------------------------

    def _check_message(self, *, upgrade: bool) -> None:
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse(505, "This server speaks HTTP/1.1.")
            raise _Refused
        # The parser takes what follows for the other protocol: the body would be lost unseen.
        if upgrade and any(name in _FRAMING for name, _ in self.headers):
            self._refuse(400, "A request that has a body cannot ask for another protocol.")
            raise _Refused

    def _refuse(self, status: int, detail: str) -> None:
        """Answer in the application's place and end the connection, gently if that is possible."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if not cycle.more_body:  # the fault is in what follows a request that is sound
                self._ended = True
                return
            if cycle.response_started or self.pipeline:
                # An answer is on its way, and ours would end up within it.
                self.transport.close()
                return
            request_id = ids.noted(cycle.scope) or ids.name_in(cycle.scope["headers"])
            ids.note(cycle.scope, request_id)
            ids.refuse(cycle.scope, status)  # the application tells of it, once it notices
            cycle.disconnected = True
            cycle.message_event.set()
        else:
            request_id = self._tell_refusal(status)
        self._discard = self.limits.drain_bytes
        self._in_head = False
        default = self.server_state.default_headers
        self.transport.write(_answer(status, detail, request_id, default))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm_head_timer(self.limits.drain_time)

    def _tell_refusal(self, status: int) -> str:
        """Tell of a refusal that no application knows of, and return what the request is called."""
        known: dict[str, Any] = {"client": self.client}
        target, headers = b"", []
        if self._is_new:
            target, headers = self.url, self.headers
            if target:  # or the parser would name a method that it has not read
                known["method"] = self.parser.get_method().decode("ascii")
        request_id = ids.name_in(headers)
        self.observer.refused(known, target, status, request_id)
        return request_id

    async def _unavailable(self, scope: Any, _receive: Any, send: Any) -> None:
        """The application for connections that are too many."""
        request_id = ids.name_in(scope["headers"])
        told = "Too many connections are open; try again a little later."
        fields, body = _problem(503, told, request_id)
        fields.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": 503, "headers": fields})
        await send({"type": "http.response.body", "body": body})
        self.observer.refused(scope, scope["raw_path"], 503, request_id)

    def _most_quiet(self) -> int:
        return self.limits.header_bytes + self.limits.target

    # -- clocks ----------------------------------------------------------------------------

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._in_head or not (self.cycle is None or self.cycle.response_complete):
            return  # these have clocks of their own
        # To set a clock anew for each answer that was kept would take as long as to find it.
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._await_next(left)
        else:
            super().timeout_keep_alive_handler()

    def _await_next(self, seconds: float) -> None:
        later = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        self.timeout_keep_alive_task = later

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._arm_head_timer(self.limits.header_time)

    def _arm_head_timer(self, seconds: float) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._discard is not None or not self._in_head:
            if self._discard is not None or self.cycle is None or self.cycle.response_complete:
                self.transport.close()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # it has time until the answer before it is sent
        else:
            self._refuse(408, f"The header took over {self.limits.header_time:g} seconds.")

    def _watch_writing(self, size: int) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._write_timer = self.loop.call_later(self.limits.idle_time, self._writing_is_late, size)

    def _writing_is_late(self, before: int) -> None:
        self._write_timer = None
        now = self.transport.get_write_buffer_size()
        if before - now < self.limits.rate * self.limits.idle_time:
            self.transport.abort()  # hardly anybody reads; what is buffered would stay for ever
        else:
            self._watch_writing(now)


def protocol_class(
    limits: Limits,
    ending: Ending,
    observer: Observer | None = None,
    shortcut: Shortcut | None = None,
) -> type[BoundedProtocol]:
    """The protocol of one server, with its limits; uvicorn takes a class, not an object.

    Args:
        observer: is told of what the application does not see; None: only the log is.
        shortcut: of the application; None: it has none.
    """
    own = {
        "limits": limits,
        "ending": ending,
        "observer": observer or Observer(),
        "shortcut": shortcut,
    }
    return type("BoundedProtocol", (BoundedProtocol,), own)


_FRAMING = (b"content-length", b"transfer-encoding")
_REFUSED = (httptools.HttpParserError, _Refused)


def _problem(status: int, detail: str, request_id: str) -> tuple[list[Field], bytes]:
    body = dump_json({**blank_problem(status, detail), "request_id": request_id})
    content_type = (b"content-type", MEDIA_TYPE.encode())
    named = ids.field_of(request_id)
    return [content_type, length_field(len(body)), NOSNIFF, NO_STORE, CLOSE, named], body


def _answer(status: int, detail: str, request_id: str, default: list[Field]) -> bytes:
    fields, body = _problem(status, detail, request_id)
    lines = [b"%s: %s\r\n" % field for field in [*default, *fields]]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])
