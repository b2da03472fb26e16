"""Who adds to an upload: one request at a time, of all processes, and none that has died."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from kvstore.server.answers import Refusal
from kvstore.server.bodies import Body
from kvstore.server.resumable.partial import Partial, Plan
from kvstore.server.resumable.partials import Partials
from kvstore.server.workers import Workers

#: Seconds without a byte after which a request loses its upload to the next one. A client whose
#: network went away comes back long before the server learns that the old connection is dead.
STILL = 10.0
#: Seconds that a request waits for the one before it: one that has ended is being tidied up.
_PATIENCE = 1.0
#: The same for one that was told to give up its upload.
_LONG_PATIENCE = 10.0
#: Seconds between two looks at what another process has.
_LOOK = 0.05
#: Seconds between two looks whether another process wants what stands still here.
_WANTED = 0.5


class Hold:
    """One request of this process that has an upload. Lives on the event loop."""

    def __init__(self, partials: Partials, partial: Partial) -> None:
        self.partial = partial
        self._partials = partials
        self._heard = partials.clock()
        self._waiting: asyncio.Timeout | None = None
        self._is_ousted = False
        self._look = asyncio.get_running_loop().call_later(_WANTED, self._look_about)
        self._released = asyncio.Event()

    @property
    def stands_still(self) -> bool:
        """Whether nothing has come for so long that it is probably dead."""
        return self._partials.clock() - self._heard >= STILL

    def oust(self) -> None:
        """Let it end where it waits for its client, or when it does so next."""
        self._is_ousted = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        """Let others have the upload."""
        self._look.cancel()
        self._partials.give_back(self.partial)
        self._released.set()

    async def released(self, patience: float) -> None:
        """Wait until it is released, for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._released.wait()

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
        self._heard = self._partials.clock()
        return part

    def _look_about(self) -> None:
        if self.stands_still and self._partials.is_wanted(self.partial):
            self.oust()
        else:
            self._look = asyncio.get_running_loop().call_later(_WANTED, self._look_about)


class Holds:
    """Which request has which upload. Lives on the event loop."""

    def __init__(self, partials: Partials, workers: Workers) -> None:
        self._partials = partials
        self._workers = workers
        # Those of this process.
        self._holds: dict[str, Hold] = {}

    async def seen(self, name: str) -> Partial:
        """Return an upload, to look at it.

        Waits a little for a request that has it: it may have ended, and what it brought is being
        written. Of one that another process has it tells what is sure to stay.

        Raises:
            Refusal: there is none (404), or it has expired (410).
        """
        before = self._holds.get(name)
        if before is not None:
            await before.released(_PATIENCE)
        clock = asyncio.get_running_loop().time
        end = clock() + _PATIENCE
        while True:
            hold = self._holds.get(name)
            if hold is not None:
                return hold.partial
            partial, is_held = await self._workers.run(self._partials.find, name)
            if not is_held or clock() >= end:
                return partial
            await asyncio.sleep(_LOOK)

    @contextlib.asynccontextmanager
    async def begun(self, plan: Plan) -> AsyncIterator[Hold]:
        """Begin an upload and have it, for an ``async with`` statement.

        Raises:
            StoreError: see :meth:`Partials.create`.
        """
        partial = await self._workers.run(self._partials.create, plan)
        with self._having(partial) as hold:
            yield hold

    @contextlib.asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[Hold]:
        """Have the upload, for an ``async with`` statement.

        Raises:
            Refusal: another request has it (423), there is none (404), or it has expired (410).
        """
        with self._having(await self._taken(name)) as hold:
            yield hold

    @contextlib.contextmanager
    def _having(self, partial: Partial) -> Iterator[Hold]:
        hold = self._holds[partial.name] = Hold(self._partials, partial)
        try:
            yield hold
        finally:
            del self._holds[partial.name]
            hold.release()

    async def _taken(self, name: str) -> Partial:
        clock = asyncio.get_running_loop().time
        end = clock() + _PATIENCE
        is_asked = False
        while True:
            partial = await self._workers.run(self._partials.take, name)
            if partial is not None:
                return partial
            if not is_asked and await self._ask(name):
                is_asked, end = True, clock() + _LONG_PATIENCE
            left = end - clock()
            if left <= 0:
                raise _locked()
            hold = self._holds.get(name)
            if hold is None:
                await asyncio.sleep(_LOOK)
            else:
                await hold.released(left)

    async def _ask(self, name: str) -> bool:
        """Let whoever has an upload give it up, if it stands still; tell whether it does."""
        hold = self._holds.get(name)
        if hold is not None:
            if hold.stands_still:
                hold.oust()
            return hold.stands_still
        heard = await self._workers.run(self._partials.heard, name)
        if self._partials.clock() - heard < STILL:
            return False
        await self._workers.run(self._partials.want, name)
        return True


def _locked() -> Refusal:
    return Refusal(HTTPStatus.LOCKED, "Another request adds to this upload.")
