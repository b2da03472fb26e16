"""The contract: ReadOnlyStore → Store → AuthorizingStore; this is the middle.

What holds for all is in ``readonly``, permissions are in ``authorizing``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from kvstore.documents import JsonObject, check_metadata, copy_json
from kvstore.errors import InvalidRequestError, StoreError
from kvstore.events import (
    Progress,
    StoreDeleteEvent,
    StoreSetEvent,
    StoreUpdateEvent,
)
from kvstore.history import check_version
from kvstore.hub import EventHub
from kvstore.readonly import ReadOnlyStore as ReadOnlyStore
from kvstore.streams import Data, Source
from kvstore.transactions import Transactional, Transactions
from kvstore.values import (
    BUFFER_SIZE,
    ProgressCallback,
    Record,
    Value,
    check_mimetype,
)
from kvstore.writes import ALWAYS, Change, Condition, Written, schema_check

IfMatch: TypeAlias = str | Value | Record | None
IfNoneMatch: TypeAlias = Literal["*"] | None


class Store(Transactional, ReadOnlyStore):
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

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what belongs to one process: the hub, and transactions under way."""
        left_out = ("events", "_transactions", "_fits_schema", "_watches")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.events = EventHub()
        self._fits_schema = schema_check(self.metadata_schema)
        self._transactions = Transactions()
        self._watches = set()

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
        with self._own_change(key, is_delete=True):
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
        return self._set_back(key, version, Condition.of(if_match, None)).revision

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
    # InvalidRequestError, which undoes the whole where info()["transactions"] is True. A store
    # without transactions may work on several keys at a time: the first error is raised, and
    # writes that were begun before are done. Progress is then told from other threads.

    def multiset(
        self,
        keys: Iterable[str],
        values: Iterable[Value | tuple[Data, JsonObject] | Data],
        buffer_size: int = BUFFER_SIZE,
    ) -> None:
        """``set`` each key to its value."""

        def change(value: Any) -> Change:
            data, own = _parted(value)
            return self._data_change(data, buffer_size, check_metadata(own))

        self._do_each("multiset", keys, values, change)

    def multiset_data(
        self, keys: Iterable[str], datas: Iterable[Data], buffer_size: int = BUFFER_SIZE
    ) -> None:
        """``set_data`` each key to its data."""
        self._do_each(
            "multiset_data", keys, datas, lambda data: self._data_change(data, buffer_size, None)
        )

    def multiset_metadata(self, keys: Iterable[str], metadatas: Iterable[JsonObject]) -> None:
        """``set_metadata`` each key to its metadata."""

        def change(metadata: JsonObject) -> Change:
            checked = check_metadata(metadata)
            return Change(metadata=checked, check_metadata=self._fits_schema)

        self._do_each("multiset_metadata", keys, metadatas, change)

    def multiupdate_metadata(self, keys: Iterable[str], metadatas: Iterable[JsonObject]) -> None:
        """``update_metadata`` each key by its metadata."""

        def change(metadata: JsonObject) -> Change:
            checked = check_metadata(metadata)
            return Change(metadata=checked, merge=True, check_metadata=self._fits_schema)

        self._do_each("multiupdate_metadata", keys, metadatas, change)

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

    def _write_each(
        self, changes: Iterable[tuple[str, Change]]
    ) -> Iterator[tuple[str, Change, Written]]:
        """Shortcut. Do each change in its turn, and yield it with what came of it."""
        for key, change in changes:
            yield key, change, self._write_reported(key, change)

    def _restore(self, key: str, version: str, condition: Condition) -> Written:
        """Shortcut. Set a key back to *version*, as one step; KeyNotFoundError: it is not kept.

        The metadata of the version have to pass the check of the store.
        """
        with closing(self._get_version(key, version)) as value:
            change = Change(
                data=Source(value),
                metadata=copy_json(value.record.metadata),
                mimetype=value.mimetype,
                condition=condition,
                check_metadata=self._fits_schema,
            )
            written = self._write(key, change)
        told = change.metadata if written.metadata is None else written.metadata
        return replace(written, metadata=told)

    def _set_back(self, key: str, version: str, condition: Condition) -> Written:
        with self._own_change(key) as own:
            written = self._restore(key, version, condition)
            own.revision = written.revision
        self._announce(key, Change(), written)
        return written

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
        change = self._data_change(data, buffer_size, metadata, mimetype, condition)
        return self._do(key, change, progress).revision

    def _data_change(
        self,
        data: Data,
        buffer_size: int,
        metadata: JsonObject | None,
        mimetype: str | None = None,
        condition: Condition = ALWAYS,
    ) -> Change:
        source = Source(data, buffer_size=buffer_size)
        return Change(
            data=source,
            metadata=metadata,
            mimetype=check_mimetype(source.mimetype if mimetype is None else mimetype),
            condition=condition,
            check_metadata=self._fits_schema,
        )

    def _change(self, key: str, **parts: Any) -> str | None:
        change = Change(check_metadata=self._fits_schema, **parts)
        return self._do(self._check(key), change).revision

    def _do_each(
        self,
        name: str,
        keys: Iterable[str],
        values: Iterable[Any],
        change_of: Callable[[Any], Change],
    ) -> None:
        with self.transaction(name):
            changes = ((self._check(key), change_of(value)) for key, value in _pairs(keys, values))
            for key, change, written in self._write_each(changes):
                self._announce(key, change, written)

    def _do(self, key: str, change: Change, progress: ProgressCallback | None = None) -> Written:
        written = self._write_reported(key, change, progress)
        self._announce(key, change, written)
        return written

    def _write_reported(
        self, key: str, change: Change, progress: ProgressCallback | None = None
    ) -> Written:
        source = change.data
        if source is None:
            return self._write_own(key, change)
        total = -1 if source.size is None else source.size
        with Progress(self.events, self, key, f"set {key}", total, progress) as bar:
            source.report = bar.step if bar.active else None
            return self._write_own(key, change)

    def _write_own(self, key: str, change: Change) -> Written:
        if not self._watches:
            return self._write(key, change)
        with self._own_change(key) as own:
            written = self._write(key, change)
            own.revision = written.revision
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
