from __future__ import annotations

import pytest
from broken_stores import (
    ConditionIgnored,
    KeysWithoutCase,
    NoRollback,
    SetDataWipesMetadata,
    UpdateReplaces,
)
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kvstore import MemoryStore, StoreError
from kvstore.testing import store_machine
from kvstore.testing.stateful import SETTINGS

# Without shrinking, which would take most of the time, and with a fixed sequence of histories.
QUICK = settings(
    SETTINGS, phases=[Phase.generate], derandomize=True, max_examples=100, database=None
)


@pytest.mark.parametrize(
    "store",
    [
        ConditionIgnored,
        KeysWithoutCase,
        NoRollback,
        SetDataWipesMetadata,
        UpdateReplaces,
    ],
    ids=lambda store: store.__name__,
)
def test_machine_finds_broken_stores(store: type[MemoryStore]) -> None:
    failures = (AssertionError, pytest.fail.Exception, StoreError)
    with pytest.raises(failures):
        run_state_machine_as_test(store_machine(store), settings=QUICK)


def test_machine_takes_a_store_that_is_connected_already() -> None:
    stores: list[MemoryStore] = []

    def make_store() -> MemoryStore:
        stores.append(MemoryStore())
        stores[-1].connect()
        return stores[-1]

    run_state_machine_as_test(store_machine(make_store), settings=settings(QUICK, max_examples=3))
    assert len(stores) >= 3
    assert not any(store.is_connected() for store in stores)


class TestMachine(store_machine(MemoryStore).TestCase):  # type: ignore[misc]
    """The way it is put into a test module."""

    settings = settings(SETTINGS, max_examples=5)
