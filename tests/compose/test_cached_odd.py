"""Caches whose remote store tells little, or whose lock files cannot be made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kvstore import ConflictError, MemoryStore, Record, StorageError, Store, UnavailableError, Value
from kvstore.compose.cached import CachedStore
from tests.compose.far import FarStore


class PlainStore(FarStore):
    """As a server that tells nothing by which a revision could be known."""

    told: dict[str, Any]

    def _record(self, key: str) -> Record:
        return replace(super()._record(key), **self.told)

    def _get(self, key: str) -> Value:
        value = super()._get(key)
        told = {name: fact for name, fact in self.told.items() if name != "size"}
        return Value(replace(value.record, **told), value._open)


@pytest.fixture
def plain() -> Any:
    with PlainStore() as plain:
        plain.told = {"revision": None, "digest": None}
        yield plain


def test_without_revisions_everything_is_fetched(plain: PlainStore, local: Store) -> None:
    plain.set("key", b"old")
    with CachedStore(plain, local, offline="if-unreachable") as cached:
        value = cached.get("key")
        assert (value.read(), value.range(1).read()) == (b"old", b"ld")
        plain.set("key", b"new")
        assert cached.to_bytes("key") == b"new"
        assert len(plain.downloads) == 2
        with pytest.raises(ConflictError):
            value.read()
        plain.failure = UnavailableError("down")
        assert cached.to_bytes("key") == b"new"
        value.close()


def test_without_any_digest_nothing_is_kept(plain: PlainStore) -> None:
    class Forgetful(MemoryStore):
        capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "digests": False}

    plain.set("key", b"data")
    with Forgetful() as local, CachedStore(plain, local) as cached:
        assert [cached.to_bytes("key") for _ in range(2)] == [b"data"] * 2
        assert list(local.query_keys()) == []


def test_a_digest_alone_is_a_revision(plain: PlainStore, local: Store) -> None:
    plain.told = {"revision": None}
    plain.set("key", b"data")
    with CachedStore(plain, local) as cached:
        assert [cached.to_bytes("key") for _ in range(3)] == [b"data"] * 3
        assert len(plain.downloads) == 1


def test_a_size_that_is_told_with_the_data_alone(plain: PlainStore, local: Store) -> None:
    plain.told = {"size": -1}
    plain.set("key", b"data")
    with CachedStore(plain, local) as cached:
        assert [cached.to_bytes("key") for _ in range(3)] == [b"data"] * 3
        assert len(plain.downloads) == 1


def test_locks_that_cannot_be_had(far: FarStore, local: Store, tmp_path: Path) -> None:
    far.set("key", b"old")
    with CachedStore(far, local) as cached:
        assert cached.to_bytes("key") == b"old"
    file = tmp_path / "file"
    file.write_bytes(b"")
    with CachedStore(far, local, locks=file / "locks", offline="if-unreachable") as cached:
        assert cached.to_bytes("key") == b"old"
        cached.set("key", b"new")
        with pytest.raises(StorageError, match="lock"):
            cached.to_bytes("key")
        far.failure = UnavailableError("down")
        with pytest.raises(StorageError):  # and not what was there before
            cached.to_bytes("key")


def test_it_says_when_it_is_offline(far: FarStore, local: Store) -> None:
    with CachedStore(far, local) as cached, CachedStore(far, local, offline="always") as offline:
        assert (cached.info()["offline"], offline.info()["offline"]) == ("never", "always")
