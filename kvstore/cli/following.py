"""Changes as they happen: on over cuts, and no longer than somebody reads them."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator

from kvstore.cli.failures import sentence_of
from kvstore.cli.output import complain
from kvstore.errors import (
    ChangesLostError,
    StorageError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.history import JournalEntry
from kvstore.noticing import Halt
from kvstore.readonly import ReadOnlyStore

#: Seconds between two looks, where somebody has to look.
_INTERVAL = 0.5
#: Seconds between two looks after an error, at most; the first is after the interval.
_LONGEST = 30.0
#: Milliseconds after which the thread that looks for a reader looks whether it is still wanted.
_PATIENCE = 500
#: Errors after which it is worth while to look again.
_PASSING = (TransportError, UnavailableError, StorageError)


def follow(store: ReadOnlyStore, since: int, halt: Halt) -> Iterator[JournalEntry]:
    """Yield the changes after *since*, those that are there and those to come, until the *halt*.

    What breaks meanwhile is complained of once, and tried again; so is what was forgotten before
    it was read, and passed over.

    Raises:
        StoreError: what trying again does not help against.
    """
    pause = _INTERVAL
    is_told = False
    while not halt.is_set():
        try:
            for entry in store._follow(since, _INTERVAL, halt):
                pause, is_told = _INTERVAL, False
                since = entry.seq
                yield entry
        except ChangesLostError as error:
            complain(sentence_of(error))
            since = _left(store, error)
        except _PASSING as error:
            if halt.is_set():
                return  # it is what broke it
            if not is_told:
                complain(f"{sentence_of(error)} Trying again.")
            is_told = True
            pause = min(2 * pause, _LONGEST)
        halt.wait(pause)


@contextlib.contextmanager
def while_read() -> Iterator[Halt]:
    """Give what says when to end, which is when nobody can read standard output any more.

    Who only waits for changes would not notice, as he writes nothing.

    Raises:
        BrokenPipeError: at the end, where that was the reason.
    """
    halt = Halt()
    is_unread = threading.Event()
    pipe = _pipe()
    if pipe is not None:
        poll = select.poll()
        poll.register(pipe, 0)  # of errors it tells in any case, and the other end is gone by one

        def look() -> None:
            while not halt.is_set():
                if poll.poll(_PATIENCE):
                    is_unread.set()
                    halt.set()

        threading.Thread(target=look, name="kvstore-reader", daemon=True).start()
    try:
        yield halt
    finally:
        halt.set()
    if is_unread.is_set():
        raise BrokenPipeError


def _pipe() -> int | None:
    """The number of standard output, where that is a pipe and can be looked at."""
    if not hasattr(select, "poll"):
        return None
    try:
        number = sys.stdout.fileno()
        mode = os.fstat(number).st_mode
    except (OSError, ValueError):  # it is none of the system
        return None
    return number if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _left(store: ReadOnlyStore, error: ChangesLostError) -> int:
    if error.oldest is not None:
        return max(error.oldest - 1, 0)
    try:
        return store.sequence()
    except StoreError:
        return 0  # it is lost still when it is asked for again
