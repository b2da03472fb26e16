"""How facts are spelled in headers, parameters and documents of servers; both directions.

Within the package a time is seconds since the epoch, a digest is ``sha256:<hex>``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, mktime_tz, parsedate_tz
from typing import Any

from kvstore.documents import parse_json
from kvstore.errors import InvalidRequestError
from kvstore.profiles.conditions import format_etag, format_http_date, parse_etag, parse_http_date
from kvstore.profiles.digests import digest_of_field, field_of_digest

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Codec:
    """Turns a fact into what a server writes for it, and back.

    ``decode`` raises ValueError (an InvalidRequestError is one) for what is no such spelling.
    """

    decode: Callable[[Any], Any]
    encode: Callable[[Any], str]


def decode(name: str, value: Any) -> Any:
    """Return what *value*, text or JSON from a server, means.

    Raises:
        InvalidRequestError: it is not spelled as the codec *name* says.
    """
    try:
        return CODECS[name].decode(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequestError(f"{value!r:.100} is no {name}.") from error


def encode(name: str, value: Any) -> str:
    """Return *value* as a server wants it.

    Raises:
        InvalidRequestError: it has no such spelling.
    """
    try:
        return CODECS[name].encode(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequestError(f"{value!r:.100} cannot be sent as {name}.") from error


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(value)
    return str(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str) or not _INTEGER.fullmatch(value.strip(" \t")):
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _http_date(value: Any) -> float:
    moment = parse_http_date(value)
    if moment is None:
        raise ValueError(value)
    return float(moment)


def _rfc2822_date(value: Any) -> int:
    parsed = parsedate_tz(value)
    if parsed is None:
        raise ValueError(value)
    return int(mktime_tz(parsed))


def _iso_date(value: Any) -> float:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _etag(value: Any) -> str:
    tag = parse_etag(value)
    if tag.weak:  # proves less than a revision must
        raise ValueError(value)
    return tag.opaque


def _hex_digest(value: Any) -> str:
    text = _text(value).removeprefix(_PREFIX)
    if not _HEX.fullmatch(text):
        raise ValueError(value)
    return f"{_PREFIX}{text.lower()}"


def _base64_digest(value: Any) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(value) from error
    if len(raw) != 32:
        raise ValueError(value)
    return f"{_PREFIX}{raw.hex()}"


def _repr_digest(value: Any) -> str:
    digest = digest_of_field(value)
    if digest is None:
        raise ValueError(value)
    return digest


def _raw_digest(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix(_PREFIX))


def _json_value(value: Any) -> Any:
    return parse_json(value.encode(), what="value") if isinstance(value, str) else value


CODECS: dict[str, Codec] = {
    "str": Codec(_text, _text),
    "int": Codec(_integer, lambda value: str(math.floor(value))),
    "float": Codec(_number, lambda value: repr(float(value))),
    "json": Codec(_json_value, lambda value: json.dumps(value, separators=(",", ":"))),
    "http-date": Codec(_http_date, format_http_date),
    "rfc2822-date": Codec(_rfc2822_date, lambda value: formatdate(math.floor(value))),
    "iso-date": Codec(
        _iso_date, lambda value: datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    ),
    "epoch": Codec(_number, lambda value: str(math.floor(value))),
    "epoch-ms": Codec(
        lambda value: _number(value) / 1000, lambda value: str(math.floor(value * 1000))
    ),
    "etag": Codec(_etag, format_etag),
    "sha256-hex": Codec(_hex_digest, lambda digest: _raw_digest(digest).hex()),
    "sha256-base64": Codec(
        _base64_digest, lambda digest: base64.b64encode(_raw_digest(digest)).decode()
    ),
    "repr-digest": Codec(_repr_digest, field_of_digest),
}
