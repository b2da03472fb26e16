from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from kvstore.errors import ChangesLostError, StorageError
from kvstore.history import JournalEntry
from kvstore.server import Limits, create_app, feed
from kvstore.server.feed import Feed, Watcher
from kvstore.server.ring import BATCH, Ring, Told
from kvstore.server.running.run import running
from kvstore.server.workers import Workers
from kvstore.stores.memory import MemoryStore
from kvstore.values import Permissions
from tests.server.events import Stream, until

# -- the ring ------------------------------------------------------------------------------


def told(seq: int, event: bytes, key: str = "key", *owners: str) -> Told:
    return Told(seq, event, key, {"owned": set(owners)})


def test_a_ring_gives_what_comes_after_a_number() -> None:
    ring = Ring(10)
    assert ring.after(10) == (10, b"")
    assert ring.after(12) == (12, b"")
    assert ring.after(9) is None
    ring.add([told(11, b"a"), told(13, b"b"), told(14, b"c")])
    assert ring.after(10) == (14, b"abc")
    assert ring.after(11) == (14, b"bc")
    assert ring.after(12) == (14, b"bc")
    assert ring.after(14) == (14, b"")
    assert ring.after(9) is None
    assert (ring.floor, ring.end) == (10, 14)


def test_a_ring_tells_who_may_read_a_key_now_and_could_then() -> None:
    def ann(permissions: Permissions | None) -> bool:
        return permissions is not None and "ann" in permissions["owned"]

    ring = Ring(0)
    ring.add([told(1, b"a", "k", "ann"), told(2, b"b", "other", "bob"), told(3, b"c", "k", "ann")])
    assert ring.after(0, ann) == (3, b"ac")
    assert ring.after(1, ann) == (3, b"c")
    ring.add([told(4, b"d", "k", "bob")])
    assert ring.after(0, ann) == (4, b"")
    ring.add([told(5, b"e", "k", "ann", "bob")])
    assert ring.after(0, ann) == (5, b"ace")


def test_a_ring_is_bounded_in_number_and_bytes() -> None:
    few = Ring(0, entries=3)
    few.add(told(seq, b"x") for seq in range(1, 11))
    assert (len(few), few.floor, few.end) == (3, 7, 10)
    assert few.after(6) is None
    assert few.after(7) == (10, b"xxx")
    small = Ring(0, size=25)
    for seq in range(1, 11):
        small.add([told(seq, b"x" * 10)])
    assert (len(small), small.floor) == (2, 8)
    small.add([told(11, b"y" * 26)])
    assert (len(small), small.floor, small.end) == (0, 11, 11)
    assert small.after(10) is None


def test_a_ring_gives_a_bounded_part_and_the_same_object_to_all() -> None:
    ring = Ring(0)
    ring.add(told(seq, b"x" * (BATCH // 4)) for seq in range(1, 21))
    found = ring.after(0)
    assert found is not None
    assert (found[0], len(found[1])) == (4, BATCH)
    one, other = ring.after(19), ring.after(19)
    assert one is not None
    assert other is not None
    assert one[1] is other[1]


# -- the follower --------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts how often its journal is read, and fails on demand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reads = 0
        self.entries = 0
        self.fails = False

    def _changes(self, since: int, limit: int | None) -> Iterator[JournalEntry]:
        if self.fails:
            self.fails = False
            raise StorageError("The disk is away.")
        self.reads += 1
        for entry in super()._changes(since, limit):
            self.entries += 1
            yield entry


def run(store: MemoryStore, work: Callable[[Feed], Awaitable[None]]) -> None:
    async def main() -> None:
        workers = Workers(Limits(workers=4))
        live = Feed(store, workers)
        try:
            async with asyncio.timeout(60):
                await work(live)
        finally:
            live.close()
            workers.close()

    with store:
        asyncio.run(main())


async def collect(watcher: Watcher, newest: int) -> list[int]:
    """Return the numbers that a watcher is given, up to that one."""
    found: list[int] = []
    while not found or found[-1] < newest:
        events = await watcher.next(60)
        assert events is not None
        found += [int(line[4:]) for line in events.split(b"\n") if line.startswith(b"id: ")]
    return found


@contextlib.asynccontextmanager
async def many(live: Feed, count: int) -> Any:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(live.watching(await live.begin(None))) for _ in range(count)]


def test_500_watchers_cost_one_reader_and_no_threads() -> None:
    store = CountingStore()

    async def work(live: Feed) -> None:
        before = threading.active_count()
        async with many(live, 500) as watchers:
            tasks = [asyncio.create_task(collect(watcher, 1000)) for watcher in watchers]
            for number in range(1000):
                store.set(f"{number}", b"")
                if number % 100 == 0:
                    await asyncio.sleep(0)
            everybody = list(range(1, 1001))
            assert all(found == everybody for found in await asyncio.gather(*tasks))
            # Each entry was put into its form once, whoever watches.
            assert store.entries == 1000
            assert len(live) == 500
            assert threading.active_count() <= before + 4
        assert len(live) == 0

    run(store, work)


def test_nobody_is_told_twice_however_writers_and_watchers_mix() -> None:
    store = MemoryStore()

    def write(number: int) -> None:
        for turn in range(50):
            store.set(f"{number}/{turn}", b"")

    async def work(live: Feed) -> None:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        tasks = []
        with contextlib.ExitStack() as stack:
            for writer in writers:
                writer.start()
                at, newest = await live.begin(0)
                watcher = stack.enter_context(live.watching((at, newest)))
                tasks.append(asyncio.create_task(collect(watcher, 400)))
            for found in await asyncio.gather(*tasks):
                assert found == list(range(1, 401))
        for writer in writers:
            writer.join()

    run(store, work)


def test_who_is_slower_than_the_ring_reads_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "Ring", functools.partial(Ring, entries=3))
    store = CountingStore()

    async def work(live: Feed) -> None:
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as slow, live.watching((at, newest)) as quick:
            store.set("first", b"")
            assert await collect(quick, 1) == [1]
            for number in range(100):
                store.set(f"{number}", b"")
            await collect(quick, 101)
            assert await collect(slow, 101) == list(range(1, 102))

    run(store, work)


def test_who_is_slower_than_the_journal_has_lost_something() -> None:
    store = MemoryStore(keep_changes=5)

    async def work(live: Feed) -> None:
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            for number in range(100):  # while the loop does not run, so that nobody follows
                store.set(f"{number}", b"")
            with pytest.raises(ChangesLostError) as caught:
                await collect(watcher, 100)
            assert caught.value.oldest == 96
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            store.set("new", b"")
            assert await collect(watcher, 101) == [101]

    run(store, work)


def test_a_journal_that_begins_anew_is_another_one() -> None:
    store = MemoryStore()

    async def work(live: Feed) -> None:
        for number in range(10):
            store.set(f"{number}", b"")
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            empty = MemoryStore()
            store._journal, store._seq = empty._journal, 0
            with pytest.raises(ChangesLostError):
                await watcher.next(60)

    run(store, work)


def test_a_failure_of_the_store_passes(caplog: pytest.LogCaptureFixture) -> None:
    store = CountingStore()

    async def work(live: Feed) -> None:
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            store.fails = True
            store.set("a", b"")
            assert await collect(watcher, 1) == [1]
        assert not store.fails

    run(store, work)
    assert "The disk is away" in caplog.text


def test_the_store_is_left_alone_while_nobody_watches() -> None:
    store = CountingStore()

    async def work(live: Feed) -> None:
        for _ in range(2):
            at, newest = await live.begin(None)
            with live.watching((at, newest)) as watcher:
                store.set("a", b"")
                await collect(watcher, newest + 1)
                assert store.events.has_listeners(feed.StoreModificationEvent)
            assert not store.events.has_listeners(feed.StoreModificationEvent)
            assert len(asyncio.all_tasks()) <= 2  # the follower that was cancelled may be there

    run(store, work)


def test_a_watcher_that_is_closed_ends() -> None:
    async def work(live: Feed) -> None:
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            task = asyncio.create_task(watcher.next(60))
            await asyncio.sleep(0)
            watcher.close()
            watcher.close()
            assert await task is None
            assert await watcher.next(60) is None

    run(MemoryStore(), work)


def test_a_feed_can_be_used_on_one_loop_after_the_other() -> None:
    store = MemoryStore()
    workers = Workers(Limits())
    live = Feed(store, workers)

    async def work() -> None:
        at, newest = await live.begin(None)
        with live.watching((at, newest)) as watcher:
            store.set("a", b"")
            assert await collect(watcher, newest + 1) == [newest + 1]

    with store:
        for _ in range(3):
            asyncio.run(work())
    workers.close()


# -- over connections ----------------------------------------------------------------------


def test_many_connections_are_told_all() -> None:
    with MemoryStore() as store:
        app = create_app(store)
        with running(app) as url, contextlib.ExitStack() as stack:
            streams = [stack.enter_context(Stream(url)) for _ in range(100)]
            for stream in streams:
                stream.begin()
            assert len(app.site.feed) == 100
            for number in range(20):
                store.set(f"{number}", b"")
            for stream in streams:
                assert [stream.event()[0] for _ in range(20)] == list(range(1, 21))


def test_a_client_that_goes_away_frees_everything() -> None:
    with MemoryStore() as store:
        app = create_app(store)
        with running(app) as url:
            for _ in range(3):
                streams = [Stream(url) for _ in range(20)]
                for stream in streams:
                    stream.begin()
                for stream in streams:
                    stream.close()
                # No heartbeat is due for long: it is noticed without one.
                until(url, lambda: len(app.site.feed) == 0)
            assert not store.events.has_listeners(feed.StoreModificationEvent)


def test_a_client_that_does_not_read_is_cut_off_and_keeps_nobody_waiting() -> None:
    limits = Limits(idle_time=0.2)
    text = "x" * 500_000
    with MemoryStore() as store:
        app = create_app(store, limits=limits)
        with running(app, limits=limits) as url, Stream(url) as deaf:
            deaf.begin()
            for _ in range(100):
                store.set_metadata("a", {"text": text})
            with Stream(url) as stream:
                stream.begin()
                store.set("b", b"")
                assert stream.event()[0] == 101
                until(url, lambda: len(app.site.feed) == 1)
                store.set("c", b"")
                assert stream.event()[0] == 102
            # What was in the buffers of the system still comes, and then no proper end.
            with pytest.raises((ConnectionError, http.client.IncompleteRead)):
                while deaf.event()[0] < 102:
                    pass


def test_a_slow_client_that_has_lost_something_is_told_so_and_left() -> None:
    with MemoryStore(keep_changes=3) as store:
        app = create_app(store)
        with running(app) as url, Stream(url) as slow:
            slow.begin()
            # It reads nothing for now; the buffers of both systems hold some megabytes of it.
            for _ in range(100):
                store.set_metadata("a", {"text": "x" * 500_000})
            block = slow.block()
            while block[0].startswith(b"id: "):
                block = slow.block()
            assert block[0] == b"event: lost"
            assert json.loads(block[1].removeprefix(b"data: "))["oldest"] >= 2
            assert slow.rest() == b""
            until(url, lambda: len(app.site.feed) == 0)
