"""Numbers about a server, for Prometheus. No label holds a key, a path or a user.

Several processes of one server keep theirs in files of one folder, whose sums any of them tells;
see :func:`metrics_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
    multiprocess,
    values,
)

from kvstore.server.exchange import Exchange

#: Every version of Prometheus takes this one of its two formats.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: Seconds: answers from an index take less than one millisecond, large files minutes.
_BUCKETS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
)
#: Others are anybody's words, of which there may be any number.
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})


def metrics_folder(path: Path) -> None:
    """Let this process and those that it starts keep their numbers in one folder.

    To be called in a process that starts others, before it does so. What servers before have left
    in the folder is deleted. The folder should be of this server alone, and on a disk that is fast,
    such as one of the memory.

    Args:
        path: is made if it is missing.

    Raises:
        OSError: it cannot be written to.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in path.glob("*.db"):
        old.unlink()
    os.environ[_FOLDER] = str(path)
    # The library decides when it is imported, which may be over in this process, and so in those
    # that are forks of it.
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call] # has no types


def metrics_apart() -> None:
    """Undo :func:`metrics_folder`, for servers that this process makes itself later."""
    os.environ.pop(_FOLDER, None)
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call] # has no types


def process_ended(pid: int) -> None:
    """Forget what there was at one time in a process that has ended: its connections and the like.

    To be called where :func:`metrics_folder` was. What it has counted stays.
    """
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call] # has no types


class Metrics:
    """What one application counts. Lives on its event loop; :meth:`text` is for any thread."""

    def __init__(self) -> None:
        self._folder = os.environ.get(_FOLDER)
        registry = self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter(
            "kvstore_requests", "Requests that are over.", labels, registry=registry
        )
        self._seconds = Histogram(
            "kvstore_request_seconds",
            "Seconds from the header of a request to the end of its answer; not of live feeds.",
            labels[:2],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._received = Counter(
            "kvstore_received_bytes", "Bytes of bodies that came.", labels[:1], registry=registry
        )
        self._sent = Counter(
            "kvstore_sent_bytes", "Bytes of bodies that were sent.", labels[:1], registry=registry
        )
        self._unfinished = Counter(
            "kvstore_unfinished_requests",
            "Requests whose client went away (gone), or whose answer broke off (broken).",
            ("route", "outcome"),
            registry=registry,
        )
        self._refused = Counter(
            "kvstore_refused_requests",
            "Requests that were refused for their form, before anything was looked up.",
            ("status",),
            registry=registry,
        )
        self._gauges = {name: self._gauge(name, told) for name, told in _GAUGES.items()}
        self._process = ProcessCollector(registry=None if self._folder else registry)
        self._own: dict[str, Any] = {}
        # Of answers that were kept: how many, of how many bytes, and what takes the seconds of one.
        self._kept: dict[tuple[str, str, int], list[Any]] = {}
        self._counts: dict[tuple[str, str, int], tuple[Callable[[float], object], ...]] = {}

    @property
    def is_shared(self) -> bool:
        """Whether other processes tell of what this one counts."""
        return self._folder is not None

    def count(self, exchange: Exchange, status: int, outcome: str, seconds: float) -> None:
        """Count a request that is over."""
        key = (exchange.route, exchange.method, status // 100)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts_of(*key)
        one, took, received, sent = counts
        one(1)
        if not exchange.is_live:
            took(seconds)
        if exchange.body.received:
            received(exchange.body.received)
        if exchange.sent:
            sent(exchange.sent)
        if outcome in ("gone", "broken"):
            self._unfinished.labels(exchange.route, outcome).inc()

    def count_kept(self, route: str, status: int, sent: int, seconds: float) -> None:
        """Count a GET that was answered by an answer that was kept."""
        key = (route, "GET", status // 100)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = [0, 0, self._counts_of(*key)[1]]
        kept[0] += 1
        kept[1] += sent
        kept[2](seconds)

    def settle(self) -> None:
        """Count what :meth:`count_kept` has only noted. On the event loop."""
        for key, (count, sent, _) in self._kept.items():
            one, _, _, sending = self._counts_of(*key)
            one(count)
            sending(sent)
        self._kept.clear()

    def count_refusal(self, status: int) -> None:
        """Count a request that no application has seen."""
        self._refused.labels(str(status)).inc()

    def set(self, now: Mapping[str, float]) -> None:
        """Tell how much there is now of what `_GAUGES` names. Thread-safe."""
        for name, value in now.items():
            self._gauges[name].set(value)
        if self._folder is not None:
            self._set_process()

    def text(self) -> bytes:
        """Return everything in the form that is of `MEDIA_TYPE`. Blocks."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            collector: Any = multiprocess.MultiProcessCollector
            collector(registry, self._folder)
        plain: Any = _WithoutBirths(registry)
        return generate_latest(plain)

    def _gauge(self, name: str, told: str) -> Gauge:
        # All processes of a server see the same uploads, and who has looked last knows best.
        mode: Any = "livemostrecent" if name == "uploads_in_progress" else "livesum"
        return Gauge(f"kvstore_{name}", told, registry=self._registry, multiprocess_mode=mode)

    def _counts_of(self, route: str, method: str, kind: int) -> tuple[Callable[..., object], ...]:
        known = method if method in _METHODS else "other"
        counts = (
            self._requests.labels(route, known, f"{kind}xx").inc,
            self._seconds.labels(route, known).observe,
            self._received.labels(route).inc,
            self._sent.labels(route).inc,
        )
        if known == method:  # what is kept must not grow with what clients make up
            self._counts[route, method, kind] = counts
        return counts

    def _set_process(self) -> None:
        """Tell of this process as its own collector does, which knows but one."""
        for metric in self._process.collect():
            for sample in metric.samples:
                if sample.name not in self._own:
                    self._own[sample.name] = Gauge(
                        sample.name,
                        metric.documentation,
                        registry=self._registry,
                        multiprocess_mode="liveall",
                    )
                self._own[sample.name].set(sample.value)


class _WithoutBirths:
    """What a registry tells, without when each number began, which would make it twice as long."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric


_GAUGES = {
    "open_connections": "Connections that are open.",
    "watchers": "Clients that watch the live feed of changes.",
    "uploads_in_progress": "Uploads in parts that are begun and not complete.",
    "short_calls": "Calls of the store that are made or wait for a thread, of small things.",
    "long_calls": "Calls of the store that are made or wait for a thread, of streams.",
}
