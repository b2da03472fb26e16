"""gzip (RFC 1952) in a stream, with bounds: bodies on their way in, answers on their way out."""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from kvstore.errors import IntegrityError, InvalidRequestError
from kvstore.server.bodies import PIECE
from kvstore.server.exchange import offers

#: Of zlib: a window of 32 KiB, in the frame of gzip.
_GZIP: Final = 31
#: Answers wait for it, so the quickest; the others save a tenth at thrice the time.
_LEVEL: Final = 1
#: Bytes of input that are looked at at a time. zlib copies what follows the end of a member, which
#: for a megabyte of empty members would be gigabytes.
_SLICE: Final = 1 << 14
#: What fits into one packet is not there sooner for being shorter.
_FEWEST: Final = 1400
#: Bytes that tell whether the rest of a piece is worth it.
_SAMPLE: Final = 1 << 14
#: What is saved at least, of the whole.
_SAVED: Final = 0.1
#: How much longer sending must take than packing. Of the time that a client takes much is its own,
#: and two that run on one machine share its processors.
_GAIN: Final = 4
#: Bytes that a part counts for at least: what the shortest take is not the time of the network.
_COUNTED: Final = 1 << 16
#: Of zlib: the same window, in no frame.
_RAW: Final = -15
#: The frame: deflate, packed at high speed, by a system that is not told; and an empty last block.
_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"
_LAST_BLOCK: Final = b"\x03\0"
#: Most bytes of a block that is not packed.
_STORED: Final = 0xFFFF


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what *pieces* are the gzip of, in pieces of at most 1 MiB, however far they expand.

    Raises:
        InvalidRequestError: they are no gzip.
        IntegrityError: they end before their end, or have another checksum.
    """
    decoder = zlib.decompressobj(_GZIP)
    for piece in pieces:
        for start in range(0, len(piece), _SLICE):
            rest = piece[start : start + _SLICE]
            while True:
                if decoder.eof:  # another member follows
                    decoder = zlib.decompressobj(_GZIP)
                try:
                    data = decoder.decompress(rest, PIECE)
                except zlib.error as error:
                    raise _malformed(error) from None
                if data:
                    yield data
                rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
                # zlib may hold more than it was asked for, and no input to show for it.
                if not rest and (decoder.eof or len(data) < PIECE):
                    break
    if not decoder.eof:
        raise IntegrityError("The body ends before its gzip does.")


def packed_whole(data: bytes) -> bytes | None:
    """Return the gzip of *data*; None if that is not worth it."""
    if not is_worth_packing(data):
        return None
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    packed = packer.compress(data) + packer.flush()
    return packed if len(packed) <= len(data) * (1 - _SAVED) else None


def packed(
    pieces: Iterable[bytes], *, clock: Callable[[], float] = time.perf_counter
) -> Iterator[bytes]:
    """Yield the gzip of *pieces*, a part for each.

    A part is packed where what that saves would take much longer to send than to pack, else only
    framed: to a client near at hand data go as fast as they can be read, to one behind a slow
    network as few of them as possible. How fast it is, is seen by when the next part is asked for.
    """
    yield _HEAD
    checksum = size = 0
    sent = spent = 0.0  # bytes, and the seconds that these took; the last count most
    pace = math.inf  # seconds to send a byte
    for piece in pieces:
        checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        begun = clock()
        sample = piece[:_SAMPLE]
        saved = len(sample) - len(_deflated(sample))
        is_faster = saved > 0 and saved * pace > _GAIN * (clock() - begun)
        part = _deflated(piece) if is_faster else _framed(piece)
        begun = clock()
        yield part
        sent, spent = sent / 2 + max(len(part), _COUNTED), spent / 2 + clock() - begun
        pace = spent / sent
    yield _LAST_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF)


def _deflated(piece: bytes) -> bytes:
    """Blocks of deflate (RFC 1951) that refer to no others, and end with a whole byte."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)


def _framed(piece: bytes) -> bytes:
    """The same bytes as such blocks (section 3.2.4), at a thirtieth of the time that zlib takes."""
    parts: list[bytes | memoryview] = []
    with memoryview(piece) as whole:
        for start in range(0, len(piece), _STORED):
            block = whole[start : start + _STORED]
            size = len(block)
            parts += (struct.pack("<BHH", 0, size, size ^ 0xFFFF), block)
        return b"".join(parts)


def is_worth_packing(begin: bytes) -> bool:
    """Whether data that begin so are much shorter as gzip; most data of media formats are not."""
    if len(begin) < _FEWEST:
        return False
    sample = begin[:_SAMPLE]
    return len(zlib.compress(sample, _LEVEL)) <= len(sample) * (1 - _SAVED)


def takes_gzip(lines: Iterable[str]) -> bool:
    """Whether these lines of ``Accept-Encoding`` take gzip (RFC 9110 section 12.5.3)."""
    known = offers(lines)
    return known.get("gzip", known.get("x-gzip", known.get("*", False)))


def _malformed(error: zlib.error) -> Exception:
    reason = str(error).rpartition(": ")[2]
    if "data check" in reason or "length check" in reason:
        return IntegrityError("The body and the checksum in its gzip disagree.")
    return InvalidRequestError(f"The body is not the gzip that it is said to be: {reason:.100}.")
