"""The contract: what a store remembers, its changes in their order and the versions of a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from kvstore.documents import JsonObject, copy_json
from kvstore.errors import ChangesLostError, InvalidRequestError, UnsupportedOperationError
from kvstore.lifecycle import Lifecycle
from kvstore.values import Permissions, Record, Value, copy_record, is_integer

Action: TypeAlias = Literal["set", "update", "delete"]

#: How many changes a journal remembers unless it is told otherwise.
KEEP_CHANGES = 100_000


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One change of one key, as the journal of a store has it."""

    #: Number of the change; each has that of the one before and one more.
    seq: int
    #: ``set``: the key is new; ``update``: anything of it was changed; ``delete``.
    action: Action
    key: str
    #: The revision that came of it; of a ``delete`` the one that was removed.
    revision: str
    #: The metadata after it; of a ``delete`` the last.
    metadata: JsonObject
    #: Seconds since the epoch. For people: clocks are set, ``seq`` alone tells the order.
    time: float
    #: The permissions after it; of a ``delete`` the last. None where they are not told.
    permissions: Permissions | None = None


class History(Lifecycle):
    """What a store remembers, where ``info()["changes"]`` and ``["versions"]`` say so.

    Where they do not, these methods raise ``UnsupportedOperationError``.
    """

    def sequence(self) -> int:
        """Return the number of the newest change, 0 if there was none.

        Take it, read the store, then follow ``changes(since=...)``: nothing is missed.
        """
        self._ready()
        return self._sequence()

    def changes(self, since: int = 0, limit: int | None = None) -> Iterator[JournalEntry]:
        """Return an iterator of what was changed after *since*, in the order of the commits.

        Ends with what is there when it gets there; call again with the last ``seq``.

        Args:
            since: the ``seq`` of the last change that is known; 0 for all from the beginning.
            limit: at most so many.

        Raises:
            ChangesLostError: at once, with ``oldest``: changes after *since* are forgotten, or
                *since* is of another journal, as it is ahead of this one. From the iterator, where
                they are forgotten while it is read. Read the store again, from ``sequence()`` on.
            InvalidRequestError: *since* or *limit* is no integer from 0.
        """
        self._ready()
        for name, number in (("since", since), ("limit", limit)):
            if number is None and name == "limit":
                continue
            if not is_integer(number) or number is None or number < 0:
                raise InvalidRequestError(f"{name} is an integer from 0, not {number!r:.100}.")
        found = self._changes(since, limit)
        return map(_copy, found)

    def versions(self, key: str) -> list[Record]:
        """Return the records of the versions of *key*, the newest first.

        The first is the current one; of a key that was deleted there are only earlier ones, and of
        one that never was there are none. Each ``revision`` is what ``get(key, version=)`` and
        ``restore`` take.
        """
        records = self._versions(self._check(key))
        return [copy_record(record) for record in records]

    # -- what a store may implement --------------------------------------------------------

    def _sequence(self) -> int:
        """Shortcut. Return the number of the newest change."""
        raise UnsupportedOperationError(f"{self!r} has no journal.")

    def _stamp(self) -> object:
        """Shortcut. Return what is equal only while nothing in the store is changed, by anybody.

        It must neither wait for others nor for a disk. None: that cannot be told.
        """
        return None

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        """Shortcut. Return the entries after *since*; :func:`check_since` raises at once."""
        raise UnsupportedOperationError(f"{self!r} has no journal.")

    def _versions(self, key: str) -> list[Record]:
        """Shortcut. Return the current record, if there is one, and the earlier ones."""
        raise UnsupportedOperationError(f"{self!r} keeps no versions.", key=key)

    def _get_version(self, key: str, version: str) -> Value:
        """Shortcut. Return the value as it was; KeyNotFoundError if it is not kept."""
        raise UnsupportedOperationError(f"{self!r} keeps no versions.", key=key)


def _copy(entry: JournalEntry) -> JournalEntry:
    permissions = entry.permissions
    if permissions is not None:
        permissions = {name: set(tags) for name, tags in permissions.items()}
    return replace(entry, metadata=copy_json(entry.metadata), permissions=permissions)


def check_since(since: int, *, oldest: int, newest: int) -> None:
    """Raise ChangesLostError unless a journal of *oldest* to *newest* has all after *since*.

    A journal that has no entry any more has an *oldest* one ahead of its *newest*.
    """
    if since > newest:
        message = f"The journal ends at {newest}; that of {since} was another one."
        raise ChangesLostError(message, oldest=oldest)
    if since + 1 < oldest:
        message = f"The changes after {since} are forgotten; the oldest left is {oldest}."
        raise ChangesLostError(message, oldest=oldest)


def check_version(version: object) -> str:
    """Return *version* if it may be one: a revision.

    Raises:
        InvalidRequestError: no text.
    """
    if not isinstance(version, str) or not version or not version.isascii():
        raise InvalidRequestError(f"A version is a revision, not {version!a:.100}.")
    return version


def check_kept(name: str, number: object) -> int:
    """Return a constructor's number of things to keep.

    Raises:
        InvalidRequestError: no integer from 0.
    """
    if not is_integer(number) or not isinstance(number, int) or not 0 <= number < 1 << 62:
        raise InvalidRequestError(f"{name} is an integer from 0, not {number!r:.100}.")
    return number
