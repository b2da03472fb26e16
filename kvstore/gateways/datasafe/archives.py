"""ZIP archives that come from outside, of which nothing is believed."""

from __future__ import annotations

import contextlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kvstore.errors import InvalidRequestError, StoreError, TooLargeError
from kvstore.gateways.datasafe.directory import find_directory, wrong
from kvstore.keys import check_key
from kvstore.values import BUFFER_SIZE

#: Members of an archive.
MAX_MEMBERS = 10_000
#: Bytes of the list of them.
_MAX_LIST = 16 << 20
#: How many bytes may come of one where the whole is large, and from what size on it is.
_MAX_RATIO = 100
_LARGE = 64 << 20

# Encrypted, patched, strongly encrypted, with a masked list (APPNOTE.TXT section 4.4.4).
_REFUSED_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000
_LOCAL_HEADER = 30
_NO_NAME = re.compile(r"[\\\x00-\x1f\x7f]")
# What the standard library raises on archives that are not as they should be.
_FAILURES = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError, OverflowError),
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive, as its list of members has it."""

    name: str
    size: int
    info: zipfile.ZipInfo


class Archive:
    """The files of an archive. Not for two threads at a time.

    Only stored and deflated members are taken: other methods have no bound on the memory that one
    step of them needs. Folders are implied by the names of their files; those without files are
    told apart. The name of a member is that of a key: relative, without empty segments or dots.

    Args:
        file: seekable, and nobody else reads it.
        most: bytes that may come of it in all.

    Raises:
        InvalidRequestError: no archive, or one that no honest program makes; it says why.
        TooLargeError: more members or bytes than are taken, or a bomb.
    """

    def __init__(self, file: BinaryIO, *, most: int) -> None:
        self._most = most
        directory = find_directory(file)
        if directory.count > MAX_MEMBERS or directory.size > _MAX_LIST:
            raise TooLargeError(f"An archive has at most {MAX_MEMBERS} members.")
        with _translated():
            self._zip = zipfile.ZipFile(file)
        infos = self._zip.infolist()
        if len(infos) != directory.count:
            raise wrong(f"it has {len(infos)} members, not {directory.count} as it says")
        _check_places(infos, directory.start)
        #: Its files by their names, in the order of the list.
        self.members: dict[str, Member] = {}
        folders: set[str] = set()
        for info in infos:
            self._add(info, folders)
        taken = _parents(self.members)
        for name in taken:
            if name in self.members:
                raise wrong(f"{name!a:.100} is a file and a folder")
        #: The names of folders without files.
        self.empty_folders = sorted(folders - taken - _parents(dict.fromkeys(folders)))
        self._check_size()

    def pieces(self, name: str) -> Generator[bytes, None, None]:
        """Yield the bytes of a file.

        Raises:
            InvalidRequestError: they are not what the list says of them.
            KeyError: there is no such file.
        """
        member = self.members[name]
        left = member.size
        with _translated(), self._zip.open(member.info) as stream:
            while piece := stream.read(BUFFER_SIZE):
                left -= len(piece)
                yield piece
        if left:
            raise wrong(f"{name!a:.100} has {left} bytes less than it says")

    def _add(self, info: zipfile.ZipInfo, folders: set[str]) -> None:
        name = info.orig_filename
        _check_kind(info, name)
        path = name.removesuffix("/")
        _check_name(path, name)
        if path in self.members or path in folders:
            raise wrong(f"it has {path!a:.100} twice")
        if path != name:
            if info.file_size:
                raise wrong(f"the folder {name!a:.100} has bytes of its own")
            folders.add(path)
        else:
            self.members[name] = Member(name, info.file_size, info)

    def _check_size(self) -> None:
        unpacked = sum(member.size for member in self.members.values())
        packed = sum(member.info.compress_size for member in self.members.values())
        if unpacked > self._most:
            raise TooLargeError(f"A dataset has at most {self._most} bytes, not {unpacked}.")
        if unpacked > _LARGE and unpacked > _MAX_RATIO * packed:
            raise TooLargeError(f"{packed} bytes that become {unpacked} are taken for a bomb.")


def is_name(path: str) -> bool:
    """Tell whether a path leads to a file below the folder that it is unpacked in, everywhere.

    Control characters are in none: some programs print them, and some end a line with them.
    """
    return {"", ".", ".."}.isdisjoint(path.split("/")) and not _NO_NAME.search(path)


def _check_kind(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & _REFUSED_FLAGS:
        raise wrong(f"{name!a:.100} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise wrong(f"{name!a:.100} is neither stored nor deflated")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise wrong(f"{name!a:.100} is stored, and has two sizes")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise wrong(f"{name!a:.100} is no file but a link or a device")
    if kind == stat.S_IFDIR and not name.endswith("/"):
        raise wrong(f"{name!a:.100} says that it is a folder")


def _check_name(path: str, name: str) -> None:
    if not is_name(path):
        raise wrong(f"{name!a:.100} is no relative name of a file")
    try:
        check_key(path)
    except StoreError as error:
        raise wrong(f"a name in it is no key ({error.message:.200})") from None


def _check_places(infos: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse members that share bytes: each could be as large as all of them."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        least = _LOCAL_HEADER + info.compress_size
        if info.header_offset < 0 or info.header_offset + least > end:
            raise wrong(f"{info.filename!a:.100} lies outside it, or in another member")
        end = info.header_offset


def _parents(names: dict[str, Member] | dict[str, None]) -> set[str]:
    found: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except _FAILURES as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> InvalidRequestError:
    return wrong(f"it cannot be read ({type(error).__name__}: {str(error)!a:.150})")
