"""Versions: whole seconds since the epoch, spelled as dates, and where they are kept.

Any key of the store has one. What a client of filetracker stored has that which it was given; it is
kept in the metadata, beside the digest of the data that it is for. What others wrote since has
other data, and so the time of that as its version.
"""

from __future__ import annotations

import math
import re
import time
from calendar import timegm
from email.utils import parsedate_tz
from typing import Final
from urllib.parse import unquote_plus

from kvstore.documents import JsonObject
from kvstore.errors import InvalidRequestError
from kvstore.profiles.conditions import format_http_date
from kvstore.server.answers import Field
from kvstore.server.exchange import Exchange
from kvstore.values import Record, is_integer

#: The field of the metadata.
FIELD: Final = "filetracker"
#: Seconds that a version may lie ahead of the clock here. Nothing older is stored over it, so one
#: from a clock that is years ahead would block its name for years.
AHEAD: Final = 24 * 3600

#: Behind every version there can be: the last day of what a date can say.
_LAST: Final = 253_402_214_400
_PARAMETER: Final = "last_modified"
_DATE = re.compile(r"[ -~]{1,100}")


def version_of(record: Record) -> int:
    """Return the version that a key has now."""
    own = record.metadata.get(FIELD)
    if isinstance(own, dict) and record.digest is not None and own.get("digest") == record.digest:
        version = own.get("version")
        if isinstance(version, int) and is_integer(version) and 0 <= version <= _LAST:
            return version
    return 0 if record.modified is None else math.floor(record.modified)


def stamp(metadata: JsonObject, version: int, digest: str) -> JsonObject:
    """Return *metadata* with a version of the data that has this digest."""
    return {**metadata, FIELD: {"version": version, "digest": digest}}


def version_field(version: int) -> Field:
    """``Last-Modified``, which tells a version."""
    return (b"last-modified", format_http_date(version).encode())


def asked_version(exchange: Exchange) -> int | None:
    """Return the version that a request names; None if it names none.

    It is the parameter ``last_modified``, or in protocol 1 the header field ``Last-Modified``.

    Raises:
        InvalidRequestError: it is no date of RFC 2822, it comes twice, or there is another
            parameter.
    """
    text = _parameter(exchange.scope["query_string"])
    if text is None:
        text = exchange.single(b"last-modified")
    return None if text is None else parse_version(text)


def demanded_version(exchange: Exchange) -> int:
    """Return the version that a request must name.

    Raises:
        InvalidRequestError: it names none, or as :func:`asked_version`.
    """
    version = asked_version(exchange)
    if version is None:
        raise InvalidRequestError("The version is missing: ?last_modified= and a date of RFC 2822.")
    return version


def new_version(exchange: Exchange) -> int:
    """Return the version that a request gives to new data.

    Raises:
        InvalidRequestError: it is too far ahead, or as :func:`demanded_version`.
    """
    version = demanded_version(exchange)
    if version > time.time() + AHEAD:
        raise InvalidRequestError(
            f"The version {version} lies more than {AHEAD} seconds ahead of the clock of this "
            "server, and would keep all others from being stored until then."
        )
    return version


def parse_version(text: str) -> int:
    """Return the version of a date as in RFC 2822, section 3.3; one without a zone is in UTC.

    Raises:
        InvalidRequestError: it is none, or lies before 1970.
    """
    try:
        parsed = parsedate_tz(text) if _DATE.fullmatch(text) else None
        if parsed is None:
            raise ValueError(text)
        # Not ``mktime_tz``: without a zone it would be the local time of this server.
        version = timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"A version is a date of RFC 2822, not {text!r:.100}.") from None
    if not 0 <= version <= _LAST:
        raise InvalidRequestError(f"A version lies between 1970 and 9999, not {text!r:.100}.")
    return version


def _parameter(query_string: bytes) -> str | None:
    found: str | None = None
    for part in query_string.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if not part:
            continue
        if name != _PARAMETER:
            raise InvalidRequestError(f"There is no parameter {name!r:.100}, only {_PARAMETER}.")
        if found is not None:
            raise InvalidRequestError(f"The parameter {_PARAMETER} comes twice.")
        found = unquote_plus(value)
    return found
