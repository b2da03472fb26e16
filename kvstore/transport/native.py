"""The protocol of kvstore itself, with as much of its extensions as the server announces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.errors import InvalidPermissionsError, KeyNotFoundError, TransportError
from kvstore.profiles import wire
from kvstore.query import Query
from kvstore.transport.conversation import Conversation
from kvstore.transport.dialect import Dialect
from kvstore.transport.listing import count_records, find_plainly, find_records
from kvstore.transport.reading import open_data, read_value
from kvstore.transport.writing import delete_key, send_change
from kvstore.values import Opener, Permissions, Record, check_permissions
from kvstore.writes import Change, Condition, Written


class NativeDialect(Dialect):
    """See the module."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk

    @property
    def user_tag(self) -> str:
        return self._talk.service.user_tag

    def info(self) -> dict[str, Any]:
        service = self._talk.service
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
            "capabilities": sorted(can),
        }

    def read_value(self, key: str) -> tuple[Record, Opener]:
        return read_value(self._talk, key)

    def record(self, key: str) -> Record:
        talk = self._talk
        if talk.has("records"):
            # A listing has all the facts without the data, which may be large.
            for record in find_records(talk, Query(prefix=key, limit=1)):
                if record.key == key:
                    return record
        answer = talk.ask("HEAD", key, "data")
        return wire.record_of_headers(key, answer.headers, talk.document(key, "metadata"))

    def metadata(self, key: str) -> JsonObject:
        return self._talk.document(key, "metadata")

    def open_data(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return open_data(self._talk, key, start, end)

    def exists(self, key: str) -> bool:
        try:
            self._talk.ask("HEAD", key, "data")
        except KeyNotFoundError:
            return False
        return True

    def find(self, query: Query, *, keys_only: bool) -> Iterator[Record]:
        if self._talk.has("records"):
            return find_records(self._talk, query)
        return find_plainly(self._talk, query, keys_only=keys_only)

    def count(self, query: Query) -> int:
        if self._talk.has("records"):
            return count_records(self._talk, query)
        return super().count(query)

    def send_change(self, key: str, change: Change) -> Written:
        return send_change(self._talk, key, change)

    def delete_key(self, key: str, condition: Condition) -> None:
        delete_key(self._talk, key, condition)

    def permissions(self, key: str) -> Permissions:
        document = self._talk.document(key, "permissions")
        try:
            return check_permissions(document, complete=False)
        except InvalidPermissionsError as error:
            message = f"The server sent no permissions: {error.message}"
            raise TransportError(message, key=key) from error
