"""Progress bars on standard error, for transfers that take their time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kvstore.cli.spelling import escaped

if TYPE_CHECKING:
    from kvstore.cli.bars import Bars

#: Transfers of so many bytes are shown from the start, smaller ones after so many seconds.
LARGE = 4 << 20
SLOW = 0.5


class Transfers:
    """Shows transfers as they go on, in a terminal only, and only where it is worth it.

    A context manager; leaving it, in whatever way, ends the bars. Several transfers may go on in
    threads: the one that moved last is shown.

    Args:
        count: how many keys there will be, where there are several.
        size: the bytes of all of them, where that is known.
        stay: show it in any case, and leave the count standing at the end.
    """

    def __init__(
        self, count: int | None = None, size: int | None = None, *, stay: bool = False
    ) -> None:
        self._enabled = sys.stderr.isatty()
        self._stay = stay
        self._count = count
        self._in_all = size
        self._bars: Bars | None = None
        self._began = time.monotonic()
        self._done = 0
        self._moved = 0
        self._lock = threading.Lock()

    def of(self, label: str) -> Callable[[int, int], None]:
        """Return the ``progress=`` function of a transfer that begins now."""
        before = 0

        def progress(done: int, total: int) -> None:
            nonlocal before
            with self._lock:
                self._moved += done - before  # what is read again is taken back
                before = done
                if self._enabled and self._is_worth_it(total):
                    self._shown().move(escaped(label), done, total)
                    self._show_whole()

        return progress if self._enabled else lambda done, total: None

    def advance(self) -> None:
        """Count one key as done."""
        with self._lock:
            self._done += 1
            if self._enabled and self._count is not None and self._is_worth_it(0):
                self._shown()
                self._show_whole()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._enabled = False  # a thread may still be told to end
            if self._bars is not None:
                self._bars.stop()

    def _is_worth_it(self, total: int) -> bool:
        if self._stay or self._bars is not None or total >= LARGE:
            return True
        return time.monotonic() - self._began >= SLOW

    def _shown(self) -> Bars:
        if self._bars is None:
            from kvstore.cli.bars import Bars  # rich, which takes long to import

            self._bars = Bars(stay=self._stay)
            self._show_whole()
        return self._bars

    def _show_whole(self) -> None:
        if self._bars is not None and self._count is not None:
            self._bars.whole(self._done, self._count, self._moved, self._in_all)
