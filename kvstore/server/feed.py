"""The live feed: one follower of the journal for all who watch it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.errors import ChangesLostError, StoreError
from kvstore.events import StoreModificationEvent
from kvstore.local import LocalStore
from kvstore.profiles import wire
from kvstore.server.ring import BATCH, Reads, Ring, Told
from kvstore.server.workers import Workers
from kvstore.store import ReadOnlyStore

#: Seconds between two looks at the journal, for what other processes change. Of a store
#: on this machine one costs some tenths of a millisecond; of others it may be a request.
_INTERVAL = 0.05
_FAR_INTERVAL = 0.5
#: Turns of the event loop in which the watchers send what they were told of.
_TURNS = 3
#: Seconds that they are given a rest for, at most.
_MOST_REST = 0.05
#: Entries that are read at a time.
_PAGE = 500

_log = logging.getLogger("kvstore.server")


class Feed:
    """What is changed in a store, as it happens. Lives on one event loop at a time.

    While there are watchers, the journal is looked at when the store tells of a change, and twenty
    times a second. Each change is put into its form once; what watchers wait for are a few bytes
    each, and no threads. A watcher that is slower than the ring is long reads the journal for
    itself, and one that is slower than the journal is long has lost something and is told so.
    """

    def __init__(self, store: ReadOnlyStore, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._interval = _INTERVAL if isinstance(store, LocalStore) else _FAR_INTERVAL
        self._ring = Ring(0)
        self._watchers: set[Watcher] = set()
        self._wake = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False

    def __len__(self) -> int:
        return len(self._watchers)

    async def begin(self, since: int | None) -> tuple[int, int]:
        """Return where a watcher begins, and the newest change.

        Args:
            since: the number of the last change that it knows; None: it wants new ones only.

        Raises:
            ChangesLostError: changes behind *since* are forgotten, or it is of another journal.
        """
        return await self._workers.run(self._place, since)

    @contextlib.contextmanager
    def watching(self, place: tuple[int, int], viewer: Viewer | None = None) -> Iterator[Watcher]:
        """Give a watcher of what comes behind a place, in a ``with`` statement.

        Args:
            place: what :meth:`begin` returned.
            viewer: who watches; None: who sees everything.
        """
        at, newest = place
        watcher = Watcher(self, at, viewer or Viewer(self._store))
        if not self._watchers or self._loop is not asyncio.get_running_loop():
            self._start(newest)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._stop()

    def close(self) -> None:
        """End all watchers."""
        for watcher in list(self._watchers):
            watcher.close()

    # -- for watchers ----------------------------------------------------------------------

    async def after(self, at: int, viewer: Viewer, *, from_journal: bool) -> tuple[int, bytes]:
        """Return some events behind *at* and the number of the last, no bytes if there are none.

        Raises:
            ChangesLostError: as for :meth:`begin`.
        """
        found = None if from_journal else self._ring.after(at, viewer.reads)
        if found is not None:
            return found
        end, changes = await self._workers.run(_read, viewer.store, at, BATCH)
        return end, b"".join(told.event for told in changes)

    # -- the follower ----------------------------------------------------------------------

    def _start(self, newest: int) -> None:
        self._ring = Ring(newest)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._is_due = False
        self._store.events.connect(StoreModificationEvent, self._changed)
        self._follower = self._loop.create_task(self._follow())

    def _stop(self) -> None:
        with contextlib.suppress(KeyError):
            self._store.events.disconnect(StoreModificationEvent, self._changed)
        if self._follower is not None:
            self._follower.cancel()
        self._follower = self._loop = None
        self._ring = Ring(0)

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            try:
                _, events = await self._workers.run(_read, self._store, self._ring.end, None)
            except ChangesLostError:
                events = []
                await self._restart()
            except Exception:  # noqa: BLE001 - whatever it is, watchers are there and wait
                events = []
                _log.exception("The journal cannot be read now")
            if events:
                self._ring.add(events)
                for watcher in self._watchers:
                    watcher.notify()
                await _breathe()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._wake.wait()

    async def _restart(self) -> None:
        """Begin anew where the journal ends now: it has forgotten what comes next, or is another.

        What was lost to the ring need not be to a watcher: each looks for itself.
        """
        with contextlib.suppress(StoreError):
            self._ring = Ring(await self._workers.run(self._store.sequence))
        for watcher in self._watchers:
            watcher.notify(from_journal=True)

    def _changed(self, _event: StoreModificationEvent) -> None:
        # In whatever thread has changed something: that must not wait, nor wake the loop each time.
        loop = self._loop
        if loop is not None and not self._is_due:
            self._is_due = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._due)

    def _due(self) -> None:
        self._is_due = False
        self._wake.set()

    # -- in worker threads -----------------------------------------------------------------

    def _place(self, since: int | None) -> tuple[int, int]:
        newest = self._store.sequence()
        if since is None:
            return newest, newest
        self._store.changes(since, 0)
        return since, newest


async def _breathe() -> None:
    """Let the watchers send, and then all others run for as long again.

    With hundreds of watchers the writers, whose changes these are told, would wait for them.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    await asyncio.sleep(min(clock() - began, _MOST_REST))


def _read(store: ReadOnlyStore, since: int, enough: int | None) -> tuple[int, list[Told]]:
    """Return some changes after *since*, and the number up to which these are all there are."""
    newest = store.sequence()
    if newest == since:
        return since, []
    found: list[Told] = []
    size = 0
    for entry in store.changes(since, _PAGE):
        event = event_of(entry.seq, wire.entry_line(entry))
        found.append(Told(entry.seq, event, entry.key, entry.permissions))
        size += len(event)
        if len(found) == _PAGE or (enough is not None and size >= enough):
            return entry.seq, found
    # What this store does not show of what it has is passed over, or it would be read again.
    return max(newest, found[-1].seq if found else since), found


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who watches: what he sees of the store, and of which permissions he may read.

    Args:
        reads: None: of all.
    """

    store: ReadOnlyStore
    reads: Reads | None = None


class Watcher:
    """One who watches. Lives on the event loop."""

    def __init__(self, feed: Feed, at: int, viewer: Viewer) -> None:
        self._feed = feed
        self._viewer = viewer
        #: Number of the last change that it was given.
        self.at = at
        self._news = asyncio.Event()
        self._from_journal = False
        self._is_closed = False

    def notify(self, *, from_journal: bool = False) -> None:
        """Tell it to look again."""
        self._from_journal |= from_journal
        self._news.set()

    def close(self) -> None:
        """Let :meth:`next` return None from now on. Idempotent."""
        self._is_closed = True
        self._news.set()

    async def next(self, patience: float) -> bytes | None:
        """Return some events; nothing after *patience* seconds without any; None at its end.

        Raises:
            ChangesLostError: the journal has forgotten what comes next.
        """
        while not self._is_closed:
            self._news.clear()
            from_journal, self._from_journal = self._from_journal, False
            before = self.at
            self.at, events = await self._feed.after(
                before, self._viewer, from_journal=from_journal
            )
            if events:
                return events
            if self.at != before:
                continue  # all that was looked at is hidden; there may be more
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return b""
        return None


def event_of(seq: int, line: bytes) -> bytes:
    """A change as a server-sent event (HTML, section 9.2); JSON has no line breaks of its own."""
    return b"id: %d\ndata: %b\n\n" % (seq, line)
