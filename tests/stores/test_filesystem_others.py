"""What other tools have done to the folder of a FileSystemStore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from kvstore import (
    ConflictError,
    FileSystemStore,
    IntegrityError,
    KeyNotFoundError,
    StorageError,
)

LARGE = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def _without_flushes() -> Iterator[None]:
    """No test here cuts the power."""
    with mock.patch("os.fsync"):
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FileSystemStore]:
    with FileSystemStore(root) as store:
        yield store


@pytest.fixture
def stage(root: Path) -> Path:
    return root / ".kvstore" / "stage"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- data files that other tools change ----------------------------------------------------

SIZES = [b"old", LARGE]
sizes = pytest.mark.parametrize("old", SIZES, ids=["small", "large"])


@sizes
@pytest.mark.parametrize("new", [b"", b"new", b"longer than before", LARGE[::-1]])
def test_edited_data(store: FileSystemStore, root: Path, old: bytes, new: bytes) -> None:
    """Still a key, whose conditions notice, even right after a write and at the same size."""
    store.set("key.txt", old, metadata={"a": 1}, mimetype="text/plain")
    before = store.get("key.txt").record
    (root / "key.txt").write_bytes(new)
    value = store.get("key.txt")
    assert value.read() == new
    assert value.range(1).read() == new[1:] if new else True
    assert (value.size, value.digest, value.metadata) == (len(new), None, {"a": 1})
    assert (value.created, value.mimetype) == (before.created, "text/plain")
    assert value.modified == (root / "key.txt").stat().st_mtime
    assert value.revision is not None
    assert value.revision.startswith(f"{before.revision}~")
    assert store.get("key.txt").revision == value.revision
    assert list(store._records("", None)) == [value.record]
    with pytest.raises(ConflictError):
        store.set("key.txt", b"x", if_match=before)
    with pytest.raises(ConflictError):
        store.delete("key.txt", if_match=before)
    assert (root / "key.txt").read_bytes() == new


def test_edit_is_taken_over_by_the_next_write(store: FileSystemStore, root: Path) -> None:
    store.set("key.txt", b"old", metadata={"a": 1})
    (root / "key.txt").write_bytes(b"edited")
    edited = store.get("key.txt")
    revision = store.update_metadata("key.txt", {"b": 2}, if_match=edited)
    value = store.get("key.txt")
    assert (value.read(), value.metadata, value.digest) == (b"edited", {"a": 1, "b": 2}, None)
    assert value.revision == revision
    (root / "key.txt").write_bytes(b"again")
    assert store.get("key.txt").read() == b"again"
    assert store.get("key.txt").revision != revision
    store.set("key.txt", b"new")
    assert store.get("key.txt").digest is not None
    (root / "key.txt").write_bytes(b"edited")
    store.delete("key.txt")
    assert names_in(root) == [".kvstore"]


@sizes
def test_data_that_is_gone(store: FileSystemStore, root: Path, old: bytes) -> None:
    """Never empty data; what is written, or removed, next mends it."""
    store.set("a/key.txt", old, metadata={"a": 1})
    store.set("b.txt", old)
    for path in ("a/key.txt", "b.txt"):
        (root / path).unlink()
    for operation in (
        lambda: store.get("a/key.txt"),
        lambda: store.get_data("a/key.txt"),
        lambda: list(store.query()),
    ):
        with pytest.raises(StorageError, match=r"data file 'a/key\.txt' of .* is missing"):
            operation()
    store.set_data("a/key.txt", b"new")
    assert store.get("a/key.txt").read() == b"new"
    store.delete("b.txt")
    assert list(store.query()) == [("a/key.txt", {"a": 1})]


@sizes
def test_data_that_rots(store: FileSystemStore, root: Path, old: bytes) -> None:
    """Same size, same time, other bytes: no reader gets to the end."""
    store.set("key.txt", old, metadata={"a": 1})
    status = (root / "key.txt").stat()
    (root / "key.txt").write_bytes(b"?" + old[1:])
    os.utime(root / "key.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    value = store.get("key.txt")
    assert value.metadata == {"a": 1}
    with pytest.raises(IntegrityError, match=r"has sha256:.*, not sha256:.* as recorded"):
        value.read()
    with pytest.raises(IntegrityError):
        store.to_bytes("key.txt")


def test_large_data_that_changes_after_it_was_got(store: FileSystemStore) -> None:
    store.set("key", LARGE)
    value = store.get("key")
    stream = value.open()
    assert value.range(5, 9).read() == LARGE[5:9]
    store.set("key", LARGE[::-1])
    with pytest.raises(ConflictError, match="has been changed since it was read"):
        value.open()
    with pytest.raises(ConflictError):
        value.range(0, 1)
    store.delete("key")
    with pytest.raises(ConflictError, match="has been removed since it was read"):
        value.open()
    with stream:  # what is open stays what it was
        assert stream.read() == LARGE


# -- sidecars that other tools change ------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "cut": lambda text: text[:-20],
    "no text": lambda text: b"\xff" + text,
    "an array": lambda text: b"[]",
    "a number": lambda text: b"3",
    "no size": lambda text: text.replace(b'"size"', b'"length"'),
    "size of text": lambda text: text.replace(b'"size": 3', b'"size": "3"'),
    "size true": lambda text: text.replace(b'"size": 3', b'"size": true'),
    "negative size": lambda text: text.replace(b'"size": 3', b'"size": -3'),
    "another key": lambda text: text.replace(b'"key": "a.txt"', b'"key": "b.txt"'),
    "metadata null": lambda text: text.replace(b'{\n  "a": 1\n }', b"null"),
    "NaN": lambda text: text.replace(b'"a": 1', b'"a": NaN'),
    "lone surrogate": lambda text: text.replace(b'"a": 1', b'"a": "\\ud800"'),
    "too deep": lambda text: text.replace(b'"a": 1', b'"a": ' + b"[" * 100_000),
    "no owner": lambda text: text.replace(b'["local"]', b"[]"),
    "tags that are no list": lambda text: text.replace(b'["local"]', b'"local"'),
    "stage elsewhere": lambda text: text.replace(b'"stage": "', b'"stage": "../'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_sidecar(store: FileSystemStore, root: Path, damage: str) -> None:
    """Everything that needs it fails, naming it, and nothing is changed; other keys are as ever."""
    for key in ("a.txt", "c.txt"):
        store.set(key, b"old", metadata={"a": 1})
    sidecar = root / "a.txt.meta.json"
    broken = DAMAGE[damage](sidecar.read_bytes())
    assert broken != sidecar.read_bytes()
    sidecar.write_bytes(broken)
    for operation in (
        lambda: store.get("a.txt"),
        lambda: store.get_metadata("a.txt"),
        lambda: list(store.query()),
        lambda: store.set("a.txt", b"new"),
        lambda: store.set_metadata("a.txt", {}),
        lambda: store.delete("a.txt"),
    ):
        with pytest.raises(StorageError, match=r"'a\.txt\.meta\.json'"):
            operation()
    assert sidecar.read_bytes() == broken
    assert (root / "a.txt").read_bytes() == b"old"
    assert store.get("c.txt").read() == b"old"
    sidecar.unlink()  # the way out
    store.set("a.txt", b"new")
    assert store.get("a.txt").read() == b"new"


def test_edited_metadata(store: FileSystemStore, root: Path) -> None:
    store.set("a.txt", b"data", metadata={"a": 1})
    sidecar = root / "a.txt.meta.json"
    sidecar.write_text(sidecar.read_text().replace('"a": 1', '"a": "by hand"'))
    assert store.get("a.txt").metadata == {"a": "by hand"}
    assert list(store.query_keys(a="by hand")) == ["a.txt"]


def test_copied_sidecar(store: FileSystemStore, root: Path) -> None:
    store.set("a.txt", b"data")
    (root / "b.txt.meta.json").write_bytes((root / "a.txt.meta.json").read_bytes())
    for operation in (lambda: store.get("b.txt"), lambda: list(store.query())):
        with pytest.raises(StorageError, match=r"'b\.txt\.meta\.json' is that of another key"):
            operation()


@pytest.mark.parametrize("path", ["a.meta.json", "A%41.txt.meta.json", "con.meta.json"])
def test_files_named_as_sidecars(store: FileSystemStore, root: Path, path: str) -> None:
    """They may be of a store with other names: a listing that left them out would be wrong."""
    (root / path).write_text("{}")
    with pytest.raises(StorageError, match="is named as a sidecar, but is none"):
        list(store.query_keys())


def test_sidecar_where_its_key_is_not_looked_for(store: FileSystemStore, root: Path) -> None:
    """Where a long segment is continued is fixed; here it is continued too early."""
    store.set("aaa.txt", b"")
    (root / "aa%+").mkdir()
    for name in ("aaa.txt", "aaa.txt.meta.json"):
        (root / name).rename(root / "aa%+" / name[2:])
    with pytest.raises(StorageError, match="is not where the data of a key is"):
        list(store.query_keys())


def test_files_of_others_are_no_keys(store: FileSystemStore, root: Path) -> None:
    store.set("mine", b"")
    for path in (
        "notes.txt",
        ".git/config",
        "my.folder/a.txt.meta.json",
        "folder/file",
        "%zz/a.txt",
    ):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("of others")
    (root / "._mine.data.meta.json").write_text("macOS keeps attributes in such files")
    (root / "empty").mkdir()
    assert list(store.query_keys()) == ["mine"]
    assert not store.exists("notes.txt")
    with pytest.raises(KeyNotFoundError):
        store.get("folder/f")
    store.set("notes.txt", b"mine now")
    assert (root / "notes.txt").read_bytes() == b"mine now"


# -- what could lead out of the folder, or hang --------------------------------------------


def test_link_to_a_file(store: FileSystemStore, root: Path, tmp_path: Path) -> None:
    """Not followed to read; and replaced, not followed, to write."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    store.set("a.txt", b"data", metadata={"a": 1})
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(secret)
    for operation in (lambda: store.get("a.txt"), lambda: list(store.query())):
        with pytest.raises(StorageError, match=r"Symbolic links are not followed: 'a\.txt'"):
            operation()
    store.set("a.txt", b"new")
    assert store.get("a.txt").read() == b"new"
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(secret)
    store.delete("a.txt")
    assert secret.read_bytes() == b"secret"
    (root / "a.txt.meta.json").symlink_to(secret)
    for operation in (
        lambda: store.get("a.txt"),
        lambda: store.set("a.txt", b""),
        lambda: store.delete("a.txt"),
        lambda: list(store.query()),
    ):
        with pytest.raises(StorageError, match="Symbolic links are not followed"):
            operation()
    assert secret.read_bytes() == b"secret"


def test_link_to_a_folder(store: FileSystemStore, root: Path, tmp_path: Path) -> None:
    store.set("a/b/key.txt", b"data")
    outside = tmp_path / "outside"
    (root / "a").rename(outside)
    (root / "a").symlink_to(outside)
    before = sorted(outside.rglob("*"))
    for operation in (
        lambda: store.get("a/b/key.txt"),
        lambda: store.exists("a/b/key.txt"),
        lambda: store.set("a/b/key.txt", b"new"),
        lambda: store.set("a/new.txt", b"new"),
        lambda: store.set("a/c/new.txt", b"new"),
        lambda: store.delete("a/b/key.txt"),
        lambda: list(store.query_keys()),
        lambda: list(store.query_keys(prefix="a/b/")),
    ):
        with pytest.raises(StorageError, match="Symbolic links are not followed: 'a'"):
            operation()
    assert sorted(outside.rglob("*")) == before
    assert names_in(root / ".kvstore/stage") == []


def test_pipes_and_folders_in_place_of_files(store: FileSystemStore, root: Path) -> None:
    for key in ("a.txt", "b.txt", "c.txt"):
        store.set(key, b"data")
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")
    (root / "b.txt.meta.json").unlink()
    os.mkfifo(root / "b.txt.meta.json")
    (root / "c.txt").unlink()
    (root / "c.txt").mkdir()
    with pytest.raises(StorageError, match=r"'a\.txt' is no regular file"):
        store.get("a.txt")
    with pytest.raises(StorageError, match=r"'b\.txt\.meta\.json' is damaged"):
        store.get("b.txt")
    with pytest.raises(StorageError, match=r"'c\.txt' is no regular file"):
        store.get("c.txt")
    store.set("a.txt", b"new")
    store.set("c.txt", b"new")  # stays in the stage for as long as the folder is there
    assert store.get("a.txt").read() == b"new"
    assert store.get("c.txt").read() == b"new"
    (root / "c.txt").rmdir()
    with FileSystemStore(root) as again:
        assert again.get("c.txt").read() == b"new"
    assert (root / "c.txt").read_bytes() == b"new"
