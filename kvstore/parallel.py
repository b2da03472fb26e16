"""Calls made by several threads at a time, with their results in the order asked for."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_Calls: TypeAlias = "queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], Any] | None]"

#: Seconds without a call after which a thread ends.
_IDLE = 10.0
#: Seconds in which a server on the same machine answers.
QUICK = 0.003
_NONE: Any = object()


class Crew:
    """A bounded number of threads that wait for calls. Thread-safe; a forked child begins anew.

    The threads are daemons, unlike those of ``ThreadPoolExecutor``: for who is interrupted by
    Ctrl-C, the end of the program does not wait for a server that does not answer.

    Args:
        size: threads at most. They are begun when they are needed, and end when they are not.
        quick: seconds that a call may take before it pays to make several at a time; below 0 it
            always does.
    """

    def __init__(self, size: int, quick: float = QUICK) -> None:
        self.size = size
        self.quick = quick
        self._lock = threading.Lock()
        self._begin_anew()

    def submit(self, call: Callable[..., R], *args: Any) -> Future[R]:
        """Have *call* made by one of the threads."""
        if self._process != os.getpid():
            self._lock = threading.Lock()
            self._begin_anew()  # the threads were the parent's
        future: Future[R] = Future()
        with self._lock:
            self._calls.put((future, call, args))
            if self._free:
                self._free -= 1
            elif self._threads < self.size:
                self._threads += 1
                threading.Thread(
                    target=self._work, args=(self._calls,), name="kvstore-crew", daemon=True
                ).start()
        return future

    def close(self) -> None:
        """Let the threads end when they have made the calls they were given. Idempotent."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)
            self._begin_anew()  # it may be used again, by other threads

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._calls: _Calls = queue.SimpleQueue()
        self._threads = 0
        self._free = 0  # threads that wait, less the calls that wait for them

    def _work(self, calls: _Calls) -> None:
        while True:
            try:
                item = calls.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    if not calls.empty():
                        continue  # it came between
                    if calls is self._calls:
                        self._free -= 1
                        self._threads -= 1
                return
            if item is None:
                return
            _make(*item)
            del item  # a result may be large, and the next call may be far
            with self._lock:
                if calls is self._calls:
                    self._free += 1


def in_order(
    crew: Crew,
    call: Callable[[T], R],
    items: Iterable[T],
    *,
    same: Callable[[T], Hashable] | None = None,
    drop: Callable[[R], object] | None = None,
) -> Iterator[R]:
    """Yield ``call(item)`` for each item, in their order, several calls being made at a time.

    As long as calls are quick they are made one by one in the caller's thread, which is faster then
    (a server on the same machine). The items are always taken there, twice as many ahead as the
    crew has threads. The first error, of a call or of the items, is raised in its place; calls not
    yet begun are not made then, nor when the iterator is closed.

    Args:
        same: items for which this is equal wait for each other.
        drop: gets results that nobody took.
    """
    taken = _Taken(items)
    took = 0.0
    while took <= crew.quick:
        item = next(taken, _NONE)
        if item is _NONE:
            break
        began = time.perf_counter()
        result = call(item)
        took = time.perf_counter() - began
        yield result
    yield from _ahead(crew, call, taken, same, drop)
    if taken.failure is not None:
        raise taken.failure


def _ahead(
    crew: Crew,
    call: Callable[[T], R],
    items: Iterator[T],
    same: Callable[[T], Hashable] | None,
    drop: Callable[[R], object] | None,
) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    last: dict[Hashable, Future[R]] = {}
    try:
        for item in items:
            if same is not None:
                before = last.get(same(item))
                if before is not None and before.exception() is not None:
                    break  # which is raised below, in its turn
            future = crew.submit(call, item)
            waiting.append(future)
            if same is not None:
                if len(last) > 4 * crew.size:
                    last = {name: known for name, known in last.items() if not known.done()}
                last[same(item)] = future
            if len(waiting) >= 2 * crew.size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            if not future.cancel() and drop is not None:
                future.add_done_callback(lambda done: _drop(done, drop))


class _Taken(Iterator[T]):
    """Items up to the one that fails, whose error is kept until its turn comes."""

    def __init__(self, items: Iterable[T]) -> None:
        self._rest = iter(items)
        self.failure: Exception | None = None

    def __next__(self) -> T:
        if self.failure is not None:
            raise StopIteration
        try:
            return next(self._rest)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001 - raised where its turn comes
            self.failure = error
            raise StopIteration from None


def _make(future: Future[Any], call: Callable[..., Any], args: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call(*args)
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)


def _drop(future: Future[Any], drop: Callable[[Any], object]) -> None:
    if not future.cancelled() and future.exception() is None:
        drop(future.result())
