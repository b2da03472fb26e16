from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from kvstore.errors import InvalidRequestError, TooLargeError
from kvstore.server import Limits
from kvstore.server import bodies as module
from kvstore.server.answers import Refusal
from kvstore.server.bodies import PIECE, SMALL, Body, parse_length
from kvstore.server.workers import Disconnected
from tests.cases import each


class Client:
    """ASGI's ``receive`` over a list of parts; a number is a wait of so many seconds."""

    def __init__(self, parts: Iterable[bytes | float], *, ends: bool = True) -> None:
        self.parts = list(parts)
        self.ends = ends
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        while self.parts and isinstance(self.parts[0], float):
            await asyncio.sleep(self.parts.pop(0))  # type: ignore[arg-type]
        if not self.parts:
            return {"type": "http.disconnect"}
        part = self.parts.pop(0)
        more = bool(self.parts) or not self.ends
        return {"type": "http.request", "body": part, "more_body": more}


def body_of(client: Client, limits: Limits | None = None, **options: Any) -> Body:
    defaults = {"length": None, "chunked": True, "expects": False}
    return Body(client, limits or Limits(), **{**defaults, **options})


@pytest.mark.parametrize("parts", [[b""], [b"abc"], [b"a", b"", b"bc"], [b"x" * 1000] * 5])
def test_gather(parts: list[bytes]) -> None:
    body = body_of(Client(parts))
    assert asyncio.run(body.gather()) == b"".join(parts)
    assert body.complete
    assert body.received == len(b"".join(parts))


def test_pieces_have_about_a_megabyte() -> None:
    body = body_of(Client([b"x" * 100_000] * 25))

    async def sizes() -> list[int]:
        found = []
        while piece := await body.piece():
            found.append(len(piece))
        return found

    assert asyncio.run(sizes()) == [1_100_000, 1_100_000, 300_000]
    assert PIECE == 1 << 20


@each(
    "options, is_small",
    [
        ({"chunked": False}, True),
        ({"chunked": False, "length": 0}, True),
        ({"length": SMALL}, True),
        ({"length": SMALL + 1}, False),
        ({"length": 5, "expects": True}, False),
        ({"chunked": True}, False),
    ],
)
def test_which_bodies_are_worth_gathering(options: dict[str, Any], is_small: bool) -> None:
    assert body_of(Client([]), **options).is_small is is_small


def test_a_request_without_a_body_is_not_waited_for() -> None:
    client = Client([])
    body = body_of(client, chunked=False)
    assert asyncio.run(body.gather()) == b""
    asyncio.run(body.drain())
    assert client.asked == 0


def test_the_limit_holds_while_reading_and_before() -> None:
    body = body_of(Client([b"x" * 60, b"x" * 41]))
    body.check_length(100)
    with pytest.raises(TooLargeError, match="at most 100 bytes"):
        asyncio.run(body.gather())
    with pytest.raises(TooLargeError, match="not 101"):
        body_of(Client([]), length=101).check_length(100)
    body_of(Client([]), length=100).check_length(100)


def test_a_client_that_goes_away() -> None:
    body = body_of(Client([b"x"], ends=False))
    with pytest.raises(Disconnected):
        asyncio.run(body.gather())
    assert not body.complete


def test_a_body_that_stands_still() -> None:
    body = body_of(Client([b"x", 60.0, b"y"]), Limits(idle_time=0.01))
    with pytest.raises(Refusal, match=r"stood still for 0\.01 seconds") as caught:
        asyncio.run(body.gather())
    assert caught.value.status == 408


class Clock:
    """A clock that goes on by the seconds given, each time that a part has come."""

    def __init__(self, *steps: float) -> None:
        self.steps = list(steps)
        self.now = 0.0
        self.is_end = False

    def monotonic(self) -> float:
        if self.is_end:
            self.now += self.steps.pop(0) if self.steps else 0.0
        self.is_end = not self.is_end
        return self.now


@pytest.mark.parametrize(
    ("waits", "size", "is_enough"),
    [
        ([10.0] * 9, 10_240, True),
        ([10.0] * 9, 10_239, False),
        ([29.0], 1, True),
        ([31.0], 1, False),
        ([0.0] * 9, 1, True),
        ([1.0] * 9, 1, True),
    ],
)
def test_the_rate_of_bodies(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], size: int, is_enough: bool
) -> None:
    monkeypatch.setattr(module, "time", Clock(*waits))
    body = body_of(Client([b"x" * size] * (len(waits) + 1)))
    if is_enough:
        asyncio.run(body.gather())
    else:
        with pytest.raises(Refusal, match="slower than 1024 bytes/s"):
            asyncio.run(body.gather())


@pytest.mark.parametrize(
    ("parts", "options", "asked"),
    [
        ([b"x" * 10] * 5, {}, 5),
        ([b"x" * 60] * 5, {}, 2),  # enough is enough
        ([], {}, 1),
        ([b"x"], {"expects": True}, 0),  # was never asked for, and does not come
    ],
)
def test_drain(parts: list[bytes], options: dict[str, Any], asked: int) -> None:
    client = Client(parts)
    asyncio.run(body_of(client, Limits(drain_bytes=100), **options).drain())
    assert client.asked == asked


def test_drain_takes_only_so_long() -> None:
    client = Client([b"x", 60.0, b"y"])
    asyncio.run(body_of(client, Limits(drain_time=0.01)).drain())
    assert client.asked == 2


@each(
    "lines, length",
    [
        ([], None),
        (["0"], 0),
        (["5"], 5),
        (["00"], 0),
        (["9223372036854775807"], 9223372036854775807),
    ],
)
def test_lengths(lines: list[str], length: int | None) -> None:
    assert parse_length(lines) == length


@each(
    "lines",
    [[""], ["-1"], ["+1"], ["1.0"], ["1_0"], ["٣"], ["x"], ["1", "1"], ["1, 1"], ["1" * 20]],
)
def test_what_is_no_length(lines: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="Content-Length is one number"):
        parse_length(lines)
