"""Contract: ranges of data, to the byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from kvstore import KeyNotFoundError, RangeError, Store
from kvstore.testing.contract_base import ContractBase, case

_BOUNDS = (None, *range(9))
#: Ranges that lie in no data of the size that they are given.
_WRONG: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "start behind the end of the data": lambda size: (size + 1, None),
    "both behind the data": lambda size: (size + 1, size + 2),
    "far behind": lambda size: (1 << 40, None),
    "reversed": lambda size: (3, 2),
    "reversed behind the data": lambda size: (size + 2, size + 1),
    "negative start": lambda size: (-1, None),
    "negative end": lambda size: (None, -1),
    "both negative": lambda size: (-3, -1),
    "float": lambda size: (1.0, None),
    "str": lambda size: ("1", None),
    "bool": lambda size: (None, True),
}


class RangesContract(ContractBase):
    """``get_data_range`` and ``Value.range``: half-open, from 0."""

    def test_every_range_of_small_data(self, store: Store) -> None:
        """All starts and ends, None among them, give what the slice gives."""
        for data in (b"", b"x", b"\x00\xff\r\n\x80ab"):
            store.set("key", data)
            for start, end in itertools.product(_BOUNDS, repeat=2):
                first = start or 0
                with case((data, start, end)):
                    if first > len(data) or (end is not None and end < first):
                        with pytest.raises(RangeError):
                            store.get_data_range("key", start, end)
                        continue
                    with store.get_data_range("key", start, end) as stream:
                        assert stream.read() == data[start:end]

    def test_ranges_where_buffers_end(self, store: Store) -> None:
        """No byte is lost or doubled around the sizes that buffers have."""
        for size in (65535, 65536, 65537, (1 << 20) + 1):
            data = (bytes(range(251)) * (size // 251 + 1))[:size]
            store.set("key", data)
            edges = sorted({0, 1, 65535, 65536, 65537, size - 1, size})
            for start, end in itertools.combinations_with_replacement(edges, 2):
                if start <= size:
                    with store.get_data_range("key", start, end) as stream:
                        assert stream.read() == data[start:end], (size, start, end)

    def test_range_outside_the_data(self, store: Store) -> None:
        """It is a RangeError, a ValueError too, from the store as from the value."""
        for size in (7, 300_000):
            store.set("key", bytes(size))
            for name, make in _WRONG.items():
                start, end = make(size)
                with case((size, name)), closing(store.get("key")) as value:
                    with pytest.raises(RangeError):
                        store.get_data_range("key", start, end)
                    with pytest.raises(RangeError) as caught:
                        value.range(start, end)
                    assert isinstance(caught.value, ValueError)

    def test_range_of_a_value(self, store: Store) -> None:
        """A value gives independent streams of its parts."""
        store.set("key", b"0123456789")
        value = store.get("key")
        try:
            with value.range(2, 4) as one, value.range(None, 3) as two, value.range(7) as three:
                assert (one.read(1), two.read(), three.read(), one.read()) == (
                    b"2",
                    b"012",
                    b"789",
                    b"3",
                )
            assert value.read() == b"0123456789"
        finally:
            value.close()

    def test_range_of_a_missing_key(self, store: Store) -> None:
        """A missing key is a missing key, whatever the range."""
        with pytest.raises(KeyNotFoundError):
            store.get_data_range("missing", 5, 6)
        with pytest.raises((KeyNotFoundError, RangeError)):
            store.get_data_range("missing", -1)
