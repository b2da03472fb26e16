"""How things are compared here: they take turns in rounds, so that a busy machine slows them all.

What counts are the ratios, taken within each round. Absolute rates drift with the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those compared, and its turn: a fixed amount of work."""

    name: str
    turn: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender reached in one case."""

    case: str
    name: str
    #: Units of work a second.
    rate: Spread
    #: Its rate divided by the peer's in the same round; None for the peer, or without one.
    ratio: Spread | None


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a head, and lines of as many cells. The first ``labels`` columns are text."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    labels: int = 2

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.head, *self.body, strict=True)]
        lines = [self._line(cells, widths) for cells in (self.head, *self.body)]
        return "\n".join([self.title, *lines])

    def _line(self, cells: tuple[str, ...], widths: list[int]) -> str:
        texts = [
            f"{cell:<{width}}" if column < self.labels else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(texts).rstrip()


def compare(
    case: str,
    contenders: Sequence[Contender],
    *,
    amount: float,
    peer: str,
    rounds: int,
    seconds: float,
) -> list[Row]:
    """Let the contenders take turns.

    Args:
        case: what is done, for the rows.
        contenders: with different names; each has a turn that does not count before the first.
        amount: units of work in a turn.
        peer: name of the contender that the ratios are against. It may be missing.
        rounds: how many, at least 1.
        seconds: after so many no other round begins; there is always one.
    """
    spent: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    end = time.monotonic() + seconds
    for contender in contenders:
        contender.turn()
    for number in range(rounds):
        # Whoever always comes after the same one inherits its caches and its debts.
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            begun = time.perf_counter()
            contender.turn()
            spent[contender.name].append(time.perf_counter() - begun)
        if time.monotonic() > end:
            break
    return [
        Row(
            case,
            name,
            Spread.of([amount / each for each in times]),
            _ratio(spent.get(peer), times) if name != peer else None,
        )
        for name, times in spent.items()
    ]


def rate_table(title: str, unit: str, peer: str, rows: Iterable[Row]) -> Table:
    """Return the rows as a table, rates in *unit*."""
    head = ("", "", unit, "min..max", f"x {peer}", "min..max")
    body = [
        (row.case, row.name, f"{row.rate.median:,.0f}", _extremes(row.rate, ",.0f"))
        + (("", "") if row.ratio is None else _cells(row.ratio))
        for row in rows
    ]
    return Table(title, head, tuple(body))


def _ratio(peer: list[float] | None, times: list[float]) -> Spread | None:
    if peer is None:
        return None
    return Spread.of([theirs / ours for theirs, ours in zip(peer, times, strict=True)])


def _cells(ratio: Spread) -> tuple[str, str]:
    return f"{ratio.median:.2f}", _extremes(ratio, ".2f")


def _extremes(spread: Spread, form: str) -> str:
    return f"{spread.low:{form}}..{spread.high:{form}}"
