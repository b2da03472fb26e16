"""One request and its answer: the header fields asked for, and the order of sending."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import BinaryIO

from starlette.types import Message, Receive, Scope, Send

from kvstore.errors import InvalidRequestError
from kvstore.server import direct, sendfile
from kvstore.server.answers import CLOSE, Field, Reply
from kvstore.server.bodies import PIECE, Body, parse_length
from kvstore.server.direct import SendWhole
from kvstore.server.limits import Limits
from kvstore.server.observing import ids
from kvstore.server.sendfile import SendFile
from kvstore.server.workers import Disconnected, Workers


class Exchange:
    """What handlers see of ASGI. Lives on the event loop; threads may read its fields.

    Raises:
        InvalidRequestError: a header field about the body is malformed.
    """

    __slots__ = (
        "_fields",
        "_receive",
        "_send",
        "_sends_whole",
        "began",
        "body",
        "caller",
        "ended",
        "fields",
        "gone",
        "is_live",
        "members",
        "method",
        "refusal",
        "request_id",
        "route",
        "scope",
        "sends_files",
        "sent",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        #: When it was begun (``time.perf_counter``).
        self.began = time.perf_counter()
        self.scope = scope
        self.method: str = scope["method"]
        self._receive = receive
        self._send = send
        fields: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            fields.setdefault(name, []).append(value)
        self._fields = fields
        #: What it is called in the answer and in logs.
        self.request_id = ids.noted(scope) or ids.name_of(fields.get(ids.HEADER))
        ids.note(scope, self.request_id)
        #: What kind of URL it is for, in metrics.
        self.route = "other"
        #: Whether the answer goes on for as long as the client wants.
        self.is_live = False
        #: Status of the answer, 0 while none was sent.
        self.status = 0
        #: Bytes of the answer's body that were sent.
        self.sent = 0
        #: Whether the end of the answer was sent.
        self.ended = False
        #: Whether the header of the answer is on its way.
        self.started = False
        #: Whether the client has gone.
        self.gone = False
        #: Fields that go with a refusal, such as the ``ETag`` of a key that was looked up before.
        self.fields: list[Field] = []
        #: Members that a problem document has beside its own.
        self.members: dict[str, object] = {}
        #: Sends bytes of files unread; None where the connection cannot.
        extensions = scope.get("extensions") or {}
        self.sends_files: SendFile | None = extensions.get(sendfile.EXTENSION)
        self._sends_whole: SendWhole | None = extensions.get(direct.EXTENSION)
        #: How the protocol that the client speaks tells of an error; None: as a problem document.
        self.refusal: Callable[[Exception, Reply], Reply] | None = None
        #: What the client is called in logs, once that is known.
        self.caller: str | None = None
        self.body = Body(
            receive,
            limits,
            length=parse_length(self.lines(b"content-length")),
            chunked=b"transfer-encoding" in fields,
            expects=fields.get(b"expect", [b""])[0].lower() == b"100-continue",
        )

    @property
    def is_head(self) -> bool:
        """Whether only the header is asked for."""
        return self.method == "HEAD"

    def has(self, *names: bytes) -> bool:
        """Whether the request has one of these fields."""
        return not self._fields.keys().isdisjoint(names)

    def lines(self, name: bytes) -> list[str]:
        """The values of the lines of a field, in their order."""
        return [value.decode("latin-1") for value in self._fields.get(name, ())]

    def single(self, name: bytes) -> str | None:
        """The value of a field that may come once.

        Raises:
            InvalidRequestError: it comes twice; which of the two counts is a matter of taste.
        """
        lines = self.lines(name)
        if len(lines) > 1:
            raise InvalidRequestError(f"The header field {name.decode()} comes {len(lines)} times.")
        return lines[0] if lines else None

    def accepts(self, media_type: str) -> bool:
        """Whether the client names this media type among those that it takes."""
        return offers(self.lines(b"accept")).get(media_type, False)

    async def tracked(self, message: Message) -> None:
        """ASGI's ``send``, for applications that do not answer through this exchange."""
        self.started = True
        if message["type"] == "http.response.start":
            self.status = message["status"]
            others = [field for field in message.get("headers", ()) if field[0] != ids.HEADER]
            message = {**message, "headers": [*others, ids.field_of(self.request_id)]}
        elif message["type"] == "http.response.body":
            self.sent += 0 if self.is_head else len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def received(self) -> Message:
        """ASGI's ``receive``, for the same."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.body.received += len(message.get("body", b""))
        elif not self.ended:
            self.gone = True
        return message

    async def begin(self, status: int, fields: list[Field]) -> None:
        """Send the header of the answer."""
        self.started = True
        self.status = status
        fields = [*fields, ids.field_of(self.request_id)]
        if not self.body.complete:
            fields.append(CLOSE)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, piece: bytes) -> None:
        """Send a part of the answer's body, when the client takes it.

        Raises:
            Disconnected: it has gone.
        """
        if self.gone:
            raise Disconnected
        self.sent += len(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """Send the last part of the answer's body."""
        self.sent += len(piece)
        if not self.body.complete:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await self.body.drain()
            piece = b""
        await self._send({"type": "http.response.body", "body": piece})
        self.ended = True

    async def reply(self, reply: Reply, workers: Workers) -> None:
        """Send a whole answer, with its stream read 1 MiB at a time.

        Raises:
            Disconnected: the client went away before the end.
            Exception: what the stream raises; the answer must not be ended then.
        """
        if reply.stream is None:
            if self.body.complete and self._whole(reply):
                return
            await self.begin(reply.status, reply.fields)
            await self.end(b"" if self.is_head else reply.body)
            return
        try:
            async with self.watched():
                await self.begin(reply.status, reply.fields)
                await self.write(reply.body)
                if reply.span is not None and self.sends_files is not None:
                    await self.sends_files(reply.span, workers, self._count)
                else:
                    await self._pump(reply.stream, reply.left, workers)
        finally:
            await workers.run(reply.stream.close)
        await self.end()

    def _whole(self, reply: Reply) -> bool:
        if self._sends_whole is None:
            return False
        fields = [*reply.fields, ids.field_of(self.request_id)]
        if not self._sends_whole(reply.status, fields, reply.body):
            return False
        self.started = self.ended = True
        self.status = reply.status
        self.sent = 0 if self.is_head else len(reply.body)
        return True

    def _count(self, sent: int) -> None:
        self.sent += sent

    async def _pump(self, stream: BinaryIO, left: int, workers: Workers) -> None:
        while left:
            piece = await workers.run(stream.read, min(left, PIECE))
            if not piece:
                raise EOFError(f"The data ended {left} bytes before its announced size.")
            left -= len(piece)
            await self.write(piece)

    @contextlib.asynccontextmanager
    async def watched(self, on_gone: Callable[[], object] | None = None) -> AsyncIterator[None]:
        """Take note when the client goes away, while a long answer is sent.

        Args:
            on_gone: called then, for answers that wait for something else.
        """
        watcher = asyncio.create_task(self._watch(on_gone))
        try:
            yield
        finally:
            watcher.cancel()

    async def _watch(self, on_gone: Callable[[], object] | None) -> None:
        # Sending to a client that has gone is no error in ASGI; only receiving tells.
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                if on_gone is not None:
                    on_gone()
                return
            if message.get("more_body", False):
                return  # an unread body: reading it here would let a client send for ever
            self.body.complete = True


def offers(lines: Iterable[str]) -> dict[str, bool]:
    """Return what the lines of a field such as ``Accept`` name, and whether the client takes it.

    Of what is named twice the first counts; of the weights (RFC 9110 section 12.4.2) only whether
    they are 0.
    """
    found: dict[str, bool] = {}
    for offer in ",".join(lines).lower().split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        refused = any(part in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters)
        found.setdefault(name, not refused)
    return found
