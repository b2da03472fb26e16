"""A VOSpace over memory; tests of the other gateways have servers of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvstore.gateways.vospace import VospaceGateway
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import empty
from tests.gateways.vos_space import IDENTIFIER, Space


@pytest.fixture(scope="session")
def _space() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore()
    with serve_background(store, gateways=[VospaceGateway(IDENTIFIER)]) as url:
        yield store, url


@pytest.fixture
def store(_space: tuple[MemoryStore, str]) -> MemoryStore:
    """The store behind `space`, empty."""
    empty(_space[0])
    return _space[0]


@pytest.fixture
def space(_space: tuple[MemoryStore, str], store: MemoryStore) -> Space:
    """A space without nodes."""
    return Space(_space[1])
