"""Contract: every legal key is a key of its own."""

from __future__ import annotations

import pytest

from kvstore import KeyNotFoundError, Store
from kvstore.testing.contract_base import ContractBase, case, facts, listing
from kvstore.testing.odd_keys import ODD_KEYS


class KeysContract(ContractBase):
    """Odd keys, alone and together."""

    def test_odd_key_alone(self, store: Store) -> None:
        """It can be set, read, listed, found, changed and deleted, and is the same text always."""
        for name, key in ODD_KEYS.items():
            with case(name):
                self.live_a_life(store, key)

    def live_a_life(self, store: Store, key: str) -> None:
        """Make *key*, the only one in *store*, use it in every way, and delete it."""
        store.set(key, b"data", metadata={"key": key})
        assert store.exists(key)
        assert listing(store) == [key]
        assert list(store.query(key=key)) == [(key, {"key": key})]
        assert store.to_bytes(key) == b"data"
        assert facts(store, key).key == key
        store.update_metadata(key, {"more": 1})
        store.set_data(key, b"new")
        assert store.get_metadata(key) == {"key": key, "more": 1}
        with store.get_data_range(key, 1) as stream:
            assert stream.read() == b"ew"
        store.delete(key)
        assert not store.exists(key)
        assert listing(store) == []
        with pytest.raises(KeyNotFoundError) as caught:
            store.get(key)
        assert caught.value.key == key

    def test_odd_keys_together(self, store: Store) -> None:
        """None is taken for another: all are listed in order, each with its own value."""
        keys = sorted(ODD_KEYS.values())
        for key in keys[::-1]:
            store.set(key, key.encode(), metadata={"key": key})
        assert listing(store) == keys
        assert dict(store.query()) == {key: {"key": key} for key in keys}
        assert {key: store.to_bytes(key) for key in keys} == {key: key.encode() for key in keys}
        for key in keys[::2]:
            store.delete(key)
        assert listing(store) == keys[1::2]
        assert {key: store.to_bytes(key) for key in keys[1::2]} == {
            key: key.encode() for key in keys[1::2]
        }
        for key in keys[1::2]:
            store.delete(key)
        assert listing(store) == []

    def test_odd_prefixes(self, store: Store) -> None:
        """A prefix is text, too, and may end within a character of several code points."""
        if "prefix" not in store.info()["queries"]:
            pytest.skip("info()['queries'] lacks prefix")
        keys = sorted(ODD_KEYS.values())
        store.multiset_metadata(keys, ({} for _ in keys))
        for prefix in {key[:length] for key in keys for length in (1, 2)}:
            expected = [key for key in keys if key[: len(prefix)] == prefix]
            assert list(store.query_keys(prefix=prefix)) == expected, prefix
