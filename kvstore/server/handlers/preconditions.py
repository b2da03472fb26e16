"""Conditional requests (RFC 9110 section 13) in terms of a store's conditions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.errors import ConflictError, UnsupportedOperationError
from kvstore.profiles.conditions import ETags, Verdict, evaluate, parse_etags
from kvstore.server.answers import etag_fields
from kvstore.server.exchange import Exchange
from kvstore.server.site import Site
from kvstore.values import Record
from kvstore.writes import ALWAYS, Condition

#: The fields of conditions.
CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")


def judge_read(exchange: Exchange, record: Record) -> bool:
    """Whether to answer 304 to a GET or HEAD of a key.

    Raises:
        ConflictError: a condition failed (412).
        InvalidRequestError: a condition is malformed.
    """
    if not exchange.has(*CONDITIONS):
        return False
    verdict = _verdict(exchange, record)
    if verdict is Verdict.FAILED:
        raise _failed(exchange, record.key, record)
    return verdict is Verdict.NOT_MODIFIED


@dataclass(frozen=True, slots=True)
class Guard:
    """What the store must check again at the moment of writing."""

    condition: Condition
    #: Whether the condition stands for another one, which may still hold where it does not.
    is_stand_in: bool = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Tell a race that was lost (409, worth another try) from a condition that failed."""
        try:
            yield
        except ConflictError as error:
            if self.is_stand_in:
                error.status = 409
            raise


_UNGUARDED = Guard(ALWAYS)


def is_conditional(exchange: Exchange) -> bool:
    """Whether a request has conditions, so that a write has to know what it changes."""
    return exchange.has(*CONDITIONS)


def guard_write(site: Site, exchange: Exchange, key: str, record: Record | None) -> Guard:
    """Check the conditions of a write to a key that has *record* now (None: no such key).

    A store compares with one revision. ``*`` and a single tag are that; for a list of tags, and
    for dates, the answer is worked out here, and the store then checks that the key is still the
    one it was worked out for.

    Raises:
        ConflictError: a condition failed (412).
        InvalidRequestError: a condition is malformed.
        UnsupportedOperationError: the store cannot hold to conditions.
    """
    if not exchange.has(*CONDITIONS):
        return _UNGUARDED
    if not site.info.get("conditional", False):
        raise UnsupportedOperationError("This store cannot write under a condition.", key=key)
    if _verdict(exchange, record) is not Verdict.PROCEED:
        raise _failed(exchange, key, record)
    plain = _as_condition(exchange)
    if plain is not None:
        return Guard(plain)
    if record is None:
        return Guard(Condition(create_only=True), is_stand_in=True)
    if record.revision is None:
        raise UnsupportedOperationError("This store does not tell revisions.", key=key)
    return Guard(Condition(record.revision), is_stand_in=True)


def _verdict(exchange: Exchange, record: Record | None) -> Verdict:
    revision = None if record is None else (record.revision or "")
    return evaluate(
        exchange.method,
        revision,
        if_match=exchange.lines(b"if-match"),
        if_none_match=exchange.lines(b"if-none-match"),
        if_modified_since=exchange.lines(b"if-modified-since"),
        if_unmodified_since=exchange.lines(b"if-unmodified-since"),
        last_modified=None if record is None else record.modified,
    )


def _as_condition(exchange: Exchange) -> Condition | None:
    """The store's condition that says the same as the fields; None if there is none."""
    if exchange.has(b"if-unmodified-since"):
        return None
    match = _tags(exchange, b"if-match")
    none_match = _tags(exchange, b"if-none-match")
    if none_match is not None and not none_match.star:
        return None
    if match is None:
        return Condition(create_only=none_match is not None)
    if match.star:
        return Condition("*", create_only=none_match is not None)
    if len(match.tags) > 1:
        return None
    return Condition(match.tags[0].opaque, create_only=none_match is not None)


def _tags(exchange: Exchange, name: bytes) -> ETags | None:
    lines = exchange.lines(name)
    return parse_etags(", ".join(lines)) if lines else None


def _failed(exchange: Exchange, key: str, record: Record | None) -> ConflictError:
    if record is None:
        return ConflictError(f"There is no key {key!a:.100} that could match.", key=key)
    exchange.fields += etag_fields(record.revision)
    return ConflictError(
        f"The key {key!a:.100} is at revision {record.revision}; the condition fails.", key=key
    )
