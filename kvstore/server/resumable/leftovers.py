"""What is in the folder of uploads, by a look at the names and times of its files alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.disk import remove
from kvstore.server.resumable.partial import STATE

_NAME = re.compile(r"([A-Za-z0-9_-]{32})(\.[a-z]+)?")
#: What a server that was killed leaves of a file that it was replacing, and the seconds for which
#: it may be one that somebody is replacing now.
_PART = re.compile(r"\.[0-9a-f]{16}\.part")
_REPLACING = 60.0


@dataclass(slots=True)
class Listing:
    """The files of a folder of uploads, by the names of these."""

    #: Bytes of the data, of those that are not in the store yet.
    sizes: dict[str, int] = field(default_factory=dict)
    #: When they expire, in seconds since the epoch, as the times of their files have it.
    states: dict[str, float] = field(default_factory=dict)
    #: All names that any file has.
    names: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Bytes of all the data."""
        return sum(self.sizes.values())

    def surplus(self, most: int) -> set[str]:
        """Return the oldest of those that are in the store, but for the newest *most*."""
        stored = sorted(self.states.keys() - self.sizes.keys(), key=self.states.__getitem__)
        return set(stored[: max(0, len(stored) - most)])

    def doubtful(self, now: float) -> Iterator[str]:
        """Yield the names of those that may have to go: expired, or without a state."""
        yield from self.names - self.states.keys()
        yield from (name for name, expires in self.states.items() if expires <= now)


def listing(folder: Path) -> Listing:
    """Look at a folder; what is left of files that were being replaced is removed.

    Raises:
        OSError: it cannot be read.
    """
    found = Listing()
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            try:
                if match is None:
                    _remove_part(entry)
                    continue
                name, ending = match[1], match[2]
                found.names.add(name)
                if ending is None:
                    found.sizes[name] = entry.stat(follow_symlinks=False).st_size
                elif ending == STATE:
                    found.states[name] = entry.stat(follow_symlinks=False).st_mtime
            except FileNotFoundError:  # somebody was faster
                continue
    return found


def _remove_part(entry: os.DirEntry[str]) -> None:
    if _PART.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _REPLACING:
        remove(entry.path)
