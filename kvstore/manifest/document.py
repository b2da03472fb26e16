"""The manifest as a value, and the document that it is read from and written as."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kvstore.errors import TooLargeError
from kvstore.manifest.yamltext import (
    FILE_NAME,
    Node,
    Quoted,
    as_mapping,
    dump_yaml,
    parse_yaml,
    wrong,
)

#: Bytes of a manifest that is read or written.
MAX_BYTES = 4 << 20
#: Files that it names.
MAX_FILES = 10_000

_TYPE = "datasafe dataset manifest"
_VERSION = "0.1.0"
_MD5 = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """A file that describes the others, with what is known of its format."""

    name: str
    format: str = "undetected"
    version: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    #: The identifier of the dataset; empty where it has none yet.
    loi: str
    #: Names of files, with ``/`` between folders.
    data: tuple[str, ...]
    metadata: tuple[MetadataFile, ...]
    #: MD5 checksum over all files, and over those of data alone; see `kvstore.manifest.sums`.
    checksum: str
    data_checksum: str
    #: SHA-256 of files by their names; empty in manifests of other programs.
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    data_format: str = "undetected"
    complete: bool = False

    @property
    def metadata_names(self) -> tuple[str, ...]:
        """The names of the files of metadata."""
        return tuple(file.name for file in self.metadata)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files."""
        return (*self.data, *self.metadata_names)

    @classmethod
    def from_yaml(cls, text: bytes) -> Manifest:
        """Return what a document says.

        All scalars are taken as the text that they are, so that a checksum of digits only is one
        even where its writer did not quote it. Fields that are not known are ignored.

        Raises:
            TooLargeError: more than :data:`MAX_BYTES`, or more than :data:`MAX_FILES` names.
            InvalidRequestError: no YAML, or no manifest; it says why. Anchors, aliases and tags
                have no place in one.
        """
        if len(text) > MAX_BYTES:
            raise TooLargeError(f"{FILE_NAME} has at most {MAX_BYTES} bytes, not {len(text)}.")
        root = parse_yaml(text)
        files = as_mapping(_get(root, "files"), "files")
        data = as_mapping(_get(files, "data"), "files.data")
        sums = dict(_checksums(root))
        for span in ("data, metadata", "data"):
            if span not in sums:
                raise wrong(f"it has no MD5 checksum of {span}")
        dataset = as_mapping(root.get("dataset", {}), "dataset")
        manifest = cls(
            loi=_text(dataset.get("loi", ""), "dataset.loi"),
            data=tuple(_text(name, "files.data.names") for name in _list(_get(data, "names"))),
            metadata=tuple(map(_metadata_file, _list(files.get("metadata", [])))),
            checksum=sums["data, metadata"],
            data_checksum=sums["data"],
            sha256=MappingProxyType(dict(_digests(root))),
            data_format=_text(data.get("format", ""), "files.data.format"),
            complete=_text(dataset.get("complete", ""), "dataset.complete").lower() == "true",
        )
        return manifest.checked()

    def checked(self) -> Manifest:
        """Return this one.

        Raises:
            TooLargeError: it names too many files.
            InvalidRequestError: it names one twice, or itself.
        """
        if len(self.names) > MAX_FILES:
            count = len(self.names)
            raise TooLargeError(f"{FILE_NAME} names at most {MAX_FILES} files, not {count}.")
        seen: set[str] = set()
        for name in self.names:
            if name in seen or name in ("", FILE_NAME):
                raise wrong(f"it names {name!r:.100} once too often")
            seen.add(name)
        return self

    def to_yaml(self) -> bytes:
        """Return the document, which labinform-datasafe reads, too."""
        document: dict[str, Any] = {
            "format": {"type": _TYPE, "version": _VERSION},
            "dataset": {"loi": self.loi, "complete": self.complete},
            "files": {
                "metadata": [
                    {"name": file.name, "format": file.format, "version": file.version}
                    for file in self.metadata
                ],
                "data": {"format": self.data_format, "names": list(self.data)},
            },
            "checksums": [
                _entry("CHECKSUM", "data, metadata", self.checksum),
                _entry("CHECKSUM_data", "data", self.data_checksum),
            ],
        }
        if self.sha256:
            # Not among the checksums: their reader would take the last one for its own.
            digests = [{"name": name, "sha256": Quoted(sum_)} for name, sum_ in self._digests()]
            document["digests"] = digests
        return dump_yaml(document)

    def _digests(self) -> Iterator[tuple[str, str]]:
        return ((name, self.sha256[name]) for name in self.names if name in self.sha256)


def _entry(name: str, span: str, value: str) -> dict[str, str]:
    return {"name": name, "format": "MD5 checksum", "span": span, "value": Quoted(value)}


def _checksums(root: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    for item in _list(_get(root, "checksums")):
        entry = as_mapping(item, "checksums")
        kind = _text(entry.get("format", "MD5 checksum"), "checksums.format")
        if not kind.upper().startswith("MD5"):
            continue
        span = "data, metadata" if "metadata" in _text(_get(entry, "span"), "span") else "data"
        yield span, _hex(_get(entry, "value"), _MD5)


def _digests(root: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    for item in _list(root.get("digests", [])):
        entry = as_mapping(item, "digests")
        yield _text(_get(entry, "name"), "digests.name"), _hex(_get(entry, "sha256"), _SHA256)


def _metadata_file(node: Node) -> MetadataFile:
    entry = as_mapping(node, "files.metadata")
    others = (_text(entry.get(name, ""), name) for name in ("format", "version"))
    return MetadataFile(_text(_get(entry, "name"), "files.metadata.name"), *others)


def _get(node: Mapping[str, Node], name: str) -> Node:
    if name not in node:
        raise wrong(f"{name!r} is missing")
    return node[name]


def _list(node: Node) -> list[Node]:
    if node == "":  # ``names:`` with nothing behind
        return []
    if not isinstance(node, list):
        raise wrong(f"{node!r:.60} is no list")
    return node


def _text(node: Node, what: str) -> str:
    if not isinstance(node, str):
        raise wrong(f"{what} is no text")
    return node


def _hex(node: Node, pattern: re.Pattern[str]) -> str:
    text = _text(node, "a checksum").lower()
    if not pattern.fullmatch(text):
        raise wrong(f"{text!r:.100} is no checksum")
    return text
