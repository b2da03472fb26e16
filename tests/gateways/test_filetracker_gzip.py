"""gzip of answers: how much is packed depends on the network."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import pytest

from kvstore.gateways.filetracker.gzipped import packed, packed_whole, takes_gzip, unpacked
from tests.cases import each

PIECE = 1 << 18
TEXT = (b"the same line again\n" * (PIECE // 20 + 1))[:PIECE]
RANDOM = hashlib.shake_256(b"seed").digest(PIECE)


class Network:
    """A clock, on which a look takes 100 microseconds, and one who takes parts at some pace."""

    def __init__(self, bytes_a_second: float) -> None:
        self.now = 0.0
        self.pace = 1 / bytes_a_second

    def clock(self) -> float:
        self.now += 0.0001
        return self.now

    def sent(self, pieces: list[bytes]) -> Iterator[bytes]:
        for part in packed(pieces, clock=self.clock):
            self.now += len(part) * self.pace
            yield part


def sizes(pieces: list[bytes], bytes_a_second: float) -> list[int]:
    head, *parts, end = Network(bytes_a_second).sent(pieces)
    assert gzip.decompress(b"".join([head, *parts, end])) == b"".join(pieces)
    assert b"".join(unpacked([head, *parts, end])) == b"".join(pieces)
    return [len(part) for part in parts]


def test_to_a_slow_client_all_is_packed():
    assert max(sizes([TEXT] * 5, 1e6)) < PIECE / 10


def test_to_a_fast_client_nothing_is_but_the_first_part():
    first, *others = sizes([TEXT] * 5, 1e9)
    assert first < PIECE / 10
    assert min(others) > PIECE


def test_what_is_not_shortened_is_not_packed():
    is_packed = [size < PIECE for size in sizes([TEXT, RANDOM, TEXT, RANDOM, RANDOM, TEXT], 1e6)]
    assert is_packed == [True, False, True, False, False, True]
    assert max(sizes([RANDOM] * 3, 1e6)) < PIECE + 200


def test_it_follows_a_network_that_changes():
    network = Network(1e9)
    parts = network.sent([TEXT] * 30)
    for _ in range(4):
        next(parts)
    network.pace = 1 / 1e6
    assert [len(next(parts)) < PIECE for _ in range(3)] == [False, True, True]
    network.pace = 1 / 1e9
    assert [len(next(parts)) < PIECE for _ in range(15)][-1] is False


@pytest.mark.parametrize("pieces", [[], [b""], [b"x"], [b"x", b"", b"y"]])
def test_few_bytes(pieces):
    assert gzip.decompress(b"".join(packed(pieces))) == b"".join(pieces)


def test_small_answers():
    assert packed_whole(TEXT[:1000]) is None
    assert packed_whole(RANDOM[:5000]) is None
    assert packed_whole(TEXT[:20_000] + RANDOM) is None
    whole = packed_whole(TEXT)
    assert whole is not None
    assert gzip.decompress(whole) == TEXT


@each("size", [1, 2, 7, 1000, PIECE])
def test_bodies_come_in_pieces_of_any_size(size):
    data = TEXT[:3000] + RANDOM[:3000] if size < 1000 else TEXT + RANDOM
    whole = gzip.compress(data, 6)
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert b"".join(unpacked(pieces)) == data


def test_no_piece_is_large():
    bomb = gzip.compress(bytes(20 << 20))
    assert max(map(len, unpacked([bomb]))) <= 1 << 20
    assert sum(map(len, unpacked([bomb]))) == 20 << 20


def test_what_clients_take():
    assert takes_gzip(["br", "gzip"])
    assert not takes_gzip([])
    assert not takes_gzip(["gzip;q=0"])
