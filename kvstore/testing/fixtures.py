"""The pytest plugin: a store in memory and a server, as fixtures.

It is loaded wherever kvstore is installed, so it imports what it needs when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kvstore


@pytest.fixture
def memory_store() -> Iterator[kvstore.MemoryStore]:
    """A connected and empty MemoryStore."""
    with kvstore.MemoryStore() as store:
        yield store


@pytest.fixture
def kvstore_server() -> Iterator[str]:
    """URL of a server on this machine over an empty store in memory, for ``kvstore.open``."""
    from kvstore.testing.http import live_server  # Starlette costs each pytest start 0.2 s

    with live_server(kvstore.MemoryStore()) as url:
        yield url
