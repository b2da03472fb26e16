"""Who adds to an upload: one request at a time, and none that has died."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from kvstore.server.answers import Refusal
from kvstore.server.bodies import Body
from kvstore.server.partial import Partial
from kvstore.server.partials import Partials

#: Seconds without a byte after which a request loses its upload to the next one. A client whose
#: network went away comes back long before the server learns that the old connection is dead.
STILL = 10.0
#: Seconds that a request waits for the one before it: one that has ended is being tidied up.
_PATIENCE = 1.0
#: The same for one that was told to give up its upload.
_LONG_PATIENCE = 10.0


class Hold:
    """One request that has an upload. Lives on the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard = clock()
        self._waiting: asyncio.Timeout | None = None
        self._is_ousted = False
        self.released = asyncio.Event()

    @property
    def stands_still(self) -> bool:
        """Whether nothing has come for so long that it is probably dead."""
        return self._clock() - self._heard >= STILL

    def oust(self) -> None:
        """Let it end where it waits for its client, or when it does so next."""
        self._is_ousted = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def part(self, body: Body) -> bytes:
        """Return what comes next of the request's body.

        Raises:
            Refusal: another request has the upload now (423).
        """
        if self._is_ousted:
            raise _locked()
        try:
            async with asyncio.timeout(None) as self._waiting:
                part = await body.part()
        except TimeoutError:
            raise _locked() from None
        finally:
            self._waiting = None
        self._heard = self._clock()
        return part


class Holds:
    """Which request has which upload. Lives on the event loop."""

    def __init__(self, partials: Partials) -> None:
        self._partials = partials
        self._holds: dict[Partial, Hold] = {}

    async def settled(self, partial: Partial) -> None:
        """Wait a little for a request that has the upload: it may have ended, and what it brought
        is being written.
        """
        hold = self._holds.get(partial)
        if hold is not None:
            await _wait(hold, _PATIENCE)

    @contextlib.asynccontextmanager
    async def held(self, partial: Partial) -> AsyncIterator[Hold]:
        """Have the upload, for an ``async with`` statement.

        Raises:
            Refusal: another request has it (423), or it is gone (404).
        """
        before = self._holds.get(partial)
        if before is not None and before.stands_still:
            before.oust()
            await _wait(before, _LONG_PATIENCE)
        elif before is not None:
            await _wait(before, _PATIENCE)
        if partial in self._holds:
            raise _locked()
        self._partials.take(partial)
        hold = self._holds[partial] = Hold(self._partials.clock)
        try:
            yield hold
        finally:
            self._partials.give_back(partial)
            del self._holds[partial]
            hold.released.set()


async def _wait(hold: Hold, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hold.released.wait()


def _locked() -> Refusal:
    return Refusal(HTTPStatus.LOCKED, "Another request adds to this upload.")
