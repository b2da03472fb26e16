"""Uploads that are not complete yet: files in a folder, which all processes of a server share.

Nothing of an upload is in memory between two requests, so any process goes on with what another
one began, and a server that begins anew with all of them. A lock beside each says who adds to it;
the lock of a process that dies is free.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kvstore.disk import Foreign, drop_lock, is_locked, remove, take_lock
from kvstore.errors import StorageFullError, TooLargeError, UnavailableError
from kvstore.server.answers import Refusal
from kvstore.server.limits import Limits
from kvstore.server.resumable.leftovers import Listing, listing
from kvstore.server.resumable.partial import LOCK, STATE, WANTED, Partial, Plan, load_partial

#: A name begins with the mark of its owner, so that those of one can be counted by a look at the
#: folder, and goes on with what nobody guesses: 144 bits.
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_MARK_BYTES = 6
_MARK = 8  # letters
_ID_BYTES = 18
#: Seconds for which what was counted in the folder is believed; other processes add to it, too.
_BELIEVED = 1.0
#: Uploads between two requests whose SHA-256 so far is kept; that of others is worked out anew.
_HASHES = 1024

#: The mark of those whose users are not told apart.
_NOBODY = "_" * _MARK

_log = logging.getLogger("kvstore.server")


class Partials:
    """The uploads of one server. Thread-safe; what is said to block touches the disk.

    The folder is opened when it is first needed.

    Args:
        folder: where they are kept, made if it is missing; several processes may share it. None: a
            temporary one, for the life of this object.
        clock: seconds since the epoch.
    """

    def __init__(
        self, folder: Path | None, limits: Limits, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._given = folder
        self._limits = limits
        self._guard = threading.Lock()
        self._folder: Path | None = None
        self._temporary: weakref.finalize[..., Partials] | None = None
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        # What the folder holds, as far as this process knows.
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._counted = -1.0

    def __len__(self) -> int:
        """How many are begun and not complete. Blocks."""
        return len(listing(self._open()).sizes)

    @property
    def folder(self) -> Path | None:
        """Where they are now, None while that is not open."""
        return self._folder

    @property
    def most(self) -> int:
        """Bytes of the largest upload."""
        return min(self._limits.data, self._limits.upload_bytes)

    # -- who has one -----------------------------------------------------------------------

    def create(self, plan: Plan) -> Partial:
        """Begin an upload and have it, until :meth:`give_back`. Blocks.

        Raises:
            TooLargeError: it would be larger than is allowed.
            UnavailableError: too many are open, altogether or of this user.
            StorageFullError, StorageError: the disk is full, or fails.
        """
        if plan.length > self.most:
            raise TooLargeError(f"An upload has at most {self.most} bytes, not {plan.length}.")
        folder = self._open()
        mark = _mark_of(plan.owner)
        self._find_room(folder, mark)
        path = folder / f"{mark}{secrets.token_urlsafe(_ID_BYTES)}"
        partial = Partial(path, plan, expires=self._expiry())
        with Foreign(str(folder)):
            partial.lock = take_lock(f"{path}{LOCK}")
            try:
                partial.begin()
            except BaseException:
                self.remove(partial)
                self.give_back(partial)
                raise
        return partial

    def take(self, name: str) -> Partial | None:
        """Have an upload, which then does not expire, until :meth:`give_back`. Blocks.

        Returns:
            None: another request has it, of this process or another one.

        Raises:
            Refusal: there is none (404), or it has expired (410).
            StorageError: it cannot be read now.
        """
        path = self._path(name)
        with Foreign(str(path.parent)):
            lock = take_lock(f"{path}{LOCK}")
            if lock is None:
                return None
            try:
                partial = load_partial(path)
                if partial is None or partial.expires <= self.clock():
                    (partial or Partial(path, Plan("", 0, ""), expires=0)).discard()
                    raise unknown_upload() if partial is None else _expired()
                remove(f"{path}{WANTED}")
            except BaseException:
                drop_lock(lock)
                raise
        partial.lock = lock
        with self._guard:
            offset, hasher = self._hashes.pop(name, (-1, None))
        if offset == partial.offset:
            partial.hasher = hasher
        return partial

    def give_back(self, partial: Partial) -> None:
        """Undo :meth:`take`. Idempotent; quick enough for the event loop."""
        lock, partial.lock = partial.lock, None
        if lock is None:
            return
        # What is not noted on the disk another process may overwrite with something else.
        if partial.hasher is not None and partial.is_kept and not partial.is_stored:
            with self._guard:
                self._hashes[partial.name] = partial.offset, partial.hasher
                if len(self._hashes) > _HASHES:
                    self._hashes.popitem(last=False)
        drop_lock(lock)

    def find(self, name: str) -> tuple[Partial, bool]:
        """Return an upload as it was last noted, and whether a request has it. Blocks.

        Raises:
            Refusal: there is none (404), or it has expired (410).
            StorageError: it cannot be read now.
        """
        path = self._path(name)
        with Foreign(str(path.parent)):
            is_held = _is_held(path)
            partial = load_partial(path)
        if is_held and partial is not None:
            return partial, True
        if partial is None or partial.expires <= self.clock():
            taken = self.take(name)  # raises, after it has tidied up
            if taken is not None:
                self.give_back(taken)
            raise unknown_upload()
        return partial, False

    def heard(self, name: str) -> float:
        """When something last came of an upload that another process has. Blocks."""
        with contextlib.suppress(OSError):
            return self._path(name).stat().st_mtime
        return self.clock()

    def want(self, name: str) -> None:
        """Ask whoever has an upload, in whatever process, to give it up if it stands still."""
        path = self._path(name)
        with Foreign(str(path.parent)):
            os.close(os.open(f"{path}{WANTED}", os.O_WRONLY | os.O_CREAT, 0o600))

    def is_wanted(self, partial: Partial) -> bool:
        """Whether somebody has asked for it. Quick enough for the event loop."""
        return os.path.lexists(f"{partial.path}{WANTED}")

    # -- for who has one -------------------------------------------------------------------

    def append(self, partial: Partial, data: bytes) -> None:
        """Add *data* to an upload. Blocks.

        Raises:
            StorageFullError: all uploads together are as large as is allowed, or the disk is full.
            StorageError: the disk fails.
        """
        self._reserve(partial.path.parent, len(data))
        with Foreign(str(partial.path.parent)):
            partial.append(data)
            if partial.pinned is None and partial.is_due:
                partial.keep(self._expiry())

    def keep(self, partial: Partial) -> None:
        """Make what has come last. Blocks."""
        with Foreign(str(partial.path.parent)):
            partial.keep(self._expiry())

    def stored(self, partial: Partial, told: dict[str, str]) -> None:
        """Note that an upload is complete and in the store. Blocks.

        Args:
            told: the header fields to tell of it, by their names.
        """
        self._counted = -1.0
        try:
            partial.finish(told, self._expiry())
        except OSError:  # it is stored; that nobody will know of it later is no failure
            _log.exception("It cannot be noted that the upload of %a is complete", partial.plan.key)

    def remove(self, partial: Partial) -> None:
        """Forget an upload. Blocks."""
        self._counted = -1.0
        partial.discard()

    def close(self) -> None:
        """Leave the folder; a temporary one is removed. It is opened again if it is needed."""
        with self._guard:
            self._folder = None
            self._counted = -1.0
            if self._temporary is not None:
                self._temporary()
                self._temporary = None

    # -- within ----------------------------------------------------------------------------

    def _expiry(self) -> float:
        return self.clock() + self._limits.upload_time

    def _path(self, name: str) -> Path:
        path = self._open() / name if _ID.fullmatch(name) else None
        if path is None or not os.path.lexists(f"{path}{STATE}"):
            raise unknown_upload()
        return path

    def _open(self) -> Path:
        with self._guard:
            if self._folder is None and self._given is not None:
                with Foreign(str(self._given)):
                    self._given.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._folder = self._given
            elif self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="kvstore-uploads-"))
                self._temporary = weakref.finalize(
                    self, shutil.rmtree, self._folder, ignore_errors=True
                )
            return self._folder

    def _find_room(self, folder: Path, mark: str) -> None:
        """Count one upload more.

        Raises:
            UnavailableError: too many are open.
        """
        with self._guard:
            if self._is_known() and self._refused(mark) is None:
                self._counts[mark] += 1
                return
        self._look(folder)
        with self._guard:
            message = self._refused(mark)
            if message is not None:
                raise UnavailableError(message, retry_after=10)
            self._counts[mark] += 1

    def _refused(self, mark: str) -> str | None:
        if self._counts.total() >= self._limits.uploads:
            return f"There are {self._limits.uploads} uploads open; try again later."
        if mark != _NOBODY and self._counts[mark] >= self._limits.uploads_each:
            return f"You have {self._limits.uploads_each} uploads open: finish or delete some."
        return None

    def _reserve(self, folder: Path, size: int) -> None:
        with self._guard:
            self._bytes += size
            if self._is_known() and self._bytes <= self._limits.upload_bytes:
                return
        if self._look(folder).size + size > self._limits.upload_bytes:
            raise StorageFullError("There is no room for more uploads now.")

    def _is_known(self) -> bool:
        return 0 <= self.clock() - self._counted < _BELIEVED

    def _look(self, folder: Path) -> Listing:
        """Count what is there, after removing what has expired and what is left of others."""
        with Foreign(str(folder)):
            found = listing(folder)
            surplus = found.surplus(self._limits.uploads)
            old = {*found.doubtful(self.clock()), *surplus}
            for name in old:
                self._tidy(folder / name, is_surplus=name in surplus)
            if old:
                found = listing(folder)
        with self._guard:
            self._counts = Counter(name[:_MARK] for name in found.sizes)
            self._bytes = found.size
            self._counted = self.clock()
        return found

    def _tidy(self, path: Path, *, is_surplus: bool) -> None:
        lock = take_lock(f"{path}{LOCK}")
        if lock is None:
            return
        try:
            partial = load_partial(path)
            if partial is None:
                Partial(path, Plan("", 0, ""), expires=0).discard()
            elif partial.expires <= self.clock() or (is_surplus and partial.is_stored):
                partial.discard()
        except OSError:
            _log.exception("The upload in %a cannot be looked at", str(path))
        finally:
            drop_lock(lock)


def _mark_of(owner: str | None) -> str:
    """What the names of the uploads of a user begin with."""
    if owner is None:
        return _NOBODY
    digest = hashlib.sha256(owner.encode()).digest()[:_MARK_BYTES]
    return base64.urlsafe_b64encode(digest).decode()


def _is_held(path: Path) -> bool:
    try:
        return is_locked(f"{path}{LOCK}")
    except FileNotFoundError:
        return False


def unknown_upload() -> Refusal:
    """The answer to who asks for an upload that is not there, or is not theirs."""
    return Refusal(HTTPStatus.NOT_FOUND, "There is no such upload (any more).")


def _expired() -> Refusal:
    return Refusal(HTTPStatus.GONE, "This upload has expired.")
