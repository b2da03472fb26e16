"""Data of one revision as streams, whatever becomes of the key meanwhile."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from typing import Any, BinaryIO

from kvstore.errors import ConflictError, IntegrityError
from kvstore.readers import CheckedReader, LimitedReader, buffered
from kvstore.stores._sqlite.blobs import Blobs
from kvstore.values import Record, resolve_range


class DataOpener:
    """Opens the data of a record.

    Args:
        descriptor: of the blob, so that it can be read when it has been removed; None where there
            were too many open already: then the blob has to be there still.
    """

    __slots__ = ("_blobs", "_file", "_name", "_record")

    def __init__(self, record: Record, blobs: Blobs, name: str, descriptor: int | None) -> None:
        self._record = record
        self._blobs = blobs
        self._name = name
        self._file = None if descriptor is None else _File(descriptor)

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over a range of the data."""
        record = self._record
        first, last = resolve_range(start, end, record.size, key=record.key)
        stream = _Stream(self._opened())
        if start is None and end is None:
            whole = CheckedReader(stream, size=record.size, digest=record.digest, key=record.key)
            return buffered(whole)
        return buffered(LimitedReader(stream, first, last, key=record.key))

    def close(self) -> None:
        """Let go of the blob; streams that are open go on."""
        self._file = None

    def _opened(self) -> _File:
        file = self._file
        if file is None:
            with self._blobs.translated:
                descriptor = self._blobs.open(self._name)
            if descriptor is None:
                key = self._record.key
                message = f"The key {key!a} has been changed or removed since it was read."
                raise ConflictError(message, key=key)
            file = _File(descriptor)
        return file


class SmallOpener:
    """Opens data that came with its record; they are checked as those of files are."""

    __slots__ = ("_data", "_record")

    def __init__(self, record: Record, data: bytes) -> None:
        self._record = record
        self._data = data

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        """Return a stream over a range of the data."""
        record = self._record
        digest = bytes.fromhex((record.digest or "")[7:])
        return open_small(record.key, self._data, record.size, digest, start, end)


def open_small(
    key: str, data: bytes, size: int, digest: bytes, start: int | None, end: int | None
) -> BinaryIO:
    """Return a stream over a range of data in memory.

    Raises:
        IntegrityError: they have not this size, or as a whole not this digest.
        RangeError: the range does not lie in the data.
    """
    is_whole = start is None and end is None
    if len(data) != size or (is_whole and hashlib.sha256(data).digest() != digest):
        raise IntegrityError(f"The data of {key!a} are not those that were stored.", key=key)
    if is_whole:
        return io.BytesIO(data)
    first, last = resolve_range(start, end, size, key=key)
    return io.BytesIO(data[first:last])


def open_blob(record: Record, blobs: Blobs, name: str) -> DataOpener | None:
    """Return what opens the data in a file, None if the file is not there."""
    try:
        descriptor = blobs.open(name)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            with blobs.translated:
                raise
        # Somebody holds a thousand values: these are opened when they are read.
        return DataOpener(record, blobs, name, None)
    return None if descriptor is None else DataOpener(record, blobs, name, descriptor)


class _File:
    """An open file that several streams read from, each at a place of its own."""

    __slots__ = ("_lock", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def read_into(self, buffer: Any, place: int) -> int:
        if _preadv is not None:
            count: int = _preadv(self.descriptor, [buffer], place)
            return count
        with self._lock:
            os.lseek(self.descriptor, place, os.SEEK_SET)
            data = os.read(self.descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def __del__(self) -> None:
        # By nobody else, as who reads from it last is known to the interpreter alone.
        os.close(self.descriptor)


class _Stream(io.RawIOBase):
    def __init__(self, file: _File) -> None:
        self._file: _File | None = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET  # noqa: S101 - by those here
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def fileno(self) -> int:
        assert self._file is not None  # noqa: S101 - whoever wraps it closes it last
        return self._file.descriptor

    def readinto(self, buffer: Any) -> int:
        assert self._file is not None  # noqa: S101 - whoever wraps it closes it last
        count = self._file.read_into(buffer, self._place)
        self._place += count
        return count

    def close(self) -> None:
        self._file = None
        super().close()


_preadv = getattr(os, "preadv", None)
