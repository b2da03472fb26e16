"""Rows of the index as records, and back."""

from __future__ import annotations

import functools
import json
import sqlite3
from typing import Any, NamedTuple

from kvstore.documents import JsonObject
from kvstore.history import Action, JournalEntry
from kvstore.values import Permissions, Record, permissions_document

#: Characters of metadata that are in memory at a time, about.
PAGE_SIZE = 8 << 20

ACTIONS: tuple[Action, ...] = ("set", "update", "delete")
SET, UPDATE, DELETE = range(3)

_FIELDS = (
    "c.key, c.revision, c.metadata, c.permissions, c.created, c.modified, c.size, c.mimetype, "
    "c.digest"
)
_NOW = "FROM entry e CROSS JOIN change c ON c.seq = e.seq"
_ROW = (
    f"SELECT {_FIELDS}, e.id, e.seq, c.blob, b.file, "
    f"EXISTS (SELECT 1 FROM version v WHERE v.key = e.key) {_NOW} "
    "LEFT JOIN blob b ON b.id = c.blob WHERE e.key = ?"
)
_BLOB = "LEFT JOIN blob b ON b.id = c.blob"
_CONTENT = f"SELECT {_FIELDS}, b.file, b.data"

# What is read of a key; each gives one row or none. Of RECORD `record_of` makes a record, of
# CONTENT and CONTENT_OF_VERSION `content_of` a content.
EXISTS = "SELECT 1 FROM entry WHERE key = ?"
RECORD = f"SELECT {_FIELDS} {_NOW} WHERE e.key = ?"
METADATA = f"SELECT c.metadata {_NOW} WHERE e.key = ?"
#: Where the data are, and what they should be: file, bytes, size, digest.
DATA = f"SELECT b.file, b.data, c.size, c.digest {_NOW} {_BLOB} WHERE e.key = ?"
CONTENT = f"{_CONTENT} {_NOW} {_BLOB} WHERE e.key = ?"
#: Arguments: key, key, revision.
CONTENT_OF_VERSION = (
    f"{_CONTENT} FROM (SELECT seq FROM entry WHERE key = ? UNION ALL "
    "SELECT seq FROM version WHERE key = ?) k "
    f"CROSS JOIN change c ON c.seq = k.seq {_BLOB} WHERE c.revision = ?"
)
NEWEST = "SELECT coalesce(max(seq), 0) FROM change"
#: Numbers of the newest change, and of the oldest that is remembered.
EXTENT = f"SELECT n, max(oldest, n - keep_changes + 1) FROM state, (SELECT ({NEWEST}) AS n)"
_VERSIONS = (
    f"SELECT {_FIELDS}, c.seq, c.blob FROM version v CROSS JOIN change c ON c.seq = v.seq "
    "WHERE v.key = ? ORDER BY v.seq DESC"
)
#: Rows of `change` as RECORD gives them, and their numbers; which, is a JSON array.
BY_NUMBER = f"SELECT {_FIELDS}, c.seq FROM json_each(?) j CROSS JOIN change c ON c.seq = j.value"
_JOURNAL = (
    "SELECT seq, action, key, revision, metadata, changed, permissions FROM change "
    "WHERE seq > ? ORDER BY seq LIMIT ?"
)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


class Row(NamedTuple):
    """What the index holds of a key now."""

    record: Record
    #: Metadata and permissions as they are in the row.
    text: str
    permissions: str
    id: int
    seq: int
    blob: int | None
    #: The file of the blob, if it is one.
    file: str | None
    #: Whether the key has earlier versions.
    has_versions: int


class Kept(NamedTuple):
    """An earlier version."""

    record: Record
    seq: int
    blob: int | None


class Content(NamedTuple):
    """A record and where its data are: a file, or here."""

    record: Record
    file: str | None
    data: bytes | None


def record_of(row: tuple[Any, ...]) -> Record:
    """Return the record that the first columns of a row are."""
    return Record(
        key=row[0],
        metadata=parsed(row[2]),
        size=row[6],
        created=row[4],
        modified=row[5],
        mimetype=row[7],
        revision=row[1],
        digest=f"sha256:{row[8].hex()}",
        permissions=permissions_of(row[3]),
    )


def current(connection: sqlite3.Connection, key: str) -> Row | None:
    """Return what holds for *key*, None if there is no such key."""
    row = connection.execute(_ROW, (key,)).fetchone()
    return None if row is None else Row(record_of(row), row[2], row[3], *row[9:])


def content_of(row: tuple[Any, ...]) -> Content:
    """Return the record that the first columns of a row are, and where its data are."""
    return Content(record_of(row), row[9], row[10])


def current_record(connection: sqlite3.Connection, key: str) -> Record | None:
    """Return the record of *key*, None if there is no such key."""
    row = connection.execute(RECORD, (key,)).fetchone()
    return None if row is None else record_of(row)


def versions(connection: sqlite3.Connection, key: str) -> list[Kept]:
    """Return the earlier versions of *key*, the newest first."""
    return [Kept(record_of(row), *row[9:]) for row in connection.execute(_VERSIONS, (key,))]


def journal(connection: sqlite3.Connection, since: int, limit: int) -> list[JournalEntry]:
    """Return entries of the journal after *since*, none if there are none; few if they are long."""
    entries = []
    size = 0
    for seq, action, key, revision, metadata, when, permissions in connection.execute(
        _JOURNAL, (since, limit)
    ):
        told = (ACTIONS[action], key, revision, parsed(metadata), when, permissions_of(permissions))
        entries.append(JournalEntry(seq, *told))
        size += len(metadata)
        if size > PAGE_SIZE:
            break
    return entries


def parsed(text: str) -> JsonObject:
    """Return the metadata of a row. They are our own JSON, with nothing before or behind it."""
    metadata: JsonObject = _decode(text)[0]
    return metadata


def text_of(metadata: JsonObject) -> str:
    """Return metadata as a row has them."""
    return _encode(metadata)


def permissions_text(permissions: Permissions) -> str:
    """Return permissions as a row has them."""
    return _encode(permissions_document(permissions))


def permissions_of(text: str) -> Permissions:
    """Return the permissions of a row."""
    return {name: set(tags) for name, tags in _parsed_permissions(text)}


@functools.lru_cache(1024)  # most keys of a store have the same ones
def _parsed_permissions(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(tags)) for name, tags in json.loads(text).items())
