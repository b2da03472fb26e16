"""How the files of a key are changed: in which order, so that :mod:`._folder` keeps its rules."""
# ruff: noqa: PTH105, PTH106 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass

from kvstore.disk import create_locked, flush, remove, write_file
from kvstore.files import write_all
from kvstore.hashing import ParallelHash
from kvstore.stores._folder import Folder, Place, parents
from kvstore.stores._sidecar import Sidecar, dump

_TRIES = 100


@dataclass(slots=True)
class Staged:
    """Data on its way into the folder: complete, and on the disk."""

    file: str
    size: int
    digest: str
    mtime_ns: int
    #: Open and locked, which tells a sweep that the writer lives; None once the key is locked.
    descriptor: int | None
    #: Whether a sidecar may name it, so that it must not be removed any more.
    named: bool = False

    def release(self) -> None:
        """Close the file."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def discard(self) -> None:
        """Close the file, and remove it unless a sidecar may name it."""
        self.release()
        if not self.named:
            remove(self.file)


def stage(folder: Folder, token: str, place: Place, pieces: Iterable[bytes]) -> Staged:
    """Write data where nobody looks for it yet.

    What *pieces* raise passes unchanged, and nothing is left behind.
    """
    file = folder.staged(token, place)
    with folder.foreign:
        descriptor = create_locked(file)
    staged = Staged(file, 0, "", 0, descriptor)
    try:
        with ParallelHash() as digest:
            for piece in pieces:
                digest.update(piece)
                staged.size += len(piece)
                with folder.foreign:
                    write_all(descriptor, piece)
            staged.digest = f"sha256:{digest.digest().hex()}"
        with folder.foreign:
            # The clock of file systems ticks slowly: without this, a tool that changes the file
            # right after us could leave it with the time that we recorded.
            now = time.time_ns()
            os.utime(descriptor if os.utime in os.supports_fd else file, ns=(now, now))
            flush(descriptor, durable=folder.durable)
            staged.mtime_ns = os.fstat(descriptor).st_mtime_ns
    except BaseException:
        staged.discard()
        raise
    return staged


def current(folder: Folder, place: Place) -> Sidecar | None:
    """Return what holds for a key now, None if there is none, for whoever has its lock.

    Puts data in its place that its writer could not. A data file that is missing is no error: what
    is to be done to the key mends that.
    """
    sidecar = folder.load(place)
    if sidecar is None:
        return None
    data = folder.data(place)
    with folder.foreign:
        try:
            status = os.lstat(data)
        except FileNotFoundError:
            status = None
    if status is not None and sidecar.describes(status):
        return sidecar
    if sidecar.stage is not None:
        try:
            os.replace(folder.staged(sidecar.stage, place), data)
        except FileNotFoundError:
            pass
        except OSError:  # the data stays where it is: rule 1
            return sidecar
        else:
            return sidecar
    if status is None or not stat.S_ISREG(status.st_mode):
        return sidecar
    return sidecar.edited(status)


def commit(
    folder: Folder, token: str, place: Place, sidecar: Sidecar, staged: Staged | None
) -> None:
    """Put a sidecar and its staged data (None: what is there stays) in their places.

    For whoever has the lock of the key. An error means that nothing has changed, unless it comes
    from flushing the names.
    """
    draft = f"{folder.stage}{token}.json"
    begun = False
    try:
        with folder.foreign:
            write_file(draft, dump(sidecar), durable=folder.durable)
            if staged is not None:
                staged.release()
                staged.named = True
            begun = True
            _put_sidecar(folder, draft, place)
    except BaseException:
        # Ctrl-C may come between the rename and our next step: only the draft tells.
        if not begun or os.path.lexists(draft):
            remove(draft)
            if staged is not None:
                staged.named = False
        raise
    if staged is not None:
        # Where this fails (another program keeps the old file open, on Windows) the write has
        # happened all the same: rule 1. The next write or sweep tidies up.
        with contextlib.suppress(OSError):
            os.replace(staged.file, folder.data(place))
    folder.flush_names(place)


def delete(folder: Folder, token: str, place: Place) -> None:
    """Remove both files, for whoever has the lock of the key."""
    grave = f"{folder.stage}{token}.deleted"
    with folder.foreign:
        os.replace(folder.sidecar(place), grave)
    bury(folder, grave, place)
    folder.flush_names(place)


def bury(folder: Folder, grave: str, place: Place) -> None:
    """Remove the data of a removed sidecar, the grave, and folders that are empty then."""
    # While the data file cannot be removed the grave stays, for the next sweep to try again.
    if remove(folder.data(place)):
        remove(grave)
    with contextlib.suppress(OSError):
        for parent in reversed(parents(place.path)):
            os.rmdir(folder.base + parent)


def _put_sidecar(folder: Folder, draft: str, place: Place) -> None:
    for tries in range(_TRIES):
        try:
            if tries:
                folder.make_parents(place.path)
            os.replace(draft, folder.sidecar(place))
        except FileNotFoundError:
            # A new folder; or whoever removed its last key has removed it.
            if tries == _TRIES - 1:
                raise
        else:
            return
