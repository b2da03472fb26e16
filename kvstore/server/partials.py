"""Uploads that are not complete yet: files in a folder, which a server that begins anew finds."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from kvstore.disk import Foreign, create_locked, is_locked, remove
from kvstore.errors import StorageFullError, TooLargeError, UnavailableError
from kvstore.server.answers import Refusal
from kvstore.server.limits import Limits
from kvstore.server.partial import STATE, Partial, Plan, load_partial

#: A name that nobody guesses: 192 bits.
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_ID_BYTES = 24
#: What a server that was killed leaves of a file that it was replacing.
_PART = re.compile(r"\.[0-9a-f]{16}\.part")
_LOCK = ".lock"

_log = logging.getLogger("kvstore.server")


class Partials:
    """The uploads of one server. Thread-safe; what is said to block touches the disk.

    The folder is opened when it is first needed. If the server of another process has it, this
    one uses a temporary folder, as it does without any.

    Args:
        folder: where they are kept, made if it is missing; None: for the life of this object.
        clock: seconds since the epoch.
    """

    def __init__(
        self, folder: Path | None, limits: Limits, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._given = folder
        self._limits = limits
        self._guard = threading.Lock()
        self._opening = threading.Lock()
        self._found: dict[str, Partial] = {}
        self._folder: Path | None = None
        self._lock: tuple[int, str] | None = None
        self._temporary: weakref.finalize[..., Partials] | None = None

    def __len__(self) -> int:
        return len(self._found)

    @property
    def folder(self) -> Path | None:
        """Where they are now, None while that is not open."""
        return self._folder

    @property
    def most(self) -> int:
        """Bytes of the largest upload."""
        return min(self._limits.data, self._limits.upload_bytes)

    def create(self, plan: Plan) -> Partial:
        """Begin an upload. Blocks.

        Raises:
            TooLargeError: it would be larger than is allowed.
            UnavailableError: too many are open.
            StorageFullError, StorageError: the disk is full, or fails.
        """
        if plan.length > self.most:
            raise TooLargeError(f"An upload has at most {self.most} bytes, not {plan.length}.")
        folder = self._open()
        self._sweep()
        with self._guard:
            count = sum(not partial.is_stored for partial in self._found.values())
            if count >= self._limits.uploads:
                message = f"There are {self._limits.uploads} uploads open; try again later."
                raise UnavailableError(message, retry_after=10)
            name = secrets.token_urlsafe(_ID_BYTES)
            partial = Partial(folder / name, plan, expires=self._expiry())
            self._found[name] = partial
        try:
            with Foreign(str(folder)):
                partial.begin()
        except BaseException:
            self.remove(partial)
            raise
        return partial

    def find(self, name: str) -> Partial:
        """Return the upload of that name. Blocks.

        Raises:
            Refusal: there is none (404), or it has expired (410).
        """
        self._open()
        partial = self._found.get(name)
        if partial is None or partial.is_gone:
            raise _unknown()
        if partial.expires <= self.clock() and not partial.is_held:
            self.remove(partial)
            raise Refusal(HTTPStatus.GONE, "This upload has expired.")
        return partial

    def take(self, partial: Partial) -> None:
        """Keep an upload from expiring, for one request, until :meth:`give_back`.

        Raises:
            Refusal: it is forgotten already.
        """
        with self._guard:
            if partial.is_gone:
                raise _unknown()
            partial.is_held = True

    def give_back(self, partial: Partial) -> None:
        """Undo :meth:`take`."""
        partial.is_held = False

    def append(self, partial: Partial, data: bytes, *, is_certain: bool) -> None:
        """Add *data* to an upload. Blocks.

        Args:
            is_certain: whether it may be kept if the server dies before the request ends.

        Raises:
            StorageFullError: all uploads together are as large as is allowed, or the disk is full.
            StorageError: the disk fails.
        """
        with self._guard:
            room = self._limits.upload_bytes - sum(p.size for p in self._found.values())
        if len(data) > room:
            raise StorageFullError("There is no room for more uploads now.")
        with Foreign(str(partial.path.parent)):
            partial.append(data)
            if is_certain and partial.is_due:
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
        try:
            partial.finish(told, self._expiry())
        except OSError:  # it is stored; that nobody will know of it later is no failure
            _log.exception("It cannot be noted that the upload of %a is complete", partial.plan.key)

    def remove(self, partial: Partial) -> None:
        """Forget an upload. Blocks."""
        with self._guard:
            self._forget(partial)
        partial.discard()

    def close(self) -> None:
        """Leave the folder; a temporary one is removed. It is opened again if it is needed."""
        with self._opening:
            with self._guard:
                self._found.clear()
            self._folder = None
            self._unlock()
            if self._temporary is not None:
                self._temporary()
                self._temporary = None

    # -- within ----------------------------------------------------------------------------

    def _expiry(self) -> float:
        return self.clock() + self._limits.upload_time

    def _sweep(self) -> None:
        """Remove what has expired, and of those that are complete the oldest over the limit."""
        now = self.clock()
        with self._guard:
            stored = [p for p in self._found.values() if p.is_stored and not p.is_held]
            stored.sort(key=lambda partial: partial.expires)
            old = stored[: max(0, len(stored) - self._limits.uploads)]
            old += [p for p in self._found.values() if p.expires <= now and not p.is_held]
            for partial in old:
                self._forget(partial)
        for partial in old:
            partial.discard()

    def _forget(self, partial: Partial) -> None:
        partial.is_gone = True
        self._found.pop(partial.name, None)

    def _open(self) -> Path:
        with self._opening:
            if self._folder is None:
                self._folder = self._taken() or self._made()
            return self._folder

    def _taken(self) -> Path | None:
        folder = self._given
        if folder is None:
            return None
        with Foreign(str(folder)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = str(folder / f"{secrets.token_hex(8)}{_LOCK}")
            self._lock = create_locked(file, 0o600), file
            try:
                others = [other for other in folder.glob(f"*{_LOCK}") if str(other) != file]
                if not any(map(_is_alive, others)):
                    self._load(folder)
                    return folder
            except BaseException:
                self._unlock()
                raise
            self._unlock()
            _log.warning("Another server keeps its uploads in %a", str(folder))
        return None

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            remove(lock[1])
            os.close(lock[0])

    def _made(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="kvstore-uploads-"))
        self._temporary = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _load(self, folder: Path) -> None:
        """Find the uploads in a folder, and remove what is left of others."""
        known = {}
        for file in folder.glob(f"*{STATE}"):
            name = file.name.removesuffix(STATE)
            partial = load_partial(folder / name) if _ID.fullmatch(name) else None
            if partial is not None:
                known[name] = partial
        for file in folder.iterdir():
            name = file.name.removesuffix(STATE)
            if (_ID.fullmatch(name) and name not in known) or _PART.fullmatch(name):
                remove(str(file))
        with self._guard:
            self._found = known


def _unknown() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "There is no such upload (any more).")


def _is_alive(lock: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if is_locked(str(lock)):
            return True
        remove(str(lock))
    return False
