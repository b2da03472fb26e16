"""Threads in which the calls of the store run, and the way back from them to the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from kvstore.server.limits import Limits

T = TypeVar("T")

#: Seconds after which a waiting thread looks whether its loop is still there.
_LOOK = 5.0
#: Seconds that a call waits for the threads there are before there is one more of them.
_PATIENCE = 0.005
#: Seconds without a call after which a thread ends.
_IDLE = 10.0


class Disconnected(Exception):  # noqa: N818 - nobody is left whom an error could be told
    """The client went away, or the server is being ended."""


class Workers:
    """Two bounded pools of threads: for calls that end by themselves, and for those of streams."""

    def __init__(self, limits: Limits) -> None:
        #: Calls of each kind that are being made or wait for a thread.
        self.short_calls = self.long_calls = 0
        self._short = _Pool(limits.workers)
        self._long = ThreadPoolExecutor(limits.streams, thread_name_prefix="kvstore-stream")

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """Return what a short call returns."""
        self.short_calls += 1
        try:
            result: T = await self._short.submit(call, args)
        finally:
            self.short_calls -= 1
        return result

    async def run_long(self, call: Callable[..., T], *args: Any) -> T:
        """Return what a call returns that waits for the client."""
        self.long_calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._long, call, *args)
        finally:
            self.long_calls -= 1

    def close(self) -> None:
        """Let the threads end. Idempotent; those that wait for a client end with its loop."""
        self._short.close()
        self._long.shutdown(wait=False, cancel_futures=True)


class _Call:
    """One call on its way to a thread."""

    __slots__ = ("args", "call", "future", "is_taken", "loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, call: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.call = call
        self.args = args
        self.is_taken = False

    def run(self) -> None:
        self.is_taken = True
        result, failure = None, None
        try:
            result = self.call(*self.args)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            failure = error
        try:
            self.loop.call_soon_threadsafe(_settle, self.future, result, failure)
        except RuntimeError:  # the loop was closed; nobody waits any more
            return


class _Pool:
    """Few threads that share one queue, and more only where calls really wait.

    ``ThreadPoolExecutor`` begins a thread for every call while none is idle. Here calls that take
    microseconds are made by one thread that stays warm, at a tenth of the cost.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._last: _Call | None = None
        self._watched: _Call | None = None

    def submit(self, call: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Have *call* made in some thread. On the event loop only."""
        loop = asyncio.get_running_loop()
        item = _Call(loop, call, args)
        self._calls.put(item)
        self._last = item
        if self._threads == 0:
            self._grow(1)
        if self._watched is None or self._watched.loop is not loop:
            self._watched = item
            loop.call_later(_PATIENCE, self._look, loop)
        return item.future

    def close(self) -> None:
        with self._lock:
            count = self._threads
        for _ in range(count):
            self._calls.put(None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a thread if the call that was watched is still not taken."""
        if self._watched is not None and not self._watched.is_taken:
            self._grow(self._size)
        # Calls are taken in their order: if the last one is, all of them are.
        self._watched = self._last if self._last is not None and not self._last.is_taken else None
        if self._watched is None:
            self._last = None
        else:
            loop.call_later(_PATIENCE, self._look, loop)

    def _grow(self, most: int) -> None:
        with self._lock:
            if self._threads >= most:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="kvstore-worker", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                item = self._calls.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    if not self._calls.empty():
                        continue  # it came between
                    self._threads -= 1
                return
            if item is None:
                with self._lock:
                    self._threads -= 1
                return
            item.run()
            del item  # a result may be large, and the next call may be far


def begin_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin *coroutine* on *loop*, called from another thread.

    Raises:
        Disconnected: the loop has ended.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
        raise Disconnected from None


def result_of(future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait for what was begun by :func:`begin_on`.

    Raises:
        Disconnected: the loop ended first.
    """
    while True:
        try:
            return future.result(_LOOK)
        except CancelledError:
            raise Disconnected from None
        except TimeoutError:
            if future.done():  # it is the coroutine's own
                raise
            if not loop.is_running():
                raise Disconnected from None


def _settle(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if future.cancelled():
        return
    if failure is None:
        future.set_result(result)
    elif isinstance(failure, StopIteration):  # a future cannot hold one
        future.set_exception(RuntimeError("A call of the store raised StopIteration."))
    else:
        future.set_exception(failure)
