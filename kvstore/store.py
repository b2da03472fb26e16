"""The contract: ReadOnlyStore → Store → AuthorizingStore; this is the middle.

What holds for all is in ``readonly``, permissions are in ``authorizing``.
"""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import closing
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

from kvstore.documents import JsonObject, check_metadata, copy_json
from kvstore.errors import InvalidRequestError, StoreError
from kvstore.events import (
    Progress,
    StoreDeleteEvent,
    StoreModificationEvent,
    StoreSetEvent,
    StoreTransactionEndEvent,
    StoreTransactionStartEvent,
    StoreUpdateEvent,
)
from kvstore.history import check_version
from kvstore.hub import EventHub
from kvstore.readonly import ReadOnlyStore as ReadOnlyStore
from kvstore.streams import Data, Source
from kvstore.values import (
    BUFFER_SIZE,
    ProgressCallback,
    Record,
    Value,
    check_mimetype,
)
from kvstore.writes import Change, Condition, Written, schema_check

IfMatch: TypeAlias = str | Value | Record | None
IfNoneMatch: TypeAlias = Literal["*"] | None


class Store(ReadOnlyStore):
    """A store that can be written.

    Writes take ``if_match=`` (a revision, a Value that has it, or ``"*"``: the key must exist) and
    ``if_none_match="*"`` (the key must not exist). Where that does not hold they raise
    ``ConflictError``, where the store cannot honour it ``UnsupportedOperationError``; nothing is
    changed then. They return the new revision, None where the store has none.

    Args:
        events: the hub that gets this store's events; one of its own by default.
        metadata_schema: a JSON Schema that all metadata must fit.

    Raises:
        InvalidRequestError: *metadata_schema* is no JSON Schema.
    """

    capabilities: ClassVar[dict[str, Any]] = {**ReadOnlyStore.capabilities, "readonly": False}

    def __init__(
        self, *, events: EventHub | None = None, metadata_schema: JsonObject | None = None
    ) -> None:
        super().__init__(events=events)
        self.metadata_schema = metadata_schema
        self._fits_schema = schema_check(metadata_schema)
        self._transactions = _Transactions()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what belongs to one process: the hub, and transactions under way."""
        left_out = ("events", "_transactions", "_fits_schema")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.events = EventHub()
        self._fits_schema = schema_check(self.metadata_schema)
        self._transactions = _Transactions()

    # -- one key ---------------------------------------------------------------------------

    def set(
        self,
        key: str,
        value: Value | tuple[Data, JsonObject] | Data,
        buffer_size: int = BUFFER_SIZE,
        *,
        metadata: JsonObject | None = None,
        mimetype: str | None = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
        progress: ProgressCallback | None = None,
    ) -> str | None:
        """Replace data and metadata together; permissions and time of creation stay.

        A reader sees the old pair or the new, unless ``info()["atomic_set"]`` is False. A source
        that fails leaves all as it was.

        Args:
            value: a Value (of any store), a pair of data and metadata, or data alone.
            buffer_size: bytes to read at a time.
            metadata: instead of what *value* has; ``{}`` if neither has any.
            mimetype: media type of the data; that of the Value if None.

        Raises:
            InvalidMetadataError: the metadata is no JSON object or does not fit the schema.
            ConflictError: the condition does not hold.

        Events: StoreProgressStart, Step, End; StoreSetEvent, or its subclass StoreUpdateEvent
        where the key existed.
        """
        data, own = _parted(value)
        document = check_metadata(own if metadata is None else metadata)
        condition = Condition.of(if_match, if_none_match)
        return self._set_data(key, data, buffer_size, document, mimetype, condition, progress)

    def set_data(
        self,
        key: str,
        data: Data,
        buffer_size: int = BUFFER_SIZE,
        *,
        mimetype: str | None = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
        progress: ProgressCallback | None = None,
    ) -> str | None:
        """Replace the data, keep the metadata; a new key gets ``{}``. Otherwise as :meth:`set`."""
        condition = Condition.of(if_match, if_none_match)
        return self._set_data(key, data, buffer_size, None, mimetype, condition, progress)

    def set_metadata(
        self,
        key: str,
        metadata: JsonObject,
        *,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> str | None:
        """Replace the metadata, keep the data; a new key gets none.

        Raises:
            InvalidMetadataError: no JSON object, or it does not fit the schema.
            ConflictError: the condition does not hold.

        Events: StoreSetEvent, or StoreUpdateEvent where the key existed.
        """
        condition = Condition.of(if_match, if_none_match)
        return self._change(key, metadata=check_metadata(metadata), condition=condition)

    def update_metadata(
        self, key: str, metadata: JsonObject, *, if_match: IfMatch = None
    ) -> str | None:
        """Change the fields given, keep the others, as ``dict.update`` does, atomically.

        Raises:
            KeyNotFoundError: no such key.
            InvalidMetadataError: no JSON object, or the outcome does not fit the schema.
            ConflictError: the condition does not hold.

        Events: StoreUpdateEvent.
        """
        condition = Condition.of(if_match, None)
        document = check_metadata(metadata)
        return self._change(key, metadata=document, merge=True, condition=condition)

    def delete(self, key: str, *, if_match: IfMatch = None) -> None:
        """Remove the key with all it has.

        Raises:
            KeyNotFoundError: no such key.
            ConflictError: the condition does not hold.

        Events: StoreDeleteEvent with the last metadata.
        """
        key = self._check(key)
        metadata = self._delete(key, Condition.of(if_match, None))
        if self.events.has_listeners(StoreDeleteEvent):
            told = copy_json(metadata or {})
            self._notify(StoreDeleteEvent(source=self, key=key, metadata=told))

    def write(
        self, key: str, change: Change, *, progress: ProgressCallback | None = None
    ) -> Written:
        """Do *change* as one step: data, metadata and permissions, each where it is not None.

        What the other methods that write do, and more than each: for servers, and for stores that
        are made of others.

        Returns:
            What came of it: the new revision, and whether the key was there before.

        Raises:
            InvalidMetadataError, InvalidPermissionsError: as the other methods.
            KeyNotFoundError: the change is one to what is there, and there is nothing.
            ConflictError: its condition does not hold.

        Events: as :meth:`set`; those of progress where data are written.
        """
        return self._do(self._check(key), change.checked(self._fits_schema), progress)

    def restore(self, key: str, version: str, *, if_match: IfMatch = None) -> str | None:
        """Set data, metadata and media type back to what they were at the revision *version*.

        That makes a new version; permissions stay. A key that was deleted is made anew.

        Raises:
            KeyNotFoundError: no such version is kept.
            ConflictError: the condition does not hold.
            UnsupportedOperationError: the store keeps no versions.

        Events: StoreSetEvent, or StoreUpdateEvent where the key existed.
        """
        key, version = self._check(key), check_version(version)
        with closing(self._get_version(key, version)) as value:
            change = Change(
                data=Source(value),
                metadata=copy_json(value.record.metadata),
                mimetype=value.mimetype,
                condition=Condition.of(if_match, None),
                check_metadata=self._fits_schema,
            )
            written = self._restore(key, value.record, change)
        self._announce(key, change, written)
        return written.revision

    def from_file(
        self,
        key: str,
        path: str | PathLike[str],
        buffer_size: int = BUFFER_SIZE,
        *,
        mimetype: str | None = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
        progress: ProgressCallback | None = None,
    ) -> str | None:
        """Replace the data by the content of a file; as :meth:`set_data`.

        Raises:
            OSError: the file cannot be read; nothing is changed.
        """
        condition = Condition.of(if_match, if_none_match)
        source = Path(fspath(path))
        return self._set_data(key, source, buffer_size, None, mimetype, condition, progress)

    def from_bytes(
        self,
        key: str,
        data: bytes,
        buffer_size: int = BUFFER_SIZE,
        *,
        mimetype: str | None = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
        progress: ProgressCallback | None = None,
    ) -> str | None:
        """Replace the data by these bytes; as :meth:`set_data`."""
        condition = Condition.of(if_match, if_none_match)
        return self._set_data(key, data, buffer_size, None, mimetype, condition, progress)

    # -- many keys -------------------------------------------------------------------------
    # In one transaction each. Keys and values are taken pairwise; one more of either is an
    # InvalidRequestError, which undoes the whole where info()["transactions"] is True.

    def multiset(
        self,
        keys: Iterable[str],
        values: Iterable[Value | tuple[Data, JsonObject] | Data],
        buffer_size: int = BUFFER_SIZE,
    ) -> None:
        """``set`` each key to its value."""
        with self.transaction("multiset"):
            for key, value in _pairs(keys, values):
                self.set(key, value, buffer_size)

    def multiset_data(
        self, keys: Iterable[str], datas: Iterable[Data], buffer_size: int = BUFFER_SIZE
    ) -> None:
        """``set_data`` each key to its data."""
        with self.transaction("multiset_data"):
            for key, data in _pairs(keys, datas):
                self.set_data(key, data, buffer_size)

    def multiset_metadata(self, keys: Iterable[str], metadatas: Iterable[JsonObject]) -> None:
        """``set_metadata`` each key to its metadata."""
        with self.transaction("multiset_metadata"):
            for key, metadata in _pairs(keys, metadatas):
                self.set_metadata(key, metadata)

    def multiupdate_metadata(self, keys: Iterable[str], metadatas: Iterable[JsonObject]) -> None:
        """``update_metadata`` each key by its metadata."""
        with self.transaction("multiupdate_metadata"):
            for key, metadata in _pairs(keys, metadatas):
                self.update_metadata(key, metadata)

    @contextlib.contextmanager
    def transaction(self, notes: str | None = None) -> Iterator[Self]:
        """Group what this thread does until the end of the ``with`` block.

        Re-entrant: only the outermost block counts. An exception that leaves it undoes everything
        and is raised again. Events of changes wait for the commit, and are dropped by a rollback.
        Where ``info()["transactions"]`` is False nothing is grouped: each change, and its event,
        happens at once and stays.

        Args:
            notes: told to listeners.

        Events: StoreTransactionStartEvent; StoreTransactionEndEvent with state ``done`` or
        ``failed``, before those of the changes.
        """
        self._ready()
        # That of the thread in which it begins: a generator may be closed in another one.
        local = self._transactions.mine
        if local.depth:
            local.depth += 1
            try:
                yield self
            finally:
                local.depth -= 1
            return
        self._begin()
        local.depth = 1
        try:
            self.events.emit(StoreTransactionStartEvent(source=self, notes=notes))
            yield self
            self._commit()
        except BaseException:
            local.reset()
            self._rollback()
            self.events.emit(StoreTransactionEndEvent(source=self, notes=notes, state="failed"))
            raise
        pending = local.reset()
        self.events.emit(StoreTransactionEndEvent(source=self, notes=notes, state="done"))
        for event in pending:
            self.events.emit(event)

    # -- what a store implements -----------------------------------------------------------

    @abstractmethod
    def _write(self, key: str, change: Change) -> Written:
        """Primitive. Do *change* as one atomic step, or nothing of it.

        ``change.check(key, old)`` must hold at the moment of writing, ``change.new_metadata(old)``
        and ``change.new_permissions(old, owner)`` say what is stored. Iterating ``change.data``
        may raise anything; the store is then as before.
        """

    @abstractmethod
    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        """Primitive. Remove the key and return its last metadata (None if it was not told)."""

    def _restore(self, key: str, version: Record, change: Change) -> Written:
        """Shortcut. Do *change*, which sets a key back to *version*."""
        return self._write(key, change)

    def _begin(self) -> None:
        """Shortcut. Begin a transaction of this thread."""

    def _commit(self) -> None:
        """Shortcut. Make what the transaction did last; if it raises, ``_rollback`` follows."""

    def _rollback(self) -> None:
        """Shortcut. Undo what the transaction did."""

    def _set_data(
        self,
        key: str,
        data: Data,
        buffer_size: int,
        metadata: JsonObject | None,
        mimetype: str | None,
        condition: Condition,
        progress: ProgressCallback | None,
    ) -> str | None:
        key = self._check(key)
        source = Source(data, buffer_size=buffer_size)
        change = Change(
            data=source,
            metadata=metadata,
            mimetype=check_mimetype(source.mimetype if mimetype is None else mimetype),
            condition=condition,
            check_metadata=self._fits_schema,
        )
        return self._do(key, change, progress).revision

    def _change(self, key: str, **parts: Any) -> str | None:
        change = Change(check_metadata=self._fits_schema, **parts)
        return self._do(self._check(key), change).revision

    def _do(self, key: str, change: Change, progress: ProgressCallback | None = None) -> Written:
        source = change.data
        if source is None:
            written = self._write(key, change)
        else:
            total = -1 if source.size is None else source.size
            with Progress(self.events, self, key, f"set {key}", total, progress) as bar:
                source.report = bar.step if bar.active else None
                written = self._write(key, change)
        self._announce(key, change, written)
        return written

    def _announce(self, key: str, change: Change, written: Written) -> None:
        event = StoreUpdateEvent if written.existed else StoreSetEvent
        if self.events.has_listeners(event):
            told = copy_json(self._written_metadata(key, change, written))
            self._notify(event(source=self, key=key, metadata=told, revision=written.revision))

    def _written_metadata(self, key: str, change: Change, written: Written) -> JsonObject:
        if written.metadata is not None:
            return written.metadata
        if change.metadata is not None and not change.merge:
            return change.metadata
        # The server did not say, and somebody wants to know. The write has succeeded: that the
        # key cannot be read, or was deleted by others meanwhile, must not look as if it had not.
        try:
            return self._metadata(key)
        except StoreError:
            return change.metadata or {}

    def _notify(self, event: StoreModificationEvent) -> None:
        local = self._transactions.mine
        if local.depth and self.capabilities["transactions"]:
            local.pending.append(event)
        else:
            self.events.emit(event)


class _Transactions(threading.local):
    """What each thread has of transactions of one store."""

    def __init__(self) -> None:
        self.mine = _Transaction()


class _Transaction:
    """How deep a thread is in a transaction, and the events that wait for its end."""

    def __init__(self) -> None:
        self.depth = 0
        self.pending: list[StoreModificationEvent] = []

    def reset(self) -> list[StoreModificationEvent]:
        pending, self.pending, self.depth = self.pending, [], 0
        return pending


def _parted(value: Any) -> tuple[Data, JsonObject]:
    if isinstance(value, Value):
        return value, value.metadata
    if isinstance(value, tuple):
        if len(value) != 2 or not isinstance(value[1], dict):
            raise InvalidRequestError(f"A tuple as value is (data, metadata), not {value!r:.100}.")
        return value
    return value, {}


def _pairs(keys: Iterable[str], values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(keys, str):
        raise InvalidRequestError(f"keys is an iterable of keys, not one: {keys!a:.100}.")
    pairs = zip(keys, values, strict=True)
    while True:
        try:
            pair = next(pairs)
        except StopIteration:
            return
        except ValueError as error:
            raise InvalidRequestError(f"As many keys as values are needed: {error}.") from None
        yield pair
