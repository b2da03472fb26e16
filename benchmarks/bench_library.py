"""A library in a folder, SQLiteStore, against diskcache, encore's SqliteStore and a plain copy.

What each of them does is not the same, and no peer does more than we do. diskcache keeps data
without metadata (SQLite in WAL mode, ``synchronous=NORMAL``; from 32 KiB on files, which it does
not flush); it is told to evict nothing. encore's keeps both in one table with Python's defaults: a
rollback journal, and a wait for the disk with each commit, as only our ``durable`` has it; it
indexes every field at once, we those that are asked for. Ours has permissions, a journal and a
SHA-256 of the data, checked when they are read; data of over 64 KiB are files, which are flushed
before they count. What is read has just been written: nobody waits for the disk to read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from benchmarks.bench_index import HITS, document_of, key_of
from benchmarks.measure import MIB, Contender, Row, Table, compare, rate_table
from kvstore import SQLiteStore

try:
    import diskcache
except ImportError:
    diskcache = None
try:
    from encore.storage.sqlite_store import SqliteStore
except ImportError:
    SqliteStore = None

DISKCACHE: Final = "diskcache"
ENCORE: Final = "encore"
OURS: Final = "kvstore"
DURABLE: Final = "kvstore, durable"
#: diskcache when it waits for the disk with each commit.
WAITING: Final = "diskcache, synchronous=FULL"
COPY: Final = "copy"
FLUSHED: Final = "copy, fsync"
METADATA: Final = {"exposure": 1.5, "filter": "B", "object": "M31"}
#: Seconds that a thread waits for the others to begin.
PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much to do."""

    #: Bytes of a value, and how many of them are a turn.
    sizes: tuple[tuple[int, int], ...] = ((1024, 400), (MIB, 16))
    rounds: int = 15
    #: Durable writes to a turn, a multiple of each number of threads.
    commits: int = 256
    threads: tuple[int, ...] = (1, 4, 16)
    #: Bytes of the large value, a whole number of MiB.
    large: int = 256 * MIB
    large_rounds: int = 7
    #: Keys of the store that is queried, and queries to a turn.
    queried: int = 10_000
    queries: int = 200
    #: Seconds after which a case begins no other round, and the same for large values.
    seconds: float = 6.0
    large_seconds: float = 15.0


QUICK = Scale(
    sizes=((1024, 30), (MIB, 2)),
    rounds=3,
    commits=32,
    large=32 * MIB,
    large_rounds=3,
    queried=1_000,
    queries=50,
    seconds=0.3,
    large_seconds=0.5,
)


def tables(scale: Scale) -> Iterator[Table]:
    """Measure, table by table."""
    for size, count in scale.sizes:
        for peer in (DISKCACHE, ENCORE):
            shown = f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"
            title = f"{shown} and {len(METADATA)} fields, against {peer}"
            rows = _values(scale, peer, bytes(size), count)
            yield rate_table(title, "keys/s", peer, rows)
    yield rate_table("1 KiB durably", "commits/s", _threads(1), _commits(scale))
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        large = _Large(Path(folder), scale)
        for peer, promise in ((COPY, "not flushed"), (FLUSHED, "flushed")):
            title = f"{scale.large // MIB} MiB, against reading, hashing and writing, {promise}"
            yield rate_table(title, "MiB/s", peer, large.rows(peer))
    title = f"{HITS} hits by the field group over {scale.queried:,} keys"
    yield rate_table(title, "queries/s", ENCORE, _queries(scale))


def missing() -> list[str]:
    """Return the names of the peers that are not installed."""
    found = {DISKCACHE: diskcache, ENCORE: SqliteStore}
    return [name for name, it in found.items() if it is None]


# -- stores, all with the same methods -----------------------------------------------------


class Store(Protocol):
    """What is measured; values have METADATA."""

    def set(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def get_data(self, key: str) -> bytes: ...
    def close(self) -> None: ...


class _Ours:
    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.store = SQLiteStore(folder, durable=durable)
        self.store.connect()

    def set(self, key: str, data: bytes) -> None:
        self.store.set(key, (data, METADATA))

    def get(self, key: str) -> bytes:
        value = self.store.get(key)
        assert len(value.metadata) == len(METADATA)
        return value.read()

    def get_data(self, key: str) -> bytes:
        return self.store.get_data(key).read()

    def close(self) -> None:
        self.store.disconnect()


class _DiskCache:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self._cache = diskcache.Cache(str(folder), eviction_policy="none", **settings)

    def set(self, key: str, data: bytes) -> None:
        self._cache.set(key, data)

    def get(self, key: str) -> bytes:
        return self.get_data(key)  # there is nothing else

    def get_data(self, key: str) -> bytes:
        data: bytes = self._cache.get(key)
        return data

    def close(self) -> None:
        self._cache.close()


class _Encore:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.store = SqliteStore(str(folder / "store.db"))
        self.store.connect()

    def set(self, key: str, data: bytes) -> None:
        self.store.set(key, (io.BytesIO(data), METADATA))

    def get(self, key: str) -> bytes:
        value = self.store.get(key)
        assert len(value.metadata) == len(METADATA)
        data: bytes = value.data.read()
        return data

    def get_data(self, key: str) -> bytes:
        data: bytes = self.store.get_data(key).read()
        return data

    def close(self) -> None:
        self.store.disconnect()


_MAKERS: Final[dict[str, Callable[[Path], Store]]] = {
    DISKCACHE: _DiskCache,
    WAITING: functools.partial(_DiskCache, sqlite_synchronous=2),
    ENCORE: _Encore,
    OURS: _Ours,
    DURABLE: functools.partial(_Ours, durable=True),
}


@contextlib.contextmanager
def _opened(*names: str) -> Iterator[dict[str, Any]]:
    """Open new stores, without the peers that are not installed."""
    with (
        tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        stores: dict[str, Store] = {}
        for number, name in enumerate(names):
            if name.partition(",")[0] not in missing():
                stores[name] = _MAKERS[name](Path(folder, str(number)))
                stack.callback(stores[name].close)
        yield stores


# -- values of one size --------------------------------------------------------------------


def _values(scale: Scale, peer: str, data: bytes, count: int) -> list[Row]:
    rows: list[Row] = []
    with _opened(peer, OURS, DURABLE) as stores:
        batches = {name: _Batch(store, data, count) for name, store in stores.items()}
        for case in ("set", "overwrite", "get_data", "get"):
            # Whether a write waits for the disk makes no difference to who reads.
            is_read = case.startswith("get")
            contenders = [
                Contender(name, getattr(batch, case))
                for name, batch in batches.items()
                if name != DURABLE or not is_read
            ]
            rows += _compared(scale, case, contenders, count, peer)
    return rows


def _compared(
    scale: Scale, case: str, contenders: list[Contender], amount: int, peer: str
) -> list[Row]:
    return compare(
        case, contenders, amount=amount, peer=peer, rounds=scale.rounds, seconds=scale.seconds
    )


class _Batch:
    """Sets a batch of new keys each time; overwrites and gets the one set last."""

    def __init__(self, store: Store, data: bytes, count: int) -> None:
        self._store = store
        self._data = data
        self._count = count
        self._turn = 0

    def set(self) -> None:
        self._turn += 1
        self.overwrite()

    def overwrite(self) -> None:
        data = os.urandom(16) + self._data[16:]  # or a store might see that nothing changes
        for key in self._keys():
            self._store.set(key, data)

    def get_data(self) -> None:
        for key in self._keys():
            assert len(self._store.get_data(key)) == len(self._data)

    def get(self) -> None:
        for key in self._keys():
            assert len(self._store.get(key)) == len(self._data)

    def _keys(self) -> Iterator[str]:
        return (f"run-{self._turn}-{number}" for number in range(self._count))


# -- commits by several threads ------------------------------------------------------------


def _commits(scale: Scale) -> list[Row]:
    rows: list[Row] = []
    with _opened(WAITING, DURABLE) as stores, ThreadPoolExecutor(max(scale.threads)) as executor:
        for name, store in stores.items():
            crowds = [
                Contender(_threads(threads), _Crowd(store, scale.commits, threads, executor))
                for threads in scale.threads
            ]
            rows += _compared(scale, name, crowds, scale.commits, _threads(1))
    return rows


class _Crowd:
    """A turn in which each of several threads sets its share of new keys."""

    def __init__(
        self, store: Store, count: int, threads: int, executor: ThreadPoolExecutor
    ) -> None:
        self._store = store
        self._share = count // threads
        self._threads = threads
        self._executor = executor
        self._turn = 0

    def __call__(self) -> None:
        self._turn += 1
        start = threading.Barrier(self._threads)
        shares = [
            self._executor.submit(self._work, start, number) for number in range(self._threads)
        ]
        for done in shares:
            done.result()

    def _work(self, start: threading.Barrier, thread: int) -> None:
        data = bytes(1024)
        start.wait(PATIENCE)  # or a quick thread would do the shares of two
        for number in range(self._share):
            self._store.set(f"{self._threads}-{self._turn}-{thread}-{number}", data)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


# -- a large file --------------------------------------------------------------------------


class _Large:
    """A large file into a store and out of it, and copied by hand."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self._folder = folder
        self._scale = scale
        self._source = folder / "source"
        block = os.urandom(MIB)
        with self._source.open("wb") as stream:
            for number in range(scale.large // MIB):
                stream.write(number.to_bytes(8, "big") + block[8:])

    def rows(self, peer: str) -> list[Row]:
        """Compare with *peer*, one of the two copies."""
        copy = Contender(peer, functools.partial(self._copy, flushed=peer == FLUSHED))
        names = (OURS,) if peer == COPY else (OURS, DURABLE)
        with _opened(*names) as opened:
            stores = {name: ours.store for name, ours in opened.items()}
            ours = [Contender(name, self._from_file(store)) for name, store in stores.items()]
            rows = self._compared("from_file", [copy, *ours])
            if peer == COPY:  # as a file that to_file writes is not flushed either
                there = Contender(OURS, self._to_file(stores[OURS]))
                rows += self._compared("to_file", [copy, there])
        return rows

    def _compared(self, case: str, contenders: list[Contender]) -> list[Row]:
        return compare(
            case,
            contenders,
            amount=self._scale.large // MIB,
            peer=contenders[0].name,
            rounds=self._scale.large_rounds,
            seconds=self._scale.large_seconds,
        )

    def _from_file(self, store: SQLiteStore) -> Callable[[], object]:
        return lambda: store.from_file("large", self._source)

    def _to_file(self, store: SQLiteStore) -> Callable[[], object]:
        return lambda: store.to_file("large", self._new("fetched"))

    def _new(self, name: str) -> Path:
        """Return the path of a file that is not there: ext4 flushes what replaces another."""
        path = self._folder / name
        path.unlink(missing_ok=True)
        return path

    def _copy(self, *, flushed: bool) -> None:
        digest = hashlib.sha256()
        target = self._new("copy")
        with self._source.open("rb") as source, target.open("wb", buffering=0) as stream:
            while piece := source.read(MIB):
                digest.update(piece)
                stream.write(piece)
            if flushed:
                os.fsync(stream.fileno())


# -- queries -------------------------------------------------------------------------------


def _queries(scale: Scale) -> list[Row]:
    with _opened(ENCORE, OURS) as opened:
        stores = {name: each.store for name, each in opened.items()}
        for store in stores.values():
            with store.transaction("fill"):
                for number in range(scale.queried):
                    store.set(key_of(number), (io.BytesIO(), document_of(number)))
        contenders = [Contender(name, _asking(store, scale)) for name, store in stores.items()]
        return _compared(scale, "query", contenders, scale.queries, ENCORE)


def _asking(store: Any, scale: Scale) -> Callable[[], None]:
    random = Random(1)

    def turn() -> None:
        for _ in range(scale.queries):
            group = random.randrange(scale.queried // HITS)
            found = {key: metadata["number"] for key, metadata in store.query(group=group)}
            assert len(found) == HITS, found

    return turn
