"""What SQLite and the operating system raise, as errors of the contract."""

from __future__ import annotations

import sqlite3
from types import TracebackType

from kvstore.disk import Foreign
from kvstore.errors import (
    DamagedError,
    StorageError,
    StorageFullError,
    StoreError,
    UnavailableError,
)

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


class Translated:
    """Turns foreign errors into ours: ``with translated: ...``.

    Args:
        root: the folder of the store.
    """

    __slots__ = ("_files", "_root")

    def __init__(self, root: str) -> None:
        self._root = root
        self._files = Foreign(root)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, StoreError):
            return
        if isinstance(error, sqlite3.Error):
            raise self.of(error) from error
        self._files.__exit__(kind, error, trace)

    def of(self, error: sqlite3.Error) -> StoreError:
        """Return the error of ours that tells what SQLite told."""
        primary: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        where = f"{self._root!a}"
        if primary in _BUSY:
            return UnavailableError(f"The store in {where} is busy: somebody keeps it locked.")
        if primary == sqlite3.SQLITE_FULL:
            return StorageFullError(f"No room is left for the store in {where}.")
        if primary in _DAMAGED:
            return DamagedError(f"The index of the store in {where} is damaged: {error}.")
        if primary in _READ_ONLY:
            return StorageError(f"The store in {where} may not be written: {error}.")
        return StorageError(f"The index of the store in {where} cannot be used: {error}.")
