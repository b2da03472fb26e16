"""A sync between two servers that are far away, against reading and writing key by key."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.latency import relay
from benchmarks.measure import Contender, Row, Table, compare, rate_table
from benchmarks.serving import running_server
from kvstore import DynamicURLStore
from kvstore.replication import sync

PEER: Final = "get and set"
DATA: Final = os.urandom(1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    keys: int = 1000
    #: Seconds that a request and its answer take longer together.
    latency: float = 0.02
    rounds: int = 2
    #: Seconds after which a case begins no other round.
    seconds: float = 120.0


QUICK = Scale(keys=40, latency=0.01, rounds=1, seconds=5.0)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure."""
    with (
        tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder,
        running_server("memory", Path(folder, "a")) as first,
        running_server("memory", Path(folder, "b")) as second,
        relay(first.url, scale.latency / 2) as near,
        relay(second.url, scale.latency / 2) as far,
        _reached(near) as source,
        _reached(far) as destination,
    ):
        title = f"{scale.keys} keys of 1 KiB, {scale.latency * 1000:g} ms to either server and back"
        yield rate_table(title, "keys/s", PEER, _rows(scale, source, destination))


def _reached(url: str) -> DynamicURLStore:
    return DynamicURLStore(f"{url}/keys", f"{url}/query")


def _rows(scale: Scale, source: DynamicURLStore, destination: DynamicURLStore) -> Iterator[Row]:
    # Each turn has keys of its own, as to delete those of the last one would take its time.
    turns = [f"turn{number}/" for number in range(2 * (scale.rounds + 1))]
    names = [f"{number:05}" for number in range(scale.keys)]
    for turn in turns:
        source.multiset([turn + name for name in names], ((DATA, {"n": 1}) for _ in names))
    left = iter(turns)

    def one_by_one() -> None:
        turn = next(left)
        for name in names:
            destination.set(turn + name, source.get(turn + name))

    def synced() -> None:
        assert sync(source, destination, prefix=next(left)).sent == scale.keys

    def in_step() -> None:
        assert sync(source, destination, prefix=turns[-1]).same == scale.keys

    contenders = [Contender(PEER, one_by_one), Contender("sync", synced)]
    for case, who in (("new", contenders), ("in step", [Contender("sync", in_step)])):
        yield from compare(
            case,
            who,
            amount=scale.keys,
            peer=PEER,
            rounds=scale.rounds,
            seconds=scale.seconds,
        )
