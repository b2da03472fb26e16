"""How long a query may go on."""

from __future__ import annotations

import time
from collections.abc import Callable

from kvstore.errors import InvalidRequestError
from kvstore.server.ending import client_ended
from kvstore.server.exchange import Exchange
from kvstore.server.workers import Disconnected

#: Seconds for a client that sends no more. Who waits for the answer cannot be told from who went
#: away without a word, and most did.
_FOR_SILENT = 2.0


class Patience:
    """Ends a search, as the ``halt`` of its query, that takes too long or that nobody waits for.

    A filter that no index answers is tried on every key, and the thread that does so keeps others
    waiting. Called in that thread.

    Args:
        seconds: how long it may take.
        clock: seconds, from any beginning.
    """

    def __init__(
        self, exchange: Exchange, seconds: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._exchange = exchange
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def renew(self) -> None:
        """Begin anew: the client was sent something."""
        self._end = self._clock() + self._seconds

    def __call__(self) -> None:
        if self._exchange.gone:
            raise Disconnected
        now = self._clock()
        if now > self._end:
            raise InvalidRequestError(
                f"The query looked at keys for {self._seconds:g} seconds, and that is the limit "
                "here. A prefix, or a filter by a value that few keys have, makes it shorter."
            )
        ended = client_ended(self._exchange.scope)
        if ended is not None and now > ended + _FOR_SILENT:
            raise InvalidRequestError("The query was given up, as its client sends no more.")
