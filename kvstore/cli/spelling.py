"""How values are spelled: for people and for programs, and never so that a terminal obeys them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# Control characters, which terminals obey; what breaks lines; what turns text around or hides.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_UNSAFE_IN_JSON = re.compile(r"(?!\n)" + _UNSAFE.pattern)


@dataclass(frozen=True, slots=True)
class Column:
    """One fact about keys, and how it is spelled."""

    name: str
    #: The value for people; as text or JSON if None.
    show: Callable[[Any], str] | None = None
    #: The value in lines for programs; as text or JSON if None.
    write: Callable[[Any], str] | None = None
    right: bool = False


def record_columns() -> list[Column]:
    """Return the facts of a record, as they are spelled."""
    return [
        Column("key"),
        Column("size", show_size, right=True),
        Column("created", show_time, iso_time),
        Column("modified", show_time, iso_time),
        Column("mimetype"),
        Column("revision"),
        Column("digest"),
    ]


def escaped(text: str) -> str:
    r"""Return *text* with unsafe characters as ``\n``, ``\x1b`` or ``\u202e``."""
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def json_text(document: object, indent: int | None = None) -> str:
    """Return *document* as JSON, on one line or indented, with unsafe characters escaped."""
    separators = (",", ":") if indent is None else None
    exact = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=indent, separators=separators, ensure_ascii=not exact)
    # Line breaks outside of strings are ours; within them JSON has escaped them already.
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain(value: Any) -> str:
    """Return a value as text: text as it is, nothing for None, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def show_size(size: int) -> str:
    """Return bytes for people: ``1.2 MB``."""
    if size < 0:
        return "?"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.95 or unit == "TB":
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def show_time(seconds: float) -> str:
    """Return a time for people, in their time zone: ``2011-02-15 01:14``."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"


def iso_time(seconds: float) -> str:
    """Return a time for programs: ``2011-02-15T00:14:00.006Z``."""
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
