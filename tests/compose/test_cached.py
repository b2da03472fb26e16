"""A store near at hand in front of one that is far away."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

import kvstore
from kvstore import (
    FileSystemStore,
    IntegrityError,
    InvalidRequestError,
    KeyNotFoundError,
    MemoryStore,
    MountedStore,
    ReadOnly,
    StorageError,
    Store,
    TransportError,
    UnavailableError,
)
from kvstore.compose.cached import CachedStore
from kvstore.testing import live_server
from tests.compose.far import FarStore, together

BIG = os.urandom(3 << 20)


def counts(cached: CachedStore) -> tuple[int, ...]:
    return tuple(cached.info()["cache"].values())


@pytest.mark.parametrize("data", [b"", b"data", BIG], ids=len)
def test_data_travel_once(far: FarStore, cached: CachedStore, data: bytes) -> None:
    far.set("key", data, metadata={"n": 1}, mimetype="text/plain")
    for _ in range(3):
        value = cached.get("key")
        assert value.read() == data
        assert replace(value.record, permissions=None) == replace(
            far.record("key"), permissions=None
        )
        assert value.permissions == far.get_permissions("key")
        with value.range(1 if data else 0, 3) as stream:
            assert stream.read() == data[1:3]
        value.close()
    assert cached.to_bytes("key") == data
    with cached.get_data_range("key", 0, 2) as stream:
        assert stream.read() == data[:2]
    assert far.downloads == ["key"]
    assert counts(cached) == (4, 1, 0, 0)


def test_facts_and_what_is_missing_are_asked_for(far: FarStore, cached: CachedStore) -> None:
    far.set("key", b"data", metadata={"n": 1})
    assert cached.get_metadata("key") == {"n": 1}
    assert list(cached.query_keys(n=1)) == ["key"]
    assert cached.exists("key")
    assert far.downloads == []
    with pytest.raises(KeyNotFoundError):
        cached.get("missing")
    assert not cached.exists("missing")


def test_a_range_of_what_is_not_kept_is_no_download(far: FarStore, cached: CachedStore) -> None:
    far.set("key", b"0123456789")
    with cached.get_data_range("key", 2, 4) as stream:
        assert stream.read() == b"23"
    assert counts(cached) == (0, 0, 0, 0)


def test_what_others_changed_is_fetched(far: FarStore, cached: CachedStore) -> None:
    far.set("key", b"old", metadata={"n": 1})
    assert cached.to_bytes("key") == b"old"
    far.set("key", b"new", metadata={"n": 2})
    assert cached.to_bytes("key") == b"new"
    assert cached.get("key").metadata == {"n": 2}
    far.delete("key")
    with pytest.raises(KeyNotFoundError):
        cached.to_bytes("key")
    far.failure = UnavailableError("down")
    with pytest.raises(UnavailableError):
        cached.to_bytes("key")


def test_ones_own_writes_are_never_stale(far: FarStore, local: Store) -> None:
    with CachedStore(far, local, offline="if-unreachable") as cached:
        for change in (
            lambda: cached.set("key", b"new"),
            lambda: cached.update_metadata("key", {"n": 1}),
            lambda: cached.multiset(["key"], [b"new"]),
            lambda: cached.delete("key"),
        ):
            cached.set("key", b"old")
            assert cached.to_bytes("key") == b"old"
            change()
            far.failure = UnavailableError("down")
            with pytest.raises(UnavailableError):
                cached.to_bytes("key")
            far.failure = None


def test_a_transaction_leaves_nothing_uncommitted(far: FarStore, cached: CachedStore) -> None:
    cached.set("key", b"old")
    assert cached.to_bytes("key") == b"old"
    with pytest.raises(ZeroDivisionError), cached.transaction():
        cached.set("key", b"new")
        assert cached.to_bytes("key") == b"new"
        raise ZeroDivisionError
    assert cached.to_bytes("key") == b"old"


def test_offline_serves_what_is_kept(far: FarStore, cached: CachedStore, local: Store) -> None:
    far.set("a", BIG, metadata={"n": 1}, mimetype="text/plain")
    far.set("b", b"", metadata={"n": 2})
    cached.get("a").close()
    before = far.record("a")
    far.disconnect()
    with CachedStore(far, local, offline="always") as offline:
        assert not far.is_connected()
        record = offline.record("a")
        assert (record.metadata, record.mimetype, record.revision, record.created) == (
            before.metadata,
            before.mimetype,
            before.revision,
            before.created,
        )
        assert offline.to_bytes("a") == BIG
        assert dict(offline.query()) == {"a": {"n": 1}}
        assert (offline.count(n=1), list(offline.query_keys(order_by="n"))) == (1, ["a"])
        assert offline.exists("a")
        for call in (
            lambda: offline.get("b"),
            lambda: offline.exists("b"),
            lambda: offline.get_data_range("b", 0, 1),
            lambda: offline.set("a", b"new"),
            lambda: offline.refresh("a"),
        ):
            with pytest.raises(UnavailableError, match="offline"):
                call()
        assert offline.to_bytes("a") == BIG
        assert offline.info()["readonly"] is True


@pytest.mark.parametrize("failure", [TransportError("cut off"), UnavailableError("busy")])
def test_stale_data_are_served_if_that_is_asked_for(
    far: FarStore, local: Store, failure: TransportError
) -> None:
    far.set("key", b"data", metadata={"n": 1})
    with (
        CachedStore(far, local, offline="if-unreachable") as cached,
        CachedStore(far, local) as strict,
    ):
        cached.get("key").close()
        far.failure = failure
        assert cached.to_bytes("key") == b"data"
        assert (cached.get_metadata("key"), cached.exists("key")) == ({"n": 1}, True)
        assert (list(cached.query_keys()), cached.count()) == (["key"], 1)
        assert cached.info()["cache"]["stale"] == 5
        for call in (
            lambda: strict.to_bytes("key"),
            lambda: strict.exists("key"),
            lambda: strict.count(),
            lambda: list(strict.query_keys()),
            lambda: cached.exists("other"),
            lambda: cached.get("other"),
        ):
            with pytest.raises(type(failure)):
                call()


def test_a_real_server_that_is_gone(local: Store) -> None:
    with MemoryStore() as store, live_server(store) as url:
        remote = kvstore.open(url)
        with CachedStore(remote, local) as cached:
            cached.set("key", BIG, metadata={"n": 1})
            assert cached.to_bytes("key") == BIG
    with CachedStore(remote, local, offline="if-unreachable") as cached:
        with pytest.raises(TransportError):
            cached.exists("other")
        assert cached.to_bytes("key") == BIG
    with CachedStore(remote, local, offline="always") as cached:
        assert dict(cached.query()) == {"key": {"n": 1}}


def test_a_server_is_asked_once_whether_it_has_changed() -> None:
    answers: list[int] = []

    class Recording(requests.Session):
        def send(self, request: Any, **options: Any) -> requests.Response:
            response = super().send(request, **options)
            answers.append(response.status_code)
            return response

    with (
        MemoryStore() as store,
        live_server(store) as url,
        kvstore.open(url, ("me", Recording())) as remote,
    ):
        store.set("folder/key", BIG, metadata={"n": 1})
        for inner in (remote, ReadOnly(remote), MountedStore(remote, "folder/")):
            key = "key" if isinstance(inner, MountedStore) else "folder/key"
            with MemoryStore() as local, CachedStore(inner, local) as cached:
                cached.exists(key)
                answers.clear()
                assert cached.to_bytes(key) == BIG
                assert answers == [200]
                assert cached.to_bytes(key) == BIG
                assert answers == [200, 304]
                store.set("folder/key", BIG[1:], metadata={"n": 2})
                with closing(cached.get(key)) as value:
                    assert (value.key, value.metadata, value.read()) == (key, {"n": 2}, BIG[1:])
                assert answers == [200, 304, 200]
                store.set("folder/key", BIG, metadata={"n": 1})


def test_exists_is_an_error_where_nobody_can_tell(far: FarStore, cached: CachedStore) -> None:
    assert cached.exists("key") is False
    far.failure = StorageError("the disk of the server", status=500)
    with pytest.raises(StorageError):
        cached.exists("key")


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_a_download_that_is_cut_is_no_entry(
    far: FarStore, cached: CachedStore, local: Store, tmp_path: Path, size: int
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    far.set("key", BIG[:size])
    far.cut = size // 2
    for _ in range(2):
        with pytest.raises(IntegrityError):
            cached.to_file("key", target)
        assert target.read_bytes() == b"precious"
        assert list(local.query_keys()) == []
    far.cut = None
    cached.to_file("key", target)
    assert target.read_bytes() == BIG[:size]
    far.set("key", b"newer")
    far.cut = 2
    with pytest.raises(IntegrityError):
        cached.to_bytes("key")
    assert list(local.query_keys()) in ([], ["key"])
    far.cut = None
    assert cached.to_bytes("key") == b"newer"


def test_to_file_writes_what_was_asked_for(
    far: FarStore, cached: CachedStore, tmp_path: Path
) -> None:
    far.set("key", b"right")
    cached.get("key").close()
    target = tmp_path / "target"
    target.write_bytes(b"a newer file")
    os.utime(target, (2**31, 2**31))
    cached.to_file("key", target)
    assert target.read_bytes() == b"right"
    target.write_bytes(b"edited by the user")
    cached.to_file("key", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == cached.to_bytes("key") == b"right"
    assert len(far.downloads) == 1


def test_refresh_downloads_again(far: FarStore, cached: CachedStore) -> None:
    far.set("key", b"data")
    cached.get("key").close()
    assert cached.refresh("key") == far.record("key")
    assert far.downloads == ["key"] * 2
    far.failure = UnavailableError("down")
    with pytest.raises(UnavailableError):
        cached.refresh("key")
    far.failure = None
    assert cached.to_bytes("key") == b"data"
    assert len(far.downloads) == 2
    far.delete("key")
    with pytest.raises(KeyNotFoundError):
        cached.refresh("key")


def test_names_are_listed_once(far: FarStore, cached: CachedStore) -> None:
    for key in ("a@1", "b", "c"):
        far.set(key, b"")
        cached.get(key).close()
    assert list(cached.query_keys()) == ["a@1", "b", "c"]
    far.delete("b")
    assert (list(cached.query_keys()), cached.count()) == (["a@1", "c"], 2)


@pytest.mark.parametrize("size", [10, len(BIG)])
@pytest.mark.parametrize("damage", ["changed", "shorter"])
def test_what_is_damaged_is_fetched_again(
    far: FarStore, tmp_path: Path, size: int, damage: str
) -> None:
    data = BIG[:size]
    far.set("key", data)
    with FileSystemStore(tmp_path, durable=False) as local, CachedStore(far, local) as cached:
        assert cached.to_bytes("key") == data
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        [path] = [path for path in files if path.read_bytes() == data]
        path.chmod(0o600)
        path.write_bytes(data[:-1] + (b"" if damage == "shorter" else b"?"))
        value = cached.get("key")
        assert value.read() == data
        assert cached.to_bytes("key") == data
        value.close()
        assert far.downloads == ["key"] * 2
        path = next(p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == data)
        path.chmod(0o600)
        path.write_bytes(b"x" * size)
        far.failure = UnavailableError("down")
        with CachedStore(far, local, offline="always") as offline, pytest.raises(UnavailableError):
            offline.to_bytes("key")


def test_threads_make_one_download(far: FarStore, cached: CachedStore) -> None:
    far.set("key", BIG)
    with together(6, lambda: cached.to_bytes("key") == BIG) as results:
        pass
    assert results == [True] * 6
    assert far.downloads == ["key"]


def test_what_is_changed_during_a_download(far: FarStore, cached: CachedStore) -> None:
    far.set("key", b"old")

    def change() -> None:
        far.on_download = lambda: None
        far.set("key", b"new")

    far.on_download = change
    value = cached.get("key")
    assert (value.read(), value.revision != far.record("key").revision) == (b"old", True)
    assert cached.to_bytes("key") == b"new"


def test_a_value_whose_entry_is_gone(far: FarStore, cached: CachedStore, local: Store) -> None:
    far.set("key", BIG)
    value = cached.get("key")
    local.delete("key")
    assert value.read() == BIG
    far.set("key", b"new")
    local.delete("key")
    with pytest.raises(kvstore.ConflictError):
        value.read()
    value.close()


def test_no_store_is_its_own_cache(far: FarStore) -> None:
    with pytest.raises(InvalidRequestError, match="of its own"):
        CachedStore(far, far)


def test_when_to_be_offline_is_one_of_three_words(far: FarStore, local: Store) -> None:
    with pytest.raises(InvalidRequestError, match="if-unreachable"):
        CachedStore(far, local, offline=True)  # type: ignore[arg-type]
