"""Changes on their way to a server that a profile describes, and whether it made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvstore.documents import JsonObject
from kvstore.errors import KeyNotFoundError, UnsupportedOperationError
from kvstore.keys import check_key
from kvstore.streams import Source
from kvstore.transport.mapped import documents
from kvstore.transport.mapped.fields import header_fields, sent_values
from kvstore.transport.mapped.metadata import (
    exists,
    facts_about,
    metadata_of_fields,
    read_metadata,
)
from kvstore.transport.mapped.replies import Reply
from kvstore.transport.mapped.talk import Talk
from kvstore.transport.mapped.uploading import newest, put_data, put_nothing
from kvstore.transport.mapped.verifying import verify
from kvstore.values import DEFAULT_MIMETYPE
from kvstore.writes import Change, Condition, Written, missing


def send_change(talk: Talk, key: str, change: Change) -> Written:
    """Make *change* on the server, in one request where it has the means for it.

    Raises:
        UnsupportedOperationError: it has none at all.
        ConflictError: a condition does not hold, or the server ignored the write.
    """
    talk.profile.check_key(key)
    if change.permissions is not None:
        raise talk.unsupported("set_permissions", key)
    if change.data is not None:
        return _send_data(talk, key, change, change.data)
    if talk.profile.metadata.carrier == "document":
        return documents.send_metadata(talk, key, change, lambda: put_nothing(talk, key))
    name = "update_metadata" if change.merge else "set_metadata"
    if talk.profile.metadata.carrier not in ("header", "headers"):
        raise talk.unsupported(name, key)
    fields = header_fields(talk, key, change.metadata or {})
    try:
        reply = talk.ask(name, key, headers=fields, condition=change.condition)
    except KeyNotFoundError:
        if change.merge or change.condition.if_match is not None:
            raise
        return _send_data(talk, key, replace(change, data=Source(b"")), Source(b""))
    metadata = None if change.merge else change.metadata
    return _written(reply, existed=reply.answer.status != 201, metadata=metadata)


def delete_key(talk: Talk, key: str, condition: Condition) -> None:
    """Delete *key* on the server.

    Raises:
        KeyNotFoundError: no such key.
        ConflictError: the condition does not hold, or the server left the key where it is.
    """
    operation = talk.operation("delete", key)
    if operation.asks_first and not exists(talk, key):
        raise missing(key)
    values = {}
    if "newest" in operation.sources():
        facts = facts_about(talk, key)
        values = newest(facts)
        if operation.if_match == "newest" and condition.if_match not in (None, "*"):
            # What was changed since is newer than this, and so the server leaves it.
            condition.check(key, str(facts.get("version")), exists=True)
            values = {"newest": facts.get("modified")}
    reply = talk.ask("delete", key, values=values, condition=condition)
    verify(talk, reply)
    reply.answer.finish()
    if talk.profile.metadata.may_be_missing:
        documents.delete_document(talk, key)


def reserve(talk: Talk, family: str) -> str:
    """Have the server make a new key of a family, and return it.

    Raises:
        UnsupportedOperationError: here clients choose their keys.
        InvalidKeyError: there is no such family.
    """
    reply = talk.ask("reserve", check_key(family))
    told = reply.told()
    reply.answer.finish()
    if "key" not in told:
        raise reply.answer.refused("does not tell the new key")
    return talk.profile.check_key(str(told["key"]).strip())


def _send_data(talk: Talk, key: str, change: Change, source: Source) -> Written:
    operation = talk.operation("set", key)
    carrier = talk.profile.metadata.carrier
    metadata = change.metadata
    if carrier == "document" and metadata is not None and change.condition:
        message = "Data and metadata take two requests here, and a condition holds for one."
        raise UnsupportedOperationError(message, key=key)
    values: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if carrier in ("header", "headers"):
        headers = header_fields(talk, key, _kept(talk, key) if metadata is None else metadata)
    elif carrier == "fields":
        values = sent_values(talk, key, operation, metadata or {})
    elif carrier != "document" and metadata:
        raise talk.unsupported("set with metadata", key)
    existed = None if operation.tells_new else exists(talk, key)
    values |= {"data.mimetype": change.mimetype or DEFAULT_MIMETYPE}
    reply = put_data(talk, key, change, source, values, headers)
    if existed is None:
        existed = reply.answer.status != 201
    if carrier == "document":
        # What an earlier key of this name had left behind is not that of a new one.
        documents.settle(talk, key, metadata, existed=existed)
    if carrier == "fields":  # what the server says, such as the version that it stored
        metadata = metadata_of_fields(talk.profile, reply)
    return _written(reply, existed=existed, metadata=metadata)


def _written(reply: Reply, *, existed: bool, metadata: JsonObject | None) -> Written:
    return Written(reply.version(), existed, metadata)


def _kept(talk: Talk, key: str) -> JsonObject:
    try:
        return read_metadata(talk, key)
    except KeyNotFoundError:
        return {}
