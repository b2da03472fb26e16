"""What a store on a server asks of the conversation with it, whatever protocol that speaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from kvstore.documents import JsonObject
from kvstore.errors import UnsupportedOperationError
from kvstore.history import JournalEntry
from kvstore.noticing import Halt
from kvstore.profiles.having import Claim, Finding
from kvstore.query import Query
from kvstore.transport.batching import Batch
from kvstore.values import PUBLIC, Opener, Permissions, Record
from kvstore.writes import Change, Condition, Written


class Dialect(ABC):
    """One server, spoken to in its own way. Immutable but for what it learns; thread-safe.

    The methods are the primitives of a store (see :mod:`kvstore.readonly` and
    :mod:`kvstore.store`). What the server has no means for is an UnsupportedOperationError that
    names the operation and the server's profile.
    """

    #: How the protocol is called in errors.
    name = "kvstore"

    @property
    def user_tag(self) -> str:
        """The permission tag of the user, as far as the server says."""
        return PUBLIC

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Return the entries of ``info()`` that this server decides."""

    @abstractmethod
    def read_value(self, key: str) -> tuple[Record, Opener]:
        """Return record and data of *key*."""

    def read_if_changed(self, key: str, revision: str) -> tuple[Record, Opener] | None:
        """Return record and data of *key*, but None if it is (still) at *revision*."""
        return None if self.record(key).revision == revision else self.read_value(key)

    @abstractmethod
    def record(self, key: str) -> Record:
        """Return the facts about *key* without its data."""

    @abstractmethod
    def metadata(self, key: str) -> JsonObject:
        """Return the metadata of *key*."""

    @abstractmethod
    def open_data(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over a range of the data, over all for None and None."""

    @property
    def has_ranges(self) -> bool:
        """Whether :meth:`open_revision` gives ranges of one revision and of no other."""
        return False

    def open_revision(self, record: Record, start: int, end: int) -> BinaryIO:
        """Return a stream over a range of the data of *record*; ConflictError if it is changed."""
        raise self.unsupported("get_data_range", record.key)

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tell whether there is such a key."""

    @abstractmethod
    def find(self, query: Query, *, keys_only: bool) -> Iterator[Record]:
        """Yield what *query* finds, in its order.

        With *keys_only* a record needs only the key and the field that orders.
        """

    def count(self, query: Query) -> int:
        """Return how many keys *query* finds."""
        return sum(1 for _ in self.find(query, keys_only=True))

    @abstractmethod
    def send_change(self, key: str, change: Change) -> Written:
        """Make *change* on the server."""

    def sends_together(self, change: Change) -> bool:
        """Tell whether such a change may go to :meth:`send_batch`."""
        return False

    def begin_batch(self) -> Batch:
        """Return an empty batch for :meth:`send_batch`."""
        raise self.unsupported("batch")

    def send_batch(self, batch: Batch) -> list[Written]:
        """Make all changes of *batch* on the server, or none."""
        raise self.unsupported("batch")

    def versions(self, key: str) -> list[Record]:
        """Return the records of the versions of *key*, the newest first."""
        raise self.unsupported("versions", key)

    def read_version(self, key: str, version: str) -> tuple[Record, Opener]:
        """Return record and data of *key* as they were at the revision *version*."""
        raise self.unsupported("versions", key)

    def restore(self, key: str, version: str, condition: Condition) -> Written:
        """Set *key* back to *version*, in one step."""
        raise self.unsupported("versions", key)

    def sequence(self) -> int:
        """Return the number of the newest change."""
        raise self.unsupported("changes")

    def changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        """Return the changes after *since*; ChangesLostError comes at once."""
        raise self.unsupported("changes")

    def follow(self, since: int, halt: Halt) -> Iterator[JournalEntry]:
        """Yield the changes after *since* as they are made, until the *halt*."""
        raise self.unsupported("changes")

    def compare(self, claims: Iterable[Claim]) -> Iterator[Finding]:
        """Yield what the server says of each claim about what it may have."""
        raise self.unsupported("have")

    @abstractmethod
    def delete_key(self, key: str, condition: Condition) -> None:
        """Delete *key* on the server."""

    def permissions(self, key: str) -> Permissions:
        """Return the permissions of *key*."""
        raise self.unsupported("get_permissions", key)

    def reserve(self, family: str) -> str:
        """Return a new key of *family* that the server has made."""
        raise self.unsupported("reserve")

    def probe(self) -> None:
        """Raise unless the server is what is expected, as far as it tells without a change."""
        raise self.unsupported("probe")

    def close(self) -> None:  # noqa: B027 - most hold nothing of their own
        """Give back what it holds beside the connections that it was given."""

    def unsupported(self, operation: str, key: str | None = None) -> UnsupportedOperationError:
        """Return the error for what this server has no means for."""
        message = f"A server of the profile {self.name!r} has no operation {operation!r}."
        return UnsupportedOperationError(message, key=key)
