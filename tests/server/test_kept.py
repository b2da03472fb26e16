"""Answers that are kept: which, for how long, and how many."""

from __future__ import annotations

import asyncio
import io

from kvstore.server.answers import Reply
from kvstore.server.kept import LARGEST, KeptAnswers
from tests.cases import each


def _reply(size: int, status: int = 200) -> Reply:
    return Reply(status, [(b"content-length", b"%d" % size), (b"etag", b'"e"')], bytes(size))


def test_the_oldest_make_room() -> None:
    kept = KeptAnswers(lambda: 1, 40_000)
    for number in range(100):
        kept.keep(b"%d" % number, 1, _reply(3000), "data", None)
        kept.keep(b"%d" % number, 1, _reply(3000), "data", None)
    assert [number for number in range(100) if kept.find(b"%d" % number)] == [*range(93, 100)]
    assert kept.holds()


@each(
    "reply",
    [
        _reply(LARGEST + 1),
        _reply(10, 206),
        Reply(200, [(b"content-length", b"10")], b"12345"),
        Reply(200, [(b"content-length", b"5")], b"12345", io.BytesIO()),
        Reply(200, [], b"12345"),
    ],
)
def test_what_is_no_small_whole_answer_is_not_kept(reply: Reply) -> None:
    kept = KeptAnswers(lambda: 1, 1 << 20)
    kept.keep(b"/", 1, reply, "data", None)
    assert len(kept) == 0


def test_targets_and_readers_need_room_too() -> None:
    kept = KeptAnswers(lambda: 1, 40_000)
    for number in range(20):
        kept.keep(b"%08000d" % number, 1, _reply(1), "data", None)
    assert len(kept) == 3
    for number in range(1000):
        kept.keep(b"/", 1, _reply(1), "data", frozenset({f"{number}"}))
    found = kept.find(b"/")
    assert found is not None
    assert len(found.readers) < 600


def test_readers_are_not_kept_without_end() -> None:
    kept = KeptAnswers(lambda: 1, 1 << 20)
    for number in range(3000):
        kept.keep(b"/", 1, _reply(1), "data", frozenset({f"{number}"}))
    found = kept.find(b"/")
    assert found is not None
    assert 0 < len(found.readers) <= 1024
    assert frozenset({"2999"}) in found.readers


def test_nothing_is_kept_of_an_earlier_state() -> None:
    now = [1]
    kept = KeptAnswers(lambda: now[0], 1 << 20)
    kept.keep(b"/a", 1, _reply(1), "data", None)
    now[0] = 2
    kept.keep(b"/b", 1, _reply(1), "data", None)
    assert not kept.holds()
    assert len(kept) == 0
    kept.keep(b"/c", 2, _reply(1), "data", None)
    assert kept.holds()
    assert len(kept) == 1


def test_one_look_serves_all_requests_that_are_found_at_a_time() -> None:
    looks: list[int] = []

    def stamp() -> int:
        looks.append(now[0])
        return now[0]

    async def turns() -> list[bool]:
        kept.keep(b"/", 1, _reply(1), "data", None)
        looks.clear()
        found = [kept.held(), kept.held(), kept.held()]
        assert looks == [1]
        now[0] = 2
        assert kept.held()  # they had come before it was changed
        await asyncio.sleep(0)
        return [*found, kept.held(), kept.held()]

    now = [1]
    kept = KeptAnswers(stamp, 1 << 20)
    assert asyncio.run(turns()) == [True, True, True, False, False]
    assert looks == [1, 2]
