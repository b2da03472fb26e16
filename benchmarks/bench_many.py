"""Calls about many keys against one call a key, on a server that is far away."""

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

PEER: Final = "one by one"
DATA: Final = os.urandom(1024)
METADATA: Final = {"exposure": 1.5, "filter": "B"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    keys: int = 200
    #: Seconds that each way takes longer.
    latencies: tuple[float, ...] = (0.05, 0.005, 0.0)
    rounds: int = 3
    #: Seconds after which a case begins no other round.
    seconds: float = 60.0


QUICK = Scale(keys=20, latencies=(0.01,), rounds=1, seconds=5.0)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    with (
        tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder,
        running_server("memory", Path(folder, "store")) as server,
    ):
        for latency in scale.latencies:
            with relay(server.url, latency) as url:
                title = f"{scale.keys} keys of 1 KiB, {latency * 1000:g} ms each way"
                yield rate_table(title, "keys/s", PEER, _rows(scale, url))


def _rows(scale: Scale, url: str) -> Iterator[Row]:
    keys = [f"key{number}" for number in range(scale.keys)]
    with DynamicURLStore(f"{url}/keys", f"{url}/query") as store:

        def set_each() -> None:
            for key in keys:
                store.set(key, DATA, metadata=METADATA)

        def set_all() -> None:
            store.multiset(keys, ((DATA, METADATA) for _ in keys))

        def get_each() -> None:
            for key in keys:
                assert store.get(key).read() == DATA

        def get_all() -> None:
            for value in store.multiget(keys):
                assert value.read() == DATA

        cases = {
            "set": [Contender(PEER, set_each), Contender("multiset", set_all)],
            "get": [Contender(PEER, get_each), Contender("multiget", get_all)],
        }
        for case, contenders in cases.items():
            yield from compare(
                case,
                contenders,
                amount=scale.keys,
                peer=PEER,
                rounds=scale.rounds,
                seconds=scale.seconds,
            )
