"""What a request is called in answers, problem documents and logs."""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Iterable
from typing import Any

from kvstore.server.answers import Field

HEADER = b"x-request-id"

# Of clients and proxies, which must not write into logs whatever they like.
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STATE = "request_id"
_REFUSED = "kvstore.refused"


class _Names:
    """Names that no other request has: nobody needs to be unable to guess them."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(5)
        self._numbers = itertools.count(1)

    def next(self) -> str:
        return f"{self._prefix}-{next(self._numbers):x}"


_names = _Names()


def _begin_anew() -> None:
    global _names  # two processes would count on from the same number
    _names = _Names()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def name_of(values: list[bytes] | None) -> str:
    """Return the id of a request that has these lines of ``X-Request-Id``.

    It is the client's, if that is one short word of safe characters, else a new one.
    """
    if values is not None and len(values) == 1 and _SAFE.fullmatch(values[0]):
        return values[0].decode("ascii")
    return _names.next()


def name_in(fields: Iterable[Field]) -> str:
    """The same, from all header fields of a request."""
    return name_of([value for name, value in fields if name == HEADER])


def field_of(request_id: str) -> Field:
    """Return the field that an answer has."""
    return (HEADER, request_id.encode("ascii"))


def note(scope: Any, request_id: str) -> None:
    """Put it where ``request.state.request_id`` is, and :func:`noted` finds it."""
    scope.setdefault("state", {})[_STATE] = request_id


def noted(scope: Any) -> str | None:
    """Return what was noted of a request, here or by an application that this one is part of."""
    found = scope.get("state", {}).get(_STATE)
    is_safe = isinstance(found, str) and _SAFE.fullmatch(found.encode("utf-8", "replace"))
    return found if is_safe else None


def refuse(scope: Any, status: int) -> None:
    """Note that a request is answered by the server, while the application still reads it."""
    scope.setdefault("state", {})[_REFUSED] = status


def refused(scope: Any) -> int:
    """Return the status with which that was done, 0 if it was not."""
    return int(scope.get("state", {}).get(_REFUSED, 0))
