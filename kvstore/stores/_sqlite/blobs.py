"""Data in files: how it gets there, is read, and goes; the rules are those of the package."""
# ruff: noqa: PTH102, PTH105, PTH118, PTH208 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvstore.disk import create_locked, flush, flush_folder, is_locked, open_file, remove
from kvstore.errors import NotConnectedError, StorageError
from kvstore.files import write_all
from kvstore.hashing import ParallelHash
from kvstore.stores._sqlite.failures import Translated
from kvstore.streams import Source

#: Data of up to so many bytes is in the index.
INLINE = 1 << 16
#: What the name of the lock of a session ends with.
_LOCK = ".lock"
#: What we name files and folders; what others put beside them is not ours to judge.
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]+")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Received:
    """Data that has come: in memory, or in a staged file."""

    size: int
    digest: bytes
    #: The bytes, where they are few.
    data: bytes | None
    #: Name of the file, where they are many.
    file: str | None
    #: The row of the blob, where they are stored already.
    blob: int | None = None


class Blobs:
    """The files of one store, and the session of one process with it.

    Args:
        root: the folder of the store.
        durable: whether what is flushed is to survive a power cut under its name.
    """

    def __init__(self, root: str, *, durable: bool) -> None:
        self.translated = Translated(root)
        self._durable = durable
        self._stage = os.path.join(root, "stage", "")
        self._blobs = os.path.join(root, "blobs", "")
        self._session = ""
        self._lock: int | None = None
        self._counter = itertools.count()
        # Uploads that are not committed yet, by the names of their files, which few get; the
        # session lasts as long as there are some.
        self._pending: set[str] = set()
        self._is_ending = False
        self._guard = threading.Lock()

    # -- the session -----------------------------------------------------------------------

    def connect(self) -> None:
        """Make the folders, and begin a session: its files are left alone while we live."""
        for folder in (self._stage, self._blobs):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder[:-1], 0o700)
        self._session = secrets.token_hex(8)
        self._counter = itertools.count()
        self._lock = create_locked(f"{self._stage}{self._session}{_LOCK}", 0o600)

    def disconnect(self) -> None:
        """End the session, when what other threads have staged is committed or discarded."""
        with self._guard:
            self._is_ending = True
            self._end()

    def in_child(self) -> None:
        """Begin a session of its own in a forked child. Without one nothing large is taken in."""
        self._guard = threading.Lock()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)  # the parent's, that would outlive it here
            self._pending.clear()
            self.connect()

    def _begin(self) -> str:
        with self._guard:
            name = f"{self._session}-{next(self._counter):x}"
            self._pending.add(name)
        return name

    def _done(self, names: Iterable[str]) -> None:
        with self._guard:
            self._pending.difference_update(names)
            self._end()

    def _end(self) -> None:
        if self._pending or not self._is_ending:
            return
        lock, self._lock = self._lock, None
        if lock is not None:
            remove(f"{self._stage}{self._session}{_LOCK}")
            os.close(lock)

    # -- writing ---------------------------------------------------------------------------

    def receive(self, source: Source) -> Received:
        """Take data in; what is large is then in a file, complete and on the disk.

        What the source raises passes unchanged, and nothing is left behind.
        """
        data = source.in_memory
        if data is not None and len(data) <= INLINE:
            data = source.whole()
            return Received(len(data), hashlib.sha256(data).digest(), data, None)
        name = self._begin()
        try:
            received = self._adopted(name, source) or self._received(name, iter(source))
        except BaseException:
            self.discard([name])
            raise
        if received.file is None:
            self._done([name])
        return received

    def _adopted(self, name: str, source: Source) -> Received | None:
        """Take the file of a source itself, None if it cannot be had.

        It gets a second name, so that whoever gives it has it still if the commit fails.
        """
        digest, path, size = source.adoptable, source.path, source.size
        if digest is None or path is None or size is None or size <= INLINE or self._lock is None:
            return None
        try:
            os.link(path, self._stage + name, follow_symlinks=False)
        except (OSError, NotImplementedError):  # on another file system, or one without links
            return None
        with self.translated:
            descriptor = open_file(self._stage + name)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                    raise StorageError("The file of an upload is not what it was.")
                flush(descriptor, durable=self._durable)
            finally:
                os.close(descriptor)
        if source.report is not None:
            source.report(size)
        return Received(size, digest, None, name)

    def _received(self, name: str, pieces: Iterator[bytes]) -> Received:
        first: list[bytes] = []
        size = 0
        for piece in pieces:
            first.append(piece)
            size += len(piece)
            if size > INLINE:
                return self._staged(name, itertools.chain(first, pieces))
        data = b"".join(first)
        return Received(size, hashlib.sha256(data).digest(), data, None)

    def _staged(self, name: str, pieces: Iterable[bytes]) -> Received:
        if self._lock is None:  # whoever tidies up would take the file for one of the dead
            raise NotConnectedError("The store was disconnected before large data could be stored.")
        with self.translated:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
            descriptor = os.open(self._stage + name, flags, 0o600)
        size = 0
        try:
            with ParallelHash() as digest:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    with self.translated:
                        write_all(descriptor, piece)
                with self.translated:
                    flush(descriptor, durable=self._durable)
                return Received(size, digest.digest(), None, name)
        finally:
            os.close(descriptor)

    def prepare(self, names: Iterable[str]) -> None:
        """Make sure, right before a commit that names them, that staged files are there to stay.

        Raises:
            StorageError: one is gone.
        """
        with self.translated:
            for name in names:
                os.lstat(self._stage + name)
            if self._durable:
                flush_folder(self._stage)

    def publish(self, names: Iterable[str]) -> None:
        """Move staged files into their places, after the commit. Where that fails they stay."""
        for name in names:
            with contextlib.suppress(OSError):
                self._move(name)
        self._done(names)

    def discard(self, names: Iterable[str]) -> None:
        """Remove staged files that belong to no row."""
        for name in names:
            remove(self._stage + name)
        self._done(names)

    def remove(self, names: Iterable[str]) -> list[str]:
        """Remove files that no row names any more; return the names of those that are gone."""
        # From the stage first: its owner may move it between our two steps.
        return [name for name in names if all(map(remove, reversed(self._places(name))))]

    # -- reading ---------------------------------------------------------------------------

    def open(self, name: str) -> int | None:
        """Return a descriptor of a blob, None if there is no such file."""
        final, staged = self._places(name)
        # Thrice, as it may be moved between the first look and the second.
        for path in (final, staged, final):
            try:
                return open_file(path)
            except FileNotFoundError:
                continue
        return None

    def size(self, name: str) -> int | None:
        """Return the size of a blob, None if there is no such file."""
        for path in self._places(name):
            with contextlib.suppress(FileNotFoundError):
                return os.lstat(path).st_size
        return None

    # -- what others left ------------------------------------------------------------------

    def abandoned(self) -> Iterator[str]:
        """Yield the names of staged files of sessions that are over, and end these."""
        with self.translated:
            found = os.listdir(self._stage)
        over: dict[str, bool] = {self._session: False}
        locks = {name for name in found if name.endswith(_LOCK)}
        for name in sorted(filter(_NAME.fullmatch, found)):
            session = name.partition("-")[0]
            if session not in over:
                over[session] = self._is_over(session)
            if over[session]:
                yield name
        for name in locks:
            session = name.removesuffix(_LOCK)
            if over.get(session, True) and self._is_over(session):
                remove(self._stage + name)

    def stored(self) -> Iterator[str]:
        """Yield the names of all files in their places."""
        with self.translated:
            for folder in sorted(os.listdir(self._blobs)):
                if _FOLDER.fullmatch(folder):
                    names = os.listdir(self._blobs + folder)
                    yield from sorted(filter(_NAME.fullmatch, names))

    def _is_over(self, session: str) -> bool:
        try:
            return not is_locked(f"{self._stage}{session}{_LOCK}")
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _places(self, name: str) -> tuple[str, str]:
        return f"{self._blobs}{_folder(name)}/{name}", self._stage + name

    def _move(self, name: str) -> None:
        final, staged = self._places(name)
        try:
            os.replace(staged, final)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(final), 0o700)  # noqa: PTH120
            os.replace(staged, final)


def _folder(name: str) -> str:
    return f"{int(name.rpartition('-')[2], 16) & 255:02x}"
