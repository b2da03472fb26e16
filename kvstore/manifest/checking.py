"""A manifest made of files, and files checked against a manifest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from kvstore.errors import InvalidRequestError
from kvstore.manifest.document import MAX_BYTES, Manifest, MetadataFile
from kvstore.manifest.files import Files
from kvstore.manifest.sums import Sums, checksum_of, sums_of
from kvstore.manifest.yamltext import FILE_NAME, parse_yaml

#: Endings of the names of files that describe others, as labinform-datasafe has them.
METADATA_ENDINGS = (".info", ".yaml")

# ``cwEPR Info file - v. 0.1.4 (2020-01-21)``
_INFO_LINE = re.compile(r"(?P<format>[^\n]{1,100}?) - v(?:\.|ersion) ?(?P<version>[\w.]{1,40})\b")
#: Bytes of a file of metadata in which its format may stand.
_HEAD = 64 << 10


class WritableFiles(Files, Protocol):
    """Files to which a manifest can be added."""

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        ...


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of checking a dataset against its manifest."""

    #: Whether the files of data have the checksum that they should have.
    data: bool
    #: Whether all files, those of metadata included, have theirs.
    all: bool
    #: Names of files whose bytes are not those of the manifest.
    differing: tuple[str, ...] = ()
    #: Names among which one at least differs, where the manifest has a checksum of all only.
    suspected: tuple[str, ...] = ()
    #: Names in the manifest of files that are not there.
    missing: tuple[str, ...] = ()
    #: Names of files that are in no manifest. They make nothing wrong.
    extra: tuple[str, ...] = field(default=(), compare=False)

    def __bool__(self) -> bool:
        return self.data and self.all

    def to_document(self) -> dict[str, object]:
        """Return ``{"data": ..., "all": ...}``, with the names that explain what is False."""
        named = {name: list(getattr(self, name)) for name in ("differing", "suspected", "missing")}
        told = {name: names for name, names in named.items() if names}
        return {"data": self.data, "all": self.all, **told}


def build(
    files: Files,
    *,
    loi: str = "",
    data_format: str = "undetected",
    metadata_endings: tuple[str, ...] = METADATA_ENDINGS,
) -> Manifest:
    """Return the manifest of a dataset, whose files are all read once.

    Args:
        loi: the identifier of the dataset.
        data_format: what to say of the format of its data.
        metadata_endings: how the names of files end that describe others.

    Raises:
        InvalidRequestError: it has no file of data.
        TooLargeError: it has too many.
        StoreError, OSError: a file cannot be read.
    """
    sums = sums_of_all(files)
    metadata = [name for name in sums if name.endswith(metadata_endings)]
    data = [name for name in sums if name not in set(metadata)]
    if not data:
        raise InvalidRequestError("A dataset has at least one file of data, this one has none.")
    manifest = Manifest(
        loi=loi,
        data=tuple(data),
        metadata=tuple(_described(files, name) for name in metadata),
        checksum=checksum_of(sums.values()),
        data_checksum=checksum_of(sums[name] for name in data),
        sha256=MappingProxyType({name: each.sha256 for name, each in sums.items()}),
        data_format=data_format,
    )
    return manifest.checked()


def read(files: Files) -> Manifest:
    """Return the manifest that lies among the files.

    Raises:
        KeyNotFoundError: there is none.
        InvalidRequestError, TooLargeError: as :meth:`Manifest.from_yaml`.
    """
    return Manifest.from_yaml(_head(files, FILE_NAME, MAX_BYTES + 1))


def write(files: WritableFiles, manifest: Manifest) -> None:
    """Put a manifest among the files, in place of the one that is there."""
    files.write(FILE_NAME, manifest.to_yaml())


def verify(files: Files, manifest: Manifest | None = None) -> Verification:
    """Read all files of a dataset, and check them against a manifest.

    Args:
        manifest: the one among the files if None.

    Raises:
        KeyNotFoundError: there is no manifest.
        InvalidRequestError, TooLargeError: it is none.
        StoreError, OSError: a file cannot be read.
    """
    manifest = read(files) if manifest is None else manifest
    folders = (name for name in files.names() if name.endswith("/"))
    return check(manifest, sums_of_all(files), folders)


def sums_of_all(files: Files) -> dict[str, Sums]:
    """Return the checksums of all files but the manifest, by their names."""
    names = [name for name in files.names() if name != FILE_NAME and not name.endswith("/")]
    return {name: sums_of(files.pieces(name)) for name in names}


def check(
    manifest: Manifest, sums: Mapping[str, Sums], empty_folders: Iterable[str] = ()
) -> Verification:
    """Check the checksums of files against a manifest.

    Args:
        sums: of all files of the dataset but the manifest.
        empty_folders: names of folders without files. A folder may be named in a manifest as if it
            were a file; then it counts as nothing, and what is in it is extra.
    """
    folders = _folders(sums, empty_folders)
    missing = tuple(name for name in manifest.names if name not in sums and name not in folders)
    differing = tuple(
        name
        for name in manifest.names
        if name in sums and manifest.sha256.get(name, sums[name].sha256) != sums[name].sha256
    )
    wrong = {*missing, *differing}
    data = _agrees(sums, manifest.data, manifest.data_checksum)
    every = _agrees(sums, manifest.names, manifest.checksum)
    among: tuple[str, ...] = ()
    if not data:
        among = manifest.data
    elif not every:
        among = manifest.metadata_names
    suspected: tuple[str, ...] = ()
    if wrong.isdisjoint(among):
        suspected = tuple(name for name in among if name in sums and name not in manifest.sha256)
    if len(suspected) == 1:
        differing, suspected = (*differing, *suspected), ()
    named = set(manifest.names)
    return Verification(
        data=data and wrong.isdisjoint(manifest.data),
        all=every and data and not wrong,
        differing=differing,
        suspected=suspected,
        missing=missing,
        extra=tuple(name for name in sums if name not in named),
    )


def _agrees(sums: Mapping[str, Sums], names: Iterable[str], checksum: str) -> bool:
    return checksum_of(sums[name] for name in names if name in sums) == checksum


def _folders(names: Iterable[str], empty: Iterable[str]) -> Collection[str]:
    found = {name.rstrip("/") for name in empty}
    for name in (*names, *found):
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _described(files: Files, name: str) -> MetadataFile:
    """Return what a file of metadata says of its own format, as far as it can be understood."""
    head = _head(files, name, _HEAD)
    if name.endswith(".info"):
        match = _INFO_LINE.match(head.decode("utf-8", "replace"))
        return (
            MetadataFile(name, match["format"].strip(), match["version"]) if match else _bare(name)
        )
    if name.endswith(".yaml") and len(head) < _HEAD:
        try:
            told = parse_yaml(head).get("format")
        except InvalidRequestError:
            return _bare(name)
        if isinstance(told, dict) and isinstance(told.get("type"), str):
            return MetadataFile(name, str(told["type"])[:100], str(told.get("version", ""))[:40])
    return _bare(name)


def _bare(name: str) -> MetadataFile:
    return MetadataFile(name)


def _head(files: Files, name: str, most: int) -> bytes:
    found = bytearray()
    for piece in files.pieces(name):
        found += piece[: most - len(found)]
        if len(found) >= most:
            break
    return bytes(found)
