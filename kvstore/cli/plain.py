"""A folder of files that no store has made, as a store to read."""
# ruff: noqa: PTH123 - paths are str here: a folder may have a million files

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from kvstore.cli.arguments import url_in
from kvstore.cli.headers import Headers
from kvstore.cli.writing import _type_of as type_of
from kvstore.documents import JsonObject, check_metadata, parse_object
from kvstore.filenames import data_name, is_sidecar, sidecar
from kvstore.query import Query, run
from kvstore.readers import LimitedReader, buffered
from kvstore.readonly import ReadOnlyStore
from kvstore.values import (
    DEFAULT_MIMETYPE,
    Permissions,
    Record,
    Value,
    check_permissions,
    resolve_range,
)
from kvstore.writes import missing

# What a sidecar has that a FileSystemStore wrote; any other one is the metadata itself.
_STORED = frozenset({"key", "metadata", "mimetype", "permissions", "revision", "stage", "mtime_ns"})


class PlainFolder(ReadOnlyStore):
    """The regular files below a folder. The path of each, with slashes, is its key.

    What ``m31.fits.meta.json`` says is the metadata of ``m31.fits``, or, where a FileSystemStore
    wrote it, metadata, media type and permissions. Fields of the header of a file come after those
    of its sidecar. Left out are what is hidden, symbolic links, and folders that hold a store.

    Args:
        root: the folder.
        headers: reads the headers; None to leave them.
    """

    capabilities: ClassVar[dict[str, Any]] = {
        **ReadOnlyStore.capabilities,
        "conditional": False,
        "digests": False,
    }

    def __init__(self, root: str | os.PathLike[str], headers: Headers | None = None) -> None:
        super().__init__()
        self._base = os.path.join(root, "")  # noqa: PTH118
        self._headers = headers
        #: What the last listing has left out so far, and how many there are of each.
        self.left_out: Counter[str] = Counter()
        #: Why folders could not be listed.
        self.unreadable: list[OSError] = []

    def __repr__(self) -> str:
        return f"<PlainFolder {self._base!r}>"

    def size(self) -> int:
        """Return how many bytes all the files have."""
        size = 0
        for path in self._walk():
            with contextlib.suppress(OSError):
                size += os.lstat(self._base + path).st_size
        return size

    def _get(self, key: str) -> Value:
        return Value(self._record(key), _Opener(self._base + key, key))

    def _records(self, prefix: str, after: str | None) -> Iterator[Record]:
        return (self._record(key) for key in self._walk() if key.startswith(prefix))

    def _query_keys(self, query: Query) -> Iterator[Record]:
        if query.match or query.where is not None or query.order_by is not None:
            return self._query(query)
        return run(query, (Record(key, {}, 0) for key in self._walk()))

    def _record(self, key: str) -> Record:
        path = self._base + key
        try:
            with open(path, "rb") as stream:  # what cannot be read is to be known before a write
                status = os.fstat(stream.fileno())
        except FileNotFoundError:
            raise missing(key) from None
        metadata, mimetype, permissions = _described(sidecar(path))
        if self._headers is not None:
            metadata = {**self._headers.read(path), **metadata}
        return Record(
            key=key,
            metadata=metadata,
            size=status.st_size,
            modified=status.st_mtime,
            mimetype=mimetype or type_of(key) or DEFAULT_MIMETYPE,
            permissions=permissions,
        )

    # -- the tree --------------------------------------------------------------------------

    def _walk(self) -> Iterator[str]:
        """Yield the paths of the files in the order of keys."""
        self.left_out.clear()
        self.unreadable.clear()
        todo = [""]
        while todo:
            path = todo.pop()
            if path and not path.endswith("/"):
                yield path
            else:
                todo += sorted(self._entries(path), reverse=True)

    def _entries(self, path: str) -> list[str]:
        """Return the paths of what is in a folder; those of folders end in a slash."""
        try:
            with os.scandir(self._base + path) as listed:
                entries = list(listed)
        except OSError as error:
            self.unreadable.append(error)
            return []
        files = {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
        found = []
        for entry in entries:
            kind = _left_out(entry, files)
            if kind is None:
                end = "/" if entry.is_dir(follow_symlinks=False) else ""
                found.append(f"{path}{entry.name}{end}")
            else:
                self.left_out[kind] += 1
        return found


class _Opener:
    """Opens a file as it is now."""

    __slots__ = ("_key", "_path")

    def __init__(self, path: str, key: str) -> None:
        self._path = path
        self._key = key

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        first, last = resolve_range(start, end, os.lstat(self._path).st_size, key=self._key)
        stream = open(self._path, "rb")  # noqa: SIM115 - the caller closes it
        if start is None and end is None:
            return stream
        return buffered(LimitedReader(stream, first, last, key=self._key))


def _left_out(entry: os.DirEntry[str], files: set[str]) -> str | None:
    """Return as what an entry is left out, None if it is not."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        return "symbolic link"
    if entry.is_dir(follow_symlinks=False):
        return None if url_in(Path(entry.path)) is None else "store"
    if not entry.is_file(follow_symlinks=False):
        return "special file"
    # Without its file it is a file like others.
    if is_sidecar(entry.name) and data_name(entry.name) in files:
        return "sidecar"
    return None


def _described(path: str) -> tuple[JsonObject, str | None, Permissions | None]:
    """Return metadata, media type and permissions that the sidecar at *path* tells."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return {}, None, None
    except FileNotFoundError:
        return {}, None, None
    document = parse_object(Path(path).read_bytes(), what=f"sidecar {path!a:.300}")
    if not document.keys() >= _STORED:
        return document, None, None
    permissions = check_permissions(document["permissions"], complete=True)
    return check_metadata(document["metadata"]), document["mimetype"], permissions
