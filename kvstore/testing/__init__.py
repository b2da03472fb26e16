"""The conformance kit: what a store of your own is tested with, and stand-ins for a server.

::

    from kvstore.testing import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self):
            return MyStore()          # fresh and empty

Needs ``kvstore[testing]``. Each name is imported when it is first asked for: this package is also
a pytest plugin, and pytest loads plugins at every start, needed or not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvstore.testing import strategies as strategies
    from kvstore.testing.contract import StoreContract as StoreContract
    from kvstore.testing.http import fake_server as fake_server
    from kvstore.testing.http import live_server as live_server
    from kvstore.testing.odd_keys import ODD_KEYS as ODD_KEYS
    from kvstore.testing.stateful import store_machine as store_machine

_PARTS = (
    "base",
    "changes",
    "concurrency",
    "conditions",
    "copies",
    "data",
    "events",
    "filters",
    "keys",
    "lifecycle",
    "listing",
    "metadata",
    "missing",
    "multi",
    "permissions",
    "progress",
    "ranges",
    "transactions",
    "values",
    "versions",
    "writing",
)
# Failing assertions show the values they compared only in modules that pytest has been told of.
pytest.register_assert_rewrite(
    *(f"kvstore.testing.contract_{part}" for part in _PARTS),
    "kvstore.testing.contract",
    "kvstore.testing.stateful",
)

_HOMES = {
    "ODD_KEYS": "odd_keys",
    "StoreContract": "contract",
    "fake_server": "http",
    "live_server": "http",
    "store_machine": "stateful",
}

__all__ = ["ODD_KEYS", "StoreContract", "fake_server", "live_server", "store_machine", "strategies"]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return importlib.import_module("kvstore.testing.strategies")
    if name not in _HOMES:
        raise AttributeError(f"module 'kvstore.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"kvstore.testing.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
