"""Byte ranges of HTTP (RFC 9110 section 14); half-open spans here, HTTP's form on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvstore.errors import RangeError, TransportError

_RANGE = re.compile(r"(?i:bytes)=(.*)", re.DOTALL)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,19})", re.IGNORECASE)

#: Above every size. A longer number is not worth its conversion, which Python limits anyhow.
_MAX_DIGITS = 19
_BEYOND = 10**_MAX_DIGITS


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """The bytes ``[start, end)`` of ``size`` bytes; never empty. Answered with 206."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """Number of bytes, as for ``Content-Length``."""
        return self.end - self.start

    @property
    def content_range(self) -> str:
        """The value of ``Content-Range``."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A range of which no byte lies in the ``size`` bytes. Answered with 416."""

    size: int

    @property
    def content_range(self) -> str:
        """The value of ``Content-Range``."""
        return f"bytes */{self.size}"


def parse_range(header: str, size: int) -> ByteSpan | Unsatisfiable | None:
    """What a ``Range`` field asks of ``size`` bytes; ``None`` to ignore it and answer 200.

    Ignored are malformed fields, other units, and several ranges that do not leave exactly one
    (no multipart answers: many small or overlapping parts could cost more than the whole). The
    last bytes of empty data are all of it, which no ``Content-Range`` can say, so that is
    ignored too (RFC 9110 sections 14.1.2 and 14.2). Empty list elements are skipped (section
    5.6.1). The caller looks at the method (only GET has ranges) and at ``If-Range`` first.
    """
    field = _RANGE.fullmatch(header)
    if field is None:
        return None
    specs = [spec for text in field[1].split(",") if (spec := text.strip(" \t"))]
    spans = [_span(spec, size) for spec in specs]
    if not spans or None in spans:
        return None
    satisfiable = {span for span in spans if span is not None and span[0] < size}
    if not satisfiable:
        return Unsatisfiable(size)
    if len(satisfiable) > 1:
        return None
    ((start, end),) = satisfiable
    return ByteSpan(start, end, size)


def format_range(start: int, end: int | None = None) -> str:
    """The ``Range`` field for the bytes ``[start, end)``; all from ``start`` without ``end``.

    Raises:
        RangeError: ``start`` is negative, or the span is empty, which HTTP cannot ask for.
    """
    if start < 0 or (end is not None and end <= start):
        raise RangeError(f"HTTP has no range for the bytes from {start} up to {end}.")
    return f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"


def parse_content_range(value: str) -> tuple[int, int, int | None]:
    """Start, end (half-open) and whole size, if told, that a 206 gives in ``Content-Range``.

    Raises:
        TransportError: the value is malformed, of another unit, empty or beyond the size.
    """
    field = _CONTENT_RANGE.fullmatch(value)
    if field is None:
        raise TransportError(f"The server sent the malformed Content-Range {value!r:.100}.")
    start, last = int(field[1]), int(field[2])
    size = None if field[3] == "*" else int(field[3])
    if last < start or (size is not None and last >= size):
        raise TransportError(f"The server sent the impossible Content-Range {value!r:.100}.")
    return start, last + 1, size


def parse_unsatisfied(value: str) -> int | None:
    """The whole size that a 416 gives in ``Content-Range``; ``None`` if that is no such field."""
    field = _UNSATISFIED.fullmatch(value)
    return int(field[1]) if field else None


def _span(spec: str, size: int) -> tuple[int, int] | None:
    """``[start, end)``, cut at the end of the data; ``None`` if malformed or inexpressible."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    first, last = match[1], match[2]
    if not first:
        length = _number(last)
        return None if length and not size else (max(size - length, 0), size)
    start = _number(first)
    if not last:
        return start, size
    end = _number(last) + 1
    return None if end <= start else (start, min(end, size))


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _MAX_DIGITS else _BEYOND
