"""Makes a folder a store, once, and keeps to what it was made with."""
# ruff: noqa: PTH102, PTH103, PTH105, PTH112, PTH118, PTH120 - paths are str here: a Path for each step costs more than the step

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from typing import Literal, TypeAlias

from kvstore.disk import (
    check_folder,
    flush_folder,
    locked,
    read_file,
    remove,
    write_file,
)
from kvstore.documents import dump_json, parse_object
from kvstore.errors import InvalidRequestError, StorageError
from kvstore.filenames import Form
from kvstore.stores._folder import PRIVATE, Folder

#: The form of file names to use; ``auto`` leaves it to the folder.
Names: TypeAlias = Literal["auto", "exact", "portable"]

_FORMAT = 1
#: What is in the root of a store of another kind.
_FOREIGN = "kvstore.db"
# The first lock also keeps two processes from making one folder a store.
_LOCK = "00"


def open_folder(root: str, names: Names, *, durable: bool) -> Folder:
    """Return the folder at the absolute path *root*, made a store if it was none.

    Raises:
        StorageError: it cannot be made or read, or is a store of another format.
        InvalidRequestError: it has other names than *names*.
    """
    # Its form counts for keys only, and there are none in here.
    folder = Folder(root, "portable", durable=durable)
    with folder.foreign:
        made = _make_root(root)
        private = os.path.join(root, PRIVATE)
        if os.path.lexists(os.path.join(root, _FOREIGN)) and not os.path.lexists(private):
            raise StorageError(f"In {root!a} there is a SQLiteStore: open it as sqlite:PATH.")
        for path in (private, folder.stage[:-1], folder.locks[:-1]):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            check_folder(path)
        file = os.path.join(private, "format.json")
        form = _recorded(file, root)
        if form is None:
            with locked(folder.locks + _LOCK):
                form = _recorded(file, root) or _record(file, names, folder)
        if durable:
            for path in (private, root, *made):
                flush_folder(path)
    if names not in ("auto", form):
        raise InvalidRequestError(f"The store in {root!a} has {form} names, not {names} ones.")
    return Folder(root, form, durable=durable)


def _make_root(root: str) -> list[str]:
    """Make the folder where it is missing; return those in which a name is new, innermost first."""
    changed = []
    path = root
    while not os.path.lexists(path):
        path = os.path.dirname(path)
        changed.append(path)
    if not changed and not os.path.isdir(root):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    os.makedirs(root, exist_ok=True)
    return changed


def _recorded(file: str, root: str) -> Form | None:
    try:
        text = read_file(file)
    except FileNotFoundError:
        return None
    try:
        document = parse_object(text, what="file .kvstore/format.json")
    except InvalidRequestError as error:
        raise StorageError(f"{error.message} (in {root!a})") from None
    match document:
        case {"format": int(number)} if number != _FORMAT:
            message = f"The store in {root!a} has format {number}; this version knows {_FORMAT}."
            raise StorageError(message)
        case {"format": int(), "names": "exact"}:
            return "exact"
        case {"format": int(), "names": "portable"}:
            return "portable"
    message = f"The file .kvstore/format.json has no meaning: {text!r:.100} (in {root!a})."
    raise StorageError(message)


def _record(file: str, names: Names, folder: Folder) -> Form:
    draft = f"{folder.stage}{_LOCK}{secrets.token_hex(8)}.json"
    form = _probed(folder.stage) if names == "auto" else names
    try:
        text = dump_json({"format": _FORMAT, "names": form}) + b"\n"
        write_file(draft, text, durable=folder.durable)
        os.replace(draft, file)
    except BaseException:
        remove(draft)
        raise
    return form


def _probed(folder: str) -> Form:
    """Return ``exact`` if files here keep apart what differs by case or Unicode form only."""
    if sys.getfilesystemencoding() != "utf-8":
        return "portable"
    # Looks like an abandoned draft if we die here, so that a sweep removes it.
    stem = f"{folder}{_LOCK}{secrets.token_hex(8)}.json"
    for made, other in (("k", "K"), ("\u00e9", "e\u0301")):
        try:
            os.close(os.open(stem + made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            if error.errno in (errno.EILSEQ, errno.EINVAL):
                return "portable"
            raise
        try:
            if os.path.lexists(stem + other):
                return "portable"
        finally:
            remove(stem + made)
    return "exact"
