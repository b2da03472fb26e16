"""What is special to the store in memory: threads, transactions, snapshots, listings."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.errors import (
    ConflictError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
)
from kvstore.events import StoreEvent, StoreKeyEvent, StoreSetEvent, StoreTransactionStartEvent
from kvstore.stores.memory import MemoryStore
from tests.cases import each

patient = settings(deadline=None)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        yield store


def content(store: MemoryStore) -> dict[str, Any]:
    return {
        key: (store.to_bytes(key), metadata, store.get_permissions(key))
        for key, metadata in store.query()
    }


# -- the store itself ------------------------------------------------------------------------


def test_info(store: MemoryStore) -> None:
    info = store.info()
    assert info["type"] == "MemoryStore"
    told = {name: info[name] for name in ("readonly", "authorizing", "transactions", "durability")}
    assert told == {
        "readonly": False,
        "authorizing": True,
        "transactions": True,
        "durability": "none",
    }


def test_repr(store: MemoryStore) -> None:
    assert repr(store) == "<MemoryStore of 0 keys>"
    store.set_data("k", b"")
    assert repr(store) == "<MemoryStore of 1 keys>"


def test_new_keys_are_owned_by_the_user() -> None:
    store = MemoryStore(user_tag="ann")
    assert store.user_tag() == "ann"
    store.connect()
    store.set_data("a", b"")
    store.connect("bob")
    assert store.user_tag() == "bob"
    store.set_data("b", b"")
    store.set_data("a", b"new")
    assert store.get_permissions("a") == {"owned": {"ann"}}
    assert store.get_permissions("b") == {"owned": {"bob"}}


@pytest.mark.parametrize("credentials", [5, ("ann", None), b"ann", {"username": "ann"}])
def test_credentials_are_a_tag(credentials: Any) -> None:
    store = MemoryStore()
    with pytest.raises(InvalidRequestError, match="are a user tag, not ") as caught:
        store.connect(credentials)
    assert "ann" not in str(caught.value)
    assert not store.is_connected()


def test_content_stays_while_disconnected(store: MemoryStore) -> None:
    store.set_data("k", b"abc")
    store.disconnect()
    store.connect()
    assert store.to_bytes("k") == b"abc"


def test_a_value_is_what_it_was(store: MemoryStore) -> None:
    store.set("k", b"old", metadata={"a": 1})
    value = store.get("k")
    store.set("k", b"new", metadata={"a": 2})
    assert (value.read(), value.metadata, value.size) == (b"old", {"a": 1}, 3)
    store.delete("k")
    assert value.range(1, 2).read() == b"l"


def test_bytes_are_kept_without_a_copy(store: MemoryStore) -> None:
    data = bytes(100)
    store.set_data("k", data)
    assert store.get("k").read() is data


def test_every_change_makes_a_new_revision(store: MemoryStore) -> None:
    revisions = [
        store.set("k", b"abc", metadata={"a": 1}),
        store.set("k", b"abc", metadata={"a": 1}),
        store.set_data("k", b"abc"),
        store.set_metadata("k", {"a": 1}),
        store.update_metadata("k", {}),
        store.set_permissions("k", {"owned": {"local"}}),
        store.update_permissions("k", {}),
    ]
    assert None not in revisions
    assert len(set(revisions)) == len(revisions)
    assert store.get("k").revision == revisions[-1]


# -- listings --------------------------------------------------------------------------------

keys = st.text("abé/😀\ue000", min_size=1, max_size=3)


@patient
@given(st.sets(keys), st.sets(keys), st.text("ab/", max_size=2), st.none() | keys)
def test_listings_are_sorted_and_cut(
    some: set[str], gone: set[str], prefix: str, after: str | None
) -> None:
    with MemoryStore() as store:
        for key in sorted(some, reverse=True):
            store.set_data(key, b"")
        assert list(store.query_keys()) == sorted(some)
        for key in gone & some:
            store.delete(key)
        left = sorted(some - gone)
        assert list(store.query_keys()) == left
        expected = [k for k in left if k.startswith(prefix) and (after is None or k > after)]
        assert list(store.query_keys(prefix=prefix, after=after)) == expected


def test_a_listing_goes_on_while_keys_come_and_go(store: MemoryStore) -> None:
    for key in "bdfh":
        store.set_data(key, b"")
    listing = store.query_keys()
    assert next(listing) == "b"
    store.delete("d")
    store.set_data("a", b"")
    store.set_data("e", b"")
    store.set_data("f", b"changed")
    assert list(listing) == ["f", "h"]
    assert list(store.query_keys()) == ["a", "b", "e", "f", "h"]


def test_a_listing_can_delete_what_it_finds(store: MemoryStore) -> None:
    for number in range(2_000):
        store.set_data(f"{number:04}", b"")
    for key in store.query_keys():
        store.delete(key)
    assert store.count() == 0
    assert list(store.query_keys()) == []


def test_a_key_deleted_and_made_again_is_listed_once(store: MemoryStore) -> None:
    store.set_data("a", b"")
    store.set_data("b", b"")
    assert store.count() == 2
    store.delete("a")
    store.set_data("a", b"")
    assert list(store.query_keys()) == ["a", "b"]


def test_many_threads_list_and_change(store: MemoryStore) -> None:
    for number in range(0, 200, 2):
        store.set_data(f"{number:03}", b"")

    def change(seed: int) -> None:
        for number in range(1 + 2 * seed, 200, 8):
            store.set_data(f"{number:03}", b"")
            store.delete(f"{number:03}")

    def look(_seed: int) -> None:
        for _ in range(20):
            listed = list(store.query_keys())
            assert listed == sorted(set(listed))
            assert {f"{number:03}" for number in range(0, 200, 2)} <= set(listed)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(f, seed) for seed in range(4) for f in (change, look)]:
            done.result()
    assert store.count() == 100


# -- threads ---------------------------------------------------------------------------------


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what *work* gives in threads that begin as one."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_no_update_is_lost(store: MemoryStore) -> None:
    store.set_data("k", b"")

    def update(number: int) -> None:
        for step in range(50):
            store.update_metadata("k", {f"{number}-{step}": step})

    together(8, update)
    assert len(store.get_metadata("k")) == 400


def test_no_conditional_write_is_lost(store: MemoryStore) -> None:
    store.set("k", b"", metadata={"n": 0})

    def count(_number: int) -> int:
        conflicts = 0
        for _ in range(50):
            while True:
                value = store.get("k")
                try:
                    store.set_metadata("k", {"n": value.metadata["n"] + 1}, if_match=value)
                    break
                except ConflictError:
                    conflicts += 1
        return conflicts

    together(4, count)
    assert store.get_metadata("k") == {"n": 200}


def test_a_key_is_created_once(store: MemoryStore) -> None:
    def create(number: int) -> int:
        won = 0
        for key in range(50):
            try:
                store.set_data(str(key), b"%d" % number, if_none_match="*")
                won += 1
            except ConflictError:
                pass
        return won

    assert sum(together(8, create)) == 50


def test_data_and_metadata_are_of_one_write(store: MemoryStore) -> None:
    store.set("k", b"0", metadata={"n": 0})
    stop = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            for step in range(500):
                store.set("k", b"%d" % step, metadata={"n": step})
            stop.set()
        while not stop.is_set():
            data, metadata = store.get("k")
            assert int(data.read()) == metadata["n"]

    together(4, work)


def test_the_source_is_read_while_others_go_on(store: MemoryStore) -> None:
    # One slow upload must not stop the store.
    def pieces() -> Iterator[bytes]:
        yield b"a"
        with ThreadPoolExecutor(1) as other:
            other.submit(store.set_data, "other", b"x").result(timeout=60)
        yield b"b"

    store.set_data("k", pieces())
    assert store.to_bytes("k") == b"ab"
    assert store.to_bytes("other") == b"x"


def test_a_key_that_goes_while_the_source_is_read(store: MemoryStore) -> None:
    store.set("k", b"old", metadata={"a": 1})
    value = store.get("k")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        store.delete("k")

    with pytest.raises(ConflictError):
        store.set_data("k", pieces(), if_match=value)
    assert not store.exists("k")


# -- transactions ----------------------------------------------------------------------------


def test_a_rollback_undoes_everything(store: MemoryStore) -> None:
    store.set("changed", b"old", metadata={"a": 1})
    store.set("deleted", b"here", metadata={"b": 2})
    store.set_permissions("deleted", {"owned": {"local"}, "read": {"public"}})
    before, value = content(store), store.get("deleted")
    heard: list[Any] = []
    store.events.connect(StoreKeyEvent, heard.append)

    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set("changed", b"new", metadata={"a": 2})
        store.update_metadata("changed", {"c": 3})
        store.update_permissions("changed", {"read": {"x"}})
        store.delete("deleted")
        store.set_data("made", b"")
        store.delete("made")
        store.set_data("deleted", b"again")
        store.set_data("made", b"twice")
        raise ZeroDivisionError

    assert content(store) == before
    assert store.get("deleted").revision == value.revision
    assert store.get("deleted").modified == value.modified
    assert heard == []
    with pytest.raises(KeyNotFoundError):
        store.get("made")


def test_a_transaction_sees_what_it_did(store: MemoryStore) -> None:
    store.set_data("a", b"")
    with store.transaction():
        store.set_data("b", b"1")
        store.delete("a")
        assert store.to_bytes("b") == b"1"
        assert list(store.query_keys()) == ["b"]
    assert list(store.query_keys()) == ["b"]


def test_only_the_outermost_counts(store: MemoryStore) -> None:
    with store.transaction() as outer:
        assert outer is store
        store.set_data("a", b"")
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.set_data("b", b"")
            raise ZeroDivisionError
        with store.transaction("inner"):
            store.set_data("c", b"")
    assert list(store.query_keys()) == ["a", "b", "c"]


def test_others_wait_until_a_transaction_ends(store: MemoryStore) -> None:
    store.set_data("k", b"before")
    begun = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        begun.set()
        seen.append(store.to_bytes("k"))

    reader = threading.Thread(target=read)
    with store.transaction():
        store.set_data("k", b"between")
        reader.start()
        begun.wait()
        store.set_data("k", b"after")
    reader.join()
    assert seen == [b"after"]


def test_transactions_of_threads_follow_each_other(store: MemoryStore) -> None:
    store.set("k", b"", metadata={"n": 0})

    def add(number: int) -> None:
        for step in range(50):
            try:
                with store.transaction():
                    store.set_metadata("k", {"n": store.get_metadata("k")["n"] + 1})
                    if (number + step) % 5 == 0:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    together(4, add)
    assert store.get_metadata("k") == {"n": 160}


def test_events_of_another_thread_do_not_wait(store: MemoryStore) -> None:
    heard: list[str] = []
    store.events.connect(StoreSetEvent, lambda event: heard.append(event.key))
    with MemoryStore(events=store.events) as other, store.transaction():
        store.set_data("waits", b"")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other.set_data, "goes", b"").result(timeout=60)
        assert heard == ["goes"]
    assert heard == ["goes", "waits"]


class _Stop(BaseException):
    """Stands for KeyboardInterrupt, which passes through the hub."""


@pytest.mark.parametrize("event", [StoreTransactionStartEvent, StoreEvent])
def test_an_interrupted_transaction_lets_go(store: MemoryStore, event: Any) -> None:
    def interrupt(_event: Any) -> None:
        raise _Stop

    with store.events.connected_to(event, interrupt), pytest.raises(_Stop), store.transaction():
        store.set_data("k", b"")
    with ThreadPoolExecutor(1) as other:
        assert other.submit(store.count).result(timeout=60) == 0
    with store.transaction():
        store.set_data("k", b"")
    assert store.count() == 1


def test_an_interrupted_end_keeps_what_was_committed(store: MemoryStore) -> None:
    def interrupt(_event: Any) -> None:
        raise _Stop

    with (
        store.events.connected_to(StoreSetEvent, interrupt),
        pytest.raises(_Stop),
        store.transaction(),
    ):
        store.set_data("k", b"")
    with ThreadPoolExecutor(1) as other:
        assert other.submit(store.count).result(timeout=60) == 1


# -- snapshots -------------------------------------------------------------------------------

DUPLICATES = [
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
    *(
        pytest.param(
            lambda store, protocol=protocol: pickle.loads(pickle.dumps(store, protocol)),
            id=f"pickle-{protocol}",
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ),
]


@each("duplicate", DUPLICATES)
def test_a_duplicate_goes_its_own_way(duplicate: Callable[[MemoryStore], MemoryStore]) -> None:
    store = MemoryStore(user_tag="ann", metadata_schema={"required": ["a"]})
    heard: list[Any] = []
    store.events.connect(StoreEvent, heard.append)
    store.connect()
    store.set("k", b"abc", metadata={"a": [1]})
    heard.clear()

    twin = duplicate(store)

    assert content(twin) == content(store)
    assert twin.get("k").record == store.get("k").record
    assert twin.user_tag() == "ann"
    with pytest.raises(InvalidMetadataError):
        twin.set_metadata("k", {})
    twin.set("k", b"def", metadata={"a": 2})
    twin.set("new", b"", metadata={"a": 3})
    store.set("other", b"", metadata={"a": 4})
    assert store.to_bytes("k") == b"abc"
    assert list(store.query_keys()) == ["k", "other"]
    assert list(twin.query_keys()) == ["k", "new"]
    assert [event.key for event in heard if isinstance(event, StoreSetEvent)] == ["other"]
    assert {event.source for event in heard} == {store}


@each("duplicate", DUPLICATES)
def test_a_duplicate_is_connected_as_the_original(duplicate: Any) -> None:
    store = MemoryStore()
    assert not duplicate(store).is_connected()
    store.connect()
    assert duplicate(store).is_connected()


def test_a_snapshot_within_a_transaction_belongs_to_no_transaction(store: MemoryStore) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set_data("k", b"")
        twin = pickle.loads(pickle.dumps(store))
        raise ZeroDivisionError
    assert (store.count(), twin.count()) == (0, 1)
    with twin.transaction():
        twin.set_data("l", b"")
    assert twin.count() == 2


# -- fork ------------------------------------------------------------------------------------

FORK = """
    import os, signal, threading, warnings
    from kvstore.stores.memory import MemoryStore

    warnings.simplefilter("ignore")  # to fork with threads is what this is about
    store = MemoryStore()
    store.connect()
    store.set_data("k", b"before")
    {scene}
"""
OF_ANOTHER = """
    changed, done = threading.Event(), threading.Event()

    def work():
        with store.transaction():
            store.set_data("k", b"between")
            store.set_data("new", b"")
            changed.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    changed.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that waits for a lock that nobody holds any more
        assert store.to_bytes("k") == b"before"
        assert list(store.query_keys()) == ["k"]
        with store.transaction():
            store.set_data("k", b"child")
        os._exit(7)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.to_bytes("k") == b"between"
"""
OF_ITS_OWN = """
    with store.transaction():
        store.set_data("k", b"between")
        child = os.fork()
        if child == 0:
            signal.alarm(60)
        store.set_data("new", b"")
    assert store.to_bytes("k") == b"between"
    thread = threading.Thread(target=store.set_data, args=("other", b""))
    thread.start()
    thread.join()
    assert store.count() == 3
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("scene", [OF_ANOTHER, OF_ITS_OWN], ids=["of another", "of its own"])
def test_a_fork_in_a_transaction(scene: str) -> None:
    program = textwrap.dedent(FORK).format(scene=textwrap.dedent(scene))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
