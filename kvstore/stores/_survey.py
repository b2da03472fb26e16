"""Goes over a whole folder: its keys in order, and what processes that died have left in it."""
# ruff: noqa: PTH105, PTH208 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.disk import is_locked, read_file, remove
from kvstore.errors import InvalidKeyError, StorageError, StoreError
from kvstore.filenames import data_name, decode, decode_directory, decode_file, is_sidecar
from kvstore.keys import check_key
from kvstore.stores._commit import bury
from kvstore.stores._folder import Folder, Place
from kvstore.stores._sidecar import Sidecar, parse

_STAGED = re.compile(
    r"(?P<token>[0-9a-f]{18})(?:(?P<kind>\.json.*|\.deleted)|%-(?P<path>.*))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Walk:
    """The keys that begin with *prefix*, those up to *after* left out, in order of code points.

    Sidecars are not opened. What is in memory are the names in one folder and in those above it.
    Iterating raises StorageError for a folder that cannot be read or is a symbolic link, and for a
    sidecar whose name is not that of any key.
    """

    folder: Folder
    prefix: str = ""
    after: str | None = None

    def __iter__(self) -> Iterator[Place]:
        start = self._start()
        if start is None:
            return
        with self.folder.foreign:
            stack = [iter(self._entries(*start))]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            text, path = entry
            if path.endswith("/"):
                with self.folder.foreign:
                    stack.append(iter(self._entries(text, path)))
            else:
                yield self._place(text, path)

    def _start(self) -> tuple[str, str] | None:
        """Return text and path of the innermost folder that all the keys are in."""
        text = self.prefix[: self.prefix.rfind("/") + 1]
        with self.folder.foreign:
            # A folder whose disk is not mounted must not pass for one without keys.
            os.lstat(self.folder.stage)
            if not text:
                return "", ""
            try:
                path = self.folder.place(check_key(text)).path
                self.folder.check_parents(path)
            except (InvalidKeyError, FileNotFoundError, NotADirectoryError):
                return None
        return text, path[: path.rfind("/") + 1]

    def _entries(self, base: str, path: str) -> list[tuple[str, str]]:
        """Return text and path of what is in a folder, in order; paths of folders end in "/".

        What is in a continuation folder is in this one.
        """
        found = []
        todo = [(base, path)]
        while todo:
            start, inside = todo.pop()
            for entry in self._listed(inside):
                if is_sidecar(entry.name):
                    text = start + self._decoded(entry.name, inside)
                    if text.startswith(self.prefix) and (self.after is None or text > self.after):
                        found.append((text, inside + data_name(entry.name)))
                    continue
                try:
                    part, continues = decode_directory(entry.name, form=self.folder.form)
                except ValueError:
                    continue
                text = start + part if continues else f"{start}{part}/"
                if self._may_hold(text):
                    if entry.is_symlink():
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), entry.path)
                    (todo if continues else found).append((text, f"{inside}{entry.name}/"))
        found.sort()
        return found

    def _listed(self, path: str) -> Iterator[os.DirEntry[str]]:
        """Yield the sidecars in a folder, and the folders in it that a key may be in."""
        try:
            entries = os.scandir(self.folder.base + path)
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            return
        with entries:
            for entry in entries:
                if is_sidecar(entry.name):
                    # A dot in front is never ours; editors and macOS name helpers after our files.
                    if not entry.name.startswith("."):
                        yield entry
                elif "." not in entry.name and entry.is_dir():
                    yield entry

    def _may_hold(self, text: str) -> bool:
        if not text.startswith(self.prefix) and not self.prefix.startswith(text):
            return False
        return self.after is None or text > self.after or self.after.startswith(text)

    def _decoded(self, name: str, path: str) -> str:
        try:
            return decode_file(data_name(name), form=self.folder.form)
        except ValueError as error:
            message = f"The file {path + name!a:.300} is named as a sidecar, but is none. {error}"
            raise StorageError(message) from None

    def _place(self, key: str, path: str) -> Place:
        with contextlib.suppress(InvalidKeyError):
            if self.folder.place(check_key(key)).path == path:
                return Place(key, path)
        message = f"The file {path!a:.300} is not where the data of a key is."
        raise StorageError(message)


def sweep(folder: Folder) -> None:
    """Finish or remove what processes that died have left in the stage.

    Waits for no writer longer than the last steps of a write take, and leaves what it cannot judge.
    """
    try:
        names = os.listdir(folder.stage)
    except OSError:
        return
    for name in names:
        match = _STAGED.fullmatch(name)
        if match is None:
            continue
        # Under the lock of its key no writer is between staging a sidecar and its last rename.
        with contextlib.suppress(OSError, StoreError), folder.locked(match["token"]):
            file = folder.stage + name
            if match["kind"] is None:
                _settle(folder, file, match["token"], match["path"])
            elif match["kind"] == ".deleted":
                _bury(folder, file)
            else:
                remove(file)


def _settle(folder: Folder, file: str, token: str, path: str) -> None:
    if is_locked(file):  # somebody is writing it
        return
    owner = _named(folder, path, token) if path else _searched(folder, token)
    if owner is None:
        remove(file)
    else:
        os.replace(file, folder.data(owner))


def _named(folder: Folder, path: str, token: str) -> Place | None:
    names = path.split("%-")
    try:
        place = Place(decode(names, form=folder.form), "/".join(names))
    except ValueError as error:
        raise StorageError(f"Nobody has staged that: {error}") from None
    return place if _names_write(folder.load(place), token) else None


def _searched(folder: Folder, token: str) -> Place | None:
    return next((place for place in Walk(folder) if _names_write(folder.load(place), token)), None)


def _names_write(sidecar: Sidecar | None, token: str) -> bool:
    return sidecar is not None and sidecar.stage == token


def _bury(folder: Folder, grave: str) -> None:
    sidecar = parse(read_file(grave), name=grave)
    place = folder.place(sidecar.record.key)
    # Somebody may have used the name since: for the key, or, knowing of none, for a file.
    taken = folder.load(place) is not None
    with contextlib.suppress(FileNotFoundError):
        taken = taken or not sidecar.describes(os.lstat(folder.data(place)))
    if taken:
        remove(grave)
    else:
        bury(folder, grave, place)
