"""Adapters for ``requests`` with our connections, one of them without what a store never uses.

Plain ``requests`` reaches about a third of ``urllib3``'s rate for small answers: each request looks
up the environment, merges settings, builds a cookie jar and a pool key. `LeanAdapter` has all of
that settled once per connection. Both send by ``HTTPAdapter.send``, the seam that mocks patch.
"""

from __future__ import annotations

from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from kvstore.transport.connections import POOLS


class PatientAdapter(HTTPAdapter):
    """``HTTPAdapter`` whose answers are bounded in time and strictly read. Thread-safe."""

    def __init__(self, pool_connections: int = 8, pool_maxsize: int = 64) -> None:
        super().__init__(pool_connections=pool_connections, pool_maxsize=pool_maxsize)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):  # for SOCKS it has pools of its own
            manager.pool_classes_by_scheme = POOLS
        return manager

    def request_url(self, request: Any, proxies: Any) -> str:
        # Before 2.34 requests strips a leading '//' from the path, and so reaches another key.
        url = str(super().request_url(request, proxies))
        path = str(request.path_url)
        return path if path.startswith("//") and url.startswith("/") else url


class LeanRequest(requests.PreparedRequest):
    """A request that is sent as it is: URL, target and headers are final.

    Args:
        origin: scheme and host that *url* begins with.
    """

    def __init__(
        self, method: str, url: str, origin: str, headers: dict[str, str], body: Any
    ) -> None:
        # Not by way of super(), which makes what is replaced here.
        self.method = method
        self.url = url
        self.origin = origin
        target = url[len(origin) :]
        self.target = target if target.startswith("/") else f"/{target}"
        self.headers = headers  # type: ignore[assignment]
        self.body = body
        self.hooks = {}
        self._cookies: Any = None
        self._body_position = None

    def copy(self) -> LeanRequest:
        headers: Any = self.headers.copy()
        return LeanRequest(self.method or "", self.url or "", self.origin, headers, self.body)


class LeanResponse(requests.Response):
    """A Response without cookie jar and guessed encoding."""

    def __init__(self, request: requests.PreparedRequest, raw: Any) -> None:
        self.status_code = raw.status
        self.headers = raw.headers
        self.raw = raw
        self.reason = raw.reason
        self.url = request.url or ""
        self.request = request
        self.encoding = None
        self.history = []
        self._content: Any = False
        self._content_consumed = False
        self._next = None


class LeanAdapter(PatientAdapter):
    """Keeps one pool for each origin. One to a thread: a pool shared is a pool waited for."""

    def __init__(self) -> None:
        self._pools: dict[tuple[Any, ...], Any] = {}
        super().__init__(pool_connections=4, pool_maxsize=4)

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        key = (request.origin, verify, cert)
        pool = self._pools.get(key)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
            self._pools[key] = pool
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        pass  # done when the pool was made

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.target)

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        return LeanResponse(req, resp)

    def close(self) -> None:
        # requests leaves a pool to the garbage collector, and so to a stream that is still read.
        for pool in list(self._pools.values()):
            pool.close()
        self._pools.clear()
        super().close()
