"""One large value into a file by several connections, each for other ranges of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kvstore.errors import IntegrityError
from kvstore.files import mode_of, replacing, write_all
from kvstore.hashing import ParallelHash
from kvstore.parallel import Crew, in_order
from kvstore.values import Record

#: Bytes of a value for which several connections pay.
LARGE = 32 << 20
#: Bytes that one request asks for.
_RANGE = 8 << 20


def may_fetch_in_ranges(record: Record, path: Path) -> bool:
    """Tell whether several requests can give one revision of *record*, and *path* is a file."""
    mode = mode_of(path)
    is_file = mode is None or stat.S_ISREG(mode)
    return is_file and record.size >= LARGE and record.revision is not None


def fetch_in_ranges(
    open_range: Callable[[int, int], BinaryIO],
    record: Record,
    path: Path,
    connections: int,
    report: Callable[[int], object],
    *,
    verify: bool,
) -> None:
    """Write the data of *record* to *path*, which appears whole or not at all.

    Args:
        open_range: opens the bytes from one position to before another, of this revision.
        connections: ranges that are fetched at a time.
        report: called with the bytes that are there from the beginning on.
        verify: whether the digest of the record is compared.

    Raises:
        IntegrityError: the data have another digest.
        StoreError: of the first range that cannot be had; the others are given up.
        OSError: the file cannot be written.
    """
    starts = range(0, record.size, _RANGE)
    crew = Crew(connections, quick=-1)
    with replacing(path, mode_of(path)) as part, ParallelHash() as digest:

        def fetch(start: int) -> int:
            end = min(start + _RANGE, record.size)
            # A file of its own for each: after an error nobody waits for those that still write,
            # and a descriptor that was shared and closed may be another file by then.
            with open_range(start, end) as stream:
                _write_at(part, start, stream)
            return end

        try:
            done = 0
            for end in in_order(crew, fetch, starts):
                if verify and record.digest is not None:
                    for piece in _pieces(part, done, end):
                        digest.update(piece)
                done = end
                report(done)
        finally:
            crew.close()
        if verify and record.digest not in (None, f"sha256:{digest.digest().hex()}"):
            actual = f"sha256:{digest.digest().hex()}"
            message = f"The data of {record.key!a} has {actual}, not {record.digest} as announced."
            raise IntegrityError(message, key=record.key)


def _write_at(part: Path, position: int, stream: BinaryIO) -> None:
    descriptor = os.open(part, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        os.lseek(descriptor, position, os.SEEK_SET)
        while piece := stream.read(1 << 20):
            write_all(descriptor, piece)
    finally:
        os.close(descriptor)


def _pieces(part: Path, start: int, end: int) -> Iterator[bytes]:
    with part.open("rb", buffering=0) as stream:
        stream.seek(start)
        while start < end:
            piece = stream.read(min(1 << 20, end - start))
            if not piece:
                return  # somebody has cut the file; the digest will tell
            start += len(piece)
            yield piece
