"""How a folder becomes a FileSystemStore, and which folder cannot."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore import FileSystemStore, InvalidRequestError, StorageError
from kvstore.stores import _format

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


def test_connect_makes_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "new" / "folders"
    with FileSystemStore(root):
        assert json.loads((root / ".kvstore/format.json").read_text()) == {
            "format": 1,
            "names": "exact",
        }
    assert list((root / ".kvstore/stage").iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_folder_remembers_its_names(root: Path, form: Any) -> None:
    with FileSystemStore(root, names=form) as store:
        store.set("Key", b"data")
    with FileSystemStore(root) as store:
        assert store.get("Key").read() == b"data"
    [other] = set(FORMS) - {form}
    with pytest.raises(InvalidRequestError, match=f"has {form} names, not {other}"):
        FileSystemStore(root, names=other).connect()  # type: ignore[arg-type]


@pytest.mark.parametrize("folding", [str.lower, lambda text: unicodedata.normalize("NFD", text)])
def test_names_are_portable_where_the_folder_folds(
    root: Path, monkeypatch: pytest.MonkeyPatch, folding: Any
) -> None:
    def lexists(path: str) -> bool:
        folder, name = os.path.split(path)
        return folding(name) in [folding(path.name) for path in Path(folder).iterdir()]

    monkeypatch.setattr(_format.os.path, "lexists", lexists)
    root.mkdir()
    FileSystemStore(root).connect()
    assert json.loads((root / ".kvstore/format.json").read_text())["names"] == "portable"
    assert list((root / ".kvstore/stage").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "names": "exact"}', "has format 2; this version knows 1"),
        ('{"format": 1, "names": "long"}', "has no meaning"),
        ('{"names": "exact"}', "has no meaning"),
        ("{", "no JSON"),
        ("", "no JSON"),
        ("[]", "not an object"),
    ],
)
def test_unknown_format(root: Path, text: str, message: str) -> None:
    FileSystemStore(root).connect()
    (root / ".kvstore/format.json").write_text(text)
    store = FileSystemStore(root)
    with pytest.raises(StorageError, match=message):
        store.connect()
    assert not store.is_connected()


def test_root_is_a_file(root: Path) -> None:
    root.write_text("")
    with pytest.raises(StorageError, match=r"Not a directory: '.*store'"):
        FileSystemStore(root).connect()
    with pytest.raises(StorageError, match="Not a directory"):
        FileSystemStore(root / "below").connect()


@pytest.mark.parametrize("name", [".kvstore", ".kvstore/stage", ".kvstore/locks"])
def test_own_folders_are_no_links(root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=f"Symbolic links are not followed: '{name}'"):
        FileSystemStore(root).connect()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture
def nobody(root: Path) -> Iterator[None]:
    """Be somebody who may read what is in the folder, and not write to it."""
    paths = [root, *root.rglob("*")]
    parents = [path for path in root.parents if path.stat().st_uid == os.geteuid()]
    modes = {path: path.stat().st_mode for path in [*paths, *parents]}
    privileged = os.geteuid() == 0
    for path in parents if privileged else []:
        path.chmod(modes[path] | 0o055)
    for path in reversed(paths):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)


@pytest.fixture
def filled(root: Path) -> None:
    with FileSystemStore(root) as store:
        store.set("a/key", b"data", metadata={"a": 1})


@pytest.mark.usefixtures("filled", "nobody")
def test_folder_that_can_only_be_read(root: Path) -> None:
    with FileSystemStore(root) as store:
        assert store.get("a/key").read() == b"data"
        assert list(store.query()) == [("a/key", {"a": 1})]
        for write in (
            lambda: store.set("a/key", b"new"),
            lambda: store.set("new", b""),
            lambda: store.set_metadata("a/key", {}),
            lambda: store.delete("a/key"),
        ):
            with pytest.raises(StorageError, match=r"Permission denied: '.*' in '.*store'"):
                write()
        assert store.get("a/key").read() == b"data"


def test_folder_that_cannot_be_written(root: Path, request: pytest.FixtureRequest) -> None:
    root.mkdir()
    request.getfixturevalue("nobody")
    with pytest.raises(StorageError, match=r"Permission denied: '\.kvstore' in '.*store'"):
        FileSystemStore(root).connect()
    with pytest.raises(StorageError, match="Permission denied"):
        FileSystemStore(root / "below").connect()


def test_folder_that_goes_away_is_not_empty(store: FileSystemStore, root: Path) -> None:
    """As when its disk is unmounted."""
    store.set("key", b"data")
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    for operation in (
        lambda: store.get("key"),
        lambda: store.exists("key"),
        lambda: list(store.query_keys()),
        lambda: store.set("key", b""),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StorageError, match="No such file or directory"):
            operation()
    assert list(root.iterdir()) == []
