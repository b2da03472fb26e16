"""What became of each record, and of all of them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: ``same``: nothing had to travel; ``sent``: the data did; ``updated``: only metadata or
#: permissions; ``deleted``; ``kept``: gone at the source, or other there, and left as the rules
#: say; ``conflict``: both sides have something else, and nobody was told who wins; ``failed``.
Status: TypeAlias = Literal["same", "sent", "updated", "deleted", "kept", "conflict", "failed"]

#: Conflicts and failures that are named in a report; more of them are only counted.
MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record."""

    key: str
    status: Status
    #: Bytes of data that were sent.
    size: int = 0
    #: The revision at the destination afterwards, where it is known.
    revision: str | None = None
    #: A sentence for people: why there is a conflict or a failure.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a pass has done, in numbers of records."""

    same: int = 0
    sent: int = 0
    updated: int = 0
    deleted: int = 0
    kept: int = 0
    conflicted: int = 0
    failed: int = 0
    #: Bytes of data that were sent.
    size: int = 0
    #: The first 1,000 conflicts and failures.
    conflicts: tuple[Outcome, ...] = ()
    failures: tuple[Outcome, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the destination has all that was asked for."""
        return not self.conflicted and not self.failed


class Counts:
    """A report that grows. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[Status] = Counter()
        self._size = 0
        self._named: dict[str, list[Outcome]] = {"conflict": [], "failed": []}

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        with self._lock:
            self._numbers[outcome.status] += 1
            self._size += outcome.size
            named = self._named.get(outcome.status)
            if named is not None and len(named) < MOST_NAMED:
                named.append(outcome)

    def report(self) -> SyncReport:
        """Return it as it is now."""
        with self._lock:
            numbers = self._numbers
            return SyncReport(
                same=numbers["same"],
                sent=numbers["sent"],
                updated=numbers["updated"],
                deleted=numbers["deleted"],
                kept=numbers["kept"],
                conflicted=numbers["conflict"],
                failed=numbers["failed"],
                size=self._size,
                conflicts=tuple(self._named["conflict"]),
                failures=tuple(self._named["failed"]),
            )
