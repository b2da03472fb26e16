"""Contract: many threads, with a bounded number of steps and no waiting for luck."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kvstore import ConflictError, KeyNotFoundError, Store
from kvstore.testing.contract_base import ContractBase, listing, needs, recorded

T = TypeVar("T")
THREADS = 6


def at_once(calls: list[Callable[[], T]]) -> list[T | Exception]:
    """Make all *calls*, each in a thread of its own, as close together as it gets.

    Returns what they returned or raised, in their order.
    """
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        barrier.wait(30)
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def _elsewhere(call: Callable[[], T]) -> T:
    # In another thread with a limit: a store that locks readers out fails, and does not hang.
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call).result(20)
    finally:
        pool.shutdown(wait=False)


class ConcurrencyContract(ContractBase):
    """Threads."""

    def test_create_race_has_one_winner(self, store: Store) -> None:
        """Of those who create a key at once one does, and the others are told."""
        needs(store, "conditional")

        def create(key: str, number: int) -> Callable[[], str | None]:
            return lambda: store.set(key, b"%d" % number, metadata={"n": number}, if_none_match="*")

        for turn in range(12):
            key = f"key {turn}"
            results = at_once([create(key, number) for number in range(THREADS)])
            winners = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
            errors = [result for result in results if isinstance(result, Exception)]
            assert len(winners) == 1, results
            assert all(isinstance(error, ConflictError) for error in errors), results
            assert store.get_metadata(key) == {"n": winners[0]}
            assert store.to_bytes(key) == b"%d" % winners[0]

    def test_update_race_has_one_winner(self, store: Store) -> None:
        """Of those who change the same revision at once one does."""
        needs(store, "conditional")
        revision = store.set("key", b"", metadata={})

        def change(number: int) -> Callable[[], str | None]:
            return lambda: store.update_metadata("key", {str(number): 1}, if_match=revision)

        for _ in range(8):
            results = at_once([change(number) for number in range(THREADS)])
            winners = [result for result in results if not isinstance(result, Exception)]
            assert len(winners) == 1, results
            [revision] = winners

    def test_delete_race_has_one_winner(self, store: Store) -> None:
        """Of those who delete a key at once one does, and the others find it missing."""
        for _ in range(8):
            store.set("key", b"")
            results = at_once([lambda: store.delete("key")] * THREADS)
            assert results.count(None) == 1, results
            assert all(result is None or isinstance(result, KeyNotFoundError) for result in results)

    def test_counter_under_if_match_loses_nothing(self, store: Store) -> None:
        """Read, add one, write if nobody was faster: the sum is right."""
        needs(store, "conditional")
        store.set("counter", b"0", metadata={"n": 0})
        turns = 6

        def count() -> int:
            done = tries = 0
            while done < turns:
                tries += 1
                assert tries < turns * THREADS * 50, "no progress"
                value = store.get("counter")
                value.close()
                n = value.metadata["n"] + 1
                try:
                    store.set("counter", b"%d" % n, metadata={"n": n}, if_match=value)
                except ConflictError:
                    continue
                done += 1
            return done

        assert at_once([count] * THREADS) == [turns] * THREADS
        assert store.get_metadata("counter") == {"n": turns * THREADS}
        assert store.to_bytes("counter") == b"%d" % (turns * THREADS)

    def test_updates_of_different_fields_all_stay(self, store: Store) -> None:
        """``update_metadata`` is one step, not a read and a write."""
        store.set("key", b"data", metadata={"first": True})

        def update(number: int) -> Callable[[], None]:
            def call() -> None:
                for turn in range(8):
                    store.update_metadata("key", {f"{number}.{turn}": number})

            return call

        assert at_once([update(number) for number in range(THREADS)]) == [None] * THREADS
        expected = {f"{number}.{turn}": number for number in range(THREADS) for turn in range(8)}
        assert store.get_metadata("key") == {"first": True, **expected}
        assert store.to_bytes("key") == b"data"

    def test_readers_never_see_a_mixed_pair(self, store: Store) -> None:
        """Beside a writer they get the data of the metadata they got, whole."""
        needs(store, "atomic_set")
        sizes = (1, 70_000, 10, 200_000)
        finished = threading.Event()

        def pair(number: int) -> dict[str, Any]:
            size = sizes[number % len(sizes)]
            return {"n": number, "size": size}

        def data(number: int) -> bytes:
            return (b"%06d" % number) * (sizes[number % len(sizes)])

        def write() -> int:
            try:
                for number in range(1, 41):
                    store.set("key", data(number), metadata=pair(number))
            finally:
                finished.set()
            return 40

        def read() -> int:
            reads = 0
            for _ in range(20_000):
                last = finished.is_set()
                value = store.get("key")
                try:
                    got = value.read()
                except ConflictError:
                    continue  # it was replaced between the two: told, not mixed
                finally:
                    value.close()
                number = value.metadata["n"]
                assert value.metadata == pair(number)
                assert value.size == len(data(number))
                assert got == data(number)
                reads += 1
                if last:
                    break
            return reads

        store.set("key", data(0), metadata=pair(0))
        written, *reads = at_once([write, read, read, read])
        assert written == 40
        assert all(isinstance(count, int) and count > 0 for count in reads), reads

    def test_nothing_is_visible_before_the_last_byte(self, store: Store) -> None:
        """While a source is still read, others see the old pair, and no new key."""
        needs(store, "atomic_set")
        store.set("key", b"old", metadata={"state": "old"})
        seen: list[Any] = []

        def look() -> Any:
            pairs = {key: (store.to_bytes(key), store.get_metadata(key)) for key in listing(store)}
            return pairs, store.count(), list(store.query_keys(state="new"))

        def pieces() -> Iterator[bytes]:
            yield b"n" * 100_000
            seen.append(_elsewhere(look))
            yield b"ew"

        store.set("key", pieces(), metadata={"state": "new"})
        assert seen == [({"key": (b"old", {"state": "old"})}, 1, [])]
        store.set("another", pieces(), metadata={"state": "new"})
        assert list(seen[1][0]) == ["key"]
        assert seen[1][1] == 1

    def test_threads_with_keys_of_their_own(self, store: Store) -> None:
        """Work side by side, listings included, and nothing gets lost or mixed up."""

        def work(name: int) -> Callable[[], list[str]]:
            def call() -> list[str]:
                mine = [f"{name}/{number}" for number in range(8)]
                for key in mine:
                    store.set(key, key.encode() * 500, metadata={"name": name})
                    assert store.to_bytes(key) == key.encode() * 500
                    assert key in listing(store)
                for key in mine[::2]:
                    store.delete(key)
                return mine[1::2]

            return call

        results = at_once([work(name) for name in range(THREADS)])
        errors = [result for result in results if isinstance(result, Exception)]
        assert errors == []
        expected = sorted(key for result in results for key in result)  # type: ignore[union-attr]
        assert listing(store) == expected
        assert {key: store.to_bytes(key) for key in expected} == {
            key: key.encode() * 500 for key in expected
        }
        assert dict(store.query()) == {key: {"name": int(key[0])} for key in expected}

    def test_every_change_of_every_thread_is_told_once(self, store: Store) -> None:
        """Also when they come all together."""

        def work(name: int) -> Callable[[], None]:
            def call() -> None:
                for number in range(5):
                    store.set_metadata(f"{name}/{number}", {})

            return call

        with recorded(store) as events:
            assert at_once([work(name) for name in range(THREADS)]) == [None] * THREADS
        told = sorted(event.key for event in events)
        assert told == sorted(f"{name}/{number}" for name in range(THREADS) for number in range(5))

    def test_transactions_of_threads_do_not_mix(self, store: Store) -> None:
        """Each sees all of another transaction or nothing of it."""
        needs(store, "transactions")
        store.multiset_metadata(["a", "b"], [{"n": 0}, {"n": 0}])

        def work() -> None:
            for _ in range(6):
                with store.transaction():
                    n = store.get_metadata("a")["n"]
                    assert store.get_metadata("b")["n"] == n
                    store.set_metadata("a", {"n": n + 1})
                    store.set_metadata("b", {"n": n + 1})

        results = at_once([work] * THREADS)
        conflicts = [result for result in results if isinstance(result, ConflictError)]
        assert [result for result in results if result not in (None, *conflicts)] == []
        a, b = store.get_metadata("a"), store.get_metadata("b")
        assert a == b
        if not conflicts:
            assert a == {"n": 6 * THREADS}
