"""Files on their way in: unpacked, counted and hashed as they come, kept aside until all is there.

What is kept aside can be written again. Of two clients that write one name at a time the second has
to look which version is newer, and its body came only once.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from kvstore.disk import Foreign, remove
from kvstore.errors import IntegrityError, InvalidRequestError, TooLargeError
from kvstore.files import write_all
from kvstore.gateways.filetracker.gzipped import unpacked
from kvstore.gateways.filetracker.versions import new_version
from kvstore.hashing import ParallelHash
from kvstore.server.answers import Refusal
from kvstore.server.bodies import PIECE
from kvstore.server.exchange import Exchange
from kvstore.server.handlers.receiving import mimetype_of
from kvstore.streams import Source

#: Bytes that are kept in memory.
_MOST: Final = 1 << 20
#: Bytes after which the disk is told to begin.
_FLUSHED: Final = 8 << 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_SIZE = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Announced:
    """What the header of a request says of the file in its body."""

    version: int
    #: ``sha256:<hex>`` of the file, None if it does not say.
    digest: str | None
    #: Bytes of the file, None if it does not say.
    size: int | None
    mimetype: str | None
    is_packed: bool
    #: Bytes that the file may have.
    limit: int

    @classmethod
    def of(cls, exchange: Exchange, limit: int) -> Announced:
        """Read a header.

        Raises:
            InvalidRequestError: a field is malformed, or only a part of a file comes.
            Refusal: a content coding that is not gzip (415).
            TooLargeError: the body is larger than *limit*, or the file is.
        """
        if exchange.has(b"content-range"):
            raise InvalidRequestError("A part of a file cannot be written (Content-Range).")
        exchange.body.check_length(limit)
        size = exchange.single(b"logical-size")
        if size is not None and not _SIZE.fullmatch(size):
            raise InvalidRequestError(f"Logical-Size is a number of bytes, not {size!r:.100}.")
        if size is not None and int(size) > limit:
            raise TooLargeError(f"A file has at most {limit} bytes, not {size}.")
        digest = exchange.single(b"sha256-checksum")
        if digest is not None and not _HEX.fullmatch(digest):
            message = f"SHA256-Checksum is 64 hexadecimal digits, not {digest!r:.100}."
            raise InvalidRequestError(message)
        return cls(
            version=new_version(exchange),
            digest=None if digest is None else f"sha256:{digest.lower()}",
            size=None if size is None else int(size),
            mimetype=mimetype_of(exchange),
            is_packed=_is_packed(exchange),
            limit=limit if size is None else int(size),
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A file that has come, and is what it was said to be."""

    #: The bytes, or the path of a file with them that nobody changes any more.
    content: bytes | Path
    digest: str

    def source(self) -> Source:
        """Return it as data to write, anew each time."""
        source = Source(self.content)
        if isinstance(self.content, Path):
            source.adoptable = bytes.fromhex(self.digest.removeprefix("sha256:"))
        return source


@contextlib.contextmanager
def received(
    pieces: Iterable[bytes], announced: Announced, folder: Path | None
) -> Iterator[Received]:
    """Take a file in, and give it for the life of a ``with`` block.

    Args:
        pieces: of the body.
        folder: for a file that is not small; None: that of temporary files.

    Raises:
        IntegrityError: it has another size or digest than was announced, or its gzip is damaged.
        InvalidRequestError: it is no gzip although that was announced.
        TooLargeError: it is larger than is allowed.
        StorageFullError, StorageError: the disk is full, or fails.
    """
    small = bytearray()
    size = 0
    with contextlib.ExitStack() as files, ParallelHash() as hasher:
        large: _Aside | None = None
        for piece in _gathered(unpacked(pieces)) if announced.is_packed else pieces:
            size += len(piece)
            if size > announced.limit:
                raise _too_large(announced)
            hasher.update(piece)
            if large is None and size <= _MOST:
                small += piece
                continue
            if large is None:
                large = files.enter_context(_Aside(folder))
                large.write(bytes(small))
                small.clear()
            large.write(piece)
        if large is not None:
            large.settle()
        digest = f"sha256:{hasher.digest().hex()}"
        _check(announced, size, digest)
        yield Received(bytes(small) if large is None else large.path, digest)


class _Aside:
    """A file that is there for the life of a ``with`` block.

    Raises:
        StorageFullError, StorageError: the disk is full, or fails.
    """

    def __init__(self, folder: Path | None) -> None:
        self._unflushed = 0
        self._flushing: Future[None] | None = None
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="kvstore-flush")
        place = Path(tempfile.gettempdir()) if folder is None else folder
        # A server that is killed leaves it behind; with this name the folder of uploads is tidied.
        self.path = place / f".{secrets.token_hex(8)}.part"
        self._failing = Foreign(str(place))

    def __enter__(self) -> Self:
        with self._failing:
            self._descriptor = os.open(self.path, _NEW, 0o600)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._flusher.shutdown()
        os.close(self._descriptor)
        remove(str(self.path))

    def write(self, data: bytes) -> None:
        """Add to it."""
        with self._failing:
            write_all(self._descriptor, data)
        self._unflushed += len(data)
        if self._unflushed < _FLUSHED or (self._flushing and not self._flushing.done()):
            return
        # A store waits for the disk before it has a large file. Most of it is there by then.
        self.settle()
        self._unflushed = 0
        with contextlib.suppress(RuntimeError):  # Python is ending, and begins nothing any more
            self._flushing = self._flusher.submit(os.fsync, self._descriptor)

    def settle(self) -> None:
        """Wait for the disk. What it could not do it tells once, and so not to the store."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            with self._failing:
                flushing.result()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about 1 MiB, which are worth a thread that hashes them."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _check(announced: Announced, size: int, digest: str) -> None:
    if announced.size is not None and size != announced.size:
        message = f"The file has {size} bytes, but {announced.size} were announced (Logical-Size)."
        raise IntegrityError(message)
    if announced.digest is not None and digest != announced.digest:
        raise IntegrityError(
            f"The file has the digest {digest}, but {announced.digest} was announced "
            "(SHA256-Checksum)."
        )


def _too_large(announced: Announced) -> Exception:
    if announced.size is not None:
        return IntegrityError(f"More came than the {announced.size} bytes of Logical-Size.")
    return TooLargeError(f"A file has at most {announced.limit} bytes.")


def _is_packed(exchange: Exchange) -> bool:
    codings = ", ".join(exchange.lines(b"content-encoding")).strip().lower()
    if codings in ("", "identity"):
        return False
    if codings in ("gzip", "x-gzip"):
        return True
    message = f"A body comes plain or as gzip here, not with {codings!r:.100}."
    raise Refusal(415, message, [(b"accept-encoding", b"gzip, identity")])
