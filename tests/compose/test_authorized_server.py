"""One user of a store that is on a server."""

from __future__ import annotations

import pytest

import kvstore
from kvstore import AuthorizedStore, KeyNotFoundError, MemoryStore
from kvstore.testing import live_server


def test_a_server_within_says_the_same_of_hidden_and_of_missing_keys() -> None:
    def told(bob: AuthorizedStore, key: str) -> list[str]:
        calls = (bob.get, bob.get_data, bob.to_bytes, bob.record, bob.get_permissions, bob.delete)
        messages = []
        for call in calls:
            with pytest.raises(KeyNotFoundError) as caught:
                call(key)
            messages.append(f"{caught.value} {caught.value.status}".replace(key, "KEY"))
        return messages

    with (
        MemoryStore() as store,
        live_server(store) as url,
        kvstore.open(url) as remote,
        AuthorizedStore(remote, "ann") as ann,
        AuthorizedStore(remote, "bob") as bob,
    ):
        ann.set("hidden", b"data")
        assert told(bob, "hidden") == told(bob, "missing")
