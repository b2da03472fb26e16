"""A store in a folder: readable file names, data that other tools can open, JSON sidecars."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, get_args

from kvstore.documents import JsonObject
from kvstore.errors import ConflictError, InvalidRequestError, NotConnectedError
from kvstore.hub import EventHub
from kvstore.local import LocalStore, absolute
from kvstore.query import Query, run
from kvstore.readers import CheckedReader, LimitedReader, buffered
from kvstore.stores._commit import Staged, commit, current, delete, stage
from kvstore.stores._folder import Folder, Place
from kvstore.stores._format import Names, open_folder
from kvstore.stores._sidecar import Sidecar
from kvstore.stores._survey import Walk, sweep
from kvstore.values import DEFAULT_MIMETYPE, BytesOpener, Record, Value, resolve_range
from kvstore.writes import Change, Condition, Written, missing


class FileSystemStore(LocalStore):
    """Keys as files below a folder, each with its metadata in ``<name>.meta.json`` beside it.

    The key ``runs/m31.fits`` is the file ``runs/m31.fits``; :mod:`kvstore.filenames` says how keys
    are spelled that make no good file name. Any number of threads and processes may use one folder
    at a time. Data and metadata change as one, and a process that is killed leaves the old state
    or the new; after a power cut, too, no key is torn, but the last writes may be undone unless
    the store is ``durable`` (on file systems that keep renames in order: ext4, XFS, Btrfs, ZFS,
    APFS, NTFS).

    A data file may be changed by other tools: size and time are then those of the file, the
    digest is None and the revision a new one. One that is removed by them is a StorageError, as is
    a sidecar that they break; files without sidecar are no keys. Symbolic links below the folder
    are not followed. All of the folder is on one file system.

    A pickle is the configuration; it connects again if the store was connected.

    Args:
        root: the folder, made when the store connects if it is missing.
        durable: whether a write returns only when it would survive a power cut.
        names: ``portable`` escapes all but lower-case ASCII, so that the folder can be moved to
            systems that fold case or Unicode forms; ``exact`` does not; ``auto`` is what the
            folder was made with, or for a new one ``exact`` where that is safe.
        user_tag: who owns new keys.
        events, metadata_schema: as for every store.

    Raises:
        InvalidRequestError: *root* is no path, or *names* none of the three.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **LocalStore.capabilities,
        "durability": "process-crash",
    }

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durable: bool = False,
        names: Names = "auto",
        user_tag: str = "local",
        events: EventHub | None = None,
        metadata_schema: JsonObject | None = None,
    ) -> None:
        super().__init__(user_tag=user_tag, events=events, metadata_schema=metadata_schema)
        self._root = absolute(root)
        self._durable = durable
        if names not in get_args(Names):
            message = f"Names are 'auto', 'exact' or 'portable', not {names!r:.100}."
            raise InvalidRequestError(message)
        self._names: Names = names
        self._opened: Folder | None = None

    def info(self) -> dict[str, Any]:
        """Return what every store tells; ``durability`` is as asked for."""
        durability = "power-loss" if self._durable else "process-crash"
        return {**super().info(), "durability": durability}

    def __repr__(self) -> str:
        return f"<FileSystemStore {self._root!r}>"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "root": self._root,
            "durable": self._durable,
            "names": self._names,
            "user_tag": self._user_tag,
            "metadata_schema": self.metadata_schema,
            "connected": self.is_connected(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        options = {name: value for name, value in state.items() if name != "connected"}
        FileSystemStore.__init__(self, **options)
        if state["connected"]:
            self.connect()

    def _connect(self, credentials: Any) -> None:
        super()._connect(credentials)
        self._opened = open_folder(self._root, self._names, durable=self._durable)
        sweep(self._opened)

    def _disconnect(self) -> None:
        self._opened = None

    def _get(self, key: str) -> Value:
        folder = self._folder()
        place = folder.place(key)
        found = folder.read(place)
        if found is None:
            raise missing(key)
        record, data = found
        if data is None:
            return Value(record, _Opener(folder, place, record))
        return Value(record, BytesOpener(data, key))

    def _record(self, key: str) -> Record:
        folder = self._folder()
        record = folder.record(folder.place(key))
        if record is None:
            raise missing(key)
        return record

    def _metadata(self, key: str) -> JsonObject:
        folder = self._folder()
        sidecar = folder.load(folder.place(key))
        if sidecar is None:
            raise missing(key)
        return sidecar.record.metadata

    def _exists(self, key: str) -> bool:
        folder = self._folder()
        return folder.has(folder.place(key))

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        folder = self._folder()
        for place in Walk(folder, prefix, after):
            record = folder.record(place)
            if record is not None:  # removed meanwhile
                yield record

    def _query_keys(self, query: Query) -> Iterator[Record]:
        if query.match or query.where is not None or query.order_by is not None:
            return self._query(query)
        places = Walk(self._folder(), query.key_prefix(), query.after)
        return run(query, (Record(place.key, {}, 0) for place in places))

    def _count(self, query: Query) -> int:
        return sum(1 for _ in self._query_keys(query))

    def _write(self, key: str, change: Change) -> Written:
        folder = self._folder()
        place = folder.place(key)
        token = folder.token(key)
        staged: Staged | None = None
        try:
            if change.data is not None:
                if change.condition or change.needs_key:
                    # Refuse before the data is read, and check again when nobody can come between.
                    change.check(key, folder.record(place))
                staged = stage(folder, token, place, change.data)
            with folder.locked(token):
                old = current(folder, place)
                change.check(key, _record_of(old))
                if staged is None and old is None:
                    staged = stage(folder, token, place, ())
                sidecar = self._changed(place, change, token, staged, old)
                commit(folder, token, place, sidecar, staged)
        finally:
            if staged is not None:
                staged.discard()
        return Written(sidecar.record.revision, old is not None, sidecar.record.metadata)

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        folder = self._folder()
        place = folder.place(key)
        token = folder.token(key)
        with folder.locked(token):
            old = current(folder, place)
            if old is None:
                raise missing(key)
            condition.check(key, old.record.revision, exists=True)
            delete(folder, token, place)
        return old.record.metadata

    def _changed(
        self, place: Place, change: Change, token: str, staged: Staged | None, old: Sidecar | None
    ) -> Sidecar:
        now = time.time()
        before = old.record if old is not None else Record(place.key, {}, 0, created=now)
        record = Record(
            key=place.key,
            metadata=change.new_metadata(_record_of(old)),
            size=before.size if staged is None else staged.size,
            created=before.created,
            modified=now,
            mimetype=before.mimetype if staged is None else change.mimetype or DEFAULT_MIMETYPE,
            revision=token,
            digest=before.digest if staged is None else staged.digest,
            permissions=change.new_permissions(_record_of(old), self._user_tag),
        )
        if staged is not None:
            return Sidecar(record, token, staged.mtime_ns)
        assert old is not None  # noqa: S101 - a new key has data, if of no bytes
        return Sidecar(record, old.stage, old.mtime_ns)

    def _folder(self) -> Folder:
        folder = self._opened
        if folder is None:  # disconnected by another thread since the check
            raise NotConnectedError("FileSystemStore is not connected.", store=repr(self))
        return folder


class _Opener:
    """Opens data that was not read with its record, as long as it is the same revision."""

    __slots__ = ("_folder", "_place", "_record")

    def __init__(self, folder: Folder, place: Place, record: Record) -> None:
        self._folder = folder
        self._place = place
        self._record = record

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        record, key = self._record, self._place.key
        first, last = resolve_range(start, end, record.size, key=key)
        opened = self._folder.open(self._place)
        if opened is None:
            raise ConflictError(f"The key {key!a} has been removed since it was read.", key=key)
        stream = io.FileIO(opened[1])
        if opened[0].revision != record.revision:
            stream.close()
            raise ConflictError(f"The key {key!a} has been changed since it was read.", key=key)
        if start is None and end is None:
            return buffered(CheckedReader(stream, size=record.size, digest=record.digest, key=key))
        return buffered(LimitedReader(stream, first, last))


def _record_of(sidecar: Sidecar | None) -> Record | None:
    return None if sidecar is None else sidecar.record
