"""Stores on this machine: memory and folder against encore's, the same program for all of them.

Data is given and read as a file with its metadata beside it, as encore wants it. What ours do more
at the same calls: a SHA-256 of every value, checked when it is read; data and metadata change as
one; a folder's files are flushed to the disk before they count (with ``durable`` their folder too).
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import MIB, Contender, Row, Table, compare, rate_table
from kvstore import FileSystemStore, MemoryStore

try:
    from encore.storage.dict_memory_store import DictMemoryStore
    from encore.storage.filesystem_store import FileSystemStore as EncoreFolder
    from encore.storage.filesystem_store import init_shared_store
except ImportError:
    DictMemoryStore = None

PEER = "encore"
KINDS = ("memory", "folder")
#: One key in so many matches the query.
RARE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Keys of 1 KiB to a turn, with all stores.
    keys: int = 2_000
    #: The same in the folders that wait for the disk.
    folder_keys: int = 400
    #: Bytes of the large value.
    large: int = 50 * MIB
    #: Keys of the store that is queried.
    queried: int = 10_000
    rounds: int = 5
    #: Seconds after which a case begins no other round.
    seconds: float = 4.0


QUICK = Scale(keys=300, folder_keys=60, large=8 * MIB, queried=1_000, rounds=3, seconds=0.5)

_FILLERS = 8
_Stores = list[tuple[str, Any]]


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        for kind in KINDS:
            where = Path(folder, kind)
            title = f"{kind}: 1 KiB, data and metadata"
            yield rate_table(title, "keys/s", PEER, _small(scale, kind, where / "small"))
            title = f"{kind}: {scale.large // MIB} MiB, data and metadata"
            yield rate_table(title, "MiB/s", PEER, _large(scale, kind, where / "large"))
            title = f"{kind}: query by equality over {scale.queried:,} keys, 1 in {RARE} matches"
            yield rate_table(title, "keys/s", PEER, _queries(scale, kind, where / "query"))


def is_complete() -> bool:
    """Tell whether the peer is installed."""
    return DictMemoryStore is not None


def _small(scale: Scale, kind: str, folder: Path) -> list[Row]:
    count = scale.keys if kind == "memory" else scale.folder_keys
    stores = _opened(kind, folder)
    batches = [_Batch(store, count) for _, store in stores]
    rows: list[Row] = []
    for case in ("set", "get"):
        turns: list[Callable[[], object]] = [getattr(batch, case) for batch in batches]
        rows += _rows(scale, case, stores, turns, amount=count)
    return rows


def _large(scale: Scale, kind: str, folder: Path) -> list[Row]:
    data = bytes(range(256)) * (scale.large // 256)

    def put(store: Any) -> None:
        _set(store, "large", data, {"exposure": 1.5})

    def fetch(store: Any) -> None:
        assert _read(store, "large") == (len(data), {"exposure": 1.5})

    stores = _opened(kind, folder)
    rows: list[Row] = []
    for case, act in (("set", put), ("get", fetch)):
        turns: list[Callable[[], object]] = [_bound(act, store) for _, store in stores]
        rows += _rows(scale, case, stores, turns, amount=len(data) / MIB)
    return rows


def _queries(scale: Scale, kind: str, folder: Path) -> list[Row]:
    # Whether a write waits for the disk makes no difference to a query.
    stores = [(name, store) for name, store in _opened(kind, folder) if "durable" not in name]
    times = 10 if kind == "memory" else 1
    with ThreadPoolExecutor(_FILLERS) as executor:  # one alone would mostly wait for the disk
        for _, store in stores:
            fill = functools.partial(_fill, store)
            list(executor.map(fill, range(scale.queried)))

    def search(store: Any) -> None:
        for _ in range(times):
            found = {key: metadata["number"] for key, metadata in store.query(shelf=7)}
            assert len(found) == len(range(7, scale.queried, RARE)), len(found)

    turns: list[Callable[[], object]] = [_bound(search, store) for _, store in stores]
    return _rows(scale, "query", stores, turns, amount=times * scale.queried)


class _Batch:
    """Puts a batch of new keys each time, and gets the one put last."""

    def __init__(self, store: Any, count: int) -> None:
        self._store = store
        self._count = count
        self._turn = 0

    def set(self) -> None:
        self._turn += 1
        data = bytes(1024)
        for number in range(self._count):
            _set(self._store, f"run-{self._turn}-{number}", data, _metadata(number))

    def get(self) -> None:
        for number in range(self._count):
            size, metadata = _read(self._store, f"run-{self._turn}-{number}")
            assert size == 1024
            assert metadata["number"] == number


def _rows(
    scale: Scale,
    case: str,
    stores: _Stores,
    turns: list[Callable[[], object]],
    *,
    amount: float,
) -> list[Row]:
    contenders = [Contender(name, turn) for (name, _), turn in zip(stores, turns, strict=True)]
    return compare(
        case, contenders, amount=amount, peer=PEER, rounds=scale.rounds, seconds=scale.seconds
    )


def _opened(kind: str, folder: Path) -> _Stores:
    """Return new and connected stores with their names, the peer's first."""
    stores: _Stores = []
    if kind == "memory":
        if DictMemoryStore is not None:
            stores.append((PEER, DictMemoryStore()))
        stores.append(("kvstore", MemoryStore()))
    else:
        folder.mkdir(parents=True)
        if DictMemoryStore is not None:
            (folder / "encore").mkdir()
            init_shared_store(str(folder / "encore"))
            stores.append((PEER, EncoreFolder(str(folder / "encore"))))
        stores.append(("kvstore", FileSystemStore(folder / "kvstore")))
        stores.append(("kvstore, durable", FileSystemStore(folder / "durable", durable=True)))
    for _, store in stores:
        store.connect()
    return stores


def _set(store: Any, key: str, data: bytes, metadata: dict[str, Any]) -> None:
    store.set(key, (io.BytesIO(data), metadata))


def _fill(store: Any, number: int) -> None:
    _set(store, f"run-{number}", b"", _metadata(number))


def _read(store: Any, key: str) -> tuple[int, dict[str, Any]]:
    value = store.get(key)
    size = 0
    with value as stream:
        while piece := stream.read(MIB):
            size += len(piece)
    return size, value.metadata


def _metadata(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "shelf": number % RARE,
        "exposure": number / 8,
        "filter": "B",
        "object": "M31",
        "observer": "ann",
        "checked": True,
        "tags": ["raw", "night"],
    }


def _bound(act: Callable[[Any], object], store: Any) -> Callable[[], object]:
    return lambda: act(store)
