"""``{key}/value``: a line of JSON and then the data, so that both travel in one request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kvstore.documents import JsonObject, check_metadata, json_type, parse_object
from kvstore.errors import InvalidMetadataError, InvalidRequestError, TooLargeError
from kvstore.profiles import wire
from kvstore.profiles.digests import DigestCheck, Hasher, field_of_digest
from kvstore.server.answers import SAFE, Field, Reply
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.preconditions import guard_write, is_conditional
from kvstore.server.handlers.reading import Plan, read_key
from kvstore.server.handlers.receiving import (
    Pieces,
    check_upload,
    stored_reply,
    take_body,
    verified,
)
from kvstore.server.site import Site
from kvstore.streams import Source
from kvstore.values import Permissions, Record, check_mimetype, check_permissions
from kvstore.writes import Change

_TYPE: Field = (b"content-type", wire.VALUE_TYPE.encode())
_MEMBERS = frozenset({"metadata", "permissions", "digest", "mimetype"})
#: Bytes that the first line may have beside the metadata.
_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class Head:
    """What the first line of a PUT says; None is what it does not say."""

    metadata: JsonObject | None
    permissions: Permissions | None
    mimetype: str | None
    check: DigestCheck | None


async def get_value(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer GET and HEAD: 200, 304, 412. There are no ranges, as it is framed for one go."""

    def plan(record: Record) -> Plan:
        return Plan(200, [_TYPE, *SAFE], wire.record_line(record) + b"\n")

    return await site.workers.run(read_key, site, exchange, key, plan)


async def put_value(site: Site, exchange: Exchange, key: str) -> Reply:
    """Answer PUT: 201, or 204 where the key existed. What the line does not name stays."""
    store = site.writer  # refuses before the body comes
    longest = site.limits.metadata + _ROOM
    check = check_upload(exchange, site.limits.data + longest + 1)

    def write(body: Pieces) -> Reply:
        known = site.find(key) if is_conditional(exchange) else None
        guard = guard_write(site, exchange, key, known)
        line, data = _split(verified(body, check, key), longest)
        head = parse_head(site, line, key)
        change = Change(
            data=Source(verified(_bounded(data, site.limits.data), head.check, key)),
            metadata=head.metadata,
            permissions=head.permissions,
            mimetype=head.mimetype,
            condition=guard.condition,
        )
        with guard.held():
            written = store.write(key, change)
        return stored_reply(site, key, written, has_data=True)

    return await take_body(site, exchange, write)


def _split(body: Pieces, longest: int) -> tuple[bytes, Pieces]:
    """Return the first line and what is behind it."""
    if isinstance(body, bytes):
        line, newline, data = body.partition(b"\n")
        _check_line(line, longest, is_whole=bool(newline))
        return line, data
    head = bytearray()
    for piece in body:
        begin = len(head)
        head += piece
        end = head.find(b"\n", begin)
        _check_line(head if end < 0 else head[:end], longest, is_whole=True)
        if end >= 0:
            return bytes(head[:end]), chain([bytes(head[end + 1 :])], body)
    _check_line(head, longest, is_whole=False)
    raise AssertionError("unreachable")


def _check_line(line: bytes | bytearray, longest: int, *, is_whole: bool) -> None:
    if len(line) > longest:
        raise TooLargeError(f"The first line of a value has at most {longest} bytes.")
    if not is_whole:
        raise InvalidRequestError("A value begins with a line of JSON; the body has no line end.")


def _bounded(data: Pieces, limit: int) -> Pieces:
    if not isinstance(data, bytes):
        return _counted(data, limit)
    _check_size(len(data), limit)
    return data


def _counted(data: Iterator[bytes], limit: int) -> Iterator[bytes]:
    done = 0
    for piece in data:
        done += len(piece)
        _check_size(done, limit)
        yield piece


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLargeError(f"The data of a key has at most {limit} bytes.")


def parse_head(site: Site, line: bytes, key: str, *, hasher: Hasher | None = None) -> Head:
    """Read the object that a value begins with.

    Args:
        hasher: the SHA-256 of the data, where somebody works it out anyhow.

    Raises:
        InvalidRequestError, InvalidMetadataError, InvalidPermissionsError: what is malformed.
        UnsupportedOperationError: it has permissions, and the store has none.
    """
    document = parse_object(line, what="first line of a value")
    unknown = document.keys() - _MEMBERS
    if unknown:
        raise InvalidRequestError(
            f"The first line of a value has no member {min(unknown)!r:.100}, only "
            f"{', '.join(sorted(_MEMBERS))}."
        )
    metadata = document.get("metadata")
    permissions = document.get("permissions")
    mimetype = _text(document, "mimetype")
    digest = _text(document, "digest")
    if permissions is not None:
        _ = site.authorizer
    return Head(
        metadata=None if metadata is None else _checked_metadata(metadata, key),
        permissions=None if permissions is None else check_permissions(permissions, complete=True),
        mimetype=check_mimetype(mimetype),
        check=None if digest is None else DigestCheck([field_of_digest(digest)], sha256=hasher),
    )


def _checked_metadata(metadata: Any, key: str) -> JsonObject:
    if not isinstance(metadata, dict):
        message = f"The metadata is a JSON {json_type(metadata)}, not an object."
        raise InvalidMetadataError(message, key=key)
    return check_metadata(metadata)


def _text(document: JsonObject, name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"The {name} of a value is a string, not {value!r:.100}.")
    return value
