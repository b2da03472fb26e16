"""What processes that died have left in the folder of a store, and what the living have there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from kvstore import (
    FileSystemStore,
    StorageError,
    UnavailableError,
    disk,
)
from kvstore.stores import filesystem
from kvstore.stores._folder import Folder

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


KEYS = ["key.txt", "a/" + "long" * 100, "é" * 300]
keys = pytest.mark.parametrize("key", KEYS, ids=["short", "long", "wide"])


@contextmanager
def renames(refused: Callable[[str], bool], *, then: BaseException | None = None) -> Iterator[None]:
    """Refuse to rename to some targets, or do it and raise *then*."""
    replace = os.replace

    def renaming(source: str, target: str) -> None:
        if then is not None:
            replace(source, target)
            raise then
        if refused(target):
            raise OSError(errno.EIO, os.strerror(errno.EIO), source)
        replace(source, target)

    with mock.patch("os.replace", renaming):
        yield


def is_data(target: str) -> bool:
    return not target.endswith(".meta.json")


def leave_in_stage(root: Path, key: str, new: bytes) -> Path:
    """Set *key* as if we died after the sidecar was in its place; return the data file."""
    with FileSystemStore(root) as store:
        store.set("other", b"")
        store.set(key, b"old", metadata={"v": "old"})
        paths = [path for path in root.rglob("*") if path.is_file()]
        [file] = [path for path in paths if path.read_bytes() == b"old"]
        with renames(is_data):
            revision = store.set(key, new, metadata={"v": "new"})
        # It counts from now on.
        assert (store.get(key).read(), store.get_metadata(key)) == (new, {"v": "new"})
        assert store.get(key).revision == revision
        assert dict(store.query()) == {key: {"v": "new"}, "other": {}}
        assert file.read_bytes() == b"old"
    return file


@keys
@pytest.mark.parametrize("new", [b"new", LARGE], ids=["small", "large"])
def test_data_that_did_not_get_to_its_place(root: Path, stage: Path, key: str, new: bytes) -> None:
    """Whoever connects next brings it there."""
    file = leave_in_stage(root, key, new)
    assert len(names_in(stage)) == 1
    with FileSystemStore(root) as store:
        assert file.read_bytes() == new
        assert store.get(key).read() == new
    assert names_in(stage) == []


@keys
@pytest.mark.parametrize("operation", ["set_metadata", "set", "delete"])
def test_write_after_data_did_not_get_to_its_place(
    root: Path, stage: Path, key: str, operation: str
) -> None:
    file = leave_in_stage(root, key, b"new")
    with mock.patch.object(filesystem, "sweep"), FileSystemStore(root) as store:
        if operation == "delete":
            store.delete(key)
            assert not file.exists()
        elif operation == "set":
            store.set(key, b"newer")
            assert file.read_bytes() == store.get(key).read() == b"newer"
        else:
            store.set_metadata(key, {"a": 1})
            assert file.read_bytes() == store.get(key).read() == b"new"
    assert names_in(stage) == []


@keys
def test_data_that_nobody_needs_any_more(root: Path, stage: Path, key: str) -> None:
    """Died before the sidecar was in its place, or the sidecar has been removed by hand."""
    file = leave_in_stage(root, key, b"new")
    file.with_name(file.name + ".meta.json").unlink()
    with FileSystemStore(root) as store:
        assert list(store.query_keys()) == ["other"]
    assert names_in(stage) == []


def test_data_whose_sidecar_is_damaged_is_left_alone(root: Path, stage: Path) -> None:
    file = leave_in_stage(root, "key.txt", b"new")
    file.with_name("key.txt.meta.json").write_text("damaged")
    with FileSystemStore(root):
        assert len(names_in(stage)) == 1


def test_drafts_and_strangers_in_the_stage(root: Path, stage: Path, tmp_path: Path) -> None:
    FileSystemStore(root).connect()
    outside = tmp_path / "outside.data"
    outside.write_bytes(b"outside")
    strangers = ["notes.txt", "1" * 18 + "%-..%-..%-outside.data", "2" * 18 + "%-no%-%2Fkey.data"]
    for name in ["3" * 18 + ".json", "4" * 18 + ".jsonk", *strangers]:
        (stage / name).write_bytes(b"")
    FileSystemStore(root).connect()
    assert names_in(stage) == sorted(strangers)
    assert outside.read_bytes() == b"outside"


@keys
@pytest.mark.parametrize("since", ["nothing", "set again", "file of another tool", "damaged"])
def test_removal_that_was_not_finished(root: Path, stage: Path, key: str, since: str) -> None:
    with FileSystemStore(root) as store:
        store.set(key, b"old")
        [sidecar] = root.rglob("*.meta.json")
        file = sidecar.with_name(sidecar.name.removesuffix(".meta.json"))
        grave = stage / ("0" * 18 + ".deleted")
        sidecar.rename(grave)
        assert not store.exists(key)
        if since == "set again":
            store.set(key, b"new")
        elif since == "file of another tool":
            file.write_bytes(b"of another tool")
        elif since == "damaged":
            grave.write_text("damaged")
    with FileSystemStore(root) as store:
        assert store.exists(key) is (since == "set again")
    expected = {"set again": b"new", "file of another tool": b"of another tool", "damaged": b"old"}
    assert (file.read_bytes() if file.exists() else None) == expected.get(since)
    assert names_in(stage) == ([grave.name] if since == "damaged" else [])
    if since == "nothing":
        assert names_in(root) == [".kvstore"]


def test_upload_of_the_living_is_left_alone(root: Path, stage: Path) -> None:
    """However long it takes, and whoever connects meanwhile, in this process or another."""

    def pieces() -> Iterator[bytes]:
        yield b"first"
        for _ in range(2):
            with FileSystemStore(root) as other:
                assert list(other.query_keys()) == []
            assert len(names_in(stage)) == 1
            yield b"second"

    with FileSystemStore(root) as store:
        store.set("key", pieces())
        assert store.get("key").read() == b"firstsecondsecond"
    assert names_in(stage) == []


def test_file_that_is_swept_before_it_is_locked(tmp_path: Path) -> None:
    """The writer makes it again."""
    file = tmp_path / "file"
    lock = disk._lock
    sweeps = [file.unlink]

    def locking(descriptor: int) -> None:
        if sweeps:
            sweeps.pop()()
        lock(descriptor)

    with mock.patch.object(disk, "_lock", locking):
        descriptor = disk.create_locked(str(file))
    try:
        assert os.path.samestat(os.fstat(descriptor), file.stat())
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("key", ["old", "new"])
def test_sidecar_that_cannot_be_put_in_its_place(
    store: FileSystemStore, stage: Path, key: str
) -> None:
    store.set("old", b"old", metadata={"a": 1})
    with renames(lambda target: True), pytest.raises(StorageError, match="Input/output error"):
        store.set(key, b"new")
    assert list(store.query()) == [("old", {"a": 1})]
    assert store.get("old").read() == b"old"
    assert names_in(stage) == []


def test_interrupt_after_the_sidecar_is_in_its_place(
    store: FileSystemStore, root: Path, stage: Path
) -> None:
    """The data must not be removed as that of a write that failed: it is the key's now."""
    store.set("key", b"old", metadata={"a": 1})
    with renames(is_data, then=KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        store.set("key", b"new", metadata={"a": 2})
    assert (store.get("key").read(), store.get_metadata("key")) == (b"new", {"a": 2})
    store.connect()
    assert names_in(stage) == []
    assert (root / "key.data").read_bytes() == b"new"


def test_key_that_never_stands_still(store: FileSystemStore) -> None:
    """A reader gives up at some time, and says that trying again may help."""
    store.set("key", LARGE)
    value = store.get("key")
    with (
        mock.patch.object(Folder, "_is_current", return_value=False),
        pytest.raises(UnavailableError, match="changed all the time"),
    ):
        value.open()
