"""What comes in an archive, on its way from there into the store."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvstore.gateways.datasafe.archives import Archive
from kvstore.manifest import FILE_NAME, Manifest, Sums, Verification, check, summed, sums_of


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be stored: the files of an archive, and what their manifest says of them."""

    archive: Archive
    manifest: Manifest
    #: Of the files that were read so far, the manifest included.
    sums: dict[str, Sums] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(member.size for member in self.archive.members.values())

    def read(self) -> None:
        """Read all files for their checksums."""
        for name in self.archive.members:
            self.sums[name] = sums_of(self.archive.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file, and keep its checksums."""
        return summed(self.archive.pieces(name), functools.partial(self.sums.__setitem__, name))

    def verify(self) -> Verification:
        """Return whether the files that were read, which are all by then, fit the manifest."""
        files = {name: sums for name, sums in self.sums.items() if name != FILE_NAME}
        return check(self.manifest, files, self.archive.empty_folders)

    def role(self, name: str) -> str:
        """Return what a file is in the dataset."""
        if name == FILE_NAME:
            return "manifest"
        if name in self.manifest.metadata_names:
            return "metadata"
        return "data" if name in self.manifest.data else "extra"

    def source(self, name: str) -> _Pieces:
        """Return the bytes of a file as an iterable that can be had again."""
        return _Pieces(self, name)


class _Pieces:
    """The bytes of a file, from the beginning each time."""

    __slots__ = ("_contents", "_name")

    def __init__(self, contents: Contents, name: str) -> None:
        self._contents = contents
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        return self._contents.pieces(self._name)
