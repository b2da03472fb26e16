"""How much a cache keeps, and what it lets go."""

from __future__ import annotations

import gc
import os
import threading

import pytest

import kvstore
from kvstore import InvalidRequestError, MemoryStore, Store, UnavailableError
from kvstore.compose.cached import CachedStore
from tests.compose.far import FarStore

BIG = os.urandom(3 << 20)


def kept(local: Store) -> list[str]:
    return list(local.query_keys())


def test_no_more_is_kept_than_may_be(far: FarStore, local: Store) -> None:
    for number in range(6):
        far.set(f"k{number}", b"x" * 300)
    far.set("large", b"x" * 1001)
    far.set("full", b"x" * 1000)
    with CachedStore(far, local, max_bytes=1000) as cached:
        for number in (0, 1, 2, 0, 3):
            assert cached.to_bytes(f"k{number}") == b"x" * 300
        assert kept(local) == ["k0", "k2", "k3"]  # k1 was not used for longest
        assert cached.to_bytes("large") == b"x" * 1001
        assert kept(local) == ["k0", "k2", "k3"]
        assert cached.to_bytes("full") == b"x" * 1000
        assert kept(local) == ["full"]
        for number in range(6):
            cached.get(f"k{number}").close()
            assert sum(record.size for record in local.find(kvstore.Query())) <= 1000
        assert cached.prune(350) == 600
        assert len(kept(local)) == 1
        cached.clear()
        assert kept(local) == []
        assert cached.to_bytes("k1") == b"x" * 300
    with CachedStore(far, local) as unbounded:
        assert unbounded.prune() == 0
        assert kept(local) == ["k1"]


def test_what_is_being_read_is_not_pruned(far: FarStore, local: Store) -> None:
    for key in ("a", "b"):
        far.set(key, BIG)
    with CachedStore(far, local) as cached:
        value = cached.get("a")
        stream = cached.get_data("b")
        assert stream.read(10) == BIG[:10]
        cached.prune(0)
        cached.clear()
        assert kept(local) == ["a", "b"]
        assert value.read() == BIG
        assert stream.read() == BIG[10:]
        value.close()
        stream.close()
        assert len(far.downloads) == 2
        assert cached.prune(0) == 2 * len(BIG)
        assert kept(local) == []


def test_values_that_nobody_closes_can_be_pruned(far: FarStore, local: Store) -> None:
    far.set("key", b"data")
    with CachedStore(far, local) as cached:
        assert cached.get("key").read() == b"data"
        gc.collect()
        cached.prune(0)
        assert kept(local) == []


def test_values_may_be_let_go_at_any_moment(far: FarStore) -> None:
    # The garbage collector comes when it likes: also in the middle of pruning, in that thread.
    far.set("key", b"data")
    with MemoryStore() as local, CachedStore(far, local) as cached:
        values = [cached.get("key")]

        def let_go(event: kvstore.StoreDeleteEvent) -> None:
            values.clear()
            gc.collect()

        local.set("other", b"", metadata=local.get_metadata("key"))
        with local.events.connected_to(kvstore.StoreDeleteEvent, let_go):
            thread = threading.Thread(target=cached.prune, args=(0,), daemon=True)
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
            cached.clear()
        assert values == []
        assert kept(local) == []


def test_what_the_local_store_cannot_keep_passes_through(far: FarStore) -> None:
    schema = {"type": "object", "required": ["no entry has this"]}
    with MemoryStore(metadata_schema=schema) as local, CachedStore(far, local) as cached:
        far.set("key", b"data")
        assert cached.to_bytes("key") == b"data"
        assert kept(local) == []


def test_foreign_keys_in_the_local_store_are_not_served(far: FarStore, local: Store) -> None:
    local.set("mine", b"", metadata={"value": 1})
    with CachedStore(far, local, offline="always") as offline:
        assert list(offline.query_keys()) == []
        with pytest.raises(UnavailableError):
            offline.get("mine")
        offline.clear()
    assert kept(local) == ["mine"]


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "1"])
def test_no_number_of_bytes(far: FarStore, wrong: int) -> None:
    with pytest.raises(InvalidRequestError):
        CachedStore(far, MemoryStore(), max_bytes=wrong)
    with CachedStore(far, MemoryStore()) as cached, pytest.raises(InvalidRequestError):
        cached.prune(wrong)


def test_caches_before_caches(far: FarStore, local: Store) -> None:
    far.set("key", BIG)
    with MemoryStore() as near, CachedStore(CachedStore(far, local), near) as cached:
        for _ in range(2):
            assert cached.to_bytes("key") == BIG
        assert (kept(local), kept(near), len(far.downloads)) == (["key"], ["key"], 1)
