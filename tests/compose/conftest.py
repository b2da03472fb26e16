"""Stores for caches, and lock files among the files of the test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import FileSystemStore, MemoryStore, SQLiteStore, Store
from kvstore.compose.cached import CachedStore
from tests.compose.far import FarStore


@pytest.fixture(autouse=True, scope="session")
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def far() -> Iterator[FarStore]:
    with FarStore() as far:
        yield far


@pytest.fixture(params=["memory", "folder", "sqlite"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    stores = {
        "memory": MemoryStore,
        "folder": lambda: FileSystemStore(tmp_path / "kept", durable=False),
        "sqlite": lambda: SQLiteStore(tmp_path / "kept", durable=False),
    }
    with stores[request.param]() as local:
        yield local


@pytest.fixture
def cached(far: FarStore, local: Store) -> Iterator[CachedStore]:
    with CachedStore(far, local) as cached:
        yield cached
