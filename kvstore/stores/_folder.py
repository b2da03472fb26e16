"""Files of a folder store: what holds for a key, whoever changes it or dies meanwhile.

::

    <root>/runs/m31.fits               the data
    <root>/runs/m31.fits.meta.json     its sidecar; the key is there if and only if this file is
    <root>/.kvstore/format.json        what the folder is
    <root>/.kvstore/locks/5d           locks, one for each 256th of the keys
    <root>/.kvstore/stage/<token>%-runs%-m31.fits    data that is not in its place yet
    <root>/.kvstore/stage/<token>.json               a sidecar that does not count yet
    <root>/.kvstore/stage/<token>.deleted            the sidecar of a key that is being removed

A write stages the data, takes the lock, stages the sidecar, which names the write by its token,
renames the sidecar into its place (from now on the write has happened), then the data. A removal
renames the sidecar away (now it has happened), then unlinks the data. So there are two rules:

1. The data of a sidecar is its staged file if there is one, else the data file.
2. Whoever finds no staged file, opens the data file, and then finds that the sidecar is still the
   same has a pair: a data file is replaced only after its sidecar.

Where a process died on the way, the key is old or new all the same, and a sweep tidies up.
"""
# ruff: noqa: PTH102, PTH118 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from kvstore.disk import (
    Foreign,
    check_folder,
    flush_folder,
    locked,
    open_file,
    read_all,
)
from kvstore.errors import StorageError, UnavailableError
from kvstore.filenames import SIDECAR_SUFFIX, Form, encode
from kvstore.hashing import sha256
from kvstore.stores._sidecar import Sidecar, parse
from kvstore.values import Record

#: Data of up to so many bytes is read together with its sidecar.
SMALL = 1 << 16
PRIVATE = ".kvstore"

_TRIES = 100
_MAX_NAME = 255


class Place(NamedTuple):
    """A key and the path of its data file relative to the root, with slashes."""

    key: str
    path: str


class Folder:
    """The data files and sidecars below *root*, an absolute path, and what is on its way there.

    Holds no state but its arguments, so that threads and forked children may share it. What the
    operating system refuses is a StorageError naming the file, or a StorageFullError.
    """

    def __init__(self, root: str, form: Form, *, durable: bool) -> None:
        self.root = root
        self.form: Form = form
        self.durable = durable
        self.foreign = Foreign(root)
        self.base = os.path.join(root, "")
        self.stage = os.path.join(root, PRIVATE, "stage", "")
        self.locks = os.path.join(root, PRIVATE, "locks", "")

    # -- names -----------------------------------------------------------------------------

    def place(self, key: str) -> Place:
        """Return where *key* is."""
        return Place(key, "/".join(encode(key, form=self.form)))

    def data(self, place: Place) -> str:
        """Return the data file."""
        return self.base + place.path

    def sidecar(self, place: Place) -> str:
        """Return the sidecar."""
        return self.base + place.path + SIDECAR_SUFFIX

    def staged(self, token: str, place: Place) -> str:
        """Return the file in which a write stages its data."""
        # The path tells a sweep whose data it is; no name in it has "%-". Where it is too long for
        # one name, the sweep has to look for the sidecar that names the token.
        name = f"{token}%-{place.path.replace('/', '%-')}"
        return self.stage + (name if len(name.encode()) <= _MAX_NAME else f"{token}%-")

    def token(self, key: str) -> str:
        """Return a name for one write to *key*, which also tells the lock of the key."""
        return f"{zlib.crc32(key.encode()) & 255:02x}{secrets.token_hex(8)}"

    # -- reading ---------------------------------------------------------------------------

    def has(self, place: Place) -> bool:
        """Tell whether there is such a key."""
        with self.foreign:
            descriptor = self._open_sidecar(place)
            if descriptor is not None:
                os.close(descriptor)
        return descriptor is not None

    def load(self, place: Place) -> Sidecar | None:
        """Return what the sidecar says; None if there is no such key."""
        with self.foreign:
            descriptor = self._open_sidecar(place)
            if descriptor is None:
                return None
            try:
                return self._parsed(descriptor, place)
            finally:
                os.close(descriptor)

    def record(self, place: Place) -> Record | None:
        """Return the facts about a key; None if there is no such key."""
        sidecar = self.load(place)
        return None if sidecar is None else self._seen(sidecar, place)

    def read(self, place: Place) -> tuple[Record, bytes | None] | None:
        """Return the record with the data, or without if that is large or not what was stored."""
        sidecar = self.load(place)
        if sidecar is None:
            return None
        if sidecar.record.size > SMALL:
            record = self._seen(sidecar, place)
            return None if record is None else (record, None)
        data = self._quickly(sidecar, place)
        if data is not None:
            return sidecar.record, data
        opened = self.open(place)
        if opened is None:
            return None
        record, descriptor = opened
        try:
            with self.foreign:
                data = read_all(descriptor) if record.size <= SMALL else b""
        finally:
            os.close(descriptor)
        return record, data if _is_data_of(record, data) else None

    def open(self, place: Place) -> tuple[Record, int] | None:
        """Return the record and a descriptor of exactly its data; None if there is no such key.

        Raises:
            UnavailableError: somebody changes the key faster than it can be read.
        """
        with self.foreign:
            for _ in range(_TRIES):
                guard = self._open_sidecar(place)
                if guard is None:
                    return None
                try:
                    opened = self._open_pair(guard, place)
                finally:
                    os.close(guard)
                if opened is not None:
                    return opened
        message = f"The key {place.key!a:.300} is changed all the time; try again later."
        raise UnavailableError(message, key=place.key)

    # -- for those who write ---------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, token: str) -> Iterator[None]:
        """Keep other writers of the key away."""
        lock = locked(self.locks + token[:2])
        with self.foreign:
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def check_parents(self, path: str) -> None:
        """Raise OSError unless the folders that *path* is in are there and no links."""
        for parent in parents(path):
            check_folder(self.base + parent)

    def make_parents(self, path: str) -> None:
        """Make the folders that *path* is in where they are missing; OSError as above."""
        for parent in parents(path):
            folder = self.base + parent
            try:
                check_folder(folder)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder)
                check_folder(folder)

    def flush_names(self, place: Place) -> None:
        """Bring what was renamed, made and removed for a key to the disk, if that is asked for."""
        if not self.durable:
            return
        with self.foreign:
            for parent in reversed(parents(place.path)):
                with contextlib.suppress(FileNotFoundError):
                    flush_folder(self.base + parent)
            flush_folder(self.root)
            flush_folder(self.stage)

    # -- steps of reading ------------------------------------------------------------------

    def _open_sidecar(self, place: Place) -> int | None:
        try:
            self.check_parents(place.path)
            return open_file(self.sidecar(place))
        except (FileNotFoundError, NotADirectoryError):
            # A folder whose disk is not mounted must not pass for one without keys.
            os.lstat(self.stage)
            return None

    def _parsed(self, descriptor: int, place: Place) -> Sidecar:
        name = place.path + SIDECAR_SUFFIX
        sidecar = parse(read_all(descriptor), name=name)
        if sidecar.record.key != place.key:
            other = f"{sidecar.record.key!a:.300}"
            message = f"The sidecar {name!a:.300} is that of another key, {other}."
            raise StorageError(message, key=place.key)
        return sidecar

    def _open_pair(self, guard: int, place: Place) -> tuple[Record, int] | None:
        # Rules 1 and 2, in this order. The sidecar is held open by *guard*: as long as it is, no
        # other file gets its inode number, so that "the same" cannot be a mistake.
        sidecar = self._parsed(guard, place)
        if sidecar.stage is not None:
            with contextlib.suppress(FileNotFoundError):
                return sidecar.record, open_file(self.staged(sidecar.stage, place))
        try:
            descriptor = open_file(self.data(place))
        except FileNotFoundError:
            if not self._is_current(guard, place):
                return None
            message = f"The data file {place.path!a:.300} of the key {place.key!a:.300} is missing."
            raise StorageError(message, key=place.key) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{place.path!a:.300} is no regular file.", key=place.key)
            if self._is_current(guard, place):
                found = sidecar if sidecar.describes(status) else sidecar.edited(status)
                taken, descriptor = descriptor, -1
                return found.record, taken
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return None

    def _is_current(self, guard: int, place: Place) -> bool:
        try:
            return os.path.samestat(os.lstat(self.sidecar(place)), os.fstat(guard))
        except FileNotFoundError:
            return False

    def _quickly(self, sidecar: Sidecar, place: Place) -> bytes | None:
        # The digest proves that these are the bytes of this sidecar, so that nothing else need be
        # looked at. Whatever is out of the ordinary is left to `open`.
        try:
            descriptor = open_file(self.data(place))
        except OSError:
            return None
        try:
            if sidecar.record.digest is None or not sidecar.describes(os.fstat(descriptor)):
                return None
            data = os.read(descriptor, sidecar.record.size + 1)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return data if _is_data_of(sidecar.record, data) else None

    def _seen(self, sidecar: Sidecar, place: Place) -> Record | None:
        with self.foreign, contextlib.suppress(FileNotFoundError):
            if sidecar.describes(os.lstat(self.data(place))):
                return sidecar.record
        opened = self.open(place)
        if opened is None:
            return None
        os.close(opened[1])
        return opened[0]


def parents(path: str) -> list[str]:
    """Return the paths of the folders that *path* is in, the outermost first."""
    found = []
    end = path.find("/")
    while end >= 0:
        found.append(path[:end])
        end = path.find("/", end + 1)
    return found


def _is_data_of(record: Record, data: bytes) -> bool:
    return len(data) == record.size and record.digest in (None, sha256(data))
