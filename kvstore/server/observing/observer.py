"""What is told of each request, once it is over: a line in the log, and numbers.

The line goes to the logger ``kvstore.access``, as a record whose attributes are the names of
`FIELDS`, so that formatters of others have them, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from kvstore.profiles.problems import visible
from kvstore.server.exchange import Exchange
from kvstore.server.observing import ids
from kvstore.server.observing.metrics import Metrics

#: How a request ended: answered in full, left by the client, broken off by the server, or refused
#: by it before the application saw it.
Outcome: TypeAlias = Literal["done", "gone", "broken", "refused"]

FIELDS = (
    *("method", "path", "status", "outcome", "bytes_in", "bytes_out", "duration_ms"),
    *("caller", "client", "request_id", "user_agent"),
)

#: Of a client that went away before there was an answer; no registry has it, but proxies do.
GONE = 499
_BROKEN = 500

_LINE = "%(method)s %(path)s %(status)d %(outcome)s"
#: Characters of a field that are told. The target of a request has no more than these.
_MOST = 8192
_MOST_AGENT = 200

#: The logger.
ACCESS = "kvstore.access"

_log = logging.getLogger(ACCESS)


class Line(NamedTuple):
    """What is known of a request that is over."""

    method: str
    path: bytes
    status: int
    outcome: Outcome
    received: int
    sent: int
    seconds: float
    caller: str | None
    client: tuple[str, int] | None
    request_id: str
    agent: str | None


class Observer:
    """Sees the requests to one application. Lives on its event loop.

    Args:
        metrics: None: nobody asks for numbers.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics
        #: Connections that are open, as far as the server tells of them.
        self.connections = 0

    def finished(self, exchange: Exchange) -> None:
        """A request is over."""
        seconds = time.perf_counter() - exchange.began
        outcome: Outcome = "done"
        if exchange.gone:
            outcome = "gone"
        elif not exchange.ended:
            outcome = "broken"
        status = exchange.status
        if not status:
            refused = ids.refused(exchange.scope)
            status = refused or (GONE if exchange.gone else _BROKEN)
            outcome = "refused" if refused else outcome
        if self.metrics is not None:
            self.metrics.count(exchange, status, outcome, seconds)
        if self.is_told:
            scope = exchange.scope
            agent = next(iter(exchange.lines(b"user-agent")), None)
            _tell(
                Line(
                    exchange.method,
                    scope["raw_path"],
                    status,
                    outcome,
                    exchange.body.received,
                    exchange.sent,
                    seconds,
                    exchange.caller,
                    scope.get("client"),
                    exchange.request_id,
                    agent,
                )
            )

    @property
    def is_told(self) -> bool:
        """Whether there is somebody who wants a line for each request."""
        return _log.isEnabledFor(logging.INFO)

    def answered(self, route: str, status: int, sent: int, seconds: float) -> None:
        """A GET was answered by an answer that was kept."""
        if self.metrics is not None:
            self.metrics.count_kept(route, status, sent, seconds)

    def tell(self, line: Line) -> None:
        """Log a request that is over."""
        _tell(line)

    def refused(
        self, scope: Mapping[str, Any], target: bytes, status: int, request_id: str
    ) -> None:
        """A server has answered a request itself.

        Args:
            scope: what it knew of it by then.
            target: of the request line, as far as it came.
        """
        if self.metrics is not None:
            self.metrics.count_refusal(status)
        if self.is_told:
            method, client = scope.get("method", "-"), scope.get("client")
            path = target.partition(b"?")[0]
            _tell(Line(method, path, status, "refused", 0, 0, 0.0, None, client, request_id, None))


def _tell(line: Line) -> None:
    fields = {
        "method": _shown(line.method),
        "path": _shown(line.path.decode("latin-1")),
        "status": line.status,
        "outcome": line.outcome,
        "bytes_in": line.received,
        "bytes_out": line.sent,
        "duration_ms": round(line.seconds * 1000, 2),
        "caller": None if line.caller is None else _shown(line.caller),
        "client": None if line.client is None else line.client[0],
        "request_id": line.request_id,
        "user_agent": None if line.agent is None else _shown(line.agent[:_MOST_AGENT]),
    }
    # What `info` does beside this, such as walking the stack for the line of this call, would take
    # as long as a small answer does.
    record = logging.LogRecord(ACCESS, logging.INFO, "", 0, _LINE, (fields,), None)
    record.__dict__.update(fields)
    _log.handle(record)


def _shown(text: str) -> str:
    # Escaped once and for all: whoever formats the record need not think of terminals and lines.
    return text[:_MOST] if text.isprintable() else visible(text)
