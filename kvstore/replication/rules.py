"""How one store is made to follow another: what is asked for, checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError
from kvstore.query import Query
from kvstore.values import is_integer

#: Who wins where both sides have something else: nobody, and it is reported; or one of them.
OnConflict: TypeAlias = Literal["report", "source", "destination"]
#: Whether keys that are gone at the source go at the destination.
Deletions: TypeAlias = Literal["follow", "keep"]
#: Whether permissions travel; else those at the destination stay, and new keys are the caller's.
PermissionRule: TypeAlias = Literal["keep", "copy"]

#: What the keys that hold what is known begin with; keys of the source that do never travel.
RESERVED = ".sync/"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What travels, and what is done where the two sides disagree.

    Raises:
        InvalidRequestError: naming the rule that has no meaning.
    """

    #: Only the keys that this filter document finds; see :func:`kvstore.where.parse_where`.
    where: JsonObject | None = None
    #: Only the keys that begin with this.
    prefix: str = ""
    on_conflict: OnConflict = "report"
    deletions: Deletions = "follow"
    permissions: PermissionRule = "keep"
    #: The field of the metadata, one text or a list of them, that names the keys which have to be
    #: at the destination before this one; they travel first, whether they were asked for or not.
    requires: str | None = None
    #: How often one record is tried.
    attempts: int = 3
    #: What the source is called in the state at the destination; see `kvstore.replication.names`.
    name: str | None = None

    def __post_init__(self) -> None:
        _check_word("on_conflict", self.on_conflict, OnConflict)
        _check_word("deletions", self.deletions, Deletions)
        _check_word("permissions", self.permissions, PermissionRule)
        if not is_integer(self.attempts) or not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise InvalidRequestError(
                f"attempts is a number from 1 to {_MOST_ATTEMPTS}, not {self.attempts!r:.100}."
            )
        if self.requires is not None and (not isinstance(self.requires, str) or not self.requires):
            raise InvalidRequestError(f"requires names a field, not {self.requires!r:.100}.")
        if self.name is not None:
            check_name(self.name)
        self.query().predicate()

    def query(self, *, after: str | None = None, limit: int | None = None) -> Query:
        """Return the query for what travels, or for a part of it."""
        return Query(where=self.where, prefix=self.prefix, after=after, limit=limit)


def check_name(name: object) -> str:
    """Return *name* if it may be that of a source.

    Raises:
        InvalidRequestError: not 1 to 64 letters, digits and ``._-``, the first no sign.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"The name of a source is 1 to 64 letters, digits, '.', '_' and '-', not {name!r:.100}."
        )
    return name


def _check_word(name: str, word: object, words: Any) -> None:
    known = get_args(words)
    if word not in known:
        raise InvalidRequestError(f"{name} is one of {', '.join(known)}, not {word!r:.100}.")
