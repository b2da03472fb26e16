"""An ASGI application that answers ``requests`` in this process, with no socket between them.

The application runs on an event loop in a thread of its own. Bodies stream both ways through short
queues, so that memory and the order of things are as over a network; a body that breaks off, either
way, is a connection that is lost.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import requests
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import ProtocolError, ReadTimeoutError

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_log = logging.getLogger("kvstore.testing")

_QUEUED = 4  # messages on their way in each direction
_BLOCK = 1 << 16
_PATIENCE = 30.0  # seconds for the application to begin, end, or notice that it was left


class AppRunner:
    """Runs one application and passes requests to it. Thread-safe."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kvstore-app", daemon=True)

    def answer(self, request: requests.PreparedRequest, timeout: float | None) -> HTTPResponse:
        """Send *request* to the application and return its answer, the body unread.

        Args:
            timeout: seconds to wait for the answer to begin and for each part of it.

        Raises:
            requests.ConnectionError: the body has not the length announced for it.
            requests.ReadTimeout: the answer did not come in time.
            Exception: whatever the body of the request raised.
        """
        exchange = _Exchange(self._app, self._loop, request, timeout)
        exchange.send()
        return exchange.response()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the application, and end it."""
        self._thread.start()
        lifespan = _Lifespan(self._app)
        try:
            self._wait(lifespan.start())
            yield
            self._wait(lifespan.stop())
        finally:
            self._wait(self._cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())

    def _wait(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Lifespan:
    """The startup and shutdown of an application that has them (ASGI lifespan 2.0)."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        asyncio.get_running_loop().create_task(self._run())
        await self._say("startup")

    async def stop(self) -> None:
        await self._say("shutdown")

    async def _say(self, what: str) -> None:
        await self._inbox.put({"type": f"lifespan.{what}"})
        answer = await self._outbox.get()
        if answer.endswith(".failed"):
            raise RuntimeError(f"The {what} of the application failed.")

    async def _send(self, message: Message) -> None:
        await self._outbox.put(message["type"])

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._inbox.get, self._send)
        except Exception as error:  # noqa: BLE001 - the specification's way to say "I have none"
            _log.debug("The application has no lifespan: %r", error)
        # One answer for each of the two questions, should the application not have given them.
        await self._outbox.put("ended")
        await self._outbox.put("ended")


class _Exchange:
    """One request and its answer. Coroutines run on the loop, all else in the caller's thread."""

    def __init__(
        self,
        app: App,
        loop: asyncio.AbstractEventLoop,
        request: requests.PreparedRequest,
        timeout: float | None,
    ) -> None:
        self._app = app
        self._loop = loop
        self._request = request
        self._timeout = timeout
        self._headers = _request_headers(request)
        self._inbox: deque[Message] = deque()
        self._credit = threading.Semaphore(_QUEUED)  # how many more messages the inbox may take
        self._arrived = asyncio.Event()
        self._outbox: queue.SimpleQueue[Message | Exception | None] = queue.SimpleQueue()
        self._room = asyncio.Event()
        self._is_full = False
        self._gone = self._complete = False
        self._ended = threading.Event()
        self._left: int | None = None

    # -- the request -----------------------------------------------------------------------

    def send(self) -> None:
        """Begin, and pass the body on until its end or that of the application."""
        announced = next((int(v) for name, v in self._headers if name == b"content-length"), None)
        done = 0
        block = bytearray()  # small bodies go as one message, at once
        is_running = False
        try:
            for piece in _pieces(self._request.body):
                done += len(piece)
                block += piece
                if len(block) < _BLOCK:
                    continue
                self._give(block, more=True)
                is_running = is_running or self._start()
                block = bytearray()
            if announced is not None and announced != done:
                message = f"The body has {done} bytes, not the {announced} announced for it."
                raise requests.ConnectionError(message, request=self._request)
        except BaseException:
            if is_running:
                self.abandon()
                self._ended.wait(_PATIENCE)
            raise
        self._give(block, more=False)
        if not is_running:
            self._start()

    def _start(self) -> bool:
        asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        return True

    def _give(self, block: bytearray, *, more: bool) -> None:
        if self._ended.is_set():
            return
        if not self._credit.acquire(timeout=_PATIENCE):
            message = f"The application has not read the request for {_PATIENCE:g} seconds."
            raise requests.ConnectionError(message, request=self._request)
        self._inbox.append({"type": "http.request", "body": bytes(block), "more_body": more})
        self._loop.call_soon_threadsafe(self._arrived.set)

    async def _receive(self) -> Message:
        while not (self._gone or self._complete):
            if self._inbox:
                self._credit.release()
                return self._inbox.popleft()
            self._arrived.clear()
            if not self._inbox:
                await self._arrived.wait()
        return {"type": "http.disconnect"}

    # -- the answer ------------------------------------------------------------------------

    def response(self) -> HTTPResponse:
        """Wait for the answer to begin, and return it."""
        try:
            start = self.next()
        except ReadTimeoutError as error:
            self.abandon()
            raise requests.ReadTimeout(error, request=self._request) from error
        failed = not isinstance(start, MutableMapping)
        if not isinstance(start, MutableMapping):
            start = {"status": 500, "headers": [(b"content-length", b"0")]}
        status = int(start["status"])
        fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in start.get("headers", ())]
        headers = HTTPHeaderDict(fields)
        headers.setdefault("Date", formatdate(usegmt=True))
        empty = failed or self._request.method == "HEAD" or status in (204, 304)
        if "Content-Length" not in headers and not empty:
            headers["Transfer-Encoding"] = "chunked"
        return HTTPResponse(
            body=io.BytesIO() if empty else io.BufferedReader(_Body(self)),
            headers=headers,
            status=status,
            reason=http.client.responses.get(status),
            version=11,
            request_method=self._request.method,
            request_url=self._request.url,
            preload_content=False,
        )

    def next(self) -> Message | Exception | None:
        """Return the next message of the application; None, or what it raised, at the end."""
        try:
            message = self._outbox.get(timeout=self._timeout)
        except queue.Empty:
            text = f"Nothing came in {self._timeout} seconds."
            raise ReadTimeoutError(None, self._request.url, text) from None  # type: ignore[arg-type]
        if self._is_full:
            self._loop.call_soon_threadsafe(self._room.set)
        return message

    def abandon(self) -> None:
        """Tell the application that nobody is there any more."""
        self._gone = True
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._arrived.set)
            self._loop.call_soon_threadsafe(self._room.set)

    async def _send(self, message: Message) -> None:
        if self._gone:
            return
        if message["type"] == "http.response.start":
            lengths = [v for n, v in message.get("headers", ()) if n.lower() == b"content-length"]
            self._left = int(lengths[0]) if lengths else None
        elif self._left is not None and self._request.method != "HEAD":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise RuntimeError("The answer is longer than its Content-Length.")
        self._complete = not message.get("more_body", message["type"] == "http.response.start")
        self._outbox.put(message)
        while self._outbox.qsize() > _QUEUED and not self._gone:
            self._room.clear()
            self._is_full = True
            if self._outbox.qsize() > _QUEUED:
                await self._room.wait()
            self._is_full = False

    async def _run(self) -> None:
        end: Exception | None = None
        try:
            await self._app(_scope(self._request, self._headers), self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - it is logged, and breaks the answer off
            end = error
            if not self._gone:
                _log.exception("The application failed on %s.", self._request.url)
        finally:
            self._outbox.put(end)
            self._ended.set()
            self._credit.release()  # for the piece that waits; those after it go nowhere


class _Body(io.RawIOBase):
    """The body of an answer, as it comes."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._ahead = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ahead and not self._ended:
            message = self._exchange.next()
            if isinstance(message, Exception) or message is None:
                raise ProtocolError(f"The connection was closed inside the answer: {message!r}.")
            self._ahead = memoryview(bytes(message.get("body", b"")))
            self._ended = not message.get("more_body", False)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        return count

    def close(self) -> None:
        if not self.closed and not self._ended:
            self._exchange.abandon()
        super().close()


def _scope(request: requests.PreparedRequest, headers: list[tuple[bytes, bytes]]) -> Message:
    url = urlsplit(str(request.url))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": unquote(url.path or "/"),
        "raw_path": (url.path or "/").encode("ascii"),
        "query_string": url.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": (url.hostname, url.port or (443 if url.scheme == "https" else 80)),
        "state": {},
    }


def _request_headers(request: requests.PreparedRequest) -> list[tuple[bytes, bytes]]:
    host = urlsplit(str(request.url)).netloc.rpartition("@")[2]
    headers = [(b"host", host.encode("ascii"))]
    for name, value in request.headers.items():
        if value is not None and name.lower() != "host":
            headers.append((_latin(name).lower(), _latin(value)))
    names = {name for name, _ in headers}
    if request.body is not None and not names & {b"content-length", b"transfer-encoding"}:
        headers.append((b"transfer-encoding", b"chunked"))
    return headers


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _pieces(body: Any) -> Iterator[bytes]:
    """Yield the body of a request, in any of the forms that ``requests`` takes."""
    if body is None:
        return
    if isinstance(body, str):
        yield body.encode()
    elif isinstance(body, (bytes, bytearray, memoryview)):
        yield bytes(body)
    elif hasattr(body, "read"):
        while piece := body.read(1 << 16):
            yield piece if isinstance(piece, bytes) else piece.encode()
    else:
        for piece in body:
            yield piece if isinstance(piece, bytes) else piece.encode()
