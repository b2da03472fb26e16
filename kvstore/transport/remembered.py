"""Uploads that are under way, remembered in a folder for a later process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from kvstore.documents import parse_object
from kvstore.errors import InvalidRequestError
from kvstore.streams import Source


class Remembered:
    """The URLs of uploads in a folder, a small file each. Safe for several processes.

    Args:
        folder: made when it is needed, for this user alone: who knows a URL can go on there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def find(self, name: str) -> str | None:
        """Return the URL that was kept under *name*."""
        try:
            url = parse_object(self._file(name).read_bytes()).get("url")
        except (OSError, InvalidRequestError):  # what cannot be read is sent from its beginning
            return None
        return url if isinstance(url, str) else None

    def keep(self, name: str, url: str, key: str) -> None:
        """Keep *url* under *name*; the *key* is for people who look into the folder.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"url": url, "key": key}, stream)
            Path(part).replace(self._file(name))
        except BaseException:
            with contextlib.suppress(OSError):
                Path(part).unlink()
            raise

    def forget(self, name: str) -> None:
        """Forget what is kept under *name*. Idempotent."""
        with contextlib.suppress(OSError):
            self._file(name).unlink()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def name_of(uploads: str, key: str, head: bytes, source: Source) -> str | None:
    """Return the name under which an upload is remembered; None where it cannot be known again.

    It is another one where the file has changed, or what is to be stored with it.
    """
    if source.path is None:
        return None
    facts = source.path.stat()
    parts = (uploads, key, str(source.path.resolve()), facts.st_size, facts.st_mtime_ns)
    return hashlib.sha256(repr((*parts, head)).encode()).hexdigest()[:40]
