"""What a SQLiteStore costs as its keys grow in number: to load, on the disk, to ask and to write.

The keys come in random order, in transactions, and the last of them one by one: so there are two
figures for a write. Fields have an index once they are asked for; the first questions make it.
Then each question is asked many times, with other values each time. Everything that is read is in
the memory of the system.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.measure import Table
from kvstore import SQLiteStore

#: Keys that have the same value of the field ``group``.
HITS: Final = 10
OBSERVERS: Final = 37
#: What ``exposure`` stays below, and a tenth of it.
LONGEST: Final = 12_500.0
TENTH: Final = LONGEST / 10
#: The fields that are asked for.
ASKED: Final = ("group", "exposure", "observer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    #: Keys that are loaded in a transaction.
    batch: int = 10_000
    #: Keys written one by one at most; of few keys a tenth.
    written: int = 1_000
    #: How often each question is asked at most, and seconds after which it is not asked again.
    asked: int = 500
    seconds: float = 10.0


QUICK = Scale(sizes=(1_000, 5_000), written=100, asked=20, seconds=0.2)


def document_of(number: int) -> dict[str, Any]:
    """Return the metadata of a key."""
    return {
        "number": number,
        "shelf": number % 100,
        "exposure": (number * 7919 % 100_000) / 8,
        "filter": "UBVRI"[number % 5],
        "object": f"M{number * 31 % 100_000}",
        "observer": f"user{number % OBSERVERS}",
        "checked": number % 2 == 0,
        "group": number // HITS,
    }


def key_of(number: int) -> str:
    """Return the key of that number: neighbours are in different folders."""
    return f"survey/2024/{number % 1000:03}/exposure-{number:07}.fits"


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, one table."""
    columns = [dict(_figures(count, scale)) for count in scale.sizes]
    fields = ", ".join(document_of(0))
    title = f"keys without data, of {len(document_of(0))} fields each ({fields}); p50 / p99 in ms"
    body = tuple((name, *(column[name] for column in columns)) for name in columns[0])
    yield Table(title, ("", *(f"{count:,} keys" for count in scale.sizes)), body, labels=1)


def _figures(count: int, scale: Scale) -> Iterator[tuple[str, str]]:
    """Yield what is measured with so many keys: names and figures."""
    numbers = list(range(count))
    Random(count).shuffle(numbers)
    singles = min(scale.written, count // 10)
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        with SQLiteStore(folder) as store:
            spent = _timed(lambda: _load(store, numbers[singles:], scale.batch))
            yield "load, s", f"{spent:,.2f}"
            yield "load, µs a key", f"{spent / (count - singles) * 1e6:,.0f}"
            spent = _timed(lambda: _write(store, numbers[:singles]))
            yield "set_metadata of a new key, no field indexed, µs", f"{spent / singles * 1e6:,.0f}"
        yield "on disk, no field indexed, MB", _megabytes(folder)
        with SQLiteStore(folder) as store:
            spent = _timed(lambda: store.count(group=0))
            yield f"first question by {ASKED[0]}, s", f"{spent:,.3f}"
            spent = _timed(lambda: store.count(where=_within(Random(0)), observer="user0"))
            yield f"first question by {' and '.join(ASKED[1:])}, s", f"{spent:,.3f}"
        yield f"on disk, {len(ASKED)} fields indexed, MB", _megabytes(folder)
        with SQLiteStore(folder) as store:
            for name, ask in QUESTIONS.items():
                yield name, _asked(ask, store, count, scale)
            spent = _timed(lambda: _write(store, range(count, count + singles)))
            name = f"set_metadata of a new key, {len(ASKED)} fields indexed, µs"
            yield name, f"{spent / singles * 1e6:,.0f}"


def _load(store: SQLiteStore, numbers: list[int], batch: int) -> None:
    for start in range(0, len(numbers), batch):
        with store.transaction():
            _write(store, numbers[start : start + batch])


def _write(store: SQLiteStore, numbers: Iterable[int]) -> None:
    for number in numbers:
        store.set_metadata(key_of(number), document_of(number))


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _megabytes(folder: str) -> str:
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return f"{size / 1e6:,.1f}"


# -- questions: each is asked of so many keys, with values by chance -----------------------


def _few(store: SQLiteStore, count: int, random: Random) -> None:
    found = sum(1 for _ in store.query(group=random.randrange(count // HITS)))
    assert found == HITS, found


def _least(store: SQLiteStore, count: int, random: Random) -> None:
    _check_tenth(sum(1 for _ in store.query(where=_below(random))), count)


def _between(store: SQLiteStore, count: int, random: Random) -> None:
    _check_tenth(sum(1 for _ in store.query(where=_within(random))), count)


def _count_least(store: SQLiteStore, count: int, random: Random) -> None:
    _check_tenth(store.count(where=_below(random)), count)


def _count_between(store: SQLiteStore, count: int, random: Random) -> None:
    _check_tenth(store.count(where=_within(random)), count)


def _both(store: SQLiteStore, count: int, random: Random) -> None:
    for _ in store.query(where=_within(random), observer=_anyone(random)):
        pass


def _first(store: SQLiteStore, count: int, random: Random) -> None:
    order = random.choice(("exposure", "-exposure"))
    assert sum(1 for _ in store.query(order_by=order, limit=50)) == 50


def _first_of_one(store: SQLiteStore, count: int, random: Random) -> None:
    order = random.choice(("exposure", "-exposure"))
    for _ in store.query(observer=_anyone(random), order_by=order, limit=50):
        pass


def _page(store: SQLiteStore, count: int, random: Random) -> None:
    after = key_of(random.randrange(count))
    for _ in store.query(prefix="survey/2024/", after=after, limit=100):
        pass


QUESTIONS: Final[dict[str, Callable[[SQLiteStore, int, Random], None]]] = {
    f"{HITS} hits by one field": _few,
    "a tenth of the keys, one bound": _least,
    "a tenth of the keys, two bounds": _between,
    "count of a tenth, one bound": _count_least,
    "count of a tenth, two bounds": _count_between,
    f"equality and two bounds, 1 key in {OBSERVERS * 10}": _both,
    "the first 50 by order_by": _first,
    f"the first 50 by order_by, of 1 key in {OBSERVERS}": _first_of_one,
    "page of 100 by prefix, behind any key": _page,
}


def _below(random: Random) -> dict[str, Any]:
    """Return a filter that holds for about a tenth of all keys, those that have the least."""
    return {"exposure": {"lt": TENTH * random.uniform(0.95, 1.05)}}


def _within(random: Random) -> dict[str, Any]:
    """Return a filter that holds for a tenth of all keys, somewhere."""
    least = random.randrange(int((LONGEST - TENTH) * 8)) / 8
    return {"exposure": {"ge": least, "lt": least + TENTH}}


def _check_tenth(found: int, count: int) -> None:
    assert count // 12 < found < count // 8, found


def _anyone(random: Random) -> str:
    return f"user{random.randrange(OBSERVERS)}"


def _asked(
    ask: Callable[[SQLiteStore, int, Random], None], store: SQLiteStore, count: int, scale: Scale
) -> str:
    """Return p50 and p99 of the time that a question takes, in ms."""
    random = Random(count)
    ask(store, count, random)  # the first time reads what others then find
    end = time.monotonic() + scale.seconds
    times: list[float] = []
    while len(times) < scale.asked and (time.monotonic() < end or not times):
        times.append(_timed(lambda: ask(store, count, random)) * 1e3)
    times.sort()
    middle, late = (times[math.ceil(len(times) * part) - 1] for part in (0.5, 0.99))
    return f"{middle:,.2f} / {late:,.2f}"
