"""A store on the wire for a test: behind a real server, or behind one that needs no socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import responses
import urllib3

from kvstore import InvalidRequestError, ReadOnlyStore
from kvstore.server import create_app, serve_background
from kvstore.testing.asgi import App, AppRunner


@contextmanager
def live_server(store: ReadOnlyStore, **options: Any) -> Iterator[str]:
    """Serve *store* from a thread during a ``with`` statement, which gives the server's URL.

    >>> from kvstore import MemoryStore
    >>> with live_server(MemoryStore()) as url, kvstore.open(url) as store:
    ...     revision = store.set("key", b"data")

    Args:
        store: is connected if it is not, and disconnected at the end then.
        options: as for :func:`kvstore.server.serve_background`.
    """
    with serve_background(store, **options) as url:
        yield url


@contextmanager
def fake_server(
    store: ReadOnlyStore, url: str = "http://kvstore.test", **options: Any
) -> Iterator[str]:
    """Serve *store* below *url* to this process alone, with no socket; gives *url*.

    The real application answers, so a suite exercises everything but the network. It is seen by
    whoever uses ``requests``, in all threads. As ``responses`` does, it refuses requests to any
    other URL meanwhile, with ``requests.ConnectionError``. Several can be there at once, under
    different URLs.

    Args:
        store: is connected if it is not, and disconnected at the end then.
        url: scheme and host; nothing needs to be there.
        options: as for :func:`kvstore.server.create_app`.

    Raises:
        InvalidRequestError: *url* has a path, or is served already.
    """
    with _connected(store), app_at(create_app(store, **{"hosts": ["*"], **options}), url):
        yield url


@contextmanager
def app_at(app: App, url: str) -> Iterator[None]:
    """Let any ASGI application answer what ``requests`` sends to *url*, as `fake_server` does."""
    runner = AppRunner(app)
    with runner.running(), _registered(_AppResponse(runner, url)):
        yield


class _AppResponse(responses.BaseResponse):
    """Matches every request to an origin, whatever its method, and lets the application answer."""

    def __init__(self, runner: AppRunner, url: str) -> None:
        super().__init__("*", url)
        self._runner = runner
        self.origin = _origin(url)
        if url.rstrip("/").count("/") != 2 or None in self.origin[:2]:
            raise InvalidRequestError(f"A server is at http(s)://host, not {url!r:.100}.")

    def matches(self, request: requests.PreparedRequest) -> tuple[bool, str]:
        if _origin(str(request.url)) == self.origin:
            return True, ""
        return False, "URL does not match"

    def get_response(self, request: requests.PreparedRequest) -> urllib3.HTTPResponse:
        # A long test would keep all its requests, with their bodies, in memory.
        _MOCK.calls.reset()
        self.calls.reset()
        timeout = getattr(request, "req_kwargs", {}).get("timeout")
        if isinstance(timeout, tuple):
            timeout = timeout[1]
        elif isinstance(timeout, urllib3.Timeout):
            timeout = timeout.read_timeout
        return self._runner.answer(request, timeout)


_MOCK = responses.RequestsMock(assert_all_requests_are_fired=False)
_LOCK = threading.Lock()


@contextmanager
def _registered(response: _AppResponse) -> Iterator[None]:
    # One mock for all: of two that patch `requests` the inner one would refuse the outer's URLs.
    with _LOCK:
        served = [other for other in _MOCK.registered() if isinstance(other, _AppResponse)]
        if any(other.origin == response.origin for other in served):
            raise InvalidRequestError(f"There is a server at {response.url!r:.100} already.")
        _MOCK.add(response)
        _MOCK.start()
    try:
        yield
    finally:
        with _LOCK:
            _MOCK.remove(response)
            if not _MOCK.registered():
                _MOCK.stop()
                _MOCK.reset()


@contextmanager
def _connected(store: ReadOnlyStore) -> Iterator[None]:
    if store.is_connected():
        yield
        return
    with store:
        yield


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parsed = urllib3.util.parse_url(url)
    scheme = parsed.scheme or ""
    return scheme, parsed.host, parsed.port or {"http": 80, "https": 443}.get(scheme)
