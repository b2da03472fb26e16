"""The contract: changes that others make, told as they happen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Self

from kvstore.documents import copy_json
from kvstore.errors import (
    ChangesLostError,
    InvalidRequestError,
    StorageError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.events import (
    StoreDeleteEvent,
    StoreModificationEvent,
    StoreResynchronizedEvent,
    StoreSetEvent,
    StoreUpdateEvent,
)
from kvstore.history import History, JournalEntry
from kvstore.hub import EventHub
from kvstore.noticing import PATIENCE, Halt, Listing, OwnChange, OwnChanges
from kvstore.values import Record, is_integer

_log = logging.getLogger("kvstore.watch")

_EVENTS: dict[str, type[StoreModificationEvent]] = {
    "set": StoreSetEvent,
    "update": StoreUpdateEvent,
    "delete": StoreDeleteEvent,
}
#: Errors after which it is worth while to look again.
_PASSING = (TransportError, UnavailableError, StorageError)
#: Seconds between two looks after such an error, at most; the first is after the interval.
_LONGEST = 30.0


class Watch:
    """Follows a store in a thread of its own, and emits what others do there.

    Ends by :meth:`stop`, with its ``with`` statement, or with the connection of the store.
    """

    def __init__(
        self, store: Watchable, since: int | None, interval: float, listing: Listing | None
    ) -> None:
        self._store = store
        self._listing = listing
        self._interval = interval
        self._halt = Halt()
        #: Number of the last change that was seen, for a later ``watch(since=...)``; None where
        #: the store has no journal.
        self.sequence = since
        #: What ended it, if anything but ``stop``.
        self.failure: Exception | None = None
        self.own = OwnChanges()
        self._thread = threading.Thread(target=self._run, name="kvstore-watch", daemon=True)

    def stop(self) -> None:
        """End it; no event is emitted after this returns, unless a listener calls it."""
        self._halt.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)  # a listing under way cannot be cut off
        self._store._watches.discard(self)

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        pause = self._interval
        while not self._halt.is_set():
            try:
                for entry in self._entries():
                    if self._halt.is_set():
                        return
                    pause = self._interval
                    self._tell(entry)
            except ChangesLostError as error:
                self._resynchronize(error)
            except _PASSING as error:
                if self._halt.is_set():
                    return
                _log.warning("%r cannot be watched now: %s", self._store, error)
                pause = min(2 * pause, max(_LONGEST, self._interval))
            except Exception as error:  # noqa: BLE001 - kept for who asks, and logged
                if not self._halt.is_set():
                    self.failure = error
                    # As text: a record that is kept would keep the connection of the error.
                    _log.error("%r is not watched any more: %s", self._store, str(error))
                return
            self._halt.wait(pause)

    def _entries(self) -> Iterator[JournalEntry]:
        if self.sequence is not None:
            return self._store._follow(self.sequence, self._interval, self._halt)
        self.own.turn()
        return self._listing.compare(self._store._everything()) if self._listing else iter(())

    def _tell(self, entry: JournalEntry) -> None:
        if not self.own.has(entry):
            event = _EVENTS[entry.action]
            told = event(
                source=self._store,
                key=entry.key,
                metadata=copy_json(entry.metadata),
                revision=entry.revision or None,
                origin="remote",
            )
            self._store.events.emit(told)
        if self.sequence is not None:
            self.sequence = entry.seq

    def _resynchronize(self, error: ChangesLostError) -> None:
        try:
            newest = self._store._sequence()
        except StoreError:
            return  # it is lost still when it is asked for again
        since = self.sequence or 0
        lost = StoreResynchronizedEvent(source=self._store, since=since, sequence=newest)
        self.sequence = newest
        _log.warning("Changes of %r were missed: %s", self._store, error)
        self._store.events.emit(lost)


class Watchable(History):
    """A store whose changes by others can be followed.

    Args:
        events: as for every store.
    """

    def __init__(self, *, events: EventHub | None = None) -> None:
        super().__init__(events=events)
        self._watches: set[Watch] = set()

    def watch(self, since: int | None = None, *, interval: float = 1.0) -> Watch:
        """Emit what others change as events with ``origin="remote"``, from now on.

        Others are all who do not use this store object: other processes, other clients of a server.
        A journal is followed where there is one (a server's live feed as it happens), else the
        keys are listed again and again and compared; then what happened between two looks is seen
        as one change, and deleted keys are told without metadata.

        Args:
            since: the ``sequence`` of an earlier watch, to go on where that stopped.
            interval: seconds between two looks, where somebody has to look.

        Returns:
            The watch, which is to be stopped: a context manager.

        Raises:
            ChangesLostError: changes after *since* are forgotten.
            InvalidRequestError: *since* where the store has no journal, or no number.

        Events, in a thread of the watch: StoreSetEvent, StoreUpdateEvent, StoreDeleteEvent;
        StoreResynchronizedEvent where the store has forgotten changes that were not told yet.
        """
        self._ready()
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or interval <= 0:
            raise InvalidRequestError(f"interval is a number of seconds, not {interval!r:.100}.")
        has_journal = bool(self.info()["changes"])
        if since is not None and (not has_journal or not is_integer(since) or since < 0):
            problem = "is a sequence number" if has_journal else "needs a store with a journal"
            raise InvalidRequestError(f"since {problem}: {since!r:.100}.")
        if has_journal:
            newest = self._sequence()
            if since is not None:
                self._changes(since, 0)
            since = newest if since is None else since
        listing = None if has_journal else Listing(self._everything())
        watch = Watch(self, since, float(interval), listing)
        self._watches.add(watch)
        watch._start()
        return watch

    def disconnect(self) -> None:
        for watch in list(self._watches):
            watch.stop()
        super().disconnect()

    def _own_change(self, key: str, *, is_delete: bool = False) -> OwnChange:
        """Return the context in which this store changes *key*."""
        return OwnChange([watch.own for watch in list(self._watches)], key, is_delete=is_delete)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        """Shortcut. Yield the changes after *since* as they are made, until the *halt*."""
        while not halt.is_set():
            if self._sequence() != since:
                for entry in self._changes(since, None):
                    since = entry.seq
                    yield entry
            halt.wait(interval)

    def _everything(self) -> Iterator[Record]:
        """Shortcut. Yield all records, with metadata, to be compared with others."""
        raise NotImplementedError
