"""Several processes of one server: begun, looked after, and ended together.

Each has a Python and an event loop of its own, and they all accept connections at one socket.

The supervisor of uvicorn is not used: it ends with its workers' own time for an end unbounded,
begins one that dies at once anew for ever, takes one that is busy for five seconds for dead, and
can only hand over the name of an application, not a store and its settings.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from kvstore.errors import InvalidRequestError, StoreError

#: Seconds until a worker that has died is begun anew: doubled each time, up to the most.
_DELAY: Final = 0.1
_MOST_DELAY: Final = 30.0
#: Seconds that a worker must have lived for its death to be the first one again.
_SOUND: Final = 60.0
#: Seconds over those for answers that a worker has to end, until it is killed.
_CLOSING: Final = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What a worker says: that it accepts connections, or why it never will.
_READY, _FAILED = "ready", "failed"

_log = logging.getLogger("kvstore.server")


class Worker:
    """What a worker knows of those who look after it.

    Args:
        listener: accepts connections, with the other workers.
    """

    def __init__(self, channel: Connection, listener: socket.socket) -> None:
        self.listener = listener
        self._channel = channel

    def ready(self) -> None:
        """Tell that it accepts connections."""
        with contextlib.suppress(OSError):  # nobody looks after it any more
            self._channel.send((_READY, ""))

    def failed(self, error: BaseException) -> None:
        """Tell why it never will."""
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, StoreError):
            text = error.message
        with contextlib.suppress(OSError):
            self._channel.send((_FAILED, text))

    def watch(self, stop: Callable[[], object]) -> None:
        """Have *stop* called, in another thread, when the worker is to end.

        That is also when whoever looks after it has died: a worker that nobody ends would keep the
        address.
        """

        def listen() -> None:
            with contextlib.suppress(EOFError, OSError):
                self._channel.recv()
            stop()

        threading.Thread(target=listen, name="kvstore-supervisor", daemon=True).start()


class Processes:
    """The workers of one server. For the main thread, which it listens to signals in.

    Args:
        count: how many there are.
        work: what each does until it is told to end, called with its :class:`Worker` and
            *arguments*; a function of a module, as it is looked up by name in the new process.
        arguments: are pickled.
        listener: accepts connections.
        grace: seconds that answers on their way have at the end.
        ended: called with the number of a process that has ended.

    Raises:
        InvalidRequestError: an argument that cannot be pickled.
    """

    def __init__(
        self,
        count: int,
        work: Callable[..., object],
        arguments: tuple[object, ...],
        listener: socket.socket,
        *,
        grace: float,
        ended: Callable[[int], object],
    ) -> None:
        try:
            self._shipped = pickle.dumps((work, arguments))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            message = f"Several processes need a store that can be pickled: {error}."
            raise InvalidRequestError(message) from error
        self._listener = listener
        self._grace = grace
        self._ended = ended
        self._slots = [_Slot(number) for number in range(count)]
        self._signals = 0

    def run(self, ready: Callable[[], object] | None = None) -> None:
        """Run the workers until SIGINT or SIGTERM; a second one ends them at once.

        Args:
            ready: called when all of them accept connections.

        Raises:
            StoreError: a worker cannot begin, before any other one could.
        """
        with _hearing(self._signalled) as bell:
            try:
                for slot in self._slots:
                    slot.begin(self._shipped, self._listener)
                is_told = False
                while not self._signals:
                    self._look(bell)
                    if not is_told and all(slot.is_ready for slot in self._slots):
                        is_told = True
                        if ready is not None:
                            ready()
            finally:
                self._end(bell)

    def _signalled(self) -> None:
        self._signals += 1

    def _look(self, bell: socket.socket) -> None:
        """Wait until something happens, and do what follows from it."""
        now = time.monotonic()
        waits = [slot.due - now for slot in self._slots if slot.process is None]
        wait(
            [bell, *(each for slot in self._slots for each in slot.news)],
            None if not waits else max(0.0, min(waits)),
        )
        for slot in self._slots:
            failure = slot.hear()
            if failure is not None and not any(other.has_served for other in self._slots):
                raise StoreError(f"The processes of the server cannot begin: {failure}")
            if slot.process is None and slot.due <= time.monotonic() and not self._signals:
                slot.begin(self._shipped, self._listener)
            elif slot.process is not None and not slot.process.is_alive():
                self._buried(slot)

    def _buried(self, slot: _Slot) -> None:
        pid, code = slot.bury()
        self._ended(pid)
        if not any(other.has_served for other in self._slots):
            raise StoreError(f"The processes of the server cannot begin: one ended with {code}.")
        delay = slot.due - time.monotonic()
        _log.warning("The process %d ended with %s; the next begins in %.1f s", pid, code, delay)

    def _end(self, bell: socket.socket) -> None:
        self._listener.close()  # or who connects now would wait for nobody
        for slot in self._slots:
            slot.stop()
        signals, end = self._signals, time.monotonic() + self._grace + _CLOSING
        while left := [slot for slot in self._slots if slot.process is not None]:
            seconds = end - time.monotonic()
            if seconds <= 0 or self._signals > signals:
                break
            sentinels = [slot.process.sentinel for slot in left if slot.process is not None]
            wait([bell, *sentinels], seconds)
            _drain(bell)
            for slot in left:
                if slot.process is not None and not slot.process.is_alive():
                    self._ended(slot.bury()[0])
        for slot in left:
            if slot.process is not None:
                slot.process.kill()
                slot.process.join()
                self._ended(slot.bury()[0])


class _Slot:
    """The place of one worker after the other."""

    def __init__(self, number: int) -> None:
        self.process: SpawnProcess | None = None
        #: When the next one begins, in seconds of the monotonic clock.
        self.due = 0.0
        self.is_ready = False
        self.has_served = False
        self._number = number
        self._channel: Connection | None = None
        self._began = 0.0
        self._deaths = 0

    @property
    def news(self) -> list[Any]:
        """What can be waited for."""
        process, channel = self.process, self._channel
        return [each for each in (process and process.sentinel, channel) if each is not None]

    def begin(self, shipped: bytes, listener: socket.socket) -> None:
        # Not forked: threads and connections of databases do not survive that.
        context = multiprocessing.get_context("spawn")
        self._channel, other = context.Pipe()
        name = f"kvstore-server-{self._number}"
        self.process = context.Process(
            target=_work, args=(shipped, other, listener), name=name, daemon=True
        )
        self._began = time.monotonic()
        self.is_ready = False
        self.process.start()
        other.close()

    def hear(self) -> str | None:
        """Take note of what the worker says; return why it cannot begin, if it says so."""
        try:
            while self._channel is not None and self._channel.poll():
                kind, text = self._channel.recv()
                if kind == _FAILED:
                    return str(text)
                self.is_ready = self.has_served = True
        except (EOFError, OSError):
            self._close()
        return None

    def stop(self) -> None:
        """Let the worker end, when its answers have."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(None)

    def bury(self) -> tuple[int, int]:
        """Forget a worker that has ended; return its number and its exit code."""
        process, self.process = self.process, None
        if process is None:
            raise AssertionError("There is no worker to bury.")
        pid, code = process.pid or 0, process.exitcode or 0
        process.close()
        self._close()
        self.is_ready = False
        now = time.monotonic()
        self._deaths = 0 if now - self._began >= _SOUND else self._deaths + 1
        self.due = now + min(_MOST_DELAY, _DELAY * 2 ** min(self._deaths, 20))
        return pid, code

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None


def check_sharing(workers: int, durability: object, store: object) -> None:
    """Refuse several processes over a store that lives in one.

    Raises:
        InvalidRequestError: it does, and there are to be several.
    """
    if workers > 1 and durability == "none":
        raise InvalidRequestError(
            f"{workers} processes cannot share {store!r:.100}, which lives in the memory of one: "
            "serve a store in a folder, or with one worker."
        )


def _work(shipped: bytes, channel: Connection, listener: socket.socket) -> None:
    """What a new process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever looks after it, too
    worker = Worker(channel, listener)
    try:
        work, arguments = pickle.loads(shipped)  # noqa: S301 - it comes from our own process
        work(worker, *arguments)
    except Exception as error:  # noqa: BLE001 - told where it can be read
        worker.failed(error)
        raise SystemExit(1) from None


@contextlib.contextmanager
def _hearing(call: Callable[[], object]) -> Iterator[socket.socket]:
    """Have *call* called at signals; the socket given can then be read, so that waiting ends."""
    bell, other = socket.socketpair()
    bell.setblocking(False)
    other.setblocking(False)

    def ring(_number: int, _frame: object) -> None:
        call()
        with contextlib.suppress(BlockingIOError):
            other.send(b".")

    before = {number: signal.signal(number, ring) for number in _SIGNALS}
    try:
        yield bell
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.close()
        other.close()


def _drain(bell: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        bell.recv(64)
