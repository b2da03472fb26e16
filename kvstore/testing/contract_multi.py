"""Contract: the operations on many keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvstore import InvalidRequestError, KeyNotFoundError, Store
from kvstore.testing.contract_base import ContractBase, case, listing

#: Operations that take keys and something for each.
PAIRWISE: dict[str, tuple[Callable[..., None], Any]] = {
    "multiset": (lambda store, *pairs: store.multiset(*pairs), b"new"),
    "multiset_data": (lambda store, *pairs: store.multiset_data(*pairs), b"new"),
    "multiset_metadata": (lambda store, *pairs: store.multiset_metadata(*pairs), {"a": 2}),
    "multiupdate_metadata": (lambda store, *pairs: store.multiupdate_metadata(*pairs), {"a": 2}),
}


class MultiContract(ContractBase):
    """Many keys."""

    def test_multiget(self, store: Store) -> None:
        """In the order asked for, repeats included; any iterable of keys will do."""
        for key in "abc":
            store.set(key, key.encode(), metadata={"is": key, "n": 1})
        values = list(store.multiget(key for key in "cabc"))
        assert [(value.key, value.read()) for value in values] == [
            ("c", b"c"),
            ("a", b"a"),
            ("b", b"b"),
            ("c", b"c"),
        ]
        for value in values:
            value.close()
        datas = []
        for stream in store.multiget_data(iter(["b", "a"])):
            with stream:
                datas.append(stream.read())
        assert datas == [b"b", b"a"]
        assert list(store.multiget_metadata(["b"])) == [{"is": "b", "n": 1}]
        assert list(store.multiget_metadata(["b", "c"], select=["is"])) == [
            {"is": "b"},
            {"is": "c"},
        ]
        assert list(store.multiget([])) == []

    def test_multiget_of_a_missing_key(self, store: Store) -> None:
        """The error comes when the key is reached, not before."""
        store.set("a", b"", metadata={"is": "a"})
        results = store.multiget_metadata(["a", "missing", "a"])
        assert next(results) == {"is": "a"}
        with pytest.raises(KeyNotFoundError) as caught:
            next(results)
        assert caught.value.key == "missing"

    def test_multiset_takes_generators(self, store: Store) -> None:
        """Each read once, pairwise."""
        store.multiset((key for key in "abc"), (key.encode() for key in "abc"))
        assert dict(store.mapping()) == {"a": b"a", "b": b"b", "c": b"c"}
        store.multiset_metadata((key for key in "ab"), ({"is": key} for key in "ab"))
        store.multiupdate_metadata((key for key in "ab"), ({"n": n} for n in (1, 2)))
        store.multiset_data((key for key in "ad"), iter([b"new", b"d"]))
        assert dict(store.query()) == {
            "a": {"is": "a", "n": 1},
            "b": {"is": "b", "n": 2},
            "c": {},
            "d": {},
        }
        assert dict(store.mapping()) == {"a": b"new", "b": b"b", "c": b"c", "d": b"d"}

    def test_multiset_takes_what_set_takes(self, store: Store) -> None:
        """Values and pairs; a later pair for the same key wins."""
        store.set("a", b"1", metadata={"is": "a"})
        store.multiset(["b", "c", "c"], [store.get("a"), (b"2", {"is": "c"}), b"3"])
        assert store.to_bytes("b") == b"1"
        assert store.get_metadata("b") == {"is": "a"}
        assert store.to_bytes("c") == b"3"
        assert store.get_metadata("c") == {}

    def test_nothing_for_nothing(self, store: Store) -> None:
        """No keys, no values, no change."""
        for operation, (call, _) in PAIRWISE.items():
            with case(operation):
                call(store, [], [])
                assert listing(store) == []

    def test_unequal_lengths(self, store: Store) -> None:
        """One more of either is refused; where there are transactions nothing is changed."""
        names = ["a", "b"]
        for name in names:
            store.set(name, b"old", metadata={"a": 1})
        for operation, (call, value) in PAIRWISE.items():
            for keys, values in ((2, 1), (1, 2), (1, 0), (0, 1)):
                with case((operation, keys, values)):
                    with pytest.raises(InvalidRequestError):
                        call(store, iter(names[:keys]), iter([value] * values))
                    if store.info()["transactions"]:
                        assert dict(store.mapping()) == {"a": b"old", "b": b"old"}
                        assert dict(store.query()) == {"a": {"a": 1}, "b": {"a": 1}}

    def test_one_str_is_no_iterable_of_keys(self, store: Store) -> None:
        """Its letters would be taken for keys."""
        for operation, (call, value) in PAIRWISE.items():
            with case(operation):
                with pytest.raises(InvalidRequestError):
                    call(store, "ab", [value, value])
                assert listing(store) == []
