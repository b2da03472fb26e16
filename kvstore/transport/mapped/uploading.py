"""Data on their way to a server: by whichever requests its profile has for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kvstore.errors import ConflictError, KeyNotFoundError
from kvstore.profiles.statuses import NO_PARENT, error_for
from kvstore.streams import Source
from kvstore.transport.mapped.metadata import facts_about
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.spooling import Prepared, prepared
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.mapped.verifying import verify
from kvstore.values import DEFAULT_MIMETYPE
from kvstore.writes import Change, Condition


def put_data(
    talk: Talk,
    key: str,
    change: Change,
    source: Source,
    values: dict[str, Any],
    headers: dict[str, str],
) -> Reply:
    """Store data, and return the reply, which has been read and verified.

    Args:
        values: by source, what else the profile may send.
        headers: more header fields.

    Raises:
        ConflictError: the condition does not hold, or the server ignored the write.
    """
    operation = talk.operation("set", key)
    if "Content-Type" not in operation.headers:
        headers = {"Content-Type": values.get("data.mimetype", DEFAULT_MIMETYPE), **headers}
    replayed = operation.replaces or talk.has("make_parent")
    if "newest" in operation.sources():
        values = {**values, **newest(_facts_before(talk, key))}
    with prepared(source, operation, replayed=replayed) as ready:
        told = {**values, **ready.values}
        reply = _put_with_parents(talk, key, "set", ready, told, headers, change.condition)
        verify(talk, reply)
        reply.version()  # and the connection is free for what comes next
    return reply


def put_nothing(talk: Talk, key: str) -> bool:
    """Make a key without data, and tell whether it was there already."""
    operation = talk.operation("set", key)
    condition = Condition(create_only=operation.if_none_match is not None)
    change = Change(data=Source(b""), condition=condition)
    try:
        reply = put_data(talk, key, change, Source(b""), {}, {})
    except ConflictError:
        return True
    reply.answer.finish()
    return reply.answer.status != 201


def newest(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a version that is not older than that of the key, which is a time."""
    return {"newest": max(time.time(), facts.get("modified", 0.0))}


def _put_with_parents(
    talk: Talk,
    key: str,
    name: str,
    ready: Prepared,
    values: dict[str, Any],
    headers: dict[str, str],
    condition: Condition,
) -> Reply:
    options: dict[str, Any] = {"values": values, "headers": headers, "condition": condition}
    try:
        reply = talk.ask(name, key, body=ready.body, **options)
        if reply.outcome == NO_PARENT:
            reply.answer.finish()
            _make_parents(talk, key)
            reply = talk.ask(name, key, body=ready.body, **options)
    except ConflictError:
        # The key has data, and this server replaces them by another request.
        if not talk.operation(name).replaces or condition.create_only:
            raise
        reply = talk.ask("replace", key, body=ready.body, **options)
    if reply.outcome == NO_PARENT:
        reply.answer.finish()
        message = f"The server has no folder for the key {key!a}, and makes none."
        raise error_for("conflict", message, key=key, status=reply.answer.status)
    return reply


def _make_parents(talk: Talk, key: str) -> None:
    """Make the folders above *key* that are missing, the outermost first."""
    parts = key.split("/")
    for count in range(1, len(parts)):
        talk.ask("make_parent", "/".join(parts[:count])).answer.finish()


def _facts_before(talk: Talk, key: str) -> dict[str, Any]:
    try:
        return facts_about(talk, key)
    except KeyNotFoundError:
        return {}
