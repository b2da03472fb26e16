"""Answers before they are sent: status, header fields and body, and those that tell of errors."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO, TypeAlias

from kvstore.documents import dump_json
from kvstore.errors import (
    AuthenticationError,
    InvalidRequestError,
    RangeError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.profiles.conditions import format_etag, format_http_date
from kvstore.profiles.problems import MEDIA_TYPE, problem_of
from kvstore.readers import FileSpan
from kvstore.values import DEFAULT_MIMETYPE, Record, check_mimetype

Field: TypeAlias = tuple[bytes, bytes]

#: Pages of others must not make a browser guess types, nor show or embed what is stored here.
NOSNIFF: Field = (b"x-content-type-options", b"nosniff")
SAFE: tuple[Field, ...] = (
    NOSNIFF,
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
#: Caches may keep an answer, and ask before each use whether it still holds.
REVALIDATE: Field = (b"cache-control", b"no-cache")
NO_STORE: Field = (b"cache-control", b"no-store")
#: What is the same for ever may be kept unasked, by who was allowed to read it. Not for ever: what
#: was deleted, or may not be read any more, should be gone from a browser after a day, too.
IMMUTABLE: tuple[Field, ...] = (
    (b"cache-control", b"private, max-age=86400, immutable"),
    (b"vary", b"authorization"),
)
CLOSE: Field = (b"connection", b"close")

# Of tus 1.0, which no registry has.
_OWN_PHRASES = {460: "Checksum Mismatch"}
_ATTACHMENT: Field = (b"content-disposition", b"attachment")
# Types in which no browser runs anything, so that they may be shown.
_SHOWN = frozenset(
    {
        "application/json",
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
    }
)


@dataclass(slots=True)
class Reply:
    """One answer. ``stream`` holds ``left`` more bytes behind ``body``, in ``span`` as they are."""

    status: int
    fields: list[Field]
    body: bytes = b""
    stream: BinaryIO | None = None
    left: int = 0
    span: FileSpan | None = None


class Refusal(Exception):  # noqa: N818 - an answer, of which most are no error of the server
    """Ends a request with a status that is no :class:`~kvstore.errors.StoreError`."""

    def __init__(self, status: int, detail: str, fields: Iterable[Field] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = tuple(fields)


class NotAllowedError(UnsupportedOperationError):
    """The method means nothing for this URL (HTTP 405)."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"This URL has no {method:.20}, only {allow}.", status=405)
        self.allow = allow


@functools.lru_cache(maxsize=1024)
def type_fields(mimetype: str) -> tuple[Field, ...]:
    """The fields that say what data is, and keep a browser from running it."""
    try:
        check_mimetype(mimetype)
    except InvalidRequestError:  # not everything in a store came through the contract
        mimetype = DEFAULT_MIMETYPE
    shown = mimetype.partition(";")[0].strip().lower() in _SHOWN
    content_type = (b"content-type", mimetype.encode("ascii"))
    return (content_type, *SAFE) if shown else (content_type, *SAFE, _ATTACHMENT)


def key_fields(record: Record, caching: Iterable[Field] = (REVALIDATE,)) -> list[Field]:
    """The fields of every answer about a key: its revision, and when it was changed."""
    return [*caching, *state_fields(record.revision, record.modified)]


def state_fields(revision: str | None, modified: float | None) -> list[Field]:
    """The fields that tell of the state of a key, as far as that is known."""
    found = etag_fields(revision)
    if modified is not None:
        found.append((b"last-modified", _http_date(math.floor(modified))))
    return found


def etag_fields(revision: str | None) -> list[Field]:
    """The ``ETag`` of a revision; nothing for one that no tag can hold."""
    if revision is None:
        return []
    try:
        return [(b"etag", format_etag(revision).encode("latin-1"))]
    except (InvalidRequestError, UnicodeEncodeError):
        return []


def length_field(length: int) -> Field:
    """``Content-Length``."""
    return (b"content-length", b"%d" % length)


def json_reply(document: object, fields: Iterable[Field] = (), *, status: int = 200) -> Reply:
    """A JSON document as an answer."""
    body = dump_json(document)
    own = [(b"content-type", b"application/json"), length_field(len(body)), *SAFE]
    return Reply(status, [*own, *fields], body)


def problem_reply(error: Exception, members: Mapping[str, object] | None = None) -> Reply:
    """The answer that tells a client of *error*, as a problem document (RFC 9457).

    Args:
        members: what the document has beside its own members.
    """
    fields: list[Field] = [(b"content-type", MEDIA_TYPE.encode()), NO_STORE, *SAFE]
    if isinstance(error, Refusal):
        status = error.status
        document = blank_problem(status, error.detail)
        fields += error.fields
    else:
        status, document = problem_of(error)
    if isinstance(error, NotAllowedError):
        fields.append((b"allow", error.allow.encode()))
    elif isinstance(error, RangeError) and error.size is not None:
        fields.append((b"content-range", b"bytes */%d" % error.size))
    elif isinstance(error, UnavailableError):
        fields.append((b"retry-after", b"%d" % math.ceil(error.retry_after or 1)))
    elif isinstance(error, AuthenticationError):
        fields.append((b"www-authenticate", b"Bearer"))
    body = dump_json({**document, **(members or {})})
    return Reply(status, [*fields, length_field(len(body))], body)


def blank_problem(status: int, detail: str) -> dict[str, object]:
    """The problem document of a status that says everything itself (RFC 9457 section 4.2.1)."""
    return {
        "type": "about:blank",
        "title": _OWN_PHRASES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


@functools.lru_cache(maxsize=4096)
def _http_date(seconds: int) -> bytes:
    return format_http_date(seconds).encode()
