"""A store that is only read, and a part of one."""

from __future__ import annotations

import pickle

import pytest

from kvstore import (
    ConflictError,
    InvalidKeyError,
    InvalidRequestError,
    KeyNotFoundError,
    MemoryStore,
    MountedStore,
    Query,
    ReadOnly,
    ReadOnlyStore,
    Store,
    StoreModificationEvent,
    UnsupportedOperationError,
)


@pytest.fixture
def store():
    with MemoryStore(keep_versions=3) as store:
        yield store


def test_what_is_read_passes_through(store: MemoryStore) -> None:
    first = store.set("a/1", b"data", metadata={"n": 1}, mimetype="text/plain")
    store.set_metadata("a/2", {"n": 2})
    with ReadOnly(store) as view:
        assert (view.to_bytes("a/1"), view.get_metadata("a/2")) == (b"data", {"n": 2})
        assert view.record("a/1") == store.record("a/1")
        assert list(view.query_keys(order_by="-n")) == ["a/2", "a/1"]
        assert (view.count(n=1), view.exists("a/3"), list(view.glob("*2"))) == (1, False, ["a/2"])
        assert [entry.key for entry in view.changes()] == ["a/1", "a/2"]
        assert view.sequence() == 2
        store.set_data("a/1", b"new")
        assert view.versions("a/1") == store.versions("a/1")
        assert view.get("a/1", version=str(first)).read() == b"data"
        with view.get_data_range("a/1", 1) as stream:
            assert stream.read() == b"ew"
        with pytest.raises(KeyNotFoundError):
            view.get("missing")


def test_there_is_nothing_to_write_with(store: MemoryStore) -> None:
    view = ReadOnly(store)
    writing = {name for name in dir(Store) if not name.startswith("_")} - set(dir(ReadOnlyStore))
    assert {"set", "delete", "write", "transaction"} <= writing
    assert [name for name in writing if hasattr(view, name)] == []
    info = view.info()
    assert (info["type"], info["readonly"], info["transactions"]) == ("ReadOnly", True, False)
    with pytest.raises(UnsupportedOperationError):
        view.mapping()["key"] = b""


def test_listeners_of_the_view_hear_of_changes_of_the_store(store: MemoryStore) -> None:
    view = ReadOnly(store)
    seen: list[StoreModificationEvent] = []
    with view.events.connected_to(StoreModificationEvent, seen.append):
        store.set("key", b"")
    assert [event.key for event in seen] == ["key"]


def test_a_view_leaves_a_store_connected_that_was(store: MemoryStore) -> None:
    with ReadOnly(store) as view:
        assert view.is_connected()
    assert store.is_connected()
    other = MemoryStore()
    with ReadOnly(other):
        assert other.is_connected()
    assert not other.is_connected()


def test_a_pickled_view_works(store: MemoryStore) -> None:
    store.set("key", b"data")
    with pickle.loads(pickle.dumps(ReadOnly(store))) as clone:
        assert clone.to_bytes("key") == b"data"


@pytest.fixture
def mounted(store: MemoryStore):
    store.set_metadata("b", {"n": 0})
    store.set_metadata("b/", {"n": 0})
    store.set_metadata("b0", {"n": 0})
    with MountedStore(store, "b/") as mounted:
        yield mounted


def test_only_what_is_below_is_seen(store: MemoryStore, mounted: MountedStore) -> None:
    mounted.set("x", b"1", metadata={"n": 3})
    store.set_metadata("b/y", {"n": 2})
    store.set_metadata("b/z", {"n": 1})
    assert list(mounted.query_keys()) == ["x", "y", "z"]
    assert store.to_bytes("b/x") == b"1"
    assert list(mounted.query_keys(order_by="n")) == ["z", "y", "x"]
    assert (mounted.count(), mounted.count(n=0), mounted.count(glob="*")) == (3, 0, 3)
    assert list(mounted.query_keys(glob="[xy]")) == ["x", "y"]
    assert list(mounted.query_keys(prefix="y")) == ["y"]
    mounted.delete("x")
    assert not store.exists("b/x")


@pytest.mark.parametrize("order_by", [None, "n", "-n"])
def test_cursors_go_on(store: MemoryStore, mounted: MountedStore, order_by: str | None) -> None:
    for number in range(5):
        mounted.set_metadata(f"k{number}", {"n": number % 2} if number else {})
    expected = list(mounted.query_keys(order_by=order_by))
    found, after = [], None
    while True:
        page = mounted.query_keys(order_by=order_by, limit=2, after=after)
        keys = list(page)
        if not keys:
            break
        found += keys
        after = page.cursor
    assert (found, len(found)) == (expected, 5)


def test_the_name_of_the_mount_is_no_key_of_it(store: MemoryStore, mounted: MountedStore) -> None:
    mounted.set_metadata("x", {"n": 0})
    assert list(mounted.query_keys(order_by="n", limit=1)) == ["x"]
    assert list(mounted.query_keys(limit=1)) == ["x"]
    store.set_metadata("b/", {"n": 5})
    assert [entry.key for entry in mounted.changes()] == ["x"]


def test_globs_match_the_prefix_as_text(store: MemoryStore) -> None:
    with MountedStore(store, "[ab]*/") as mounted:
        mounted.set_metadata("x", {})
        store.set_metadata("a1/x", {})
        assert list(mounted.glob("?")) == ["x"]
        longest = "*" * 1024
        assert list(mounted.glob(longest)) == ["x"]
        assert mounted.count(glob=longest) == 1


def test_a_key_that_is_too_long_with_the_prefix(mounted: MountedStore) -> None:
    mounted.set("k" * 1022, b"")
    with pytest.raises(InvalidKeyError, match="not 1025: 'b/kkkk") as caught:
        mounted.set("k" * 1023, b"")
    assert caught.value.key == "b/" + "k" * 1023


def test_a_prefix_that_ends_within_a_segment(mounted: MountedStore) -> None:
    with MountedStore(mounted, "c.") as inner:
        with pytest.raises(InvalidKeyError):
            inner.exists("./up")
        inner.set("hidden", b"")
        mounted.set("c.../down", b"")
        assert list(inner.query_keys()) == ["hidden"]
        assert (inner.count(), [entry.key for entry in inner.changes()]) == (1, ["hidden"])
    assert list(mounted.query_keys()) == ["c.../down", "c.hidden"]


@pytest.mark.parametrize("prefix", ["../", "a\0", "a/./", "k" * 1024, None, b"a"])
def test_no_prefix(store: MemoryStore, prefix: str) -> None:
    with pytest.raises(InvalidKeyError):
        MountedStore(store, prefix)


def test_errors_name_the_key_that_was_asked_for(mounted: MountedStore) -> None:
    with pytest.raises(KeyNotFoundError) as missing:
        mounted.get("x")
    assert (missing.value.key, missing.value.message) == ("x", "There is no key 'x'.")
    mounted.set("x", b"")
    with pytest.raises(ConflictError) as conflict:
        mounted.set("x", b"", if_none_match="*")
    assert conflict.value.key == "x"


def test_history_and_permissions_of_what_is_below(
    store: MemoryStore, mounted: MountedStore
) -> None:
    begun = mounted.sequence()
    first = mounted.set("x", b"one")
    store.set("elsewhere", b"")
    mounted.set("x", b"two")
    entries = list(mounted.changes(begun))
    assert [(entry.seq - begun, entry.action, entry.key) for entry in entries] == [
        (1, "set", "x"),
        (3, "update", "x"),
    ]
    assert [entry.seq - begun for entry in mounted.changes(begun, 1)] == [1]
    assert [(record.key, record.size) for record in mounted.versions("x")] == [("x", 3)] * 2
    assert mounted.get("x", version=str(first)).key == "x"
    mounted.restore("x", str(first))
    assert store.to_bytes("b/x") == b"one"
    mounted.update_permissions("x", {"read": {"ann"}})
    assert store.get_permissions("b/x") == mounted.get_permissions("x")


def test_a_transaction_is_one_of_the_store(store: MemoryStore, mounted: MountedStore) -> None:
    with pytest.raises(ZeroDivisionError), mounted.transaction():
        mounted.set("x", b"")
        store.set("elsewhere", b"")
        raise ZeroDivisionError
    assert list(store.query_keys()) == ["b", "b/", "b0"]


def test_a_listing_that_is_given_up_is_closed(store: MemoryStore, mounted: MountedStore) -> None:
    mounted.multiset_metadata(["x", "y"], [{}, {}])
    found = mounted.find(Query())
    assert next(found).key == "x"
    found.close()
    assert list(found) == []


def test_what_can_only_be_read_says_so_when_it_is_written_through(store: MemoryStore) -> None:
    store.set("a/key", b"data")
    mounted = MountedStore(ReadOnly(store), "a/")  # type: ignore[arg-type]
    assert mounted.to_bytes("key") == b"data"
    for write in (
        lambda: mounted.set("key", b"new"),
        lambda: mounted.update_metadata("key", {"n": 1}),
        lambda: mounted.delete("key"),
        lambda: mounted.multiset(["key"], [b"new"]),
    ):
        with pytest.raises(UnsupportedOperationError):
            write()
    assert store.to_bytes("a/key") == b"data"


def test_only_stores_make_a_store() -> None:
    with pytest.raises(InvalidRequestError, match=r"no store \(see kvstore.open\): 'memory:'"):
        MountedStore("memory:", "a/")  # type: ignore[arg-type]
