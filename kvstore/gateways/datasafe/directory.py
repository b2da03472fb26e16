"""The end of a ZIP archive, looked at before any library reads what it says.

APPNOTE.TXT 6.3.10 sections 4.3.14 to 4.3.16. Readers differ in what they make of archives whose
parts do not lie one behind the other; here such an archive is none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from kvstore.errors import InvalidRequestError

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_MAX_COMMENT = 0xFFFF
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\x06\x06"


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the list of the members lies, as the end of an archive says."""

    #: Members.
    count: int
    #: Bytes of the list, and before it.
    size: int
    start: int


def find_directory(file: BinaryIO) -> Directory:
    """Return where the members of an archive are listed.

    Raises:
        InvalidRequestError: it is no archive, or one of several parts, or there is anything between
            its parts or behind them.
    """
    total = file.seek(0, 2)
    window = min(total, _END.size + _MAX_COMMENT)
    file.seek(total - window)
    tail = file.read(window)
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise wrong("it has no end record")
    _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise wrong("something follows it")
    if disk or first or here != count:
        raise wrong("it is one of several parts")
    end = total - window + at
    found = Directory(count, size, start)
    if 0xFFFF in (count,) or 0xFFFFFFFF in (size, start):
        found, end = _large(file, end)
    if found.start + found.size != end:
        raise wrong("its parts do not lie one behind the other")
    return found


def _large(file: BinaryIO, end: int) -> tuple[Directory, int]:
    """Return the directory of an archive with more bytes or members than the old record can say."""
    place = end - _LOCATOR.size - _END64.size
    if place < 0:
        raise wrong("its end record cannot be right")
    file.seek(place)
    record = _END64.unpack(file.read(_END64.size))
    locator = _LOCATOR.unpack(file.read(_LOCATOR.size))
    signature, length, _, _, disk, first, here, count, size, start = record
    if signature != _END64_SIGNATURE or length != _END64.size - 12:
        raise wrong("its ZIP64 record cannot be right")
    if locator != (_LOCATOR_SIGNATURE, 0, place, 1) or disk or first or here != count:
        raise wrong("its ZIP64 locator cannot be right")
    return Directory(count, size, start), place


def wrong(reason: str) -> InvalidRequestError:
    """Return the error for an archive that is not taken."""
    return InvalidRequestError(f"This ZIP archive is not taken: {reason}.")
