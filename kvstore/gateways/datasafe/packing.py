"""ZIP archives on their way out, written while they are sent; their size is known before.

Members are stored as they are, so that no byte has to be packed to know how many there will be.
APPNOTE.TXT 6.3.10: their CRC follows them, as section 4.3.9 says.
"""

from __future__ import annotations

import io
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR64 = struct.Struct("<4sL2Q")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_EXTRA_LOCAL = struct.Struct("<2H2Q")
_EXTRA_CENTRAL = struct.Struct("<2H3Q")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")

# The CRC follows the data; names are UTF-8.
_FLAGS = 0x8 | 0x800
_VERSION, _VERSION64 = 20, 45
_UNIX = 3
_MOST32 = 0xFFFFFFFF
_MOST16 = 0xFFFF
_FILE_MODE = (stat.S_IFREG | 0o644) << 16
_FOLDER_MODE = (stat.S_IFDIR | 0o755) << 16 | 0x10


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is to be a member of an archive."""

    #: With ``/`` between folders; with one at its end it is a folder.
    name: str
    size: int
    #: Seconds since the epoch.
    modified: float | None
    #: Gives the bytes of the file, as many as *size* says.
    pieces: Callable[[], Iterable[bytes]]

    @property
    def is_large(self) -> bool:
        """Whether its size needs more than 32 bits."""
        return self.size >= _MOST32


def packed_size(entries: Iterable[Entry]) -> int:
    """Return the bytes of the archive of these files."""
    count = place = listed = 0
    for entry in entries:
        name = len(entry.name.encode())
        listed += len(_listed(entry, place, 0))
        place += _LOCAL.size + name + entry.size
        place += _EXTRA_LOCAL.size + _DESCRIPTOR64.size if entry.is_large else _DESCRIPTOR.size
        count += 1
    return place + listed + len(_end(count, listed, place))


def packed(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the archive of these files in pieces.

    Raises:
        EOFError: a file has fewer or more bytes than it should have.
    """
    central = bytearray()
    count = place = 0
    for entry in entries:
        head = _head(entry)
        yield head
        crc = done = 0
        for piece in entry.pieces():
            crc = zlib.crc32(piece, crc)
            done += len(piece)
            yield piece
        if done != entry.size:
            raise EOFError(f"{entry.name!a:.100} has {done} bytes, not {entry.size}.")
        layout = _DESCRIPTOR64 if entry.is_large else _DESCRIPTOR
        tail = layout.pack(b"PK\x07\x08", crc, done, done)
        yield tail
        central += _listed(entry, place, crc)
        place += len(head) + done + len(tail)
        count += 1
    yield bytes(central)
    yield _end(count, len(central), place)


class PieceReader(io.RawIOBase):
    """A stream of pieces, read as many bytes at a time as are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end."""
        found: list[Any] = []
        left = size
        while left:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(part) :]
            left -= len(part)
            found.append(part)
        return b"".join(found)

    def close(self) -> None:
        """Give up the pieces that are left."""
        if not self.closed:
            getattr(self._pieces, "close", lambda: None)()
        super().close()


def _head(entry: Entry) -> bytes:
    name = entry.name.encode()
    size = _MOST32 if entry.is_large else entry.size
    extra = _EXTRA_LOCAL.pack(1, 16, entry.size, entry.size) if entry.is_large else b""
    version = _VERSION64 if entry.is_large else _VERSION
    date = _dos_time(entry.modified)
    fields = (version, _FLAGS, 0, *date, 0, size, size, len(name), len(extra))
    return _LOCAL.pack(b"PK\x03\x04", *fields) + name + extra


def _listed(entry: Entry, place: int, crc: int) -> bytes:
    name = entry.name.encode()
    is_large = entry.is_large or place >= _MOST32
    extra = _EXTRA_CENTRAL.pack(1, 24, entry.size, entry.size, place) if is_large else b""
    size, at = (_MOST32, _MOST32) if is_large else (entry.size, place)
    version = _VERSION64 if is_large else _VERSION
    mode = _FOLDER_MODE if entry.name.endswith("/") else _FILE_MODE
    head = (version, _UNIX, version, 0, _FLAGS, 0, *_dos_time(entry.modified), crc, size, size)
    rest = (len(name), len(extra), 0, 0, 0, mode, at)
    return _CENTRAL.pack(b"PK\x01\x02", *head, *rest) + name + extra


def _end(count: int, size: int, place: int) -> bytes:
    large = b""
    if count >= _MOST16 or size >= _MOST32 or place >= _MOST32:
        numbers = (_VERSION64, _VERSION64, 0, 0, count, count, size, place)
        large = _END64.pack(b"PK\x06\x06", _END64.size - 12, *numbers)
        large += _LOCATOR.pack(b"PK\x06\x07", 0, place + size, 1)
        count, size, place = _MOST16, _MOST32, _MOST32
    return large + _END.pack(b"PK\x05\x06", 0, 0, count, count, size, place, 0)


def _dos_time(modified: float | None) -> tuple[int, int]:
    """Return time and date as MS-DOS had them, in UTC: in steps of two seconds, from 1980 on."""
    year, month, day, hour, minute, second, *_ = time.gmtime(modified or 0)
    if not 1980 <= year <= 2107:
        return 0, 0x21
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
