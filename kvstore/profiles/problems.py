"""Errors as problem documents (RFC 9457) and back: one table for the server and the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ChangesLostError,
    ConflictError,
    DamagedError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    RangeError,
    StorageError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.keys import MAX_KEY_BYTES

#: Begins the ``type`` of every problem of ours.
PREFIX = "urn:kvstore:error:"
#: Media type of a problem document.
MEDIA_TYPE = "application/problem+json"

#: The header field in which a server says what it calls a request; many do.
REQUEST_ID = "X-Request-Id"

_MAX_TEXT = 500
_MAX_ID = 100
#: Seconds. JSON knows numbers that no float holds, so there must be an end.
_MAX_WAIT = 1e9


@dataclass(frozen=True, slots=True)
class Problem:
    """How one type of error travels."""

    error: type[StoreError]
    #: Last part of the ``type``.
    name: str
    #: Statuses that it may have; the first one where the error does not say which.
    statuses: tuple[int, ...]
    title: str


_PROBLEMS = (
    Problem(KeyNotFoundError, "key-not-found", (404,), "There is no such key"),
    Problem(InvalidKeyError, "invalid-key", (400,), "The key is not legal"),
    Problem(InvalidMetadataError, "invalid-metadata", (400, 422), "The metadata break a rule"),
    Problem(InvalidPermissionsError, "invalid-permissions", (400,), "The permissions break a rule"),
    Problem(InvalidRequestError, "invalid-request", (400,), "The request cannot be served"),
    Problem(RangeError, "range", (416,), "The range lies outside the data"),
    Problem(TooLargeError, "too-large", (413, 414, 431), "Something is larger than is allowed"),
    Problem(AuthenticationError, "authentication", (401,), "Valid credentials are needed"),
    Problem(AuthorizationError, "authorization", (403,), "This is not permitted"),
    Problem(ConflictError, "conflict", (412, 409), "A condition failed; nothing was changed"),
    Problem(ChangesLostError, "changes-lost", (410,), "The changes asked for are forgotten"),
    Problem(IntegrityError, "integrity", (400, 500), "Bytes and digest or length disagree"),
    Problem(
        UnsupportedOperationError, "unsupported-operation", (501, 405), "This is not supported"
    ),
    Problem(NotConnectedError, "not-connected", (500,), "The server's store is not connected"),
    Problem(StorageFullError, "storage-full", (507,), "No room is left; nothing was changed"),
    Problem(DamagedError, "damaged", (500,), "The server's storage is damaged"),
    Problem(StorageError, "storage", (500,), "The server cannot read or write its storage"),
    Problem(UnavailableError, "unavailable", (503, 429), "Not now; trying again later may help"),
    Problem(TransportError, "transport", (502, 504), "The server could not reach another server"),
    Problem(StoreError, "store", (500,), "The store failed"),
)
_BY_ERROR = {problem.error: problem for problem in _PROBLEMS}
_BY_NAME = {PREFIX + problem.name: problem for problem in _PROBLEMS}

#: What a status means where no document of ours tells more; other 4xx are invalid requests.
_BY_STATUS: dict[int, type[StoreError]] = {
    401: AuthenticationError,
    403: AuthorizationError,
    404: KeyNotFoundError,
    405: UnsupportedOperationError,
    409: ConflictError,
    410: ChangesLostError,
    412: ConflictError,
    413: TooLargeError,
    414: TooLargeError,
    416: RangeError,
    422: InvalidMetadataError,
    429: UnavailableError,
    431: TooLargeError,
    501: UnsupportedOperationError,
    503: UnavailableError,
    507: StorageFullError,
}


def problem_of(error: Exception) -> tuple[int, dict[str, object]]:
    """The status and the problem document that tell a client of ``error``.

    An error that may travel with several statuses takes its own ``status`` if that is one of
    them: 422 for metadata that break a schema, 429 for a client that asks too often, 500 for
    stored bytes that are damaged. The document of a server error has no ``detail``, since its
    text may name paths, hosts or SQL; neither ``store`` nor ``attempts`` travels. What is no
    :class:`~kvstore.errors.StoreError` gives a bare 500.
    """
    if not isinstance(error, StoreError):
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return status.value, {"type": "about:blank", "title": status.phrase, "status": status.value}
    problem = next(_BY_ERROR[cls] for cls in type(error).__mro__ if cls in _BY_ERROR)
    code = error.status if error.status in problem.statuses else problem.statuses[0]
    document: dict[str, object] = {
        "type": PREFIX + problem.name,
        "title": problem.title,
        "status": code,
    }
    if code < 500 or code == HTTPStatus.NOT_IMPLEMENTED:
        document["detail"] = visible(error.message)
    if error.key is not None:
        document["key"] = error.key.encode(errors="backslashreplace").decode()
    extras = _attributes(error).items()
    document.update((name, value) for name, value in extras if value is not None)
    return code, document


def error_of(
    status: int,
    document: Mapping[str, object] | None,
    *,
    key: str | None,
    retry_after: float | None = None,
    request_id: str | None = None,
    context: str,
) -> StoreError:
    """The error to raise for an answer that tells of a failure.

    The document's ``type`` decides where it is one of ours and agrees with the status, otherwise
    the status alone. Nothing in the document is trusted: what is shown is cut, its control
    characters are escaped, and members of a wrong type or length are left out.

    Args:
        status: of the answer.
        document: its parsed body, if that is a JSON object.
        key: the key asked for; ``None`` takes the document's.
        retry_after: seconds that the ``Retry-After`` field asks for; it wins over the document.
        request_id: what :func:`request_id_of` found; ``None`` takes the document's.
        context: the request in a few words, such as ``GET http://host/k/data``.
    """
    document = document or {}
    problem = _BY_NAME.get(_text(document, "type") or "")
    is_odd = status >= 500
    if problem is None or not _agrees(problem, status, document):
        problem = _BY_ERROR[_class_of(status)]
        is_odd |= status not in _BY_STATUS
    text = _text(document, "detail") or _text(document, "title") or _phrase(status)
    request_id = request_id or _id(_text(document, "request_id"))
    # Of what a user can do nothing about, somebody else must be told.
    named = f", request {request_id}" if request_id is not None and is_odd else ""
    message = f"{visible(text).removesuffix('.')} ({context}: HTTP {status}{named})."
    arguments: dict[str, object] = {"status": status, "request_id": request_id}
    if issubclass(problem.error, InvalidMetadataError):
        arguments["pointer"] = _pointer(document)
    elif issubclass(problem.error, RangeError):
        arguments["size"] = _size(document.get("size"))
    elif issubclass(problem.error, ChangesLostError):
        arguments["oldest"] = _size(document.get("oldest"))
    elif issubclass(problem.error, UnavailableError):
        told = _seconds(document.get("retry_after"))
        arguments["retry_after"] = told if retry_after is None else retry_after
    build: Callable[..., StoreError] = problem.error
    return build(message, key=_key(document) if key is None else key, **arguments)


def request_id_of(fields: Mapping[str, str]) -> str | None:
    """What the header fields of an answer call its request, fit to be shown; None if nothing."""
    return _id(fields.get(REQUEST_ID))


def quoted(request_id: str | None) -> str:
    """What a message has before its full stop, so that a user can say which request it was."""
    return "" if request_id is None else f" (request {request_id})"


def _attributes(error: StoreError) -> dict[str, object]:
    """Members that only some types have."""
    match error:
        case InvalidMetadataError():
            return {"pointer": error.pointer.encode(errors="backslashreplace").decode()}
        case RangeError():
            return {"size": error.size}
        case ChangesLostError():
            return {"oldest": error.oldest}
        case UnavailableError():
            return {"retry_after": _seconds(error.retry_after)}
    return {}


def _agrees(problem: Problem, status: int, document: Mapping[str, object]) -> bool:
    return status in problem.statuses and document.get("status", status) == status


def _class_of(status: int) -> type[StoreError]:
    fallback = InvalidRequestError if 400 <= status < 500 else TransportError
    return _BY_STATUS.get(status, fallback)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "That is no status of HTTP"


def visible(text: str) -> str:
    """At most 500 characters, and nothing that moves the cursor, breaks a line or hides."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text[: _MAX_TEXT + 1]
    )
    return shown if len(shown) <= _MAX_TEXT else f"{shown[: _MAX_TEXT - 1]}…"


def _text(document: Mapping[str, object], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) else None


def _id(text: str | None) -> str | None:
    return visible(text[:_MAX_ID]) if text else None


def _key(document: Mapping[str, object]) -> str | None:
    key = _text(document, "key")
    return key if key and len(key.encode(errors="replace")) <= MAX_KEY_BYTES else None


def _pointer(document: Mapping[str, object]) -> str:
    """The pointer, which is data and so not escaped; a long one gives that of what encloses it."""
    pointer = _text(document, "pointer") or ""
    return pointer if len(pointer) <= _MAX_TEXT else pointer[:_MAX_TEXT].rpartition("/")[0]


def _size(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MAX_WAIT else None
