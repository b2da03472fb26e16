"""What the statuses of a server mean, as its profile says, and which error that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    RangeError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)

#: Outcomes that are answers.
OK, EMPTY, NO_PARENT = "ok", "empty", "no_parent"
ANSWERS = frozenset({OK, EMPTY, NO_PARENT})

#: The other outcomes.
ERRORS: dict[str, Callable[..., StoreError]] = {
    "missing": KeyNotFoundError,
    "conflict": ConflictError,
    "invalid_key": InvalidKeyError,
    "invalid_metadata": InvalidMetadataError,
    "bad_request": InvalidRequestError,
    "bad_data": IntegrityError,
    "range": RangeError,
    "too_large": TooLargeError,
    "unsupported": UnsupportedOperationError,
    "unauthenticated": AuthenticationError,
    "forbidden": AuthorizationError,
    "full": StorageFullError,
    "unavailable": UnavailableError,
    "server_error": TransportError,
}

#: What may be over by the next try. Those that a profile names one by one are answers all the same.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_DEFAULT = {
    401: "unauthenticated",
    403: "forbidden",
    404: "missing",
    405: "unsupported",
    409: "conflict",
    410: "missing",
    412: "conflict",
    413: "too_large",
    414: "too_large",
    416: "range",
    422: "invalid_metadata",
    431: "too_large",
    501: "unsupported",
    507: "full",
}


@dataclass(frozen=True, slots=True)
class BodyRule:
    """Tells two meanings of one status apart by a text in the body."""

    status: str
    contains: str
    means: str


@dataclass(frozen=True, slots=True)
class Statuses:
    """A table of statuses: exact ones win over classes such as ``4xx``, these over the default."""

    table: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    by_body: tuple[BodyRule, ...] = ()

    def over(self, table: Mapping[str, str], by_body: Sequence[Mapping[str, str]]) -> Statuses:
        """Return these with what one operation says besides."""
        rules = tuple(BodyRule(**rule) for rule in by_body)
        return Statuses(MappingProxyType({**self.table, **table}), rules + self.by_body)

    def expected(self) -> frozenset[int]:
        """Return the statuses that are judged here; others are tried again, or redirect."""
        named = {int(status) for status in self.table if status.isdigit()}
        named |= {int(rule.status) for rule in self.by_body if rule.status.isdigit()}
        usual = frozenset(range(200, 600)) - TRANSIENT - _REDIRECTS
        return usual | named

    def needs_body(self, status: int) -> bool:
        """Tell whether the meaning of *status* depends on the text that comes with it."""
        return any(_covers(rule.status, status) for rule in self.by_body)

    def meaning(self, status: int, text: str = "") -> str:
        """Return the outcome that *status* with a body of *text* means."""
        for rule in self.by_body:
            if _covers(rule.status, status) and rule.contains in text:
                return rule.means
        for name in (str(status), f"{status // 100}xx"):
            if name in self.table:
                return self.table[name]
        if status in (200, 201, 202, 204, 207):
            return OK
        usual = "bad_request" if 400 <= status < 500 else "server_error"
        return _DEFAULT.get(status, usual)


def error_for(outcome: str, message: str, *, key: str | None, status: int) -> StoreError:
    """Return the error for an outcome that is no answer."""
    arguments: dict[str, Any] = {"key": key, "status": status}
    return ERRORS[outcome](message, **arguments)


def _covers(pattern: str, status: int) -> bool:
    return pattern in (str(status), f"{status // 100}xx")
