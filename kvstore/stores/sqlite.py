"""The embedded engine: one SQLite index and blob files beside it, in a folder."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from kvstore.documents import JsonObject
from kvstore.errors import DamagedError, InvalidRequestError, StorageFullError
from kvstore.history import JournalEntry, check_kept, check_since
from kvstore.hub import EventHub
from kvstore.local import LocalStore, absolute
from kvstore.query import Query
from kvstore.stores._sqlite import rows
from kvstore.stores._sqlite.blobs import Received
from kvstore.stores._sqlite.connections import PATIENCE
from kvstore.stores._sqlite.engine import Engine
from kvstore.stores._sqlite.reading import SmallOpener, open_blob, open_small
from kvstore.stores._sqlite.search import Search
from kvstore.stores._sqlite.state import Keeping
from kvstore.stores._sqlite.verify import Verification, Verifier, repair
from kvstore.stores._sqlite.writer import Step, Writer
from kvstore.streams import Source
from kvstore.values import ProgressCallback, Record, Value
from kvstore.writes import Change, Condition, Written, missing, missing_version

_TRIES = 100
#: Seconds that SQLite can wait.
_MOST_PATIENCE = 1e6
#: Entries of the journal that are read at a time.
_PAGE = 1000


class SQLiteStore(LocalStore):
    """A library of keys in the folder *root*: atomic, indexed, journaled.

    The index is ``kvstore.db``, an SQLite database in WAL mode; data of more than 64 KiB are files
    beside it. Any number of threads and processes may use one folder at a time, on a local disk.
    There is one writer at a time; readers never wait for it, nor it for them. Who finds it taken
    waits for up to *patience* seconds, then gets ``UnavailableError``.

    **What a write promises.** Data, metadata, permissions, index and journal change as one. When
    it returns, every process sees it, and it survives the death of any of them (``kill -9``). After
    a power cut or a crash of the system the store opens as it is, without repair, and no key is
    torn; but the last writes may be undone, newest first, as SQLite says of WAL with
    ``synchronous=NORMAL``. With ``durable`` they are not: the commit waits for the disk
    (``synchronous=FULL``), and writers that wait at the same time share one wait. Data of more than
    64 KiB are flushed (``fsync``) before they are committed either way. This holds for disks that
    do flush what they are told to, and for no network file system.

    **Transactions** are real: a rollback undoes all, data too. A transaction keeps other writers
    out until it ends; others read what was before it. A process forked within one cannot use the
    store.

    **Queries** are answered from an index. A field is indexed when it is first asked for; with a
    million keys that takes some seconds, in which others can read and write.

    **Streams and values** go on with the revision that was read, while it is replaced or removed.

    Args:
        root: the folder, made when the store connects if it is missing.
        durable: whether a write returns only when it would survive a power cut.
        keep_versions: how many earlier versions of each key to keep, data included. This and the
            next two are written down in the store and hold for all who use it; None leaves what is
            written there, which in a new store is 0, 100,000 and infinity.
        keep_changes: how many changes the journal remembers.
        keep_changes_for: seconds that it remembers them at most, or ``math.inf``. What is older is
            forgotten with later writes, some hundred at a time.
        patience: seconds to wait for others.
        user_tag: who owns new keys.
        events, metadata_schema: as for every store.

    Raises:
        InvalidRequestError: an argument that makes no sense.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **LocalStore.capabilities,
        "transactions": True,
        "changes": True,
        "durability": "process-crash",
    }

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durable: bool = False,
        keep_versions: int | None = None,
        keep_changes: int | None = None,
        keep_changes_for: float | None = None,
        patience: float = PATIENCE,
        user_tag: str = "local",
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        super().__init__(user_tag=user_tag, events=events, metadata_schema=metadata_schema)
        self._root = absolute(root)
        self._durable = durable
        self._keeping = Keeping(
            None if keep_versions is None else check_kept("keep_versions", keep_versions),
            None if keep_changes is None else check_kept("keep_changes", keep_changes),
            _seconds("keep_changes_for", keep_changes_for),
        )
        if patience is None:
            raise InvalidRequestError("patience is a number of seconds, not None.")
        self._patience = _seconds("patience", patience, _MOST_PATIENCE) or 0.0
        self._opened: Engine | None = None
        # That of a transaction in progress, which goes on if somebody disconnects.
        self._bound: Engine | None = None
        self._connecting = threading.Lock()

    def info(self) -> dict[str, Any]:
        """Return what every store tells; ``versions`` as it is now, if the store is connected."""
        durability = "power-loss" if self._durable else "process-crash"
        versions = self._keeping.versions or 0
        if self._opened is not None:
            (versions,) = self._opened.one("SELECT keep_versions FROM state")
        return {**super().info(), "durability": durability, "versions": versions}

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._root!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "root": self._root,
            "durable": self._durable,
            "keep_versions": self._keeping.versions,
            "keep_changes": self._keeping.changes,
            "keep_changes_for": self._keeping.seconds,
            "patience": self._patience,
            "user_tag": self._user_tag,
            "metadata_schema": self.metadata_schema,
            "connected": self.is_connected(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        options = {name: value for name, value in state.items() if name != "connected"}
        SQLiteStore.__init__(self, **options)
        if state["connected"]:
            self.connect()

    # -- life cycle ------------------------------------------------------------------------

    def _connect(self, credentials: Any) -> None:
        super()._connect(credentials)
        with self._connecting:
            if self._opened is None:
                self._opened = Engine(
                    self._root, self._keeping, durable=self._durable, patience=self._patience
                )

    def _disconnect(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _engine(self) -> Engine:
        bound = self._bound
        engine = self._opened if bound is None or bound.writer.mine() is None else bound
        if engine is None:  # disconnected by another thread since the check
            self._connected = False
            self._ready()
            raise AssertionError("unreachable")
        return engine

    # -- reading ---------------------------------------------------------------------------

    def _get(self, key: str) -> Value:
        value = self._content(rows.CONTENT, key)
        if value is None:
            raise missing(key)
        return value

    def _content(self, sql: str, *arguments: str) -> Value | None:
        engine = self._engine()
        for _ in range(_TRIES):
            row = engine.one(sql, *arguments)
            if row is None:
                return None
            record, file, data = rows.content_of(row)
            if file is None:
                return Value(record, SmallOpener(record, data or b""))
            opener = open_blob(record, engine.blobs, file)
            if opener is not None:  # else it was replaced, and removed, meanwhile
                return Value(record, opener)
        raise _lost(arguments[0])

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        row = self._engine().one(rows.DATA, key)
        if row is None:
            raise missing(key)
        file, data, size, digest = row
        if file is not None:
            return super()._open(key, start, end)
        return open_small(key, data or b"", size, digest, start, end)

    def _record(self, key: str) -> Record:
        row = self._engine().one(rows.RECORD, key)
        if row is None:
            raise missing(key)
        return rows.record_of(row)

    def _metadata(self, key: str) -> JsonObject:
        row = self._engine().one(rows.METADATA, key)
        if row is None:
            raise missing(key)
        return rows.parsed(row[0])

    def _exists(self, key: str) -> bool:
        return self._engine().one(rows.EXISTS, key) is not None

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return self._query(Query(prefix=prefix, after=after))

    def _query(self, query: Query) -> Iterator[Record]:
        return Search(self._engine(), query).records()

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return Search(self._engine(), query).keys()

    def _count(self, query: Query) -> int:
        return Search(self._engine(), query).count()

    # -- history ---------------------------------------------------------------------------

    def _sequence(self) -> int:
        newest: int = self._engine().one(rows.NEWEST)[0]
        return newest

    def _stamp(self) -> object:
        engine = self._opened
        return None if engine is None else engine.connections.stamp()

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        self._check_since(since, self._engine().one(rows.EXTENT))
        return self._pages(since, limit)

    def _pages(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        while limit is None or limit > 0:
            count = _PAGE if limit is None else min(limit, _PAGE)
            with self._engine().snapshot() as connection:  # nothing is forgotten between the two
                self._check_since(since, connection.execute(rows.EXTENT).fetchone())
                entries = rows.journal(connection, since, count)
            yield from entries
            if not entries:
                return
            since = entries[-1].seq
            limit = None if limit is None else limit - len(entries)

    def _check_since(self, since: int, extent: tuple[int, int]) -> None:
        newest, oldest = extent
        check_since(since, oldest=oldest, newest=newest)

    def _versions(self, key: str) -> list[Record]:
        with self._engine().snapshot() as connection:
            record = rows.current_record(connection, key)
            kept = [version.record for version in rows.versions(connection, key)]
        return kept if record is None else [record, *kept]

    def _get_version(self, key: str, version: str) -> Value:
        value = self._content(rows.CONTENT_OF_VERSION, key, key, version)
        if value is None:
            raise missing_version(key, version)
        return value

    # -- care ------------------------------------------------------------------------------

    def verify(self, progress: ProgressCallback | None = None) -> Verification:
        """Read all data again and compare everything with everything; change nothing.

        Others may go on using the store. *progress* is called with the keys done and all there are.

        Returns:
            How many keys, versions and bytes were looked at, and the problems: data that are
            ``missing`` or ``torn``, an ``orphan`` that belongs to no key, an ``index`` or
            ``journal`` that contradicts itself.

        Raises:
            DamagedError: the index cannot be read at all.
        """
        self._ready()
        return Verifier(self._engine()).verify(progress)

    def repair(self) -> list[str]:
        """Remove orphans, indexes of fields that are wrong, and versions over ``keep_versions``.

        Returns a sentence for each.

        No key is changed. A key whose data are missing or torn stays, for whoever can set it again.
        """
        self._ready()
        return repair(self._engine())

    # -- writing ---------------------------------------------------------------------------

    def _write(self, key: str, change: Change) -> Written:
        engine = self._engine()
        received: Received | None = None
        if change.data is not None:
            is_there = change.data.in_memory is not None
            if not is_there and (change.condition or change.needs_key):
                # Refuse before the data is read, and check again when nobody can come between.
                row = engine.one(rows.RECORD, key)
                change.check(key, None if row is None else rows.record_of(row))
            received = _received(engine, change.data)
        owner = self._user_tag
        try:
            return engine.writer.run(
                lambda step: engine.changes.write(step, key, change, received, owner)
            )
        except BaseException:
            if received is not None and received.file is not None:
                engine.writer.discard([received.file])
            raise

    def _restore(self, key: str, version: str, condition: Condition) -> Written:
        engine, owner = self._engine(), self._user_tag
        change = Change(condition=condition, check_metadata=self._fits_schema)
        return engine.writer.run(
            lambda step: engine.changes.restore(step, key, version, change, owner)
        )

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        engine = self._engine()

        def work(step: Step) -> JsonObject:
            return engine.changes.delete(step, key, condition)

        return engine.writer.run(work)

    def _begin(self) -> None:
        engine = self._engine()
        engine.writer.begin()
        self._bound = engine

    def _commit(self) -> None:
        self._leave().commit()

    def _rollback(self) -> None:
        self._leave().rollback()

    def _leave(self) -> Writer:
        bound = self._bound
        return (self._engine() if bound is None else bound).writer


def _received(engine: Engine, source: Source) -> Received:
    try:
        return engine.blobs.receive(source)
    except StorageFullError:
        if not source.replayable or not engine.writer.make_room():
            raise
    return engine.blobs.receive(source)


def _lost(key: str) -> DamagedError:
    return DamagedError(f"The file with the data of the key {key!a:.300} is missing.", key=key)


def _seconds(name: str, number: object, most: float = math.inf) -> float | None:
    if number is None:
        return None
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number <= most:
        return float(number)
    upto = "" if most == math.inf else f" up to {most:,.0f}"
    raise InvalidRequestError(f"{name} is a number of seconds{upto}, not {number!r:.100}.")
