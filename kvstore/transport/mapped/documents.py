"""Metadata that have a document of their own, beside the data; perhaps a file like any other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kvstore.documents import JsonObject, check_size, dump_json
from kvstore.errors import (
    ConflictError,
    KeyNotFoundError,
    UnsupportedOperationError,
)
from kvstore.profiles.facts import at_pointer
from kvstore.transport.mapped.metadata import exists
from kvstore.transport.mapped.replies import Reply, checked_metadata
from kvstore.transport.mapped.talk import Talk
from kvstore.writes import Change, Condition, Written, missing

_JSON = {"Content-Type": "application/json"}
#: How often an update is tried again, when others change the same document meanwhile.
_ATTEMPTS = 100


def send_metadata(talk: Talk, key: str, change: Change, put_nothing: Callable[[], bool]) -> Written:
    """Replace or update the metadata of *key*.

    Args:
        put_nothing: makes the key without data, and tells whether it was there.

    Raises:
        KeyNotFoundError: an update of a missing key.
        UnsupportedOperationError: the server has no means for it, or for the condition: where the
            document is a file beside the data, its revision is not that of the key.
    """
    beside = talk.profile.metadata.may_be_missing
    metadata = change.metadata or {}
    if change.condition and beside:
        message = f"The metadata of {key!a} are a file beside the data; no condition holds for it."
        raise UnsupportedOperationError(message, key=key)
    if change.merge:
        talk.operation("set_metadata" if beside else "update_metadata", key)
        if beside and not exists(talk, key):
            raise missing(key)
        return _update(talk, key, metadata, change.condition)
    talk.operation("set_metadata", key)
    existed = True
    if beside and not exists(talk, key):
        existed = put_nothing()
    try:
        reply = _put(talk, key, metadata, change.condition)
    except KeyNotFoundError:
        if beside or change.condition:
            raise
        existed = put_nothing()
        reply = _put(talk, key, metadata, change.condition)
    existed = existed and (beside or reply.answer.status != 201)
    version = reply.version()  # where the document is a file beside the data, its own
    return Written(None if beside else version, existed, change.metadata)


def settle(talk: Talk, key: str, metadata: JsonObject | None, *, existed: bool) -> None:
    """Write the metadata of data that were just written; None keeps those of an old key."""
    beside = talk.profile.metadata.may_be_missing
    if metadata or (metadata is not None and not beside):
        _put(talk, key, metadata, Condition()).answer.finish()
    elif beside and (metadata is not None or not existed):
        delete_document(talk, key)


def delete_document(talk: Talk, key: str) -> None:
    """Remove the metadata that lie beside the data, if there are any."""
    with contextlib.suppress(KeyNotFoundError):
        talk.ask("delete_metadata", key).answer.finish()


def _update(talk: Talk, key: str, metadata: JsonObject, condition: Condition) -> Written:
    if talk.has("update_metadata"):
        reply = talk.ask(
            "update_metadata",
            key,
            headers=_JSON,
            body=dump_json(metadata),
            condition=condition,
        )
        return Written(reply.version(), True)
    operation = talk.operation("set_metadata", key)
    if not (operation.if_match and operation.if_none_match):
        raise talk.unsupported("update_metadata", key)
    for _ in range(_ATTEMPTS):
        before, version = _read(talk, key)
        after = {**before, **metadata}
        check_size(after)
        try:
            condition = Condition(version, create_only=version is None)
            _put(talk, key, after, condition).answer.finish()
        except ConflictError:
            continue  # somebody else was faster: theirs is what is to be updated
        return Written(None, True, after)
    raise ConflictError(f"The metadata of {key!a} change all the time.", key=key)


def _read(talk: Talk, key: str) -> tuple[JsonObject, str | None]:
    """Return the document and its own revision; None if there is no document."""
    try:
        reply = talk.ask("get_metadata", key, headers={"Accept": "application/json"})
    except KeyNotFoundError:
        return {}, None
    found = at_pointer(reply.document(), talk.profile.metadata.pointer)
    version = reply.version()
    if version is None:
        raise talk.unsupported("update_metadata", key)
    return checked_metadata(found, key), version


def _put(talk: Talk, key: str, metadata: JsonObject, condition: Condition) -> Reply:
    body = dump_json(metadata)
    return talk.ask("set_metadata", key, headers=_JSON, body=body, condition=condition)
