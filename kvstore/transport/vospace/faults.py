"""Faults of the standard as our errors (VOSpace 2.1 section 6 and what follows)."""

from __future__ import annotations

import re

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidRequestError,
    KeyNotFoundError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.profiles.problems import error_of, request_id_of, visible
from kvstore.transport.bodies import Answer

_ERRORS: dict[str, type[StoreError]] = {
    "nodenotfound": KeyNotFoundError,
    "unreadablelinktarget": KeyNotFoundError,
    "containernotfound": ConflictError,
    "duplicatenode": ConflictError,
    "linkfound": ConflictError,
    "nodelocked": AuthorizationError,
    "permissiondenied": AuthorizationError,
    "notauthenticated": AuthenticationError,
    "invaliduri": InvalidKeyError,
    "invalidargument": InvalidRequestError,
    "invaliddata": IntegrityError,
    "typenotsupported": UnsupportedOperationError,
    "viewnotsupported": UnsupportedOperationError,
    "protocolnotsupported": UnsupportedOperationError,
    "operationnotsupported": UnsupportedOperationError,
    "optionnotsupported": UnsupportedOperationError,
    "requestentitytoolarge": TooLargeError,
    "insufficientstorage": StorageFullError,
    "nodebusy": UnavailableError,
    "servicebusy": UnavailableError,
    "transferfailed": TransportError,
    "internalfault": TransportError,
}
#: Statuses that a fault may have; the exchange itself tries again what may be over soon.
STATUSES = frozenset({400, 403, 404, 405, 409, 412, 413, 415, 422, 423, 501, 507})
_MOST = 1 << 14
_FIRST = re.compile(r"\s*([A-Za-z]{4,40})")


def fault_name(text: str) -> str:
    """Return the name of the fault that a text begins with, in small letters; empty for none.

    Summaries of jobs have blanks within the name.
    """
    first = _FIRST.match(text)
    name = "" if first is None else first[1].lower()
    if name in _ERRORS:
        return name
    squeezed = "".join(text.split()).lower()[:60]
    return next((known for known in _ERRORS if squeezed.startswith(known)), "")


def refused(answer: Answer, key: str | None, context: str) -> tuple[str, StoreError]:
    """Return the name of the fault that an answer tells, and the error that it stands for."""
    text = ""
    try:
        text = answer.read(_MOST).decode("utf-8", "replace").strip()
    except TransportError:
        answer.close()  # the status is what counts; no page about it can hide it
    return fault_name(text), error_for(
        text, key, status=answer.status, context=context, request_id=request_id_of(answer.headers)
    )


def error_for(
    text: str,
    key: str | None,
    *,
    status: int | None = None,
    context: str,
    request_id: str | None = None,
) -> StoreError:
    """Return the error for what a service says of a failure.

    Args:
        text: the body of the answer, or what a job says; not trusted.
        context: the request in a few words.
    """
    name = fault_name(text)
    kind = _ERRORS.get(name)
    if status == 412 and kind in (None, InvalidRequestError):
        kind = IntegrityError  # the only condition that is ever sent is the digest of the data
    if kind is None:
        document = None if text.startswith("<") or not text else {"detail": text}
        if status is None:
            shown = visible(text) or "no reason told"
            return TransportError(f"The service failed: {shown} ({context}).", key=key)
        return error_of(status, document, key=key, request_id=request_id, context=context)
    shown = visible(text).removesuffix(".") or name
    message = f"The service says: {shown} ({context})."
    return kind(message, key=key, status=status, request_id=request_id)
