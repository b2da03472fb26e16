"""What is special of FileSystemStore: where it puts things, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import (
    FileSystemStore,
    InvalidRequestError,
    KeyNotFoundError,
    Record,
    StorageError,
    StorageFullError,
)
from kvstore.errors import NotConnectedError
from kvstore.filenames import encode
from kvstore.stores._sidecar import Sidecar, dump, parse
from kvstore.values import BUFFER_SIZE
from tests.cases import each

FORMS = ["exact", "portable"]


@pytest.fixture(autouse=True)
def _without_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FileSystemStore]:
    with FileSystemStore(root) as store:
        yield store


def files_of(root: Path) -> set[str]:
    """Return the paths of all files that are not the store's own affair."""
    paths = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if path.parts[0] != ".kvstore"}


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("m31.fits", "m31.fits"),
        ("runs/2024/m31.fits", "runs/2024/m31.fits"),
        ("readme", "readme.data"),
        ("v1.0/readme", "v1%2E0/readme.data"),
        ("Größe.txt", "Größe.txt"),
    ],
)
@pytest.mark.parametrize("data", [b"", b"content", bytes(200_000)], ids=["empty", "small", "large"])
def test_data_is_a_file_of_its_own(
    store: FileSystemStore, root: Path, key: str, path: str, data: bytes
) -> None:
    store.set(key, data, metadata={"a": 1})
    assert (root / path).read_bytes() == data
    assert files_of(root) == {path, f"{path}.meta.json"}
    assert list((root / ".kvstore/stage").iterdir()) == []


def test_data_is_readable_for_others_as_far_as_the_mask_says(
    store: FileSystemStore, root: Path
) -> None:
    old = os.umask(0o027)
    try:
        store.set("a/key.txt", b"")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((root / path).stat().st_mode) for path in files_of(root)]
    assert modes == [0o640, 0o640]
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / ".kvstore").stat().st_mode) == 0o700


def test_sidecar_says_all_but_the_data(store: FileSystemStore, root: Path) -> None:
    revision = store.set(
        "runs/m31.fits",
        b"hello",
        metadata={"exposure": 1.5, "tags": ["ä", None]},
        mimetype="image/fits",
    )
    store.update_permissions("runs/m31.fits", {"read": {"public", "b"}})
    value = store.get("runs/m31.fits")
    sidecar = json.loads((root / "runs/m31.fits.meta.json").read_text(encoding="utf-8"))
    assert sidecar == {
        "key": "runs/m31.fits",
        "metadata": {"exposure": 1.5, "tags": ["ä", None]},
        "size": 5,
        "created": value.created,
        "modified": value.modified,
        "mimetype": "image/fits",
        "revision": value.revision,
        "digest": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "permissions": {"owned": ["local"], "read": ["b", "public"]},
        "stage": revision,
        "mtime_ns": (root / "runs/m31.fits").stat().st_mtime_ns,
    }
    assert value.revision != revision


def test_sidecar_has_a_line_for_each_field(store: FileSystemStore, root: Path) -> None:
    """So that people read it, and version control shows what has changed."""
    store.set("a.txt", b"", metadata={"x": {"deep": [1, 2]}, "y": "text"})
    lines = (root / "a.txt.meta.json").read_text().splitlines()
    assert lines[:6] == [
        "{",
        ' "key": "a.txt",',
        ' "metadata": {',
        '  "x": {"deep": [1, 2]},',
        '  "y": "text"',
        " },",
    ]
    assert lines[-1] == "}"
    store.set_metadata("a.txt", {})
    assert (root / "a.txt.meta.json").read_text().splitlines()[2] == ' "metadata": {},'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda values: (
        st.lists(values)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values)
    ),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(
    metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON),
    size=st.integers(0, 2**63),
    digest=st.none() | st.just("sha256:" + "0" * 64),
    stage=st.none() | st.just("0123456789abcdef01"),
    modified=st.floats(0, 1e12),
)
def test_sidecars_say_what_they_were_told(
    metadata: dict[str, Any], size: int, digest: str | None, stage: str | None, modified: float
) -> None:
    record = Record(
        "ä\n", metadata, size, 0.0, modified, 'a"/b', "r", digest, {"owned": {"é", "b"}}
    )
    sidecar = Sidecar(record, stage, 12)
    assert parse(dump(sidecar), name="x") == sidecar


def test_metadata_alone_leaves_the_data_file(store: FileSystemStore, root: Path) -> None:
    store.set("key.txt", b"data")
    before = (root / "key.txt").stat()
    store.set_metadata("key.txt", {"a": 1})
    after = (root / "key.txt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_removal_takes_empty_folders_along(store: FileSystemStore, root: Path) -> None:
    for key in ("a/b/c/1", "a/b/2", "other"):
        store.set(key, b"")
    store.delete("a/b/c/1")
    assert sorted(path.name for path in (root / "a/b").iterdir()) == ["2.data", "2.data.meta.json"]
    store.delete("a/b/2")
    assert not (root / "a").exists()
    store.delete("other")
    assert [path.name for path in root.iterdir()] == [".kvstore"]


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EIO, StorageError),
        (errno.EROFS, StorageError),
    ],
)
def test_errors_of_the_system(
    store: FileSystemStore, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: Any
) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    store.set("key", b"old", metadata={"a": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(error, match=f"{os.strerror(number)}: '.*store'") as caught:
            store.set("key", b"new")
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, OSError)
    assert store.get("key").read() == b"old"
    assert list((root / ".kvstore/stage").iterdir()) == []


def test_flush_that_fails_is_not_tried_again(
    store: FileSystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    store.set("key", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="Input/output error"):
            store.set("key", b"new")
    assert len(calls) == 1
    assert store.get("key").read() == b"old"


class UserError(OSError):
    pass


def failing(number: int) -> Iterator[bytes]:
    yield b"some"
    raise UserError(number, "of the user")


@pytest.mark.parametrize("key", ["old", "new"])
def test_errors_of_the_source_pass_unchanged(store: FileSystemStore, root: Path, key: str) -> None:
    store.set("old", b"old", metadata={"a": 1})
    with pytest.raises(UserError, match="of the user"):
        store.set(key, failing(errno.ENOSPC))
    assert [(k, m) for k, m in store.query()] == [("old", {"a": 1})]
    assert store.get("old").read() == b"old"
    assert list((root / ".kvstore/stage").iterdir()) == []


def test_file_where_a_folder_is_needed(store: FileSystemStore, root: Path) -> None:
    (root / "a").write_text("of another tool")
    with pytest.raises(KeyNotFoundError):
        store.get("a/b")
    assert not store.exists("a/b")
    assert list(store.query_keys(prefix="a/")) == []
    with pytest.raises(StorageError, match="Not a directory: 'a/b"):
        store.set("a/b", b"")
    assert files_of(root) == {"a"}
    assert list((root / ".kvstore/stage").iterdir()) == []


def test_path_that_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 250] * 13)
    with FileSystemStore(deep) as store, pytest.raises(StorageError, match="File name too long"):
        store.set("k" * 1000, b"")


# -- configuration -------------------------------------------------------------------------


def test_repr_and_info(root: Path) -> None:
    store = FileSystemStore(root)
    assert repr(store) == f"<FileSystemStore {str(root)!r}>"
    info = store.info()
    assert info["durability"] == "process-crash"
    assert FileSystemStore(root, durable=True).info() == {**info, "durability": "power-loss"}
    expected = {"type": "FileSystemStore", "transactions": False, "atomic_set": True}
    expected |= {"conditional": True, "digests": True, "authorizing": True, "readonly": False}
    assert expected.items() <= info.items()


def test_root_is_relative_to_where_the_store_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileSystemStore("store")
    monkeypatch.chdir("/")
    with store:
        store.set("key", b"data")
    assert (tmp_path / "store/key.data").read_bytes() == b"data"


@each("root", ["", b"store", None, 3, "a\0b"])
def test_root_that_is_no_path(root: Any) -> None:
    with pytest.raises(InvalidRequestError, match="The root is the path of a folder, not"):
        FileSystemStore(root)


def test_names_that_there_are_not(root: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'auto', 'exact' or 'portable', not 'short'"):
        FileSystemStore(root, names="short")  # type: ignore[arg-type]


def test_credentials_are_the_user(root: Path) -> None:
    store = FileSystemStore(root, user_tag="ada")
    with pytest.raises(InvalidRequestError, match="are a user tag, not int"):
        store.connect(3)
    store.connect("bob")
    store.set("key", b"")
    assert store.get_permissions("key") == {"owned": {"bob"}}
    assert store.user_tag() == "bob"


@pytest.mark.parametrize("connected", [False, True])
def test_pickle(root: Path, connected: bool) -> None:
    schema = {"required": ["a"]}
    store = FileSystemStore(
        root, durable=True, names="portable", user_tag="ada", metadata_schema=schema
    )
    if connected:
        store.connect()
        store.set("Key", b"data", metadata={"a": 1})
    copy = pickle.loads(pickle.dumps(store))
    assert copy.is_connected() is connected
    assert copy.info() == store.info()
    assert copy.metadata_schema == schema
    with copy:
        assert copy.user_tag() == "ada"
        assert list(copy.query_keys()) == (["Key"] if connected else [])
        copy.set("Other", b"", metadata={"a": 2})
    assert (root / "%4Fther.data").exists()


def test_disconnected(store: FileSystemStore) -> None:
    listing = store._records("", None)
    store.disconnect()
    with pytest.raises(NotConnectedError):
        store.get("key")
    with pytest.raises(NotConnectedError):
        next(listing)


def test_large_data_is_not_held_in_memory(store: FileSystemStore, root: Path) -> None:
    """Pieces go to the disk as they come."""
    seen = []

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield bytes(BUFFER_SIZE)
            [staged] = (root / ".kvstore/stage").iterdir()
            seen.append(staged.stat().st_size)

    store.set("key", pieces())
    assert seen == [BUFFER_SIZE * count for count in (1, 2, 3, 4)]
    assert encode("key") == ("key.data",)
