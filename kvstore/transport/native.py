"""The protocol of kvstore itself, with as much of its extensions as the server announces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.errors import (
    InvalidPermissionsError,
    KeyNotFoundError,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.history import JournalEntry
from kvstore.noticing import Halt
from kvstore.profiles.having import Claim, Finding
from kvstore.query import Query
from kvstore.transport.batching import Batch, fits_batch
from kvstore.transport.changes import changes_since, follow_changes, newest_change
from kvstore.transport.conversation import Conversation
from kvstore.transport.dialect import Dialect
from kvstore.transport.having import compare
from kvstore.transport.listing import count_records, find_plainly, find_records
from kvstore.transport.reading import open_data, read_if_changed, read_record, read_value
from kvstore.transport.versions import list_versions, read_version, restore_version
from kvstore.transport.writing import delete_key, send_change
from kvstore.values import Opener, Permissions, Record, check_permissions
from kvstore.writes import Change, Condition, Written


class NativeDialect(Dialect):
    """See the module."""

    def __init__(self, talk: Conversation) -> None:
        self._conversation = talk

    @property
    def _talk(self) -> Conversation:
        # Asked once by each operation: now its time begins.
        return self._conversation.begun()

    @property
    def user_tag(self) -> str:
        return self._conversation.service.user_tag

    def info(self) -> dict[str, Any]:
        service = self._conversation.service
        can = service.capabilities
        told = {
            name: service.store[name]
            for name in ("readonly", "durability")
            if name in service.store
        }
        return {
            **told,
            "atomic_set": "value" in can and service.store.get("atomic_set", True),
            "conditional": "conditional" in can,
            "digests": "digest" in can,
            "changes": "changes" in can,
            "versions": service.store.get("versions", 0) if "versions" in can else 0,
            "capabilities": sorted(can),
        }

    def read_value(self, key: str) -> tuple[Record, Opener]:
        return read_value(self._talk, key)

    def read_if_changed(self, key: str, revision: str) -> tuple[Record, Opener] | None:
        talk = self._talk
        if talk.has("value") and talk.has("conditional"):
            return read_if_changed(talk, key, revision)
        return super().read_if_changed(key, revision)

    def record(self, key: str) -> Record:
        return read_record(self._talk, key)

    def metadata(self, key: str) -> JsonObject:
        return self._talk.document(key, "metadata")

    def open_data(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return open_data(self._talk, key, start, end)

    @property
    def has_ranges(self) -> bool:
        return self._talk.has("conditional")

    def open_revision(self, record: Record, start: int, end: int) -> BinaryIO:
        return open_data(self._talk, record.key, start, end, revision=record.revision)

    def exists(self, key: str) -> bool:
        try:
            self._talk.ask("HEAD", key, "data")
        except KeyNotFoundError:
            return False
        return True

    def find(self, query: Query, *, keys_only: bool) -> Iterator[Record]:
        talk = self._talk
        if talk.has("records"):
            return find_records(talk, query)
        return find_plainly(talk, query, keys_only=keys_only)

    def count(self, query: Query) -> int:
        if self._talk.has("records"):
            return count_records(self._talk, query)
        return super().count(query)

    def send_change(self, key: str, change: Change) -> Written:
        return send_change(self._talk, key, change)

    def sends_together(self, change: Change) -> bool:
        return self._conversation.has("batch") and fits_batch(change)

    def begin_batch(self) -> Batch:
        return Batch(self._talk.service.limits)

    def send_batch(self, batch: Batch) -> list[Written]:
        return batch.send(self._talk)

    def versions(self, key: str) -> list[Record]:
        self._require("versions")
        return list_versions(self._talk, key)

    def read_version(self, key: str, version: str) -> tuple[Record, Opener]:
        self._require("versions")
        return read_version(self._talk, key, version)

    def restore(self, key: str, version: str, condition: Condition) -> Written:
        self._require("versions")
        return restore_version(self._talk, key, version, condition)

    def sequence(self) -> int:
        self._require("changes")
        return newest_change(self._talk)

    def changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        self._require("changes")
        return changes_since(self._talk, since, limit)

    def follow(self, since: int, halt: Halt) -> Iterator[JournalEntry]:
        self._require("changes")
        return follow_changes(self._talk, since, halt)

    def compare(self, claims: Iterable[Claim]) -> Iterator[Finding]:
        self._require("have")
        return compare(self._talk, claims)

    def delete_key(self, key: str, condition: Condition) -> None:
        delete_key(self._talk, key, condition)

    def permissions(self, key: str) -> Permissions:
        document = self._talk.document(key, "permissions")
        try:
            return check_permissions(document, complete=False)
        except InvalidPermissionsError as error:
            message = f"The server sent no permissions: {error.message}"
            raise TransportError(message, key=key) from error

    def _require(self, capability: str) -> None:
        if not self._conversation.has(capability):
            raise UnsupportedOperationError(f"This server does not announce {capability!r}.")
