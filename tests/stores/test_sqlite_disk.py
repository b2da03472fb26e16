"""A SQLiteStore on disks that are full, or may not be written: real ones, where that can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import SQLiteStore, StorageError, StorageFullError

LARGE = bytes(range(256)) * 1024

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", [3_000, 30_000, 200_000])
def test_a_full_disk(disk: Path, size: int) -> None:
    with SQLiteStore(disk / "store") as store:
        stored = 0
        with pytest.raises(StorageFullError):
            for stored in range(100_000):
                store.set(f"k{stored:06}", b"x" * size, metadata={"n": stored})
        assert stored > 5
        assert store.count() == stored
        assert store.to_bytes("k000003") == b"x" * size
        with pytest.raises(StorageFullError):
            store.set("large", b"x" * (24 << 20))
        for number in range(stored // 2, stored):
            try:
                store.delete(f"k{number:06}")
            except StorageFullError:
                break
        assert store.verify().problems == ()
    with SQLiteStore(disk / "store") as store:
        assert store.verify().problems == ()
        assert store.to_bytes("k000003") == b"x" * size


def test_room_that_comes_back(disk: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (20 << 20))
    with SQLiteStore(disk / "store") as store:
        with pytest.raises(StorageFullError):
            for number in range(100_000):
                store.set(f"k{number:06}", b"x" * 1000, metadata={"n": number})
        filler.unlink()
        for again in range(100):
            store.set(f"again{again}", b"x" * 1000)
        store.set("large", LARGE)
        assert store.count() == number + 101
        assert store.verify().problems == ()


def test_a_disk_that_may_only_be_read(disk: Path) -> None:
    with SQLiteStore(disk / "store") as store:
        store.set("key", b"old")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        for name in ("store", "other"):
            with pytest.raises(StorageError, match="Read-only file system"):
                SQLiteStore(disk / name).connect()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    with SQLiteStore(disk / "store") as store:
        assert store.to_bytes("key") == b"old"
        assert store.verify().problems == ()


NOBODY = """
import os, sys
from kvstore import SQLiteStore, StoreError
os.setuid(65534)
try:
    SQLiteStore(sys.argv[1]).connect()
except StoreError as error:
    print(type(error).__name__)
"""


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    # The modules have to be found by whoever may not read the folders of root.
    tmp_path.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    root = tmp_path / "store"
    with SQLiteStore(root) as store:
        store.set("key", b"old")
    code = NOBODY.replace("os.setuid(65534)", "import kvstore.stores.sqlite; os.setuid(65534)")
    for folder in (root, tmp_path / "new"):
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        assert done.stdout == "StorageError\n"
    with SQLiteStore(root) as store:
        assert store.to_bytes("key") == b"old"


def test_files_may_not_grow(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from kvstore import SQLiteStore, StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with SQLiteStore(sys.argv[1]) as store:
    store.set("key", b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    failed = 0
    for number in range(200):
        for data in (b"x" * 3000, b"x" * 400_000):
            try:
                store.set("key", data)
            except StoreError:
                failed += 1
    assert failed > 200, failed
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.set("key", b"new")
    assert store.verify().problems == (), store.verify()
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=True, timeout=100)
    with SQLiteStore(tmp_path / "store") as store:
        assert store.to_bytes("key") == b"new"
