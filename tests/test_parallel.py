"""Calls by several threads, their results in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from kvstore.parallel import Crew, in_order

BOUND = 30.0


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(4, quick=-1)
    yield crew
    crew.close()


def test_results_come_in_the_order_of_the_items(crew: Crew) -> None:
    first_may_end = threading.Event()

    def call(number: int) -> int:
        if number == 0:
            assert first_may_end.wait(BOUND)
        if number == 3:
            first_may_end.set()
        return number * number

    assert list(in_order(crew, call, range(50))) == [number * number for number in range(50)]


def test_several_are_called_at_a_time(crew: Crew) -> None:
    together = threading.Barrier(4)
    assert list(in_order(crew, lambda _: together.wait(BOUND) >= 0, range(8))) == [True] * 8


def test_quick_calls_are_made_by_the_caller() -> None:
    mine = threading.get_ident()
    crew = Crew(4, quick=BOUND)
    assert set(in_order(crew, lambda _: threading.get_ident(), range(9))) == {mine}
    assert list(in_order(crew, str, [])) == []


def test_from_a_slow_one_on_several_are_made_at_a_time() -> None:
    # However quick these are, none takes less than no time: the first alone is the caller's.
    crew = Crew(4, quick=0)
    mine = threading.get_ident()
    threads = list(in_order(crew, lambda _: threading.get_ident(), range(9)))
    crew.close()
    assert threads[0] == mine
    assert mine not in threads[1:]


def test_items_are_taken_a_bounded_number_ahead(crew: Crew) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(crew, str, items())
    assert next(results) == "0"
    assert len(taken) == 2 * crew.size
    results.close()


@pytest.mark.parametrize("bad", range(5))
def test_an_error_comes_in_its_turn_and_ends_it(crew: Crew, bad: int) -> None:
    called = []

    def call(number: int) -> int:
        called.append(number)
        if number >= bad:
            raise ValueError(number)
        return number

    seen: list[int] = []
    with pytest.raises(ValueError) as caught:
        seen.extend(in_order(crew, call, range(1000)))
    assert (seen, caught.value.args) == (list(range(bad)), (bad,))
    assert len(called) <= bad + 2 * crew.size


@pytest.mark.parametrize("bad", range(4))
def test_an_error_of_the_items_comes_in_its_turn(crew: Crew, bad: int) -> None:
    def items() -> Iterator[int]:
        yield from range(bad)
        raise KeyError(bad)

    seen: list[str] = []
    with pytest.raises(KeyError):
        seen.extend(in_order(crew, str, items()))
    assert seen == [str(number) for number in range(bad)]


def test_those_that_are_the_same_wait_for_each_other_where_they_must(crew: Crew) -> None:
    seen: list[int] = []
    lock = threading.Lock()

    def call(number: int) -> None:
        with lock:
            seen.append(number)

    list(in_order(crew, call, range(40), same=lambda number: number % 3))
    for rest in range(3):
        assert [n for n in seen if n % 3 == rest] == list(range(rest, 40, 3))


def test_after_an_error_the_same_is_not_called_again(crew: Crew) -> None:
    called = []

    def call(number: int) -> None:
        called.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^1$"):
        list(in_order(crew, call, [1, 2, 3], same=lambda _: "one"))
    assert called == [1]


def test_results_that_nobody_takes_are_dropped(crew: Crew) -> None:
    dropped: list[int] = []
    all_dropped = threading.Event()
    begun = threading.Semaphore(0)
    may_end = threading.Event()

    def call(number: int) -> int:
        begun.release()
        if number:
            assert may_end.wait(BOUND)
        return number

    def drop(number: int) -> None:
        dropped.append(number)
        if len(dropped) == crew.size:
            all_dropped.set()

    results = in_order(crew, call, range(100), drop=drop)
    assert next(results) == 0
    for _ in range(crew.size + 1):
        assert begun.acquire(timeout=BOUND)
    results.close()
    may_end.set()
    assert all_dropped.wait(BOUND)
    assert sorted(dropped) == [1, 2, 3, 4]


def test_threads_end_with_the_crew() -> None:
    before = set(threading.enumerate())
    crew = Crew(3, quick=-1)
    together = threading.Barrier(3)
    list(in_order(crew, lambda _: together.wait(BOUND), range(3)))
    mine = [thread for thread in threading.enumerate() if thread not in before]
    assert len(mine) == 3
    crew.close()
    for thread in mine:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert list(in_order(crew, str, range(3))) == ["0", "1", "2"]  # it can be used again
    crew.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_has_threads_of_its_own(crew: Crew) -> None:
    assert list(in_order(crew, str, range(9))) == [str(number) for number in range(9)]
    child = os.fork()
    if not child:
        try:
            right = list(in_order(crew, str, range(9))) == [str(number) for number in range(9)]
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
