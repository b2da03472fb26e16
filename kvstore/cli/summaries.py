"""What became of many keys, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kvstore.cli.output import Output
from kvstore.cli.spelling import show_size
from kvstore.documents import JsonObject


class Tally:
    """Counts outcomes: objects with the ``status`` and, where there was one, ``size`` of a copy."""

    def __init__(self) -> None:
        #: How many there are of each status.
        self.counts: Counter[str] = Counter()
        #: Bytes copied.
        self.size = 0

    def add(self, outcome: JsonObject) -> None:
        """Count one."""
        self.counts[outcome["status"]] += 1
        self.size += outcome["size"] or 0

    def sentence(self, done: str) -> str:
        """Return it for people; *done* is the status of a key that was copied."""
        skipped = self.counts["skipped"]
        left = f", {skipped} skipped" if skipped else ""
        return f"{counted(self.counts[done], 'key')} {done}, {show_size(self.size)}{left}"


def tallied(output: Output, outcomes: Iterable[JsonObject]) -> Tally:
    """Return the tally of *outcomes*; programs get each of them, too."""
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
        if not output.for_people:
            output.result("", outcome)
    return tally


def counted(number: int, noun: str) -> str:
    """Return ``1 key`` or ``2 keys``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
