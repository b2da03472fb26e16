"""The contract finds what it is there to find."""

from __future__ import annotations

import pytest
from broken_stores import BROKEN

from kvstore.testing import StoreContract

pytest_plugins = ["pytester"]

# Imported above, it stays imported: pytester forgets what a run of its own has imported.
assert StoreContract

_MODULE = """
import broken_stores
from kvstore.testing import StoreContract
"""
_CLASS = """
class Test{name}(StoreContract):
    def make_store(self):
        return broken_stores.{name}()
"""


def test_contract_fails_for_each_broken_store(pytester: pytest.Pytester) -> None:
    classes = [_CLASS.format(name=store.__name__) for store in BROKEN]
    module = pytester.makepyfile("\n".join([_MODULE, *classes]))
    expected = {
        f"{module.name}::Test{store.__name__}::{name}"
        for store, names in BROKEN.items()
        for name in names
    }
    # One run for all: each would import and collect the kit again.
    # Nobody reads the traces of sixty tests.
    options = ("-q", "-p", "no:cacheprovider", "--tb=line")
    result = pytester.runpytest_inprocess(*options, *expected)
    passed, skipped, failed = result.reprec.listoutcomes()  # type: ignore[attr-defined]
    assert {report.nodeid for report in (*passed, *skipped)} == set()
    assert {report.nodeid for report in failed} == expected
