"""Checksums of files, and one over the checksums of many."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kvstore.hashing import ParallelHash


@dataclass(frozen=True, slots=True)
class Sums:
    """What the bytes of one file come to."""

    #: Bytes.
    size: int
    #: Hexadecimal digits, lower case.
    md5: str
    sha256: str


def sums_of(pieces: Iterable[bytes]) -> Sums:
    """Return the checksums of a file that comes in pieces, of which it keeps none."""
    found: list[Sums] = []
    for _ in summed(pieces, found.append):
        pass
    return found[0]


def summed(pieces: Iterable[bytes], told: Callable[[Sums], object]) -> Iterator[bytes]:
    """Yield the pieces of a file, and tell the checksums behind the last one."""
    size = 0
    # MD5 is against accidents, as its format has it; what withstands forgery is the other one.
    with ParallelHash() as sha256, ParallelHash("md5") as md5:
        for piece in pieces:
            size += len(piece)
            sha256.update(piece)
            md5.update(piece)
            yield piece
        told(Sums(size, md5.digest().hex(), sha256.digest().hex()))


def checksum_of(sums: Iterable[Sums]) -> str:
    """Return the checksum of a dataset: MD5 over the sorted MD5 of its files.

    Neither names nor order count, and that of one file is not the MD5 of the file. So says the
    ``Generator`` of labinform-datasafe 0.1.0b1.
    """
    both = "".join(sorted(each.md5 for each in sums))
    return hashlib.md5(both.encode(), usedforsecurity=False).hexdigest()
