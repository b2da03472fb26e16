"""Contract: the journal of changes, where ``info()["changes"]`` says that there is one."""

# ruff: noqa: PT012 - what is tested is that an error leaves a block of several statements

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvstore import (
    ChangesLostError,
    ConflictError,
    InvalidRequestError,
    KeyNotFoundError,
    Store,
    UnsupportedOperationError,
)
from kvstore.testing.contract_base import ContractBase, authorizing, case, facts, needs
from kvstore.testing.contract_concurrency import THREADS, at_once


class _StoppedError(Exception):
    """What leaves a block in these tests."""


def _begun(store: Store) -> int:
    """Return where the journal stands; skip the test if there is none."""
    needs(store, "changes")
    return store.sequence()


def _told(store: Store, since: int, limit: int | None = None) -> list[tuple[Any, ...]]:
    """Return what was changed after *since*, counted from there."""
    return [(entry.seq - since, entry.action, entry.key) for entry in store.changes(since, limit)]


class ChangesContract(ContractBase):
    """``changes`` and ``sequence``."""

    def test_without_a_journal_changes_are_refused(self, store: Store) -> None:
        """In so many words, and at once."""
        if store.info()["changes"]:
            pytest.skip("info() says 'changes': True")
        with pytest.raises(UnsupportedOperationError):
            store.changes()
        with pytest.raises(UnsupportedOperationError):
            store.sequence()

    def test_each_change_is_told_in_order(self, store: Store) -> None:
        """With its number, its kind, and what came of it."""
        begun = _begun(store)
        assert list(store.changes(begun)) == []
        first = store.set("key", b"data", metadata={"n": 1})
        second = store.update_metadata("key", {"m": [2]})
        other = store.set_metadata("other", {})
        third = store.set_data("key", b"more")
        store.delete("key")
        entries = list(store.changes(begun))
        assert [(e.seq - begun, e.action, e.key, e.revision, e.metadata) for e in entries] == [
            (1, "set", "key", first, {"n": 1}),
            (2, "update", "key", second, {"n": 1, "m": [2]}),
            (3, "set", "other", other, {}),
            (4, "update", "key", third, {"n": 1, "m": [2]}),
            (5, "delete", "key", third, {"n": 1, "m": [2]}),
        ]
        assert entries[2].time == facts(store, "other").modified
        assert store.sequence() == begun + 5

    def test_changes_of_permissions_are_changes(self, store: Store) -> None:
        """For those who may read a key now are to be told."""
        needs(store, "changes")
        owner = authorizing(store).user_tag()
        store.set("key", b"")
        begun = store.sequence()
        revision = authorizing(store).set_permissions("key", {"owned": {owner}, "read": {"a"}})
        [entry] = store.changes(begun)
        assert (entry.seq, entry.action, entry.revision) == (begun + 1, "update", revision)

    def test_a_state_has_a_stamp_of_its_own(self, store: Store) -> None:
        """Where a store tells its state: a server gives answers again for as long as it is."""
        if store._stamp() is None:
            pytest.skip("the store does not tell")
        changes: list[Callable[[], object]] = [
            lambda: store.set("key", b"data"),
            lambda: store.set_data("key", b"more"),
            lambda: store.set_metadata("key", {"n": 1}),
            lambda: store.update_metadata("key", {"m": 1}),
            lambda: store.set_metadata("other", {}),
            lambda: store.delete("key"),
        ]
        stamps = [store._stamp()]
        for change in changes:
            change()
            stamps.append(store._stamp())
            assert store._stamp() == stamps[-1]
        assert all(stamps.count(stamp) == 1 for stamp in stamps)
        if store.info()["authorizing"]:
            owner = authorizing(store).user_tag()
            authorizing(store).set_permissions("other", {"owned": {owner}, "read": {"a"}})
            assert store._stamp() not in stamps

    def test_going_on_behind_a_number(self, store: Store) -> None:
        """``since`` is the last one that is known; ``limit`` makes pages."""
        begun = _begun(store)
        for number in range(5):
            store.set_metadata(f"key{number}", {})
        assert [key for _, _, key in _told(store, begun + 3)] == ["key3", "key4"]
        assert [key for _, _, key in _told(store, begun + 1, 2)] == ["key1", "key2"]
        assert _told(store, begun + 5) == []
        assert _told(store, begun, 0) == []
        store.delete("key0")
        assert _told(store, begun + 5) == [(1, "delete", "key0")]

    def test_a_number_of_another_journal(self, store: Store) -> None:
        """Is told to be one: whoever waits behind it would wait for ever."""
        begun = _begun(store)
        store.set("key", b"")
        with pytest.raises(ChangesLostError) as caught:
            store.changes(begun + 2)
        assert caught.value.oldest is not None
        assert caught.value.oldest <= begun + 1

    def test_what_is_no_number(self, store: Store) -> None:
        """Is refused at once."""
        needs(store, "changes")
        numbers: list[Any] = [-1, 1.5, "1", True]
        for number in numbers:
            with case(number), pytest.raises(InvalidRequestError):
                store.changes(number)
            with case(number), pytest.raises(InvalidRequestError):
                store.changes(0, number)

    def test_what_fails_is_no_change(self, store: Store) -> None:
        """And leaves no gap."""
        begun = _begun(store)
        store.set("key", b"")
        with pytest.raises(ConflictError):
            store.set("key", b"", if_none_match="*")
        with pytest.raises(KeyNotFoundError):
            store.delete("missing")
        store.set("other", b"")
        assert _told(store, begun) == [(1, "set", "key"), (2, "set", "other")]

    def test_a_transaction_is_told_when_it_is_committed(self, store: Store) -> None:
        """All of it, or nothing, and no number is lost by a rollback."""
        begun = _begun(store)
        needs(store, "transactions")
        with pytest.raises(_StoppedError), store.transaction():
            store.set("key", b"")
            raise _StoppedError
        assert (store.sequence(), _told(store, begun)) == (begun, [])
        with store.transaction():
            store.set("a", b"")
            store.set("b", b"")
            store.delete("a")
        assert _told(store, begun) == [(1, "set", "a"), (2, "set", "b"), (3, "delete", "a")]

    def test_changes_of_threads_have_no_gap(self, store: Store) -> None:
        """Whoever follows finds each of them once, in the order in which they were committed."""
        begun = _begun(store)

        def work(name: int) -> Callable[[], None]:
            def call() -> None:
                for number in range(8):
                    store.set_metadata(f"{name}", {"n": number})

            return call

        assert at_once([work(name) for name in range(THREADS)]) == [None] * THREADS
        entries = list(store.changes(begun))
        assert [entry.seq - begun for entry in entries] == list(range(1, 8 * THREADS + 1))
        for name in range(THREADS):
            numbers = [entry.metadata["n"] for entry in entries if entry.key == str(name)]
            assert numbers == list(range(8))

    def test_the_metadata_told_are_a_copy(self, store: Store) -> None:
        """Whoever changes them changes nothing else."""
        begun = _begun(store)
        store.set_metadata("key", {"list": [1]})
        next(iter(store.changes(begun))).metadata["list"].append(2)
        assert next(iter(store.changes(begun))).metadata == {"list": [1]}
        assert store.get_metadata("key") == {"list": [1]}
