"""One upload that can be resumed: what it is to become, and how much of it is there."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from kvstore.disk import flush, read_file, remove
from kvstore.documents import dump_json, parse_object
from kvstore.errors import InvalidRequestError
from kvstore.files import write_all, write_atomically

#: What the names of its files end with; that of the data has the name alone. The lock tells who
#: has it, whatever process that is in; the last one is there while somebody else wants it.
STATE: Final = ".json"
LOCK: Final = ".lock"
WANTED: Final = ".wanted"
#: Bytes after which those that have come are brought to the disk, so that a server that is killed
#: need not ask for them again.
_STEP = 16 << 20
_OPEN = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was said when an upload was begun."""

    key: str
    #: Bytes of the data.
    length: int
    #: ``Upload-Metadata``, as it came.
    metadata: str
    #: The JSON object that begins a value, and the media type where that has none.
    value: str | None = None
    mimetype: str | None = None
    #: The condition of the write, and whether it stands for another one.
    if_match: str | None = None
    create_only: bool = False
    is_stand_in: bool = False
    #: The tag of who began it; None where everybody is the store's own user.
    owner: str | None = None


class Partial:
    """One upload, for one request. Its methods block; who has its lock calls those that change it.

    The bytes are in the file *path*, the rest in another beside it, which is replaced when the
    bytes before the *offset* in it are on the disk. So a file may be longer than that, after a
    crash; what is beyond counts for nothing.
    """

    def __init__(
        self, path: Path, plan: Plan, *, expires: float, offset: int = 0, told: Any = None
    ) -> None:
        self.path = path
        self.plan = plan
        #: Bytes that have come.
        self.offset = offset
        #: When it is forgotten, in seconds since the epoch.
        self.expires = expires
        #: Header fields to tell of what was stored; None while it is not.
        self.told: dict[str, str] | None = told
        #: What locks it, while a request has it.
        self.lock: int | None = None
        #: SHA-256 of what has come, where that is known.
        self.hasher = None if offset else hashlib.sha256()
        #: Where a part began that may still prove to be damaged; None while there is no such.
        self.pinned: int | None = None
        self._before = self.hasher
        self._kept = offset
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        """What its URL ends with."""
        return self.path.name

    @property
    def certain(self) -> int:
        """Bytes that have come and will not be thrown away again."""
        return self.offset if self.pinned is None else self.pinned

    @property
    def is_stored(self) -> bool:
        """Whether it is complete and in the store."""
        return self.told is not None

    @property
    def is_kept(self) -> bool:
        """Whether all that has come is noted on the disk."""
        return self.offset == self._kept

    @property
    def is_due(self) -> bool:
        """Whether much has come since the last :meth:`keep`."""
        return self.offset - self._kept >= _STEP

    def begin(self) -> None:
        """Make its files."""
        descriptor = os.open(self.path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
        self._write()

    def pin(self) -> None:
        """Let what comes from now on count only when it has proved to be right."""
        self.pinned = self.offset
        self._before = None if self.hasher is None else self.hasher.copy()

    def unpin(self, *, is_right: bool) -> None:
        """Let what has come since :meth:`pin` count, or forget it."""
        with self._guard:
            if self.pinned is not None and not is_right:
                self.offset, self.hasher = self.pinned, self._before
            self.pinned = None

    def append(self, data: bytes) -> None:
        """Add *data*; if that fails nothing was added."""
        with self._guard:
            descriptor = os.open(self.path, _OPEN)
            try:
                os.lseek(descriptor, self.offset, os.SEEK_SET)
                write_all(descriptor, data)
            finally:
                os.close(descriptor)
            self.offset += len(data)
            if self.hasher is not None:
                self.hasher.update(data)

    def keep(self, expires: float) -> None:
        """Bring what has come to the disk, and note it."""
        with self._guard:
            if self.is_kept:
                return
            descriptor = os.open(self.path, _OPEN)
            try:
                flush(descriptor, durable=True)
            finally:
                os.close(descriptor)
            self.expires = expires
            self._write()
            self._kept = self.offset

    def whole(self) -> tuple[Path, bytes]:
        """Return the path of the data, of which all have come, and their SHA-256."""
        with self._guard:
            os.truncate(self.path, self.plan.length)
            if self.hasher is None:  # some came while the server was another one
                with self.path.open("rb") as stream:
                    self.hasher = hashlib.file_digest(stream, "sha256")
        return self.path, self.hasher.digest()

    def finish(self, told: dict[str, str], expires: float) -> None:
        """Note that it is stored, and remove the data."""
        with self._guard:
            self.told, self.expires = told, expires
            self._write()
            remove(str(self.path))

    def discard(self) -> None:
        """Remove its files, the lock last."""
        with self._guard:
            for ending in ("", STATE, WANTED, LOCK):
                remove(f"{self.path}{ending}")

    def _write(self) -> None:
        document = {
            "plan": asdict(self.plan),
            "offset": self.offset,
            "expires": self.expires,
            "told": self.told,
        }
        file = f"{self.path}{STATE}"
        write_atomically(file, [dump_json(document)])
        # Who tidies up reads those alone whose time seems to be over.
        os.utime(file, (self.expires, self.expires))


def load_partial(path: Path) -> Partial | None:
    """Return the upload whose data are in *path*, None if its files make no sense.

    Raises:
        OSError: they cannot be read now.
    """
    try:
        state = parse_object(read_file(f"{path}{STATE}"), what="state of an upload")
        plan = Plan(**state["plan"])
        partial = Partial(
            path, plan, expires=state["expires"], offset=state["offset"], told=state["told"]
        )
        if not partial.is_stored and path.stat().st_size < partial.offset:
            return None
    except (FileNotFoundError, InvalidRequestError, KeyError, TypeError):
        # A power cut may leave a file without its content. The client begins anew.
        return None
    return partial
