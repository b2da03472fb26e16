"""One atomic write as a value: what changes, under which condition, and what came of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from jsonschema.protocols import Validator

from kvstore.documents import (
    JsonObject,
    check_metadata,
    check_size,
    compile_schema,
    first_violation,
)
from kvstore.errors import (
    ConflictError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
)
from kvstore.streams import Source
from kvstore.values import (
    OWNED,
    Permissions,
    Record,
    Value,
    check_mimetype,
    check_permissions,
    copy_permissions,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write to happen, as in RFC 9110 section 13.1."""

    #: The revision that the key must have; ``*``: any, but the key must exist.
    if_match: str | None = None
    #: The key must not exist.
    create_only: bool = False

    @classmethod
    def of(
        cls, if_match: str | Value | Record | None, if_none_match: Literal["*"] | None
    ) -> Condition:
        """Return the condition for the arguments of a write.

        Raises:
            InvalidRequestError: not a revision, a Value that has none, or not ``"*"``.
        """
        if if_match is None and if_none_match is None:
            return ALWAYS
        if if_none_match not in (None, "*"):
            message = f"if_none_match is '*' (create only), not {if_none_match!r:.100}."
            raise InvalidRequestError(message)
        revision = if_match.revision if isinstance(if_match, (Value, Record)) else if_match
        if if_match is not None and (not isinstance(revision, str) or not revision):
            message = f"if_match is a revision or a Value with one, not {if_match!r:.100}."
            raise InvalidRequestError(message)
        return cls(revision, if_none_match == "*")

    def __bool__(self) -> bool:
        return self.if_match is not None or self.create_only

    def check(self, key: str, revision: str | None, *, exists: bool) -> None:
        """Raise ConflictError unless the condition holds for a key at *revision*."""
        if self.create_only and exists:
            raise ConflictError(f"The key exists already: {key!a}.", key=key)
        if self.if_match is None:
            return
        if not exists:
            raise ConflictError(f"The key does not exist (any more): {key!a}.", key=key)
        if self.if_match not in ("*", revision):
            message = f"The key {key!a} is at revision {revision}, not {self.if_match!a:.100}."
            raise ConflictError(message, key=key)


ALWAYS = Condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One atomic write. What is None stays as it is; on a new key it is empty."""

    data: Source | None = None
    metadata: JsonObject | None = None
    permissions: Permissions | None = None
    #: Media type of the data; that of unknown bytes if None.
    mimetype: str | None = None
    #: Whether metadata and permissions are added to what is there, instead of replacing it.
    merge: bool = False
    condition: Condition = ALWAYS
    #: Raises where the metadata that would be stored breaks the rules of the store.
    check_metadata: Callable[[JsonObject], None] | None = field(default=None, repr=False)

    def checked(self, check: Callable[[JsonObject], None] | None) -> Change:
        """Return the same with copies of metadata and permissions that are legal.

        Args:
            check: what metadata that would be stored has to pass, too.

        Raises:
            InvalidMetadataError, InvalidPermissionsError, InvalidRequestError: what is not legal.
        """
        metadata, permissions = self.metadata, self.permissions
        return replace(
            self,
            metadata=None if metadata is None else check_metadata(metadata),
            permissions=None
            if permissions is None
            else check_permissions(permissions, complete=not self.merge),
            mimetype=check_mimetype(self.mimetype),
            check_metadata=check,
        )

    @property
    def needs_key(self) -> bool:
        """Whether the key must exist: to merge, or to set permissions alone."""
        return self.merge or (self.data is None and self.metadata is None)

    def check(self, key: str, old: Record | None) -> None:
        """Check that this may happen to the record *old* (None: no such key).

        Stores call it again when nobody can come between the check and the write.

        Raises:
            KeyNotFoundError: the key must exist and does not.
            ConflictError: the condition does not hold.
        """
        if old is None and self.needs_key:
            raise missing(key)
        self.condition.check(key, old.revision if old else None, exists=old is not None)

    def new_metadata(self, old: Record | None) -> JsonObject:
        """Return the metadata after this change (a new object where it changes).

        Raises:
            InvalidMetadataError: it would not fit the store's schema.
            TooLargeError: what is added makes it too large.
        """
        before = old.metadata if old is not None else {}
        if self.metadata is None:
            after = before
        elif self.merge:
            after = {**before, **self.metadata}
            check_size(after)
        else:
            after = self.metadata
        if self.check_metadata is not None and (old is None or after is not before):
            self.check_metadata(after)
        return after

    def new_permissions(self, old: Record | None, owner: str) -> Permissions:
        """Return the permissions after this change; a new key is owned by *owner*."""
        before = old.permissions if old is not None else None
        if self.permissions is None:
            return before if before is not None else {OWNED: {owner}}
        if not self.merge:
            return self.permissions
        after = copy_permissions(before or {})
        for name, tags in self.permissions.items():
            after[name] = after.get(name, set()) | tags
        return after


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    #: The new revision; None where the store has none.
    revision: str | None
    #: Whether the key was there before.
    existed: bool
    #: The metadata now; None where the store was not told.
    metadata: JsonObject | None = None
    #: When that was, and the digest of the data now, where the store tells: who answers for it need
    #: not look again.
    modified: float | None = None
    digest: str | None = None


def missing(key: str) -> KeyNotFoundError:
    """Return the error for a key that is not there."""
    return KeyNotFoundError(f"There is no key {key!a}.", key=key)


def missing_version(key: str, version: str) -> KeyNotFoundError:
    """Return the error for a version of a key that is not kept."""
    return KeyNotFoundError(f"There is no version {version!a:.100} of the key {key!a}.", key=key)


def schema_check(schema: JsonObject | None) -> Callable[[JsonObject], None] | None:
    """Return the check of metadata against a user's JSON Schema, None for none.

    Raises:
        InvalidRequestError: *schema* is no JSON Schema.
    """
    if schema is None:
        return None
    return functools.partial(_check_by, compile_schema(schema))


def _check_by(validator: Validator, metadata: JsonObject) -> None:
    violation = first_violation(validator, metadata)
    if violation is not None:
        pointer, message = violation
        # 422 tells this from metadata that no store would take, which is 400 on the wire.
        raise InvalidMetadataError(
            f"The metadata does not fit the store's schema at {pointer or '/'!r}: {message}.",
            pointer=pointer,
            status=422,
        )
