"""The protocol of any server that a profile describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.profiles.profile import Profile
from kvstore.query import Query
from kvstore.transport.dialect import Dialect
from kvstore.transport.exchange import Exchange
from kvstore.transport.mapped.decoding import DecodingSender
from kvstore.transport.mapped.listing import find
from kvstore.transport.mapped.metadata import (
    exists,
    read_metadata,
    record_with_metadata,
)
from kvstore.transport.mapped.reading import open_data, read_value
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.mapped.verifying import verify
from kvstore.transport.mapped.writing import delete_key, reserve, send_change
from kvstore.transport.policy import Policy
from kvstore.transport.sender import Sender
from kvstore.values import Opener, Record
from kvstore.writes import Change, Condition, Written

#: Operations that all must honour conditions where ``info()`` says that the store does.
_CONDITIONAL = ("set", "delete", "set_metadata", "update_metadata")


class MappedDialect(Dialect):
    """See the module."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.name = talk.profile.name

    @classmethod
    def on(
        cls, sender: Sender, policy: Policy, profile: Profile, base: str, *, verify_digests: bool
    ) -> MappedDialect:
        """Return the conversation with the server at *base*."""
        if any(operation.accepts for operation in profile.operations.values()):
            sender = DecodingSender(sender)
        exchange = Exchange(sender, policy)
        return cls(Talk(exchange, profile, base, verify_digests=verify_digests))

    def info(self) -> dict[str, Any]:
        profile = self._talk.profile
        operations = profile.operations
        carrier = profile.metadata.carrier
        writes = [operations[name] for name in _CONDITIONAL if name in operations]
        is_conditional = (
            bool(writes)
            and carrier != "document"
            and all(operation.if_match for operation in writes)
        )
        digests = any("digest" in operation.facts for operation in operations.values())
        told = {
            "readonly": profile.is_readonly,
            "authorizing": False,
            "atomic_set": carrier != "document",
            "conditional": is_conditional,
            "digests": digests,
            "durability": "none",
            "profile": profile.name,
            "operations": sorted(operations),
            "metadata": carrier,
        }
        if "list" not in operations:
            told["queries"] = []
        return {**told, **profile.capabilities}

    def read_value(self, key: str) -> tuple[Record, Opener]:
        return read_value(self._talk, key)

    def record(self, key: str) -> Record:
        return record_with_metadata(self._talk, key)

    def metadata(self, key: str) -> JsonObject:
        return read_metadata(self._talk, key)

    def open_data(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return open_data(self._talk, key, start, end)

    def exists(self, key: str) -> bool:
        return exists(self._talk, key)

    def find(self, query: Query, *, keys_only: bool) -> Iterator[Record]:
        return find(self._talk, query, self.record, with_metadata=not keys_only)

    def send_change(self, key: str, change: Change) -> Written:
        return send_change(self._talk, key, change)

    def delete_key(self, key: str, condition: Condition) -> None:
        delete_key(self._talk, key, condition)

    def probe(self) -> None:
        reply = self._talk.ask("probe")
        verify(self._talk, reply)
        reply.answer.finish()

    def reserve(self, family: str) -> str:
        """Return a new key of *family* that the server has made."""
        return reserve(self._talk, family)
