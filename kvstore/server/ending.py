"""The end of a server, told to answers that would go on for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_SCOPE_KEY = "kvstore.ending"


class Ending:
    """Whether one server is about to end. Lives on its event loop.

    It travels in the ``extensions`` of ASGI's scope, so that an application which is mounted in
    another one learns of it, too.
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
        scope["extensions"] = {**scope.get("extensions", {}), _SCOPE_KEY: self}


def ending_of(scope: Any) -> Ending:
    """The ending of the server that a request came to; of a server of others one that never is."""
    found = (scope.get("extensions") or {}).get(_SCOPE_KEY)
    return found if isinstance(found, Ending) else Ending()
