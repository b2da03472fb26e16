"""Events per second of our hub, encore's EventManager and blinker's Signal, side by side.

Each emit builds its event as well. In every round the three take turns, so that a busy machine
slows all of them; the ratios are medians over the rounds. blinker has no filters: its listeners
are connected to a sender instead, the key, and are given the source and metadata as arguments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from kvstore.events import StoreSetEvent
from kvstore.hub import EventHub

try:
    from encore.events.api import EventManager
    from encore.storage.events import StoreSetEvent as EncoreSetEvent
except ImportError:
    EventManager = None
try:
    from blinker import Signal as BlinkerSignal
except ImportError:
    Signal: Any = None
else:
    Signal = BlinkerSignal

ROUNDS = 7
#: Seconds of each measurement.
SPAN = 0.05
#: Number of listeners and the key that their filter asks for; None is no filter, KEY matches.
KEY = "runs/1"
CASES: list[tuple[int, str | None]] = [
    (0, None),
    *((count, wanted) for count in (1, 10) for wanted in (None, KEY, "other")),
    (1_000, "other"),
    (100_000, "other"),
]


@dataclass(frozen=True, slots=True)
class Row:
    """One case. Rates are emits per second; None where the library is not installed."""

    case: str
    kvstore: float
    encore: float | None
    blinker: float | None
    #: Median over the rounds of our rate divided by theirs.
    to_encore: float | None
    to_blinker: float | None


def rows() -> list[Row]:
    """Measure all cases."""
    return [_row(count, wanted) for count, wanted in CASES]


def main() -> None:
    for name, found in (("encore", EventManager), ("blinker", Signal)):
        if found is None:
            print(f"{name} is not installed; its columns stay empty.")
    print(f"{'emits/s':<28}{'kvstore':>10}{'encore':>10}{'ratio':>9}{'blinker':>11}{'ratio':>7}")
    for row in rows():
        cells = [f"{row.case:<28}{row.kvstore:>10,.0f}{_cell(row.encore, 10, ',.0f')}"]
        cells += [_cell(row.to_encore, 9, ",.2f"), _cell(row.blinker, 11, ",.0f")]
        print("".join([*cells, _cell(row.to_blinker, 7, ",.2f")]))


def _cell(value: float | None, width: int, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>{width}}"


def _row(count: int, wanted: str | None) -> Row:
    emitters = [_kvstore(count, wanted), _encore(count, wanted), _blinker(count, wanted)]
    rounds = [[emit and _rate(emit) for emit in emitters] for _ in range(ROUNDS)]
    ours, encore, blinker = zip(*rounds, strict=True)
    kind = {None: "no filter", KEY: "matching"}.get(wanted, "not matching")
    return Row(
        case=f"{count:,} listener{'s' * (count != 1)}, {kind}",
        kvstore=median(ours),
        encore=median(encore) if emitters[1] else None,
        blinker=median(blinker) if emitters[2] else None,
        to_encore=median(map(_divide, ours, encore)) if emitters[1] else None,
        to_blinker=median(map(_divide, ours, blinker)) if emitters[2] else None,
    )


def _divide(ours: float, theirs: float) -> float:
    return ours / theirs


def _rate(emit: Callable[[int], None]) -> float:
    """Emits per second, over as many emits as take about SPAN seconds."""
    times = 1
    while True:
        start = time.perf_counter()
        emit(times)
        spent = time.perf_counter() - start
        if spent > SPAN / 2:
            return times / spent
        times *= 2 if spent > SPAN / 10 else 8


class _Listener:
    """Many different listeners, held strongly by all three."""

    __slots__ = ("__weakref__",)

    def __call__(self, event: Any, **more: Any) -> None:
        pass


def _kvstore(count: int, wanted: str | None) -> Callable[[int], None]:
    hub = EventHub()
    source = object()
    for _ in range(count):
        hub.connect(StoreSetEvent, _Listener(), filter={"key": wanted} if wanted else None)

    def emit(times: int) -> None:
        for _ in range(times):
            hub.emit(StoreSetEvent(source=source, key=KEY, metadata={}))

    return emit


def _encore(count: int, wanted: str | None) -> Callable[[int], None] | None:
    if EventManager is None:
        return None
    manager = EventManager()
    source = object()
    for _ in range(count):
        manager.connect(EncoreSetEvent, _Listener(), filter={"key": wanted} if wanted else None)

    def emit(times: int) -> None:
        for _ in range(times):
            manager.emit(EncoreSetEvent(source, key=KEY, metadata={}))

    return emit


def _blinker(count: int, wanted: str | None) -> Callable[[int], None] | None:
    if Signal is None:
        return None
    signal = Signal()
    source = object()
    for _ in range(count):
        if wanted is None:
            signal.connect(_Listener(), weak=False)
        else:
            signal.connect(_Listener(), sender=wanted, weak=False)

    def emit(times: int) -> None:
        for _ in range(times):
            signal.send(KEY, source=source, metadata={})

    return emit


if __name__ == "__main__":
    main()
