"""Stores made of stores keep the whole contract, as those that they are made of do."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kvstore import MemoryStore, SQLiteStore, Store
from kvstore.compose import AuthorizedStore, JoinedStore, MountedStore
from kvstore.compose.cached import CachedStore
from kvstore.testing import StoreContract
from kvstore.testing.contract import HistoryContract
from kvstore.testing.contract_changes import ChangesContract
from kvstore.testing.contract_concurrency import ConcurrencyContract
from kvstore.testing.contract_conditions import ConditionsContract
from kvstore.testing.contract_data import DataContract
from kvstore.testing.contract_events import EventsContract
from kvstore.testing.contract_filters import FiltersContract
from kvstore.testing.contract_permissions import PermissionsContract
from kvstore.testing.contract_ranges import RangesContract
from kvstore.testing.contract_transactions import TransactionsContract
from kvstore.testing.contract_values import ValuesContract
from kvstore.testing.contract_versions import VersionsContract
from kvstore.testing.contract_watch import WatchContract
from kvstore.testing.contract_writing import WritingContract
from kvstore.testing.odd_keys import ODD_KEYS

#: Not a folder, and full of what means something in a glob.
PREFIX = "\u00e9 [b]*?"


class ComposedContract(StoreContract):
    """Over a store in memory, which others can use by another store made of the same."""

    histories = 8

    def compose(self, store: Any) -> Store:
        raise NotImplementedError

    def make_store(self) -> Store:
        self.within = MemoryStore()
        return self.compose(self.within)

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        return self.compose(MemoryStore(metadata_schema=schema))

    def make_store_with_versions(self, keep: int) -> Store:
        return self.compose(MemoryStore(keep_versions=keep))

    def make_second_store(self, store: Store) -> Store:
        return self.compose(self.within)


class OverSQLite:
    """Over a store on the disk."""

    histories = 4

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "stores"
        self.folder.mkdir()

    def compose(self, store: Any) -> Store:
        raise NotImplementedError

    def make_store(self) -> Store:
        return self.compose(SQLiteStore(tempfile.mkdtemp(dir=self.folder), durable=False))

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        return self.compose(SQLiteStore(self.folder, metadata_schema=schema, durable=False))

    def make_store_with_versions(self, keep: int) -> Store:
        return self.compose(SQLiteStore(self.folder, keep_versions=keep, durable=False))

    def make_second_store(self, store: Store) -> Store:
        return pickle.loads(pickle.dumps(store))


@pytest.fixture
def _room_for_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest keys are those that are the longest within."""
    for name, key in ODD_KEYS.items():
        if name.startswith("longest"):
            cut = key.encode()[: 1024 - len(PREFIX.encode())].decode(errors="ignore")
            monkeypatch.setitem(ODD_KEYS, name, cut)


@pytest.mark.usefixtures("_room_for_a_prefix")
class TestMountedStore(ComposedContract):
    def compose(self, store: Any) -> Store:
        return MountedStore(store, PREFIX)


@pytest.mark.usefixtures("_room_for_a_prefix")
class TestMountedStoreOverSQLite(OverSQLite, StoreContract):
    def compose(self, store: Any) -> Store:
        return MountedStore(store, PREFIX)


class TestJoinedStore(ComposedContract):
    def compose(self, store: Any) -> Store:
        return JoinedStore(store, MemoryStore(), MemoryStore())


class TestAuthorizedStore(ComposedContract):
    def compose(self, store: Any) -> Store:
        return AuthorizedStore(store, "ann", ["staff"])


class TestAuthorizedStoreOverSQLite(
    OverSQLite,
    ConditionsContract,
    PermissionsContract,
    ChangesContract,
    VersionsContract,
    WatchContract,
    ConcurrencyContract,
):
    """What has to do with permissions, and with those who change them meanwhile."""

    def compose(self, store: Any) -> Store:
        return AuthorizedStore(store, "ann")

    def make_store(self) -> Store:
        # Who might read what others have deleted is known where versions are kept.
        folder = tempfile.mkdtemp(dir=self.folder)
        return self.compose(SQLiteStore(folder, keep_versions=5, durable=False))


class TestCachedStore(ComposedContract):
    def compose(self, store: Any) -> Store:
        return CachedStore(store, MemoryStore())


class TestCachedStoreOverSQLite(
    *(OverSQLite, WritingContract, DataContract, ValuesContract, RangesContract, ChangesContract),
    *(ConditionsContract, VersionsContract, WatchContract, ConcurrencyContract, HistoryContract),
):
    def compose(self, store: Any) -> Store:
        local = SQLiteStore(tempfile.mkdtemp(dir=self.folder), durable=False)
        return CachedStore(store, local, max_bytes=300_000, locks=self.folder.with_name("locks"))


class TestAllOfThem(EventsContract, FiltersContract, TransactionsContract, WritingContract):
    """One within another."""

    def make_store(self) -> Store:
        authorized = AuthorizedStore(JoinedStore(MemoryStore(), MemoryStore()), "ann")
        return CachedStore(MountedStore(authorized, "a/"), MemoryStore())

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        joined = JoinedStore(MemoryStore(metadata_schema=schema), MemoryStore())
        return MountedStore(AuthorizedStore(joined, "ann"), "a/")
