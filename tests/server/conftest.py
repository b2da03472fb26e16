from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore(user_tag="alice")
    # Corpora are sent over few connections, and some of their entries are 100 MB of metadata.
    with store, serve_background(store, limits=Limits(requests=10**6)) as url:
        yield store, url


@pytest.fixture
def store(_served: tuple[MemoryStore, str]) -> MemoryStore:
    """The store behind `url`, empty."""
    store = _served[0]
    for key in list(store.query_keys()):
        store.delete(key)
    return store


@pytest.fixture
def url(_served: tuple[MemoryStore, str], store: MemoryStore) -> str:
    """URL of a server over `store`."""
    return _served[1]


@pytest.fixture(params=["memory", "sqlite"])
def journaled(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[MemoryStore | SQLiteStore, str]]:
    """A store that has a journal and transactions, and the URL of a server over it."""
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store")
    with store, serve_background(store) as url:
        yield store, url


@pytest.fixture
def web() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-Request-Id"] = "test"  # so that answers can be compared
        yield session
