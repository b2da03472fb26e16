"""Stores that break one promise each, as real ones have, and the contract tests that tell."""

from __future__ import annotations

import io
import itertools
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, ClassVar

from kvstore import BytesOpener, Change, MemoryStore, Record, Value, Written, missing
from kvstore.documents import JsonObject
from kvstore.errors import UnsupportedOperationError
from kvstore.hashing import sha256
from kvstore.query import Query
from kvstore.streams import Source
from kvstore.values import Permissions
from kvstore.writes import ALWAYS, Condition


class RangeEndInclusive(MemoryStore):
    """As HTTP writes ranges."""

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return super()._open(key, start, end if end is None else end + 1)


class SuffixRange(MemoryStore):
    """Takes a range without a start for the last bytes."""

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        size = self._record(key).size
        return super()._open(key, size - end if start is None and end else start, end)


class NoRangeError(MemoryStore):
    """Gives nothing for a range behind the data."""

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        size = self._record(key).size
        return io.BytesIO() if start and start > size else super()._open(key, start, end)


class ListingCut(MemoryStore):
    """Lists one page."""

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return itertools.islice(super()._records(prefix, after), 1000)


class ListingCached(MemoryStore):
    """Lists what it listed before."""

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        cached = self.__dict__.setdefault("_cached", []) or list(super()._records("", None))
        self._cached = cached
        return (r for r in cached if r.key.startswith(prefix) and (not after or r.key > after))


class Unsorted(MemoryStore):
    """Orders keys as UTF-16 does."""

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        records = super()._records(prefix, after)
        return iter(sorted(records, key=lambda record: record.key.encode("utf-16-be")))


class UpdateReplaces(MemoryStore):
    """Has ``update_metadata`` do what ``set_metadata`` does."""

    def _write(self, key: str, change: Change) -> Written:
        change.check(key, self._known(key))
        return super()._write(key, replace(change, merge=change.merge and bool(change.permissions)))


class UpdateInTwoSteps(MemoryStore):
    """Reads the metadata, and writes them when others may have."""

    def _write(self, key: str, change: Change) -> Written:
        old = self._known(key)
        if change.merge and old is not None and change.metadata is not None:
            merged = {**old.metadata, **change.metadata}
            time.sleep(0.0005)
            change = replace(change, metadata=merged, merge=False)
        return super()._write(key, change)


class SharedMetadata(MemoryStore):
    """Gives out its own dicts."""

    def get_metadata(self, key: str, select: Any = None) -> JsonObject:
        return super().get_metadata(key, select) if select else self._record(key).metadata


class WrongSize(MemoryStore):
    """Tells the size of the buffers."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        size = -(-value.size // 65536) * 65536 if value.size > 65536 else value.size
        return Value(replace(value.record, size=size), value._open)


class DataCut(MemoryStore):
    """Loses the bytes after the last whole buffer."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        data = value.read()
        return Value(value.record, BytesOpener(data[:65536] if len(data) == 65537 else data))


class TextMode(MemoryStore):
    """Translates line ends."""

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        data = super()._open(key, None, None).read().replace(b"\r\n", b"\n")
        return BytesOpener(data)(start, end)


class CreateRace(MemoryStore):
    """Checks, and then writes."""

    def _write(self, key: str, change: Change) -> Written:
        change.check(key, self._known(key))
        time.sleep(0.0005)
        return super()._write(key, replace(change, condition=ALWAYS))


class ConditionIgnored(MemoryStore):
    """Has never heard of conditions."""

    def _write(self, key: str, change: Change) -> Written:
        return super()._write(key, replace(change, condition=ALWAYS))

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        return super()._delete(key, ALWAYS)


class ConditionIgnoredHonestly(ConditionIgnored):
    """Says that it has no conditions, but takes them."""

    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "conditional": False}


class ConditionOnDeleteIgnored(MemoryStore):
    """Deletes whatever the revision."""

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        return super()._delete(key, ALWAYS)


class RevisionOfContent(MemoryStore):
    """Has the same revision for the same content."""

    def _changed(self, key: str, change: Change, old: Record | None) -> Record:
        record = super()._changed(key, change, old)
        return replace(record, revision=sha256(repr(record.metadata).encode()))


class DeleteSilent(MemoryStore):
    """Deletes what is not there."""

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        return super()._delete(key, condition) if key in self._entries else {}


class DeleteKeepsPermissions(MemoryStore):
    """Remembers whose a deleted key was."""

    def _delete(self, key: str, condition: Condition) -> JsonObject:
        self._last = self._record(key).permissions
        return super()._delete(key, condition)

    def _changed(self, key: str, change: Change, old: Record | None) -> Record:
        record = super()._changed(key, change, old)
        last = getattr(self, "_last", None)
        return replace(record, permissions=last) if old is None and last else record


class TornSet(MemoryStore):
    """Writes data and metadata one after the other."""

    def _write(self, key: str, change: Change) -> Written:
        if change.data is None or change.metadata is None:
            return super()._write(key, change)
        super()._write(key, replace(change, data=None))
        time.sleep(0.0005)
        return super()._write(key, replace(change, metadata=None, condition=ALWAYS))


class WritesBeforeTheEnd(MemoryStore):
    """Stores the metadata when it has not read the data yet."""

    def _write(self, key: str, change: Change) -> Written:
        if change.data is not None and change.metadata is not None:
            super()._write(key, replace(change, data=None))
            change = replace(change, condition=ALWAYS)
        return super()._write(key, change)


class KeepsHalf(MemoryStore):
    """Keeps what came of data that broke off."""

    def _write(self, key: str, change: Change) -> Written:
        if change.data is None:
            return super()._write(key, change)
        pieces = bytearray()
        try:
            for piece in change.data:
                pieces += piece
        except BaseException:
            super()._write(key, replace(change, data=Source(bytes(pieces))))
            raise
        return super()._write(key, replace(change, data=Source(bytes(pieces))))


class SetDataWipesMetadata(MemoryStore):
    """Has ``set_data`` begin with nothing."""

    def _write(self, key: str, change: Change) -> Written:
        wiped = change.data is not None and change.metadata is None
        return super()._write(key, replace(change, metadata={}) if wiped else change)


class CreatedAnew(MemoryStore):
    """Makes a new key of each set."""

    def _changed(self, key: str, change: Change, old: Record | None) -> Record:
        return replace(super()._changed(key, change, old), created=time.time())


class PermissionsLost(MemoryStore):
    """Takes a key that is set for a new one."""

    def new_permissions(self, change: Change) -> Permissions:
        return change.new_permissions(None, self.user_tag())

    def _changed(self, key: str, change: Change, old: Record | None) -> Record:
        record = super()._changed(key, change, old)
        if change.data is None:
            return record
        return replace(record, permissions=self.new_permissions(change))


class TrueEqualsOne(MemoryStore):
    """Compares as Python does."""

    def _query(self, query: Query) -> Iterator[Record]:
        match = query.match
        records = super()._query(replace(query, match={}))
        return (r for r in records if all(r.metadata.get(n) == v for n, v in match.items()))

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._query(query)


class IndexNotUpdated(MemoryStore):
    """Finds keys by the metadata that they had first."""

    def _query(self, query: Query) -> Iterator[Record]:
        first = self.__dict__.setdefault("_first", {})
        for record in super()._query(replace(query, match={})):
            known = first.setdefault(record.key, record.metadata)
            if all(known.get(name) == value for name, value in query.match.items()):
                yield record


class WrongDigest(MemoryStore):
    """Digests the first data, not the last."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        digest = self.__dict__.setdefault("_digests", {}).setdefault(key, value.digest)
        return Value(replace(value.record, digest=digest), value._open)

    def _write(self, key: str, change: Change) -> Written:
        written = super()._write(key, change)
        self._get(key)
        return written


class MimetypeForgotten(MemoryStore):
    """Has one type for everything."""

    def _write(self, key: str, change: Change) -> Written:
        return super()._write(key, replace(change, mimetype=None))


class OneStream(MemoryStore):
    """Has one stream for all who read a value."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        stream = value.open()
        stream.close = lambda: None  # type: ignore[method-assign]
        return Value(value.record, lambda start, end: stream)


class NewBytesForOldValue(MemoryStore):
    """Opens whatever is there now."""

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        return Value(
            value.record, lambda start, end: BytesOpener(self._entries[key][1])(start, end)
        )


class ForeignError(MemoryStore):
    """Raises what its dict raises."""

    def _get(self, key: str) -> Value:
        if key not in self._entries:
            raise KeyError(key)
        return super()._get(key)


class QuotedKeyInError(MemoryStore):
    """Tells the key as it was sent."""

    def _get(self, key: str) -> Value:
        if key not in self._entries:
            raise missing(key.replace(" ", "%20"))
        return super()._get(key)


class KeysNormalised(MemoryStore):
    """Takes two spellings of a text for one."""

    def _check(self, key: str) -> str:
        return unicodedata.normalize("NFC", super()._check(key))

    def _write(self, key: str, change: Change) -> Written:
        return super()._write(self._check(key), change)

    def _entry(self, key: str) -> tuple[Record, bytes]:
        return super()._entry(self._check(key))


class KeysWithoutCase(MemoryStore):
    """Stands on a file system that does not know case."""

    def _write(self, key: str, change: Change) -> Written:
        known = {name.lower(): name for name in self._entries}
        return super()._write(known.get(key.lower(), key), change)

    def _entry(self, key: str) -> tuple[Record, bytes]:
        known = {name.lower(): name for name in self._entries}
        return super()._entry(known.get(key.lower(), key))


class SlashesJoined(MemoryStore):
    """Cleans up keys as if they were paths."""

    def _write(self, key: str, change: Change) -> Written:
        return super()._write(key.replace("//", "/"), change)

    def _entry(self, key: str) -> tuple[Record, bytes]:
        return super()._entry(key.replace("//", "/"))


class NeverDisconnected(MemoryStore):
    """Works without a connection."""

    def _ready(self) -> None:
        pass


class NoRollback(MemoryStore):
    """Keeps what was to be undone."""

    def _rollback(self) -> None:
        self._commit()


class RollbackOfDataAlone(MemoryStore):
    """Forgets to undo deletes."""

    def _rollback(self) -> None:
        self._undo = {
            key: entry for key, entry in (self._undo or {}).items() if key in self._entries
        }
        super()._rollback()


class NoTransactions(MemoryStore):
    """Does each change at once, and calls that a transaction."""

    def _begin(self) -> None:
        pass

    def _commit(self) -> None:
        pass

    def _rollback(self) -> None:
        pass


class MissingSortsFirst(MemoryStore):
    """Orders keys without the field before all others."""

    def _query(self, query: Query) -> Iterator[Record]:
        records = list(super()._query(query))
        if query.order_by is None:
            return iter(records)
        name = query.order_by.removeprefix("-")
        return iter(sorted(records, key=lambda record: name in record.metadata))

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._query(query)


class PrefixIsAPattern(MemoryStore):
    """Asks for a prefix as SQL's LIKE would."""

    def _query(self, query: Query) -> Iterator[Record]:
        if "%" in query.prefix:
            query = replace(query, prefix=query.prefix.partition("%")[0])
        return super()._query(query)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._query(query)


class BreaksWhenChanged(MemoryStore):
    """Iterates over its dict while it is changed."""

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        for key in self._entries:
            if key.startswith(prefix) and (after is None or key > after):
                yield self._entries[key][0]


class LocksReadersOut(MemoryStore):
    """Holds its lock while data are read from a slow source."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._gate = threading.Lock()

    def _write(self, key: str, change: Change) -> Written:
        with self._gate:
            return super()._write(key, change)

    def _entry(self, key: str) -> tuple[Record, bytes]:
        if not self._gate.acquire(timeout=0.2):
            raise UnsupportedOperationError("locked")
        self._gate.release()
        return super()._entry(key)


#: Class to tests of the contract that must fail for it.
BROKEN: dict[type[MemoryStore], list[str]] = {
    RangeEndInclusive: ["test_every_range_of_small_data", "test_ranges_where_buffers_end"],
    SuffixRange: ["test_every_range_of_small_data"],
    NoRangeError: ["test_range_outside_the_data", "test_every_range_of_small_data"],
    ListingCut: ["test_more_keys_than_a_page"],
    ListingCached: ["test_deleting_while_iterating", "test_queries_see_every_change"],
    Unsorted: ["test_order_is_by_code_point", "test_odd_keys_together"],
    UpdateReplaces: ["test_update_metadata_adds_and_replaces_fields"],
    UpdateInTwoSteps: ["test_updates_of_different_fields_all_stay"],
    SharedMetadata: ["test_what_was_returned_may_be_changed"],
    WrongSize: ["test_binary_sizes", "test_size_is_that_of_the_data"],
    DataCut: ["test_binary_sizes"],
    TextMode: ["test_streams_have_lines", "test_every_range_of_small_data"],
    CreateRace: ["test_create_race_has_one_winner", "test_update_race_has_one_winner"],
    ConditionIgnored: [
        "test_stale_revision",
        "test_create_only",
        "test_lost_update_is_refused",
    ],
    ConditionIgnoredHonestly: ["test_condition_that_cannot_be_kept"],
    ConditionOnDeleteIgnored: ["test_stale_revision"],
    RevisionOfContent: ["test_revisions_never_come_again", "test_revision_of_a_deleted_key"],
    DeleteSilent: ["test_missing_key", "test_delete_race_has_one_winner"],
    DeleteKeepsPermissions: ["test_permissions_survive_writes"],
    TornSet: ["test_readers_never_see_a_mixed_pair"],
    WritesBeforeTheEnd: [
        "test_nothing_is_visible_before_the_last_byte",
        "test_source_that_fails_leaves_all_as_it_was",
    ],
    KeepsHalf: ["test_source_that_fails_leaves_all_as_it_was"],
    SetDataWipesMetadata: [
        "test_set_data_keeps_metadata",
        "test_from_bytes_and_from_file_keep_metadata",
    ],
    CreatedAnew: ["test_created_stays_and_modified_does_not_go_back"],
    PermissionsLost: ["test_permissions_survive_writes"],
    TrueEqualsOne: ["test_keyword_is_equality_of_json_values"],
    IndexNotUpdated: ["test_queries_see_every_change"],
    WrongDigest: ["test_digest_is_sha256"],
    MimetypeForgotten: ["test_mimetype_goes_with_the_data", "test_value_tells_all"],
    OneStream: ["test_data_is_one_stream_and_open_gives_others"],
    NewBytesForOldValue: ["test_value_never_gives_data_of_another_revision"],
    ForeignError: ["test_missing_key"],
    QuotedKeyInError: ["test_missing_key"],
    KeysNormalised: ["test_odd_key_alone", "test_odd_keys_together"],
    KeysWithoutCase: ["test_odd_keys_together", "test_missing_key_exists_not"],
    SlashesJoined: ["test_odd_key_alone"],
    NeverDisconnected: ["test_disconnected_store_refuses"],
    NoRollback: ["test_rollback_restores_everything", "test_multi_operations_are_transactions"],
    RollbackOfDataAlone: ["test_rollback_restores_everything"],
    NoTransactions: ["test_rollback_restores_everything"],
    MissingSortsFirst: ["test_order_by"],
    PrefixIsAPattern: ["test_prefix", "test_odd_prefixes"],
    BreaksWhenChanged: ["test_deleting_while_iterating", "test_order_is_by_code_point"],
    LocksReadersOut: ["test_nothing_is_visible_before_the_last_byte"],
}
