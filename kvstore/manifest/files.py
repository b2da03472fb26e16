"""The files of a dataset, wherever they lie: in a folder, or in a store below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from kvstore.errors import InvalidRequestError, KeyNotFoundError, TooLargeError
from kvstore.files import write_atomically
from kvstore.query import Query
from kvstore.readonly import ReadOnlyStore
from kvstore.store import Store
from kvstore.values import BUFFER_SIZE

#: Files of one dataset that are looked at.
MOST = 100_000


class Files(Protocol):
    """What building and verifying need of a dataset."""

    def names(self) -> Iterator[str]:
        """Yield the names of its files, with ``/`` between folders.

        A folder without files has a name that ends with ``/``.

        Raises:
            TooLargeError: there are more files than can be looked at.
        """
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file, about 1 MiB at a time.

        Raises:
            KeyNotFoundError: there is none of that name.
        """
        ...


class FolderFiles:
    """The files below a folder. Symbolic links are not followed and count as nothing.

    Args:
        folder: one that exists.

    Raises:
        InvalidRequestError: it is no folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InvalidRequestError(f"That is no folder: {str(folder)!r:.200}.")

    def names(self) -> Iterator[str]:
        """Yield the names, folder by folder; see :class:`Files`."""
        return _bounded(self._names(), str(self._folder))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file; see :class:`Files`.

        Raises:
            OSError: it cannot be read.
        """
        path = self._path(name)
        if not path.is_file():
            raise KeyNotFoundError(f"There is no file {name!r:.200}.", key=name)
        with path.open("rb") as stream:
            while piece := stream.read(BUFFER_SIZE):
                yield piece

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, so that at any moment it is the old or the new one."""
        write_atomically(self._path(name), [data])

    def _path(self, name: str) -> Path:
        if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise KeyNotFoundError(f"That is no name of a file: {name!r:.200}.", key=name)
        return self._folder / name

    def _names(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._folder, onerror=_raise):
            folders.sort()
            here = Path(folder)
            plain = [name for name in sorted(files) if not (here / name).is_symlink()]
            for name in plain:
                yield (here / name).relative_to(self._folder).as_posix()
            if not plain and not folders and here != self._folder:
                yield f"{here.relative_to(self._folder).as_posix()}/"


class StoreFiles:
    """The keys of a store below a prefix, as files.

    Args:
        store: is connected.
        prefix: what stands before the names, ``/`` is added; everything in the store if empty.
    """

    def __init__(self, store: ReadOnlyStore, prefix: str = "") -> None:
        self._store = store
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""

    def names(self) -> Iterator[str]:
        """Yield the names in the order of keys; see :class:`Files`."""
        keys = self._store.find(Query(prefix=self._prefix))
        names = (record.key.removeprefix(self._prefix) for record in keys)
        return _bounded((name for name in names if name), self._prefix)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file; see :class:`Files`.

        Raises:
            IntegrityError: the store finds them damaged.
        """
        with closing(self._store.get(self._prefix + name)) as value:
            yield from value.iterdata()

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file.

        Raises:
            InvalidRequestError: the store can only be read.
        """
        if not isinstance(self._store, Store):
            raise InvalidRequestError("This store can only be read.")
        self._store.set_data(self._prefix + name, data, mimetype="application/yaml")


def _bounded(names: Iterator[str], where: str) -> Iterator[str]:
    for count, name in enumerate(names):
        if count >= MOST:
            raise TooLargeError(f"A dataset has at most {MOST} files, this one more: {where!a}.")
        yield name


def _raise(error: OSError) -> None:
    raise error
