"""The server as a program: until it is told to end, or in the background of another one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from kvstore.errors import InvalidRequestError, StoreError
from kvstore.server.app import create_app
from kvstore.server.ending import Ending
from kvstore.server.hosts import LOCAL
from kvstore.server.limits import Limits
from kvstore.server.protocol import protocol_class
from kvstore.store import ReadOnlyStore

DEFAULT_PORT = 8000

_BACKLOG = 2048
#: Seconds that answers on their way have when the server is told to end.
_GRACE = 5
_START = 30.0  # seconds; a loop that takes longer will not start any more
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    store: ReadOnlyStore,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    limits: Limits | None = None,
    hosts: Iterable[str] | None = None,
    insecure: bool = False,
    ready: Callable[[str], object] | None = None,
    uploads_folder: Path | None = None,
) -> None:
    """Serve *store* until SIGINT or SIGTERM (in the main thread) ask for an end.

    A store that is not connected is connected, and disconnected at the end.

    Args:
        host: name or address to listen at.
        port: 0 takes a free one.
        limits: bounds on requests and connections; the default ones if None.
        hosts: names that the server answers to, see :func:`create_app`. None adds *host* to the
            names of this machine.
        insecure: serve other machines as well, although anybody there may do everything.
        ready: called with the URL of the server once it accepts connections.
        uploads_folder: where uploads are kept that are not complete, see :func:`create_app`.

    Raises:
        InvalidRequestError: *host* is no loopback address and *insecure* was not given.
        OSError: the address cannot be listened at.
    """
    if not insecure and not is_loopback(host):
        raise InvalidRequestError(
            f"At {host!r:.100} other machines can reach the store, and there is no access control: "
            "whoever gets there may read and change everything. Pass insecure=True if that is "
            "wanted."
        )
    if hosts is None:
        hosts = LOCAL if _is_unspecified(host) else (*LOCAL, host)
    with _connected(store), _listening(host, port) as listener:
        app = create_app(store, limits=limits, hosts=hosts, uploads_folder=uploads_folder)
        server = _Server(app, app.site.limits, grace=_GRACE)
        if ready is not None:
            address, told = _url(host, listener), ready
            server.on_start = lambda: told(address)
        server.run(sockets=[listener])


@contextlib.contextmanager
def serve_background(
    store: ReadOnlyStore,
    *,
    port: int = 0,
    limits: Limits | None = None,
    hosts: Iterable[str] | None = None,
    uploads_folder: Path | None = None,
) -> Iterator[str]:
    """Serve *store* to this machine from a thread; the ``with`` statement gives the server's URL.

    It accepts connections when the block begins. At its end answers on their way have a second to
    be finished. A store that is not connected is connected, and disconnected at the end.

    Args:
        port: 0 takes a free one.
        limits, hosts, uploads_folder: as for :func:`serve`.

    Raises:
        OSError: the port cannot be listened at.
    """
    with _connected(store):
        app = create_app(store, limits=limits, hosts=hosts, uploads_folder=uploads_folder)
        with running(app, port=port, limits=limits) as url:
            yield url


@contextlib.contextmanager
def running(app: ASGIApp, *, port: int = 0, limits: Limits | None = None) -> Iterator[str]:
    """Run any ASGI application, such as one that mounts that of :func:`create_app`, in a thread.

    As :func:`serve_background`; *limits* bounds connections and headers.
    """
    with _listening("127.0.0.1", port) as listener:
        server = _Server(app, limits or Limits(), grace=1)
        started = threading.Event()
        server.on_start = started.set
        failures: list[BaseException] = []

        def run() -> None:
            try:
                server.run(sockets=[listener])
            except BaseException as error:  # noqa: BLE001 - raised again in the other thread
                failures.append(error)
            finally:
                started.set()

        thread = threading.Thread(target=run, name="kvstore-server", daemon=True)
        thread.start()
        try:
            if not started.wait(_START) or failures:
                raise StoreError("The server did not start.") from next(iter(failures), None)
            yield _url("127.0.0.1", listener)
        finally:
            server.stop()
            thread.join(_START)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """Ends when told to at once, and not by the signal that told it."""

    def __init__(self, app: ASGIApp, limits: Limits, *, grace: int) -> None:
        self._ending = Ending()
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_class(limits, self._ending),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=limits.keep_alive,  # type: ignore[arg-type] # whole seconds, says it
                timeout_graceful_shutdown=grace,
            )
        )
        self.on_start: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.on_start is not None:
            self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Those who watch would be waited for as long as answers have, and then be cut off.
        self._ending.begin()
        await super().shutdown(sockets)

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
        super().handle_exit(sig, frame)
        self.stop()

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
def _connected(store: ReadOnlyStore) -> Iterator[None]:
    if store.is_connected():
        yield
        return
    with store:
        yield


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    with socket.create_server((name, port), family=family, backlog=_BACKLOG) as listener:
        yield listener


def _url(host: str, listener: socket.socket) -> str:
    name = "localhost" if _is_unspecified(host) else host.strip("[]")
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listener.getsockname()[1]}"


def _is_unspecified(host: str) -> bool:
    return host.strip("[]") in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened at
