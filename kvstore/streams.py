"""Data on its way: what may be given as data, and streams that check what they carry."""

from __future__ import annotations

import copy
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from kvstore.errors import IntegrityError, InvalidRequestError, UnsupportedOperationError
from kvstore.values import BUFFER_SIZE, DEFAULT_MIMETYPE, Value, check_buffer_size

#: What may be given as data. A file-like object is read from where it stands, and not closed.
Data: TypeAlias = (
    bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes] | Value
)

#: Yields the pieces of data behind so many bytes.
_Begin: TypeAlias = Callable[[int], Iterator[bytes]]


class Source:
    """Data given to a write, in whatever form, as pieces of bytes.

    Args:
        data: see :data:`Data`. A ``str`` is refused: whoever has text knows its encoding.
        buffer_size: bytes to a piece, at most; an iterable's pieces are passed on as they come.

    Raises:
        InvalidRequestError: *data* is none of these, or *buffer_size* is not positive.
        OSError: a path that cannot be opened.
    """

    __slots__ = (
        "_begin",
        "_bytes",
        "_opened",
        "adoptable",
        "buffer_size",
        "independent",
        "mimetype",
        "path",
        "replayable",
        "report",
        "size",
    )

    def __init__(self, data: Data, *, buffer_size: int = BUFFER_SIZE) -> None:
        self.buffer_size = check_buffer_size(buffer_size)
        #: Bytes in all, where that is known before reading.
        self.size: int | None = None
        #: Whether the pieces can be had again, as a retry needs.
        self.replayable = True
        #: Whether it may be read while other sources are: two files of one archive may not.
        self.independent = False
        #: The file, where one was given by its name.
        self.path: Path | None = None
        #: SHA-256 of the data, set by who gives a file (`path`) that nobody will write to again: a
        #: store may keep that very file, under another name for it, instead of a copy.
        self.adoptable: bytes | None = None
        #: Media type, where the data came with one.
        self.mimetype: str | None = None
        #: Called with the bytes passed on so far, after each piece.
        self.report: Callable[[int], object] | None = None
        self._opened = False
        self._bytes: bytes | None = None
        self._begin: _Begin = self._adopt(data)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces, from the beginning each time.

        Raises:
            UnsupportedOperationError: a second time, where the data cannot be read again.
            IntegrityError: the data ended before the size it had at first.
        """
        if self._opened and not self.replayable:
            message = "This data can be read only once; give bytes, a path or a seekable file."
            raise UnsupportedOperationError(message)
        self._opened = True
        pieces = self._begin(0)
        return pieces if self.report is None else self._reported(pieces, self.report)

    def whole(self) -> bytes:
        """Return all the data at once, without a copy where it was given as ``bytes``."""
        if self._bytes is None:
            # BytesIO gives out its own buffer; a join would hold everything twice.
            buffer = io.BytesIO()
            for piece in self:
                buffer.write(piece)
            return buffer.getvalue()
        self._opened = True
        if self.report is not None:
            self.report(len(self._bytes))
        return self._bytes

    @property
    def in_memory(self) -> bytes | None:
        """The data, where it was given as bytes."""
        return self._bytes

    def behind(self, start: int) -> Source:
        """Return the same data without the first *start* bytes; it reports these as passed on.

        They are not read where there is another way to what is behind them.
        """
        if not start:
            return self
        twin = copy.copy(self)
        twin.size = None if self.size is None else self.size - start
        twin._bytes = twin.adoptable = None
        twin._begin = lambda more: self._begin(start + more)
        report = self.report
        twin.report = None if report is None else lambda done: report(start + done)
        return twin

    def _adopt(self, data: Any) -> _Begin:
        if isinstance(data, (bytes, bytearray, memoryview)):
            # A caller may go on writing into a bytearray: what is stored is what was given.
            self._bytes = data if type(data) is bytes else bytes(data)
            self.size = len(self._bytes)
            self.independent = True
            return self._slices
        if isinstance(data, Value):
            self.independent = True
            self.size, self.mimetype = data.size, data.mimetype
            if self.mimetype == DEFAULT_MIMETYPE:
                self.mimetype = None
            return self._reading(
                lambda start: data.range(start) if start else data.open(), close=True
            )
        if isinstance(data, os.PathLike):
            return self._adopt_path(Path(data))
        if isinstance(data, str):
            message = f"Data is bytes, not str (encode it, or give a pathlib.Path): {data!r:.60}."
            raise InvalidRequestError(message)
        if hasattr(data, "read"):
            return self._adopt_file(data)
        if isinstance(data, Iterable):
            self.replayable = iter(data) is not data
            return _skipping(lambda: self._checked(data))
        message = (
            f"Data is bytes, a path, a binary file or an iterable of bytes, not {data!r:.100}."
        )
        raise InvalidRequestError(message)

    def _adopt_path(self, path: Path) -> _Begin:
        if stat.S_ISFIFO(path.stat().st_mode):
            self.replayable = False  # whoever writes into a pipe is cut off when it is closed
        else:
            with path.open("rb") as stream:  # now, so that a wrong path fails before anything
                self.size = _size_of(stream)
            self.independent = True
            self.path = path

        def opened(start: int) -> Any:
            stream = path.open("rb")
            if start:
                stream.seek(start)
            return stream

        return self._reading(opened, close=True)

    def _adopt_file(self, stream: Any) -> _Begin:
        if isinstance(stream, io.TextIOBase):
            message = f"Data is read from binary files; this one has text: {stream!r:.100}."
            raise InvalidRequestError(message)
        try:
            seekable = stream.seekable()
        except AttributeError:
            seekable = False
        if not seekable:
            self.replayable = False
            return self._reading(lambda _: stream, close=False)
        base = stream.tell()
        self.size = _size_of(stream)

        def rewound(start: int) -> Any:
            stream.seek(base + start)
            return stream

        return self._reading(rewound, close=False)

    def _reading(self, begin: Callable[[int], Any], *, close: bool) -> _Begin:
        """Return what yields the pieces of the stream that *begin* opens behind so many bytes."""
        if self.size is None:  # a pipe, or a file of which nobody knows whether it can be sought
            return _skipping(lambda: self._read(begin, 0, close=close))
        return lambda start: self._read(begin, start, close=close)

    def _slices(self, begin: int) -> Iterator[bytes]:
        data = self._bytes or b""
        if len(data) <= self.buffer_size and not begin:
            if data:
                yield data
            return
        view = memoryview(data)
        for start in range(begin, len(data), self.buffer_size):
            yield bytes(view[start : start + self.buffer_size])

    def _read(self, begin: Callable[[int], Any], start: int, *, close: bool) -> Iterator[bytes]:
        # Opened with the first piece: who takes this iterator and drops it leaves nothing open.
        stream = begin(start)
        # A file that grows while it is read is taken as it was; one that shrinks is an error.
        left = None if self.size is None else max(self.size - start, 0)
        try:
            while left is None or left > 0:
                wanted = self.buffer_size if left is None else min(left, self.buffer_size)
                piece = stream.read(wanted)
                if not isinstance(piece, bytes):
                    message = f"A binary file reads bytes, this one read {piece!r:.60}."
                    raise InvalidRequestError(message)
                if not piece:
                    break
                if left is not None:
                    left -= len(piece)
                yield piece
        finally:
            if close:
                stream.close()
        if left:
            message = f"The data ended {left} bytes before its {self.size}."
            raise IntegrityError(message)

    @staticmethod
    def _checked(pieces: Iterable[Any]) -> Iterator[bytes]:
        for piece in pieces:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise InvalidRequestError(f"An iterable of data yields bytes, not {piece!r:.60}.")
            if piece:
                yield bytes(piece)

    @staticmethod
    def _reported(pieces: Iterator[bytes], report: Callable[[int], object]) -> Iterator[bytes]:
        done = 0
        for piece in pieces:
            yield piece
            done += len(piece)
            report(done)


def _skipping(begin: Callable[[], Iterator[bytes]]) -> _Begin:
    return lambda start: _without(start, begin()) if start else begin()


def _without(left: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if len(piece) > left:
            yield piece[left:] if left else piece
        left = max(0, left - len(piece))


def _size_of(stream: BinaryIO) -> int | None:
    """Return the bytes from here to the end of a seekable stream, None if they cannot be told."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, AttributeError, ValueError):
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        return None
    start = stream.tell()
    try:
        size = max(stream.seek(0, io.SEEK_END) - start, 0)
    except OSError:  # some files of /proc have no end, others say that it is at 0
        return None
    stream.seek(start)
    if size == 0 and stream.read(1):
        stream.seek(start)
        return None
    return size
