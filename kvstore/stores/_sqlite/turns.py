"""Whose turn it is to write: one after the other, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kvstore.errors import UnavailableError

#: Seconds between two looks of a thread that was interrupted while it waited.
_LOOK = 0.05


class Ticket:
    """Somebody who waits for a turn: with work that another may do as well, or for its own ends."""

    __slots__ = (
        *("_wake", "done", "error", "has_turn", "is_shared", "is_woken", "result", "thread"),
        "work",
    )

    def __init__(self, work: Callable[[Any], Any] | None = None) -> None:
        self.is_shared = work is not None
        self.work: Callable[[Any], Any] = work or _nothing
        self.thread = threading.get_ident()
        self.has_turn = False
        self.is_woken = False
        #: Whether the work was done by somebody, with this result or error.
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._wake = threading.Lock()
        self._wake.acquire()

    def wake(self) -> None:
        """End the wait."""
        self.is_woken = True
        self._wake.release()

    def sleep(self, seconds: float = -1) -> bool:
        """Wait to be woken; False if that took too long."""
        return self._wake.acquire(timeout=seconds)


class Turns:
    """Gives turns. Who has one takes along the work of those who wait, and passes it on after."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[Ticket] = deque()
        #: The thread whose turn it is.
        self._owner: int | None = None
        #: Whether it is at it. A handler of a signal, or what the collector calls, may write too.
        self.is_busy = False

    def __len__(self) -> int:
        return len(self._queue)

    def wait(self, ticket: Ticket, patience: float) -> bool:
        """Return True when it is the turn of *ticket*, False when its work was done meanwhile.

        Raises:
            UnavailableError: neither within *patience* seconds.
        """
        with self._mutex:
            if self._owner == ticket.thread and self.is_busy:
                message = "A change cannot be made within another one of the same thread."
                raise UnavailableError(message)
            # If it is this thread's own, Ctrl-C came before it could pass it on.
            if self._owner in (None, ticket.thread):
                self._owner = ticket.thread
                ticket.has_turn = True
                return True
            self._queue.append(ticket)
        try:
            was_woken = ticket.sleep(patience)
        except BaseException:  # Ctrl-C: the work must not be done behind the back of who gave it up
            if not self._withdraw(ticket):
                while not ticket.is_woken:  # somebody is at it right now
                    ticket.sleep(_LOOK)
                if ticket.has_turn:
                    self.pass_on()
            raise
        if not was_woken:
            if self._withdraw(ticket):
                message = f"The store is busy: another transaction lasts for over {patience:g} s."
                raise UnavailableError(message)
            ticket.sleep()  # somebody is at it right now
        return ticket.has_turn

    def take(self, most: int) -> list[Ticket]:
        """Return those who wait next with work to share, for who has the turn."""
        taken: list[Ticket] = []
        with self._mutex:
            while self._queue and len(taken) < most and self._queue[0].is_shared:
                taken.append(self._queue.popleft())
        return taken

    def give_back(self, tickets: Iterable[Ticket]) -> None:
        """Wake those whose work is done; the others wait again, before all who came after."""
        for ticket in reversed(list(tickets)):
            if ticket.done:
                ticket.wake()
            else:
                with self._mutex:
                    self._queue.appendleft(ticket)

    def pass_on(self) -> None:
        """Give the turn to who is next."""
        with self._mutex:
            if self._queue:
                ticket = self._queue.popleft()
                self._owner = ticket.thread
                ticket.has_turn = True
                ticket.wake()
            else:
                self._owner = None

    def _withdraw(self, ticket: Ticket) -> bool:
        with self._mutex:
            try:
                self._queue.remove(ticket)
            except ValueError:
                return False
        return True


def _nothing(_: Any) -> None:
    """Do what a transaction of a user does when it gets its turn."""
