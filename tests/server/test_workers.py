from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from kvstore.server import Limits
from kvstore.server.workers import Disconnected, Workers, begin_on, result_of


@pytest.fixture
def workers() -> Iterator[Workers]:
    pool = Workers(Limits(workers=3, streams=2))
    yield pool
    pool.close()


def test_results_and_errors_come_back(workers: Workers) -> None:
    async def main() -> None:
        assert await workers.run(divmod, 7, 3) == (2, 1)
        assert await workers.run_long(divmod, 7, 3) == (2, 1)
        for run in (workers.run, workers.run_long):
            with pytest.raises(ZeroDivisionError):
                await run(divmod, 7, 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await workers.run(next, iter(()))

    asyncio.run(main())


def test_quick_calls_share_a_thread(workers: Workers) -> None:
    async def main() -> set[int]:
        return {await workers.run(threading.get_ident) for _ in range(100)}

    assert len(asyncio.run(main())) == 1


def test_calls_that_wait_get_threads_up_to_the_limit(workers: Workers) -> None:
    barrier = threading.Barrier(3)

    async def main() -> None:
        # Each waits for two others: with fewer threads than three this would never end.
        calls = [workers.run(barrier.wait, 20) for _ in range(9)]
        assert sorted(await asyncio.gather(*calls)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    asyncio.run(main())


def test_a_call_behind_one_that_waits_is_made(workers: Workers) -> None:
    """Also where the one that waits was taken before anybody looked."""
    taken, release = threading.Event(), threading.Event()

    def hold() -> bool:
        taken.set()
        return release.wait(20)

    async def main() -> None:
        for _ in range(20):
            taken.clear()
            release.clear()
            holding = asyncio.ensure_future(workers.run(hold))
            await asyncio.sleep(0)
            assert taken.wait(20)
            await workers.run(release.set)
            assert await holding

    asyncio.run(main())


def test_no_more_threads_than_the_limit(workers: Workers) -> None:
    running = 0
    most = 0
    lock = threading.Lock()
    full = threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                full.set()
        full.wait(20)
        with lock:
            running -= 1

    async def main() -> None:
        await asyncio.gather(*(workers.run(work) for _ in range(30)))

    asyncio.run(main())
    assert most == 3


def test_one_loop_after_the_other(workers: Workers) -> None:
    async def main() -> int:
        return await workers.run(sum, [1, 2])

    for _ in range(3):
        assert asyncio.run(main()) == 3


def test_the_way_back_to_the_loop(workers: Workers) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def answer() -> str:
            return threading.current_thread().name

        def call() -> str:
            return result_of(begin_on(loop, answer()), loop)

        assert await workers.run_long(call) == threading.current_thread().name

    asyncio.run(main())


def test_a_loop_that_ends_lets_threads_go(workers: Workers) -> None:
    """Threads that wait for a client must not outlive the server for long."""
    waiting = threading.Event()
    outcome: Future[str] = Future()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def never() -> None:
            waiting.set()
            await asyncio.Event().wait()

        def call() -> None:
            try:
                result_of(begin_on(loop, never()), loop)
            except Disconnected:
                outcome.set_result("disconnected")

        task = asyncio.ensure_future(workers.run_long(call))
        while not waiting.is_set():
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    assert outcome.result(20) == "disconnected"
    loop = asyncio.new_event_loop()
    loop.close()

    async def nothing() -> None: ...

    with pytest.raises(Disconnected):
        begin_on(loop, nothing())
