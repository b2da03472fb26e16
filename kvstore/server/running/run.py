"""The server as a program: until it is told to end, or in the background of another one."""

from __future__ import annotations

import contextlib
import functools
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp

from kvstore.errors import StoreError
from kvstore.server.access.admission import access_of
from kvstore.server.access.callers import Access
from kvstore.server.app import KeyValueApp, create_app
from kvstore.server.gateways import Gateway, gateways_of
from kvstore.server.hosts import LOCAL
from kvstore.server.limits import Limits
from kvstore.server.observing.logs import logging_to
from kvstore.server.observing.metrics import metrics_apart, metrics_folder, process_ended
from kvstore.server.running.engine import Server, listening, url_of
from kvstore.server.running.processes import Processes, Worker, check_sharing
from kvstore.server.running.refusals import check, is_unspecified
from kvstore.server.running.settings import Settings
from kvstore.store import ReadOnlyStore

_START = 30.0  # seconds; a loop that takes longer will not start any more


def serve(
    store: ReadOnlyStore,
    settings: Settings | None = None,
    *,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve *store* until SIGINT or SIGTERM (in the main thread) ask for an end.

    A store that is not connected is connected, and disconnected at the end.

    Args:
        settings: everything else; None: the default ones, for this machine only.
        ready: called with the URL of the server once it accepts connections.

    Raises:
        InvalidRequestError: the settings make no sense, or other machines could listen in; several
            processes cannot share the store.
        OSError: the address cannot be listened at, or a file cannot be read.
        StoreError: of several processes none can begin.
    """
    settings = Settings() if settings is None else settings
    check(settings)
    check_sharing(settings.workers, store.info()["durability"], store)
    with logging_to(settings.log_format), _connected(store), listening(settings) as listener:
        address = url_of(settings, listener)
        tell = None if ready is None else functools.partial(ready, address)
        if settings.workers > 1:
            _serve_apart(store, settings, listener, tell)
            return
        server = Server(app_of(store, settings), settings, grace=settings.grace)
        server.on_start = tell
        server.run(sockets=[listener])


def _serve_apart(
    store: ReadOnlyStore,
    settings: Settings,
    listener: socket.socket,
    ready: Callable[[], object] | None,
) -> None:
    """Serve a store from several processes, each of which opens it for itself."""
    with tempfile.TemporaryDirectory(prefix="kvstore-server-") as name:
        folder = Path(name)
        if settings.uploads is None:
            settings = replace(settings, uploads=folder / "uploads")
        metrics_folder(folder / "metrics")
        try:
            processes = Processes(
                settings.workers,
                _work,
                (store, settings),
                listener,
                grace=settings.grace,
                ended=process_ended,
            )
            processes.run(ready)
        finally:
            metrics_apart()


def _work(worker: Worker, store: ReadOnlyStore, settings: Settings) -> None:
    """What each of several processes does."""
    with logging_to(settings.log_format), _connected(store):
        server = Server(app_of(store, settings), settings, grace=settings.grace)
        server.on_start = worker.ready
        worker.watch(server.stop)
        server.run(sockets=[worker.listener])


def app_of(store: ReadOnlyStore, settings: Settings) -> KeyValueApp:
    """Return the application that serves *store*, which is connected, as the settings say.

    Raises:
        InvalidRequestError: they name a host that is none.
    """
    own = () if is_unspecified(settings.host) else (settings.host,)
    return create_app(
        store,
        access=access_of(settings, store),
        limits=settings.limits,
        hosts=(*LOCAL, *own, *settings.allow_hosts),
        uploads_folder=settings.uploads,
        metrics=settings.metrics,
        reads=settings.reads,
        gateways=gateways_of(settings),
    )


@contextlib.contextmanager
def serve_background(
    store: ReadOnlyStore,
    *,
    access: Access | None = None,
    port: int = 0,
    limits: Limits | None = None,
    hosts: Iterable[str] | None = None,
    uploads_folder: Path | None = None,
    gateways: Iterable[Gateway] = (),
) -> Iterator[str]:
    """Serve *store* to this machine from a thread; the ``with`` statement gives the server's URL.

    It accepts connections when the block begins. At its end answers on their way have a second to
    be finished. A store that is not connected is connected, and disconnected at the end.

    Args:
        port: 0 takes a free one.
        access, limits, hosts, uploads_folder, gateways: as for :func:`create_app`.

    Raises:
        OSError: the port cannot be listened at.
    """
    with _connected(store):
        app = create_app(
            store,
            access=access,
            limits=limits,
            hosts=hosts,
            uploads_folder=uploads_folder,
            gateways=gateways,
        )
        with running(app, port=port, limits=limits) as url:
            yield url


@contextlib.contextmanager
def running(
    app: ASGIApp,
    *,
    port: int = 0,
    limits: Limits | None = None,
    settings: Settings | None = None,
) -> Iterator[str]:
    """Run any ASGI application, such as one that mounts that of :func:`create_app`, in a thread.

    As :func:`serve_background`; *limits* bounds connections and headers.

    Args:
        settings: what else concerns connections; they are for this machine only.
    """
    settings = Settings() if settings is None else settings
    settings = replace(
        settings, host="127.0.0.1", port=port, limits=settings.limits if limits is None else limits
    )
    with listening(settings) as listener:
        server = Server(app, settings, grace=1)
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
            yield url_of(settings, listener)
        finally:
            server.stop()
            thread.join(_START)


@contextlib.contextmanager
def _connected(store: ReadOnlyStore) -> Iterator[None]:
    if store.is_connected():
        yield
        return
    with store:
        yield
