"""Locks by key, so that of many who want the same one does the work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from kvstore.errors import StorageError, StoreError, UnavailableError
from kvstore.store import Store

#: Seconds that somebody waits for a download that another one makes of the same key.
_PATIENCE = 600.0
#: Names of locks. Keys share them, so that there are not as many files as there ever were keys.
_LOCKS = 4096


class KeyLocks:
    """Locks by key, between threads and between the processes that share a local store."""

    def __init__(self, local: Store, folder: str | os.PathLike[str] | None) -> None:
        self._local = local
        self._folder = None if folder is None else Path(folder)
        self._mine = _Mine()

    @contextlib.contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Hold that of *key* during a ``with`` block; a thread may do so again within it.

        Raises:
            UnavailableError: somebody else has held it for too long.
            StorageError: the folder of the lock files cannot be used.
        """
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % _LOCKS
        try:
            lock = self._lock(number)
            lock.acquire()
        except Timeout:
            message = f"Somebody else has been downloading for {_PATIENCE:.0f} s: {key!a}."
            raise UnavailableError(message, key=key) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, StoreError):
                raise
            raise StorageError(f"The lock of {key!a} cannot be had: {error}.", key=key) from error
        try:
            yield
        finally:
            lock.release()

    def _lock(self, number: int) -> FileLock | _InMemory:
        if self._folder is None and self._local.info()["durability"] == "none":
            return _in_memory(self._local, number)  # no other process has this store
        return self._mine.lock(self._place() / f"{number:03x}.lock")

    def _place(self) -> Path:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._folder
        uid = os.getuid() if hasattr(os, "getuid") else "user"
        top = Path(tempfile.gettempdir()) / f"kvstore-locks-{uid}"
        top.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and top.lstat().st_uid != os.getuid():
            raise StorageError(f"The folder {str(top)!r} belongs to somebody else.")
        folder = top / hashlib.sha256(repr(self._local).encode()).hexdigest()[:32]
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


class _Mine(threading.local):
    """The lock files of each thread, which may take again what it has.

    A listener that is told of a download may read the same key.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, FileLock] = {}

    def lock(self, path: Path) -> FileLock:
        """Return this thread's lock of that file."""
        lock = self._locks.get(path)
        if lock is None:
            lock = self._locks[path] = FileLock(path, timeout=_PATIENCE)
        return lock


class _InMemory:
    """A lock between threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self) -> None:
        """Take it, waiting as long as for a file."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise Timeout("memory")

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


_guard = threading.Lock()
_locks_of: weakref.WeakKeyDictionary[Store, dict[int, _InMemory]] = weakref.WeakKeyDictionary()


def _in_memory(local: Store, number: int) -> _InMemory:
    with _guard:
        return _locks_of.setdefault(local, {}).setdefault(number, _InMemory())


def _after_fork() -> None:
    # The threads that held them are not in the child.
    global _guard, _locks_of
    _guard, _locks_of = threading.Lock(), weakref.WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
