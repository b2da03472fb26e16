"""Every store of ours keeps the whole contract, on its own and on the wire."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore import FileSystemStore, MemoryStore, SQLiteStore, Store
from kvstore.testing import StoreContract, fake_server, live_server
from kvstore.testing.contract_changes import ChangesContract
from kvstore.testing.contract_concurrency import ConcurrencyContract
from kvstore.testing.contract_conditions import ConditionsContract
from kvstore.testing.contract_data import DataContract
from kvstore.testing.contract_filters import FiltersContract
from kvstore.testing.contract_keys import KeysContract
from kvstore.testing.contract_listing import ListingContract
from kvstore.testing.contract_metadata import MetadataContract
from kvstore.testing.contract_permissions import PermissionsContract
from kvstore.testing.contract_transactions import TransactionsContract
from kvstore.testing.contract_watch import WatchContract
from kvstore.testing.contract_writing import WritingContract


class TestMemoryStore(StoreContract):
    def make_store(self) -> Store:
        return MemoryStore()

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        return MemoryStore(metadata_schema=schema)

    def make_store_with_versions(self, keep: int) -> Store:
        return MemoryStore(keep_versions=keep)


class TestFileSystemStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "stores"
        self.folder.mkdir()

    def make_store(self) -> Store:
        return FileSystemStore(tempfile.mkdtemp(dir=self.folder))

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        return FileSystemStore(self.folder, metadata_schema=schema)

    def make_second_store(self, store: Store) -> Store:
        return pickle.loads(pickle.dumps(store))


class TestSQLiteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "stores"
        self.folder.mkdir()

    def make_store(self) -> Store:
        return SQLiteStore(tempfile.mkdtemp(dir=self.folder))

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        return SQLiteStore(self.folder, metadata_schema=schema)

    def make_store_with_versions(self, keep: int) -> Store:
        return SQLiteStore(self.folder, keep_versions=keep)

    def make_second_store(self, store: Store) -> Store:
        return pickle.loads(pickle.dumps(store))


class Served:
    """Over the wire; a server is started once, and emptied for each test from behind."""

    url: str
    backing: Store
    #: Four classes share the client and the server, and each has histories of its own.
    histories = 5

    @pytest.fixture(autouse=True)
    def _stack(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield

    def make_store(self) -> Store:
        for key in list(self.backing.query_keys()):
            self.backing.delete(key)
        return kvstore.open(self.url)

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        backing = MemoryStore(metadata_schema=schema)
        return kvstore.open(self.stack.enter_context(self.serve(backing)))

    def make_store_with_versions(self, keep: int) -> Store:
        backing = self.stack.enter_context(self.make_backing_with_versions(keep))
        return kvstore.open(self.stack.enter_context(self.serve(backing)))

    def make_backing_with_versions(self, keep: int) -> Store:
        return MemoryStore(keep_versions=keep)

    def make_second_store(self, store: Store) -> Store:
        return kvstore.open(self.url)

    def serve(self, backing: Store) -> Any:
        return live_server(backing)

    # One server has one content, and this test needs two.
    test_each_store_has_its_own_listeners = None


class ServedContract(Served, StoreContract):
    """The whole of it."""


@pytest.fixture(scope="module")
def memory_server() -> Iterator[tuple[str, Store]]:
    with MemoryStore() as backing, live_server(backing) as url:
        yield url, backing


@pytest.fixture(scope="module")
def folder_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    folder = tmp_path_factory.mktemp("served")
    with FileSystemStore(folder) as backing, live_server(backing) as url:
        yield url, backing


@pytest.fixture(scope="module")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    with SQLiteStore(tmp_path_factory.mktemp("sqlite")) as backing, live_server(backing) as url:
        yield url, backing


class TestDynamicURLStoreOverMemory(ServedContract):
    @pytest.fixture(autouse=True)
    def _server(self, memory_server: tuple[str, Store]) -> None:
        self.url, self.backing = memory_server


class TestDynamicURLStoreOverFolder(
    *(Served, WritingContract, DataContract, MetadataContract, ListingContract, FiltersContract),
    *(ConditionsContract, PermissionsContract, TransactionsContract, ConcurrencyContract),
    *(KeysContract, ChangesContract, WatchContract),
):
    """What the server makes of files, and of a store without a journal.

    The rest is as over the others.
    """

    @pytest.fixture(autouse=True)
    def _server(self, folder_server: tuple[str, Store]) -> None:
        self.url, self.backing = folder_server


class TestDynamicURLStoreOverSQLite(ServedContract):
    @pytest.fixture(autouse=True)
    def _server(self, sqlite_server: tuple[str, Store], tmp_path: Path) -> None:
        self.url, self.backing = sqlite_server
        self.folder = tmp_path

    def make_backing_with_versions(self, keep: int) -> Store:
        return SQLiteStore(self.folder, keep_versions=keep)


class TestDynamicURLStoreWithoutSocket(ServedContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with MemoryStore() as self.backing, fake_server(self.backing) as self.url:
            yield

    def serve(self, backing: Store) -> Any:
        return fake_server(backing, "http://schema.test")
