"""The contract finds what it is there to find."""

from __future__ import annotations

import pytest
from broken_stores import BROKEN

from kvstore import MemoryStore
from kvstore.testing import StoreContract

pytest_plugins = ["pytester"]

# Imported above, it stays imported: pytester forgets what a run of its own has imported.
assert StoreContract

_MODULE = """
import broken_stores
from kvstore.testing import StoreContract

class TestBroken(StoreContract):
    def make_store(self):
        return broken_stores.{name}()
"""


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_contract_fails_for_a_broken_store(
    pytester: pytest.Pytester, store: type[MemoryStore]
) -> None:
    module = pytester.makepyfile(_MODULE.format(name=store.__name__))
    expected = BROKEN[store]
    tests = [f"{module.name}::TestBroken::{name}" for name in expected]
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", *tests)
    _, _, failures = result.reprec.listoutcomes()  # type: ignore[attr-defined]
    failed = {report.nodeid.split("::")[-1].split("[")[0] for report in failures}
    assert failed == set(expected)
