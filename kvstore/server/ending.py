"""The end of a server, or of what a client sends, told to answers that would go on for long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

_SCOPE_KEY = "kvstore.ending"
_CLIENT_KEY = "kvstore.client_ended"


class Ending:
    """Whether one server is about to end. Lives on its event loop.

    It travels in ASGI's scope, so that an application which is mounted in another one learns of
    it, too: beside the ``extensions``, which are made anew when the header is complete.
    """

    def __init__(self) -> None:
        self._calls: set[Callable[[], object]] = set()
        self._has_begun = False

    def begin(self) -> None:
        """Tell all who want to know. Idempotent."""
        self._has_begun = True
        for call in list(self._calls):
            call()

    @contextlib.contextmanager
    def told(self, call: Callable[[], object]) -> Iterator[None]:
        """Have *call* called when the server is to end, or at once; until the block is left."""
        if self._has_begun:
            call()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def enter(self, scope: Any) -> None:
        """Put it into the scope of a request."""
        scope[_SCOPE_KEY] = self


def ending_of(scope: Any) -> Ending:
    """The ending of the server that a request came to; of a server of others one that never is."""
    found = scope.get(_SCOPE_KEY)
    return found if isinstance(found, Ending) else Ending()


def note_client_ended(scope: Any) -> None:
    """Let a request know that its client sends no more: most who do so have gone altogether."""
    scope[_CLIENT_KEY] = time.monotonic()


def client_ended(scope: Any) -> float | None:
    """When the client has ended its side (``time.monotonic``); None: it has not."""
    ended: float | None = scope.get(_CLIENT_KEY)
    return ended
