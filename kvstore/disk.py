"""Single steps on the disk, and what operating systems do each in their own way: locks, flushes."""
# ruff: noqa: PTH108 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from types import TracebackType

from kvstore.errors import StorageError, StorageFullError, StoreError
from kvstore.files import write_all

# A link planted in the folder must not lead out of it, nor a planted pipe hang whoever opens it.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _SAFELY
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY

if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(descriptor: int) -> None:
        while not _try_lock(descriptor):  # LK_LOCK would give up after ten seconds
            time.sleep(0.01)

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def flush_folder(path: str) -> None:
        """Bring the names in a folder to the disk (Windows has no way to; NTFS logs them)."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def flush_folder(path: str) -> None:
        """Bring the names in a folder to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flush(descriptor, durable=True)
        finally:
            os.close(descriptor)


def flush(descriptor: int, *, durable: bool) -> None:
    """Bring the content of an open file to the disk; if *durable*, through its cache as well.

    Only macOS tells the two apart, and takes its time for the second.
    """
    if sys.platform == "darwin" and durable:
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


_held: set[int] = set()


@contextlib.contextmanager
def locked(file: str) -> Iterator[None]:
    """Hold the lock file *file*, made if it is missing, after whoever holds it now.

    Each call opens the file anew, so that threads of one process exclude each other, too.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
    try:
        _held.add(descriptor)
        _lock(descriptor)
        try:
            yield
        finally:
            # Closing would do, were it not for a child forked meanwhile that has the file open.
            with contextlib.suppress(OSError):
                _unlock(descriptor)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _close_inherited() -> None:
    # If the parent is killed while it holds a lock, a child that shares it would keep it for ever.
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class Foreign:
    """Turns what the operating system raises into errors of the contract: ``with foreign: ...``.

    Args:
        root: the folder that the messages name; other paths are told relative to it.
    """

    __slots__ = ("_root",)

    def __init__(self, root: str) -> None:
        self._root = root

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise self._translated(error) from error
        if isinstance(error, UnicodeError):
            message = f"No file in {self._root!a} can have this name: {error}."
            raise StorageError(message) from error

    def _translated(self, error: OSError) -> StoreError:
        file = error.filename2 or error.filename  # of a rename, the target
        named = isinstance(file, (str, bytes))
        inside = os.path.relpath(os.fsdecode(file), self._root) if named else "."
        where = f"{self._root!a}" if inside == "." else f"{inside!a:.300} in {self._root!a}"
        reason = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(f"{reason}: {where}.")
        if error.errno in (errno.ELOOP, errno.EMLINK):
            reason = "Symbolic links are not followed"
        return StorageError(f"{reason}: {where}.")


def open_file(file: str) -> int:
    """Return a descriptor to read a file that is no link."""
    return os.open(file, _READ)


def read_all(descriptor: int) -> bytes:
    """Return what is left to read."""
    pieces = []
    while piece := os.read(descriptor, 1 << 14):
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_file(file: str) -> bytes:
    """Return what is in a file that is no link."""
    descriptor = open_file(file)
    try:
        return read_all(descriptor)
    finally:
        os.close(descriptor)


def create_locked(file: str, mode: int = 0o666) -> int:
    """Return a descriptor to write a file that is new; it is locked."""
    while True:
        descriptor = os.open(file, _CREATE, mode)
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_nlink:
                taken, descriptor = descriptor, -1
                return taken
            # Somebody who tidies up was faster than our lock, and has removed the file.
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def take_lock(file: str) -> int | None:
    """Return a descriptor that has the lock of a file, made if it is missing; None if others do.

    Who has it may remove the file: that ends the lock of those who wait for it, too.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
    try:
        if _try_lock(descriptor) and _is_there(file, descriptor):
            _held.add(descriptor)
            taken, descriptor = descriptor, -1
            return taken
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def drop_lock(descriptor: int) -> None:
    """Give back what :func:`take_lock` returned."""
    with contextlib.suppress(OSError):
        _unlock(descriptor)
    _held.discard(descriptor)
    os.close(descriptor)


def is_locked(file: str) -> bool:
    """Tell whether somebody has a file open that `create_locked` made."""
    descriptor = os.open(file, os.O_RDWR | _SAFELY)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _is_there(file: str, descriptor: int) -> bool:
    """Tell whether a file that was opened under a name still has it."""
    try:
        return os.path.samestat(os.lstat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write_file(file: str, content: bytes, *, durable: bool) -> None:
    """Write a file that is new, and bring it to the disk."""
    descriptor = os.open(file, _CREATE, 0o666)
    try:
        write_all(descriptor, content)
        flush(descriptor, durable=durable)
    finally:
        os.close(descriptor)


def remove(file: str) -> bool:
    """Remove a file; tell whether it is gone."""
    try:
        os.unlink(file)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def check_folder(path: str) -> None:
    """Raise OSError unless there is a folder of that name that is no link."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        number = errno.ELOOP if stat.S_ISLNK(mode) else errno.ENOTDIR
        raise OSError(number, os.strerror(number), path)
