"""A store that can be read, and by this object not written."""

from __future__ import annotations

from typing import Any

from kvstore.compose.wrapper import Reading
from kvstore.readonly import ReadOnlyStore
from kvstore.values import Value
from kvstore.watching import Watch


class ReadOnly(Reading):
    """Another store without the methods that write, for code that is not to change anything.

    All that is read passes through: values, queries, changes, versions. It shares the ``events``
    of the store within, so that who listens here hears what is changed there. Progress of what is
    read here is told there, too.

    Args:
        store: the one within. Whoever has it can still write to it.
    """

    def __init__(self, store: ReadOnlyStore) -> None:
        super().__init__(store, events=store.events)

    def info(self) -> dict[str, Any]:
        """Return what the store within tells, but that nothing can be written."""
        cannot = {"readonly": True, "authorizing": False, "transactions": False}
        return {**super().info(), **cannot}

    def _get_if_changed(self, key: str, revision: str) -> Value | None:
        return self._inner()._get_if_changed(key, revision)

    def watch(self, since: int | None = None, *, interval: float = 1.0) -> Watch:
        # One of the store within, which knows what that changes itself: its listeners, who are
        # these listeners, have heard of it.
        self._ready()
        watch = self._store.watch(since, interval=interval)
        self._watches = {known for known in self._watches if known.is_running} | {watch}
        return watch
