"""Changes of the source as they happen, gathered until there is time for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from kvstore.errors import StorageError, StoreError, TransportError, UnavailableError
from kvstore.events import StoreModificationEvent, StoreResynchronizedEvent
from kvstore.noticing import Halt
from kvstore.readonly import ReadOnlyStore
from kvstore.replication.replication import Replication

#: Keys that wait; where more have changed, a pass over all records is less to do.
_MOST = 10_000
#: Seconds after which the one who waits looks whether it is worth while.
_PATIENCE = 0.5
#: Seconds between two tries after an error that may pass, at first and at most.
_FIRST, _LONGEST = 1.0, 30.0
_PASSING = (TransportError, UnavailableError, StorageError)

Complaint: TypeAlias = Callable[[StoreError], object]


def follow(
    replication: Replication,
    source: ReadOnlyStore,
    halt: Halt,
    *,
    interval: float = 1.0,
    complain: Complaint | None = None,
) -> None:
    """Make a pass over *source*, then do what it changes, until the *halt*.

    What breaks the conversation meanwhile is told to *complain* and tried again, after pauses.

    Args:
        interval: seconds between two looks, where somebody has to look.
        complain: called with the error, once until it goes on.

    Raises:
        StoreError: the pass fails, or the source what trying again does not help against.
    """
    with _Changes(source, interval) as changes:
        replication.run()
        keys: set[str] | None = set()
        pause = 0.0
        while not halt.wait(pause):
            try:
                if pause:
                    replication.state.reload()
                else:
                    keys = changes.taken(halt)
                if keys is None:
                    replication.run()
                else:
                    replication.run_keys(keys)
                pause = 0.0
            except _PASSING as error:
                if not pause and complain is not None:
                    complain(error)
                pause = min(max(2 * pause, _FIRST), _LONGEST)


class _Changes:
    """The keys that others and this process change in a store, from now on."""

    def __init__(self, store: ReadOnlyStore, interval: float) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._keys: set[str] = set()
        self._is_all = False
        store.events.connect(StoreModificationEvent, self._modified)
        store.events.connect(StoreResynchronizedEvent, self._missed)
        self._watch = store.watch(interval=interval)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.stop()
        self._store.events.disconnect(StoreModificationEvent, self._modified)
        self._store.events.disconnect(StoreResynchronizedEvent, self._missed)

    def taken(self, halt: Halt) -> set[str] | None:
        """Wait for changes, and return the keys; None: of some the keys are not known.

        Raises:
            StoreError: the store cannot be watched any more.
        """
        with self._changed:
            while not (self._keys or self._is_all or halt.is_set()):
                if not self._watch.is_running and self._watch.failure is not None:
                    raise self._watch.failure
                self._changed.wait(_PATIENCE)
            keys, self._keys = self._keys, set()
            is_all, self._is_all = self._is_all, False
        return None if is_all else keys

    def _modified(self, event: StoreModificationEvent) -> None:
        with self._changed:
            self._keys.add(event.key)
            if len(self._keys) > _MOST:
                self._is_all = True
                self._keys.clear()
            self._changed.notify_all()

    def _missed(self, event: StoreResynchronizedEvent) -> None:
        with self._changed:
            self._is_all = True
            self._changed.notify_all()
