"""Facts and metadata of one key, wherever the profile says that they are told."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from kvstore.documents import JsonObject, parse_json
from kvstore.errors import InvalidRequestError, KeyNotFoundError, TransportError
from kvstore.profiles.facts import Fact, Place, at_pointer, record_of
from kvstore.profiles.profile import Profile
from kvstore.query import Query
from kvstore.transport.mapped.decoding import coding_of
from kvstore.transport.mapped.listing import list_entries
from kvstore.transport.mapped.replies import Reply, checked_metadata
from kvstore.transport.mapped.talk import Talk
from kvstore.values import Record


def exists(talk: Talk, key: str) -> bool:
    """Tell whether there is such a key."""
    try:
        # A required fact that is not told makes it no key.
        _about(talk, key, "exists" if talk.has("exists") else None)
    except KeyNotFoundError:
        return False
    return True


def facts_about(talk: Talk, key: str) -> dict[str, Any]:
    """Return what the server tells about a key, but for metadata.

    Raises:
        KeyNotFoundError: no such key.
    """
    return _about(talk, key)[1]


def size_of(talk: Talk, key: str) -> int:
    """Return how many bytes of data *key* has.

    Raises:
        TransportError: the server does not tell.
    """
    size = facts_about(talk, key).get("size")
    if size is None:
        raise TransportError(f"The server does not tell the size of {key!a:.100}.", key=key)
    return int(size)


def record_with_metadata(talk: Talk, key: str) -> Record:
    """Return all facts about a key; its size is -1 where only the end of the data tells it."""
    reply, told = _about(talk, key)
    return record_of(key, told, metadata_of(talk, key, reply, told))


def read_metadata(talk: Talk, key: str) -> JsonObject:
    """Return the metadata of *key*.

    Raises:
        KeyNotFoundError: no such key.
        TransportError: the server sent something else.
    """
    rules = talk.profile.metadata
    if rules.carrier == "document" and not rules.may_be_missing:
        return _document(talk, key)
    reply, told = _about(talk, key)
    return metadata_of(talk, key, reply, told)


def metadata_of(talk: Talk, key: str, reply: Reply, told: dict[str, Any]) -> JsonObject:
    """Return the metadata of *key*, which has told something already.

    Where a list has the metadata, what else it tells is added to *told*.
    """
    rules = talk.profile.metadata
    match rules.carrier:
        case "document":
            try:
                return _document(talk, key) if talk.has("get_metadata") else {}
            except KeyNotFoundError:
                if rules.may_be_missing:
                    return {}
                raise
        case "header" | "headers":
            return metadata_of_headers(talk.profile, reply.answer.headers)
        case "fields":
            return metadata_of_fields(talk.profile, reply)
        case "listing":
            return _listed(talk, key, told)
    found: JsonObject = told.get("metadata", {})
    return found


def metadata_of_headers(profile: Profile, headers: Mapping[str, str]) -> JsonObject:
    """Return the metadata in the header, or those whose names begin with the profile's prefix."""
    rules = profile.metadata
    prefix = rules.prefix.lower()
    found: JsonObject = {}
    if rules.carrier == "header":
        whole = Fact(Place("header", rules.header), "json").read(
            lambda _: headers.get(rules.header)
        )
        return {} if whole is None else checked_metadata(whole, "")
    for name, value in headers.items():
        if name.lower().startswith(prefix):
            field = name[len(prefix) :].lower()
            try:
                is_json = rules.codec == "json"
                found[field] = parse_json(value.encode(), what=name) if is_json else value
            except InvalidRequestError as error:
                raise TransportError(f"The server sent no metadata: {error.message}") from error
    return found


def metadata_of_fields(profile: Profile, reply: Reply) -> JsonObject:
    """Return the metadata that are facts of an answer."""
    fields = {
        name: fact.read(reply.find)
        for name, fact in profile.metadata.fields.items()
        if not (reply.operation.name == "get" and fact.place.kind != "header")
    }
    return {name: value for name, value in fields.items() if value is not None}


def _about(talk: Talk, key: str, name: str | None = None) -> tuple[Reply, dict[str, Any]]:
    """Ask for the facts about a key, without its data where the server can do that."""
    reply = talk.ask(name or ("head" if talk.has("head") else "get"), key)
    told = reply.told()
    if reply.operation.name == "get":
        if "size" not in told and reply.answer.length is not None and not coding_of(reply.answer):
            told["size"] = reply.answer.length
        reply.answer.close()
    else:
        reply.load()
    return reply, told


def _document(talk: Talk, key: str) -> JsonObject:
    reply = talk.ask("get_metadata", key, headers={"Accept": "application/json"})
    return checked_metadata(at_pointer(reply.document(), talk.profile.metadata.pointer), key)


def _listed(talk: Talk, key: str, told: dict[str, Any]) -> JsonObject:
    with closing(list_entries(talk, Query(prefix=key))) as entries:
        for entry in entries:
            if entry["key"] == key:
                told.update({name: entry[name] for name in entry if name not in told})
                if "mimetype" in entry:
                    told["mimetype"] = entry["mimetype"]
                return checked_metadata(entry.get("metadata", {}), key)
    return {}
