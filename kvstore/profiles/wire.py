"""Records, values and queries as they travel; the same functions serve client and server."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from kvstore.documents import JsonObject, dump_json, parse_object
from kvstore.errors import InvalidRequestError, TransportError
from kvstore.history import Action, JournalEntry
from kvstore.profiles.conditions import parse_etag, parse_http_date
from kvstore.profiles.digests import digest_of_field
from kvstore.query import Query
from kvstore.values import DEFAULT_MIMETYPE, Record, is_integer

VALUE_TYPE = "application/vnd.kvstore.value"
RECORDS_TYPE = "application/x-ndjson"
#: Media type of a live feed (HTML, section 9.2: server-sent events).
EVENTS_TYPE = "text/event-stream"
#: Media type of a part of an upload, and the version of its protocol (tus 1.0).
PART_TYPE = "application/offset+octet-stream"
TUS_VERSION = "1.0.0"
#: The header field that tells the newest change of a journal.
SEQUENCE_FIELD = "Kvstore-Sequence"
SERVICE_PATH = "/.well-known/kvstore"
#: The parameter that asks for an earlier version of data or a value.
VERSION_PARAMETER = "$version"

_SIZE = re.compile(r"[0-9]{1,18}")
# What nearly all say, which needs no parser of structured fields.
_USUAL_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def record_line(record: Record) -> bytes:
    """Return the first line of a value, and a line of a query's answer: all the facts."""
    return dump_json(
        {
            "key": record.key,
            "metadata": record.metadata,
            "size": record.size,
            "created": record.created,
            "modified": record.modified,
            "mimetype": record.mimetype,
            "revision": record.revision,
            "digest": record.digest,
        }
    )


def parse_record(line: bytes, *, key: str | None = None) -> Record:
    """Return the record in a line of :func:`record_line`.

    Raises:
        TransportError: it is none, or of another key than *key*: the server speaks nonsense.
    """
    try:
        document = parse_object(line, what="record")
        record = Record(
            key=_member(document, "key", str),
            metadata=_member(document, "metadata", dict),
            size=_member(document, "size", int),
            created=_member(document, "created", float, None),
            modified=_member(document, "modified", float, None),
            mimetype=_member(document, "mimetype", str, DEFAULT_MIMETYPE),
            revision=_member(document, "revision", str, None),
            digest=_member(document, "digest", str, None),
        )
        if record.digest is not None and not _DIGEST.fullmatch(record.digest):
            raise InvalidRequestError(f"its digest is {record.digest!r:.100}.")
    except (InvalidRequestError, OverflowError) as error:
        raise TransportError(f"The server sent a record that is none: {error}") from error
    if key is not None and record.key != key:
        raise TransportError(f"The server sent the record of {record.key!a:.100} for {key!a:.100}.")
    return record


def entry_line(entry: JournalEntry) -> bytes:
    """Return a line of a list of changes, and the data of an event of a live feed."""
    return dump_json(
        {
            "seq": entry.seq,
            "action": entry.action,
            "key": entry.key,
            "revision": entry.revision,
            "metadata": entry.metadata,
            "time": entry.time,
        }
    )


def parse_entry(line: bytes) -> JournalEntry:
    """Return the change in a line of :func:`entry_line`.

    Raises:
        TransportError: it is none: the server speaks nonsense.
    """
    try:
        document = parse_object(line, what="change")
        action = _member(document, "action", str)
        if action not in get_args(Action):
            raise InvalidRequestError(f"its action is {action!r:.50}.")
        return JournalEntry(
            seq=_member(document, "seq", int),
            action=action,
            key=_member(document, "key", str),
            revision=_member(document, "revision", str),
            metadata=_member(document, "metadata", dict),
            time=_member(document, "time", float),
        )
    except (InvalidRequestError, OverflowError) as error:
        raise TransportError(f"The server sent a change that is none: {error}") from error


def record_of_headers(key: str, headers: Mapping[str, str], metadata: JsonObject) -> Record:
    """Return what the header fields of an answer tell about a key (RFC 9110 section 8)."""
    length = headers.get("Content-Length", "").strip(" \t")
    encoding = headers.get("Content-Encoding") or "identity"
    if not _SIZE.fullmatch(length) or encoding.lower() != "identity":
        told = length if encoding.lower() == "identity" else f"{length} as {encoding}"
        raise TransportError(f"The server does not tell the size of {key!a:.100}: {told!r:.50}.")
    modified = parse_http_date(headers.get("Last-Modified", ""))
    return Record(
        key=key,
        metadata=metadata,
        size=int(length),
        modified=None if modified is None else float(modified),
        mimetype=headers.get("Content-Type") or DEFAULT_MIMETYPE,
        revision=revision_of(headers),
        digest=digest_of(headers),
    )


def revision_of(headers: Mapping[str, str]) -> str | None:
    """Return the revision in ``ETag``; None without one, or with a weak one, which proves less."""
    value = headers.get("ETag")
    if not value:
        return None
    try:
        etag = parse_etag(value)
    except InvalidRequestError:
        return None
    return None if etag.weak else etag.opaque


def digest_of(headers: Mapping[str, str]) -> str | None:
    """Return the digest in ``Repr-Digest`` (RFC 9530), where it is one that we can check."""
    value = headers.get("Repr-Digest")
    if not value:
        return None
    usual = _USUAL_DIGEST.fullmatch(value)
    if usual is not None:
        return f"sha256:{a2b_base64(usual[1]).hex()}"
    try:
        return digest_of_field(value)
    except InvalidRequestError as error:
        raise TransportError(
            f"The server sent the malformed Repr-Digest {value!r:.100}."
        ) from error


def query_parameters(query: Query, *, count: bool = False) -> list[tuple[str, str]]:
    """Return the query parameters for a query, extensions included."""
    plain = {name: value for name, value in query.match.items() if not name.startswith("$")}
    where = query.where
    if len(plain) < len(query.match):
        # A field that looks like a parameter of the protocol can only travel in the filter.
        rest = [{name: {"eq": query.match[name]}} for name in query.match if name not in plain]
        where = {"all": [*rest, *([where] if where is not None else [])]}
    parameters = [(name, dump_json(value).decode()) for name, value in plain.items()]
    if where is not None:
        parameters.append(("$where", dump_json(where).decode()))
    for name, value in (
        ("$prefix", query.prefix or None),
        ("$glob", query.glob),
        ("$order", query.order_by),
        ("$after", query.after),
        ("$limit", None if query.limit is None else str(query.limit)),
        ("$count", "true" if count else None),
    ):
        if value is not None:
            parameters.append((name, value))
    return parameters


def plain_parameters(match: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parameters that a server of the basic protocol understands."""
    return [(name, dump_json(value).decode()) for name, value in match.items()]


def lines_of(pieces: Iterable[bytes], *, limit: int) -> Iterable[bytes]:
    """Yield the lines (ended by ``\\n``) of a body that comes in pieces.

    Raises:
        TransportError: a line over *limit* bytes, or a last one without its end: it was cut.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n") if rest else piece.split(b"\n")
        yield from lines
        if len(rest) > limit:
            raise TransportError(f"The server sent a line of over {limit} bytes.")
    if rest:
        raise TransportError("The server's answer ended within a line.")


_REQUIRED: Any = object()


def _member(document: JsonObject, name: str, kind: type, default: Any = _REQUIRED) -> Any:
    value: Any = document.get(name, default)
    if value is default and default is not _REQUIRED:
        return default
    if value is None and default is None:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_count = kind is not int or (is_integer(value) and value >= 0)
    if not isinstance(value, kind) or not is_count:
        shown = "missing" if value is _REQUIRED else repr(value)[:50]
        raise InvalidRequestError(f"its {name} is {shown}.")
    return value
