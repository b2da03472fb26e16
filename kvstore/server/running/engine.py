"""uvicorn as it is run here: it ends when it is told to, at once, and never by a signal again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from kvstore.server.ending import Ending
from kvstore.server.observing.observer import Observer
from kvstore.server.protocol import protocol_class
from kvstore.server.running.refusals import is_unspecified
from kvstore.server.running.settings import Settings
from kvstore.server.running.tls import context_of
from kvstore.server.shortcut import Shortcut

_BACKLOG = 2048
#: Seconds that what was cut off has to notice it.
_CUTTING = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """Runs an application at sockets that listen already.

    Args:
        grace: seconds that answers on their way have when the server is told to end.
    """

    def __init__(self, app: ASGIApp, settings: Settings, *, grace: float) -> None:
        self._ending = Ending()
        self._grace = grace
        observer = getattr(app, "observer", None)
        known = observer if isinstance(observer, Observer) else None
        shortcut = getattr(app, "shortcut", None)
        short = shortcut if isinstance(shortcut, Shortcut) else None
        limits, tls = settings.limits, settings.tls
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_class(limits, self._ending, known, short),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                server_header=False,
                timeout_keep_alive=limits.keep_alive,  # type: ignore[arg-type] # whole seconds, says it
                timeout_graceful_shutdown=grace + _CUTTING,  # type: ignore[arg-type] # the same
                ssl_certfile=None if tls is None else tls.cert,
                ssl_context_factory=None if tls is None else lambda _, __: context_of(tls),
            )
        )
        self.on_start: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.on_start is not None:
            self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Those who watch would be waited for as long as answers have, and then be cut off.
        self._ending.begin()
        timer = asyncio.get_running_loop().call_later(self._grace, self._cut)
        await super().shutdown(sockets)
        timer.cancel()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it should end; this looks once, for the clock
        # in the Date field, and is woken to end.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 1.0)

    def stop(self) -> None:
        """Ask the server to end. From any thread, at any time."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._wake.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not whether it was told to end: a signal to the whole group comes beside the word of the
        # process that looks after this one, and is no second one.
        self._signals += 1
        if self._signals > 1 and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._cut)
        self.stop()

    def _cut(self) -> None:
        # uvicorn would cancel what runs, and log that as a failure of the application; this way
        # each answer sees that its client has gone.
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn raises the signal anew at the end, and the caller's `with` blocks never end.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Listen at the address of the settings, for a ``with`` statement.

    Raises:
        OSError: it cannot be listened at.
    """
    name = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    address = (name, settings.port)
    with socket.create_server(address, family=family, backlog=_BACKLOG) as listener:
        yield listener


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Return the URL of a server that listens there."""
    name = "localhost" if is_unspecified(settings.host) else settings.host.strip("[]")
    shown = f"[{name}]" if ":" in name else name
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"
