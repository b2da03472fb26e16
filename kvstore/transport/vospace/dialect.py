"""The protocol of a VOSpace 2.1 service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.profiles.profile import Profile
from kvstore.query import Query
from kvstore.transport.dialect import Dialect
from kvstore.transport.policy import Policy
from kvstore.transport.sender import Sender
from kvstore.transport.vospace.listing import Lister
from kvstore.transport.vospace.permitting import permissions_of
from kvstore.transport.vospace.properties import record_of, told_by
from kvstore.transport.vospace.reading import NodeOpener, open_data
from kvstore.transport.vospace.talk import Talk
from kvstore.transport.vospace.writing import delete_key, send_change
from kvstore.values import Opener, Permissions, Record
from kvstore.writes import Change, Condition, Written


class VospaceDialect(Dialect):
    """A key is a data node, what stands before its slashes are containers. See the module."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._lister = Lister(talk, self.record)
        self.name = talk.profile.name

    @classmethod
    def on(
        cls, sender: Sender, policy: Policy, profile: Profile, base: str, *, verify_digests: bool
    ) -> VospaceDialect:
        """Return the conversation with the service at *base*."""
        return cls(Talk(sender, policy, profile, base, verify_digests=verify_digests))

    def close(self) -> None:
        self._talk.close()

    def info(self) -> dict[str, Any]:
        profile = self._talk.profile
        told = {
            "readonly": False,
            "authorizing": False,  # the owner is as the service decides
            "atomic_set": False,
            "conditional": False,
            "digests": False,  # but MD5, which are checked
            "durability": "none",
            "profile": profile.name,
            "metadata": "properties",
        }
        return {**told, **profile.capabilities}

    def read_value(self, key: str) -> tuple[Record, Opener]:
        node = self._talk.data_node(key)
        record = record_of(node, key, told_by(node, key).metadata)
        return record, NodeOpener(self._talk, key, node)

    def record(self, key: str) -> Record:
        node = self._talk.data_node(key)
        return record_of(node, key, told_by(node, key).metadata)

    def metadata(self, key: str) -> JsonObject:
        return told_by(self._talk.data_node(key), key).metadata

    def open_data(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        self._talk.path(key)
        return open_data(self._talk, key, start, end)

    def exists(self, key: str) -> bool:
        node = self._talk.find(key)
        return node is not None and node.is_data

    def find(self, query: Query, *, keys_only: bool) -> Iterator[Record]:
        return self._lister.find(query, with_metadata=not keys_only)

    def send_change(self, key: str, change: Change) -> Written:
        return send_change(self._talk, key, change)

    def delete_key(self, key: str, condition: Condition) -> None:
        delete_key(self._talk, key, condition)

    def permissions(self, key: str) -> Permissions:
        return permissions_of(self._talk, key, self._talk.data_node(key))

    def probe(self) -> None:
        self._talk.service()
