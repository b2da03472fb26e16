"""Permissions, enforced for one user."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO

from kvstore.authorizing import AuthorizingStore
from kvstore.compose.wrapper import TRIES, Passed, Wrapper, busy, can_repeat, close, pass_on
from kvstore.documents import JsonObject
from kvstore.errors import (
    AuthorizationError,
    ConflictError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    UnsupportedOperationError,
)
from kvstore.history import JournalEntry
from kvstore.hub import EventHub
from kvstore.noticing import Halt
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.values import OWNED, PUBLIC, Permissions, Record, Value, check_permissions
from kvstore.writes import Change, Condition, Written, missing, missing_version

READ = "read"
WRITE = "write"


class AuthorizedStore(Wrapper):
    """A store as one user sees it, who can do there what the permissions of its keys allow.

    ``owned`` gives all rights; ``read`` that to read; ``write`` that to change data and metadata
    and to delete. Other permissions are kept and mean nothing. Who may not read a key finds
    nothing of it: neither the key itself, nor in queries, counts, changes and watches, and the
    errors are those of a missing key. Who may read it but not write, or is no owner and asks for
    permissions, gets an ``AuthorizationError``. A new key is owned by *user_tag*.

    One thing cannot be hidden: that a name is taken, for the user cannot make that key. It is told
    by an ``AuthorizationError``, and only to who would have made the key; whatever fails on a
    missing key fails on a hidden one in the same words, conditions included.

    What was allowed is what is done: each write has the condition that the key is still at the
    revision whose permissions were looked at. Where it is not they are looked at again; after
    many times, or where the data can be read only once, ``UnavailableError`` says so.

    History: an earlier version, or a change, is shown to who may read the key now and could read it
    then; a deletion to who could read the key until then. Where the store within does not tell the
    permissions of then, only the newest change of a key is shown. Numbers of changes are those of
    the store within.

    Cheap to make: a server makes one for each request.

    Args:
        store: the one within, which is not connected as somebody else by this one.
        user_tag: the tag of the user; new keys are owned by it.
        tags: other tags of the user, as of groups. Everybody has ``public``.
        events: as for every store.

    Raises:
        InvalidPermissionsError: what cannot be a tag.
    """

    _store: AuthorizingStore

    def __init__(
        self,
        store: AuthorizingStore,
        user_tag: str,
        tags: Iterable[str] = (),
        *,
        events: EventHub | None = None,
    ) -> None:
        super().__init__(store, events=events)
        if isinstance(tags, str):  # whose letters would be taken for tags
            raise InvalidPermissionsError(f"tags is an iterable of tags, not one: {tags!a:.100}.")
        self._user_tag = user_tag
        self._tags = _checked(frozenset((user_tag, *tags)))

    def __repr__(self) -> str:
        return f"<AuthorizedStore of {self._user_tag!a:.100} in {self._store!r:.150}>"

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._store, self._user_tag, self._tags), {}

    def _connect(self, credentials: Any) -> None:
        if credentials is not None:
            raise InvalidRequestError("An AuthorizedStore knows its user: no credentials.")
        super()._connect(None)

    def user_tag(self) -> str:
        """Return the tag of the user."""
        return self._user_tag

    # -- reading ---------------------------------------------------------------------------

    def _get(self, key: str) -> Value:
        try:
            value = self._store.get(key)
        except KeyNotFoundError:
            raise missing(key) from None  # a server says it in words that a hidden key has not
        return self._shown(key, value)

    def _record(self, key: str) -> Record:
        record = self._known(key)
        if record is None or not self._has(record, READ):
            raise missing(key)
        return self._trimmed(record)

    def _metadata(self, key: str) -> JsonObject:
        return self._record(key).metadata

    def _open(self, key: str, start: int | None, end: int | None) -> BinaryIO:
        return ReadOnlyStore._open(self, key, start, end)

    def _exists(self, key: str) -> bool:
        return ReadOnlyStore._exists(self, key)

    def _query(self, query: Query) -> Iterator[Record]:
        # A limit counts what may be seen, so that nobody can count what may not.
        records = self._inner()._query(replace(query, limit=None))
        try:
            seen = (self._trimmed(record) for record in records if self._has(record, READ))
            yield from islice(seen, query.limit)
        finally:
            close(records)

    def _query_keys(self, query: Query) -> Iterator[Record]:
        return self._query(query)

    def _count(self, query: Query) -> int:
        return sum(1 for _ in self._query(query))

    def _get_permissions(self, key: str) -> Permissions:
        record = self._known(key)
        if record is None or not self._has(record, READ):
            raise missing(key)
        if not self._has(record, OWNED):
            raise self._refused(key, "see the permissions of")
        return self._permissions_of(record)

    # -- history ---------------------------------------------------------------------------

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        return islice(self._seen(self._store.changes(since)), limit)

    def _follow(self, since: int, interval: float, halt: Halt) -> Iterator[JournalEntry]:
        return self._seen(self._inner()._follow(since, interval, halt))

    def _versions(self, key: str) -> list[Record]:
        records = self._store.versions(key)
        # Of a deleted key its last version says who may look.
        if not records or not self._has(self._known(key) or records[0], READ):
            return []
        return [self._trimmed(record) for record in records if self._could(record)]

    def _get_version(self, key: str, version: str) -> Value:
        if not any(record.revision == version for record in self._versions(key)):
            raise missing_version(key, version)
        value = self._store.get(key, version=version)
        return self._shown(key, value)

    # -- writing ---------------------------------------------------------------------------

    def _write(self, key: str, change: Change) -> Written:
        for _ in range(TRIES):
            old = self._known(key)
            step = self._allowed(key, change, old)
            try:
                written = pass_on(self._store, key, step)
            except (ConflictError, KeyNotFoundError) as error:
                if isinstance(error, KeyNotFoundError) and error.key != key:
                    raise  # that of a source, which is read from elsewhere
                if _revision(self._known(key)) == _revision(old):
                    raise  # nobody came between: it has another reason
                if not can_repeat(change):
                    raise busy(key) from None
                continue  # they may have changed the permissions
            if old is not None and not self._has(old, READ):
                written = replace(written, metadata=change.metadata or {})
            return written
        raise busy(key)

    def _restore(self, key: str, version: str, condition: Condition) -> Written:
        for _ in range(TRIES):
            old = self._known(key)
            if old is None:  # the store within would give the key to its own user
                return super()._restore(key, version, condition)
            if not any(record.revision == version for record in self._versions(key)):
                raise missing_version(key, version)
            step = self._allowed(key, Change(metadata={}, condition=condition), old)
            try:
                return self._store._set_back(key, version, step.condition)
            except KeyNotFoundError:
                raise missing_version(key, version) from None
            except ConflictError:
                continue  # they may have changed the permissions
        raise busy(key)

    def _delete(self, key: str, condition: Condition) -> JsonObject | None:
        for _ in range(TRIES):
            record = self._known(key)
            if record is None or not self._has(record, READ, WRITE):
                raise missing(key)
            if not self._has(record, WRITE):
                raise self._refused(key, "delete")
            condition.check(key, record.revision, exists=True)
            try:
                self._store.delete(key, if_match=_revision_of(record))
            except (ConflictError, KeyNotFoundError):
                continue
            return record.metadata if self._has(record, READ) else {}
        raise busy(key)

    def _allowed(self, key: str, change: Change, old: Record | None) -> Change:
        """Return *change* with the condition under which it is allowed."""
        if old is None or not self._has(old, READ, WRITE):
            change.check(key, None)
            if old is not None:
                raise self._refused(key, "write")
            mine = change.new_permissions(None, self._user_tag)
            return replace(change, permissions=mine, condition=Condition(create_only=True))
        if not self._has(old, OWNED if change.permissions is not None else WRITE):
            action = "write" if change.permissions is None else "change the permissions of"
            raise self._refused(key, action)
        change.condition.check(key, old.revision, exists=True)
        return replace(change, condition=Condition(_revision_of(old)))

    # -- rights ----------------------------------------------------------------------------

    def _known(self, key: str) -> Record | None:
        try:
            return self._inner()._record(key)
        except KeyNotFoundError:
            return None

    def _has(self, record: Record, *rights: str) -> bool:
        """Tell whether the user has one of the *rights* to a key, or all of them as its owner."""
        return self._holds(self._permissions_of(record), *rights)

    def _holds(self, permissions: Permissions, *rights: str) -> bool:
        return allows(permissions, self._tags, *rights)

    def _could(self, version: Record) -> bool:
        return version.permissions is not None and self._holds(version.permissions, READ)

    def _permissions_of(self, record: Record) -> Permissions:
        if record.permissions is not None:
            return record.permissions
        try:
            return self._store.get_permissions(record.key)
        except KeyNotFoundError:
            return {}  # deleted meanwhile

    def _seen(self, entries: Iterator[JournalEntry]) -> Iterator[JournalEntry]:
        try:
            for entry in entries:
                if self._sees(entry):
                    yield entry if self._may(entry, OWNED) else replace(entry, permissions=None)
        finally:
            close(entries)

    def _sees(self, entry: JournalEntry) -> bool:
        if entry.action == "delete":
            return self._may(entry, READ)
        now = self._known(entry.key)
        if entry.permissions is None:
            return now is not None and now.revision == entry.revision and self._has(now, READ)
        return self._may(entry, READ) and (now is None or self._has(now, READ))

    def _may(self, then: JournalEntry, right: str) -> bool:
        return then.permissions is not None and self._holds(then.permissions, right)

    def _shown(self, key: str, value: Value) -> Value:
        if self._has(value.record, OWNED):
            return value
        if not self._has(value.record, READ):
            value.close()
            raise missing(key)
        refused = self._refused(key, "see the permissions of")
        return Value(self._trimmed(value.record), Passed(value), _Raising(refused))

    def _trimmed(self, record: Record) -> Record:
        if record.permissions is None or self._has(record, OWNED):
            return record
        return replace(record, permissions=None)

    def _refused(self, key: str, action: str) -> AuthorizationError:
        message = f"The user {self._user_tag!a:.100} may not {action} the key {key!a}."
        return AuthorizationError(message, key=key)


def allows(permissions: Permissions, tags: frozenset[str], *rights: str) -> bool:
    """Tell whether who has *tags* has one of the *rights* to a key, or all of them as its owner."""
    return any(not tags.isdisjoint(permissions.get(name, ())) for name in (OWNED, *rights))


class _Raising:
    """Tells permissions to nobody."""

    __slots__ = ("_error",)

    def __init__(self, error: AuthorizationError) -> None:
        self._error = error

    def __call__(self) -> Permissions:
        raise self._error


@functools.lru_cache(1024)
def _checked(tags: frozenset[str]) -> frozenset[str]:
    """Return *tags* with that of everybody. The same users come again and again."""
    check_permissions({OWNED: tags}, complete=True)
    return tags | {PUBLIC}


def _revision(record: Record | None) -> str | None:
    return None if record is None else record.revision


def _revision_of(record: Record) -> str:
    """Return the revision of a record.

    Raises:
        UnsupportedOperationError: it has none, so nobody can say that it is still the same.
    """
    if record.revision is None:
        message = f"The key {record.key!a} has no revision, without which no right can be checked."
        raise UnsupportedOperationError(message, key=record.key)
    return record.revision
