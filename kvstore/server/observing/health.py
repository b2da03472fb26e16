"""What those who look after a server ask: whether it runs, whether it can serve, and how it does.

The first two are for everybody, by whatever name the server is reached: probes of a cluster ask by
address, and have no credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kvstore.errors import KeyNotFoundError, UnavailableError
from kvstore.server.answers import NO_STORE, SAFE, Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.observing.metrics import MEDIA_TYPE, Metrics
from kvstore.server.observing.observer import Observer
from kvstore.server.paths import HEALTH_PATH, METRICS_PATH, READY_PATH
from kvstore.server.site import Site

#: Seconds that a store has for a call that takes microseconds.
_PATIENCE = 2.0
#: Asked for by probes; it need not be there.
_KEY = "kvstore/ready"
#: Seconds between two looks at what is counted elsewhere.
_INTERVAL = 2.0
_READS = ("GET", "HEAD")


class Health:
    """Answers for one application. Lives on its event loop."""

    def __init__(self, site: Site, observer: Observer) -> None:
        self._site = site
        self._observer = observer
        self._asking: asyncio.Future[None] | None = None

    def probes(self) -> dict[str, dict[str, Callable[[Exchange], Awaitable[Reply]]]]:
        """The paths for everybody, and their methods."""
        return {
            HEALTH_PATH: dict.fromkeys(_READS, self.get_health),
            READY_PATH: dict.fromkeys(_READS, self.get_ready),
        }

    def paths(self) -> dict[str, dict[str, Callable[[Site, Exchange], Awaitable[Reply]]]]:
        """The paths for those who may have the numbers, and their methods."""
        if self._observer.metrics is None:
            return {}
        return {METRICS_PATH: dict.fromkeys(_READS, self.get_metrics)}

    async def get_health(self, _exchange: Exchange) -> Reply:
        """Answer GET and HEAD of `HEALTH_PATH`: 200, for as long as the event loop turns."""
        return _text(b"ok\n")

    async def get_ready(self, _exchange: Exchange) -> Reply:
        """Answer GET and HEAD of `READY_PATH`: 200 if the store answers in time.

        Raises:
            UnavailableError: it fails, or takes over two seconds.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._site.workers.run(self._ask))
        try:
            # A store that hangs has one thread for all probes: they come again and again.
            await asyncio.wait_for(asyncio.shield(self._asking), _PATIENCE)
        except TimeoutError as error:
            message = f"The store has not answered within {_PATIENCE:g} seconds."
            raise UnavailableError(message) from error
        except Exception as error:
            raise UnavailableError("The store does not answer.") from error
        return _text(b"ready\n")

    async def get_metrics(self, site: Site, _exchange: Exchange) -> Reply:
        """Answer GET and HEAD of `METRICS_PATH`: 200, in the text format of Prometheus."""
        metrics = self._observer.metrics
        if metrics is None:
            raise AssertionError("A server without metrics has no such path.")
        metrics.settle()
        metrics.set(self._now())
        return _text(await site.workers.run(self._text, metrics), MEDIA_TYPE)

    async def tell(self) -> None:
        """Tell the other processes of the server what there is, every now and then. Never ends."""
        metrics = self._observer.metrics
        while metrics is not None and metrics.is_shared:
            metrics.settle()
            metrics.set(self._now())
            try:
                await asyncio.sleep(_INTERVAL)
            except asyncio.CancelledError:  # the server ends
                metrics.settle()
                raise

    def _now(self) -> dict[str, int]:
        """How much there is of what comes and goes, in this process."""
        site = self._site
        return {
            "open_connections": self._observer.connections,
            "watchers": len(site.feed),
            "short_calls": site.workers.short_calls,
            "long_calls": site.workers.long_calls,
        }

    def _text(self, metrics: Metrics) -> bytes:
        partials = self._site.partials
        # To look into a folder that nobody has needed yet would be to make it.
        metrics.set({"uploads_in_progress": 0 if partials.folder is None else len(partials)})
        return metrics.text()

    def _ask(self) -> None:
        try:
            self._site.store.record(_KEY)
        except KeyNotFoundError:
            return


def _text(body: bytes, media_type: str = "text/plain; charset=utf-8") -> Reply:
    kind = (b"content-type", media_type.encode())
    return Reply(200, [kind, NO_STORE, *SAFE, length_field(len(body))], body)
