"""Several stores as one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    JoinedStore,
    KeyNotFoundError,
    MemoryStore,
    Query,
    ReadOnly,
    StoreUpdateEvent,
    UnsupportedOperationError,
)
from kvstore.testing.faults import SourceBrokenError, broken_pieces
from tests.cases import each


@pytest.fixture
def parts() -> Iterator[tuple[MemoryStore, MemoryStore, MemoryStore]]:
    with MemoryStore() as first, MemoryStore(user_tag="ann") as second, MemoryStore() as third:
        yield first, second, third


@pytest.fixture
def joined(parts: tuple[MemoryStore, ...]) -> Iterator[JoinedStore]:
    first, second, third = parts
    with JoinedStore(first, second, ReadOnly(third)) as joined:
        yield joined


Parts = tuple[MemoryStore, MemoryStore, MemoryStore]


def test_the_first_that_has_the_key_tells(parts: Parts, joined: JoinedStore) -> None:
    for number, store in enumerate(parts):
        for key in ("a", "b", "c")[number:]:
            store.set(key, b"%d" % number, metadata={"n": number})
    parts[2].set("d", b"3")
    assert {key: joined.to_bytes(key) for key in joined.query_keys()} == {
        "a": b"0",
        "b": b"0",
        "c": b"0",
        "d": b"3",
    }
    parts[0].delete("b")
    parts[0].delete("c")
    assert (joined.to_bytes("b"), joined.get_metadata("c")) == (b"1", {"n": 1})
    with joined.get_data_range("d", 0, 1) as stream:
        assert stream.read() == b"3"
    with pytest.raises(KeyNotFoundError):
        joined.get("e")


def test_what_is_hidden_is_not_found(parts: Parts, joined: JoinedStore) -> None:
    parts[0].set_metadata("a", {"is": "shown", "n": 9})
    parts[1].set_metadata("a", {"is": "hidden", "n": 1})
    parts[2].set_metadata("a", {"is": "hidden", "n": 2})
    parts[2].set_metadata("b", {"is": "hidden", "n": 5})
    assert list(joined.query_keys(where={"is": "hidden"})) == ["b"]
    assert list(joined.query_keys(order_by="n")) == ["b", "a"]
    assert list(joined.query_keys(order_by="n", limit=1)) == ["b"]
    assert list(joined.query_keys(limit=1, where={"is": "hidden"})) == ["b"]
    assert joined.count(where={"is": "hidden"}) == 1


QUERIES: list[dict[str, Any]] = [
    {"order_by": order_by, "limit": limit, **more}
    for order_by, limit, more in itertools.product(
        (None, "n", "-n"), (None, 0, 3), ({}, {"match": {"m": 1}}, {"glob": "*[0-4]"})
    )
]


@each("arguments", QUERIES)
def test_queries_are_those_of_one_store_with_all(
    parts: Parts, joined: JoinedStore, arguments: dict[str, Any]
) -> None:
    with MemoryStore() as one:
        for number, store in reversed(list(enumerate(parts))):
            for item in range(0, 12, number + 1):
                metadata = {"n": (item * 7 + number) % 5, "m": (item + number) % 2}
                store.set_metadata(f"k{item}", metadata)
                one.set_metadata(f"k{item}", metadata)
        query = Query(**arguments)
        expected = [(record.key, record.metadata) for record in one.find(query)]
        found = joined.find(query)
        assert [(record.key, record.metadata) for record in found] == expected
        if expected:
            rest = Query(**{**arguments, "after": found.cursor, "limit": None})
            assert [r.key for r in joined.find(rest)] == [r.key for r in one.find(rest)]
        assert joined.count(glob="k1*") == one.count(glob="k1*")


def test_a_change_copies_up(parts: Parts, joined: JoinedStore) -> None:
    parts[1].set("a", b"data", metadata={"x": 1}, mimetype="text/plain")
    parts[1].set_permissions("a", {"owned": {"ann"}, "read": {"bob"}})
    before = parts[1].record("a")
    events: list[StoreUpdateEvent] = []
    with joined.events.connected_to(StoreUpdateEvent, events.append):
        joined.update_metadata("a", {"y": 2})
    assert [(event.key, event.metadata) for event in events] == [("a", {"x": 1, "y": 2})]
    copy = parts[0].record("a")
    assert (copy.metadata, copy.mimetype, copy.digest) == (
        {"x": 1, "y": 2},
        "text/plain",
        before.digest,
    )
    assert copy.permissions == {"owned": {"ann"}, "read": {"bob"}}
    assert parts[0].sequence() == 1  # one step
    assert parts[1].record("a") == before


def test_every_way_to_change_copies_up(parts: Parts, joined: JoinedStore) -> None:
    for key in ("data", "metadata", "all", "permissions"):
        parts[2].set(key, b"old", metadata={"old": 1}, mimetype="text/plain")
    joined.set_data("data", b"new")
    joined.set_metadata("metadata", {"new": 1})
    joined.set("all", b"new", metadata={"new": 1}, if_match=parts[2].record("all").revision)
    joined.update_permissions("permissions", {"read": {"bob"}})
    shown = {
        key: (parts[0].to_bytes(key), parts[0].get_metadata(key)) for key in joined.query_keys()
    }
    assert shown == {
        "data": (b"new", {"old": 1}),
        "metadata": (b"old", {"new": 1}),
        "all": (b"new", {"new": 1}),
        "permissions": (b"old", {"old": 1}),
    }
    assert parts[0].get_permissions("permissions") == {"owned": {"local"}, "read": {"bob"}}
    assert all(parts[2].to_bytes(key) == b"old" for key in shown)


def test_conditions_speak_of_what_is_shown(parts: Parts, joined: JoinedStore) -> None:
    revision = parts[1].set("a", b"old")
    with pytest.raises(ConflictError):
        joined.set("a", b"new", if_none_match="*")
    with pytest.raises(ConflictError):
        joined.set("a", b"new", if_match="other")
    assert not parts[0].exists("a")
    new = joined.set("a", b"new", if_match=revision)
    with pytest.raises(ConflictError):
        joined.set("a", b"newer", if_match=revision)
    joined.set("a", b"newer", if_match=new)


def test_a_copy_that_fails_leaves_nothing(parts: Parts, joined: JoinedStore) -> None:
    parts[1].set("a", b"old")
    with pytest.raises(SourceBrokenError):
        joined.set_data("a", broken_pieces(b"new"))
    assert not parts[0].exists("a")
    assert joined.to_bytes("a") == b"old"


def test_who_comes_first_is_not_overwritten_by_an_old_copy(
    parts: Parts, joined: JoinedStore
) -> None:
    parts[1].set("a", b"old", metadata={"old": 1})

    def pieces() -> Iterator[bytes]:
        yield b"mine"
        joined.set("a", b"theirs", metadata={"theirs": 1})

    class Twice:
        def __iter__(self) -> Iterator[bytes]:
            return pieces()

    joined.set_data("a", Twice())
    assert (joined.to_bytes("a"), joined.get_metadata("a")) == (b"mine", {"theirs": 1})


def test_what_would_stay_cannot_be_deleted(parts: Parts, joined: JoinedStore) -> None:
    parts[1].set("a", b"old")
    with pytest.raises(UnsupportedOperationError, match="'a' cannot be deleted"):
        joined.delete("a")
    joined.set_data("a", b"new")
    with pytest.raises(UnsupportedOperationError):
        joined.delete("a")
    assert joined.to_bytes("a") == b"new"
    joined.set("b", b"")
    joined.delete("b")
    assert list(joined.query_keys()) == ["a"]
    with pytest.raises(KeyNotFoundError):
        joined.delete("b")


def test_a_transaction_undoes_a_copy(parts: Parts, joined: JoinedStore) -> None:
    parts[1].set("a", b"old")
    with pytest.raises(ZeroDivisionError), joined.transaction():
        joined.set_data("a", b"new")
        assert joined.to_bytes("a") == b"new"
        raise ZeroDivisionError
    assert joined.to_bytes("a") == b"old"
    assert not parts[0].exists("a")


def test_versions_are_those_of_the_store_that_tells() -> None:
    with MemoryStore(keep_versions=2) as first, MemoryStore(keep_versions=2) as second:
        with JoinedStore(first, second) as joined:
            old = second.set("a", b"1")
            second.set("a", b"2")
            assert len(joined.versions("a")) == 2
            assert joined.get("a", version=str(old)).read() == b"1"
            joined.restore("a", str(old))
            assert first.to_bytes("a") == b"1"
            assert len(joined.versions("a")) == 1
            with pytest.raises(KeyNotFoundError):
                joined.get("a", version=str(old))
