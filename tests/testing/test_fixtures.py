from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import kvstore
from kvstore import testing

pytest_plugins = ["pytester"]

_HEAVY = "hypothesis", "starlette", "uvicorn", "responses", "kvstore.server", "kvstore.testing.http"


def run_python(code: str) -> str:
    root = Path(kvstore.__file__).parents[1]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout


def test_fixtures_are_a_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import kvstore

        def test_memory_store(memory_store):
            assert isinstance(memory_store, kvstore.MemoryStore)
            assert memory_store.is_connected()
            assert memory_store.count() == 0

        def test_server(kvstore_server):
            with kvstore.open(kvstore_server) as store:
                store.set("key", b"data")
                assert store.to_bytes("key") == b"data"

        def test_another_server_is_empty(kvstore_server):
            with kvstore.open(kvstore_server) as store:
                assert store.count() == 0
        """
    )
    options = ["-q", "-p", "no:cacheprovider"]
    if not entry_points(group="pytest11", name="kvstore"):  # not installed, but on the path
        options += ["-p", "kvstore.testing.fixtures"]
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=3)


def test_plugin_imports_nothing_heavy() -> None:
    """Every start of pytest pays for it, wherever kvstore is installed."""
    code = (
        "import sys, kvstore.testing.fixtures\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    assert run_python(code) == "[]\n"


def test_names_of_the_kit() -> None:
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="nonsense"):
        testing.nonsense  # noqa: B018


def test_contract_needs_make_store() -> None:
    class Forgetful(testing.StoreContract):
        pass

    with pytest.raises(NotImplementedError, match="Forgetful must define make_store"):
        Forgetful().make_store()


def test_failing_assertions_show_values(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(kvstore.__file__).parents[1]), prepend=os.pathsep)
    pytester.makepyfile(
        """
        import kvstore
        from kvstore.testing import StoreContract

        class Lossy(kvstore.MemoryStore):
            def to_bytes(self, key, *args, **options):
                return super().to_bytes(key, *args, **options)[:3]

        class TestLossy(StoreContract):
            def make_store(self):
                return Lossy()
        """
    )
    result = pytester.runpytest_subprocess(
        "-q", "-p", "no:cacheprovider", "-k", "test_set_makes_and_replaces"
    )
    result.stdout.fnmatch_lines(["E*assert b'a l' == b'a long first value'"])


def test_contract_of_a_store_without_extras(pytester: pytest.Pytester) -> None:
    """Permissions, transactions, conditions and orders are skipped, and nothing fails."""
    pytester.makepyfile(
        """
        import kvstore
        from kvstore.testing import StoreContract

        class Plain(kvstore.Store):
            capabilities = {
                **kvstore.Store.capabilities,
                "conditional": False,
                "digests": False,
                "queries": ["match"],
            }

            def __init__(self):
                super().__init__()
                self.rows = {}

            def _get(self, key):
                if key not in self.rows:
                    raise kvstore.missing(key)
                record, data = self.rows[key]
                return kvstore.Value(record, kvstore.BytesOpener(data))

            def _records(self, prefix, after):
                return iter([self.rows[key][0] for key in sorted(self.rows)])

            def _write(self, key, change):
                if change.condition:
                    raise kvstore.UnsupportedOperationError("no conditions", key=key)
                data = change.data.whole() if change.data is not None else None
                old, before = self.rows.get(key, (None, b""))
                change.check(key, old)
                kind = old.mimetype if old else "application/octet-stream"
                if data is not None:
                    kind, before = change.mimetype or "application/octet-stream", data
                metadata = change.new_metadata(old)
                record = kvstore.Record(key, metadata, len(before), mimetype=kind)
                self.rows[key] = record, before
                return kvstore.Written(None, old is not None, metadata)

            def _delete(self, key, condition):
                if condition:
                    raise kvstore.UnsupportedOperationError("no conditions", key=key)
                if key not in self.rows:
                    raise kvstore.missing(key)
                return self.rows.pop(key)[0].metadata

        class TestPlain(StoreContract):
            def make_store(self):
                return Plain()
        """
    )
    # Threads are for stores with locks; this one has none.
    result = pytester.runpytest_inprocess(
        "-q", "-p", "no:cacheprovider", "-k", "not race and not updates_of and not odd_key_alone"
    )
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) == 0
    assert outcomes["skipped"] > 60
    assert outcomes["passed"] > 120


def test_kit_stays_out_of_the_package() -> None:
    code = "import sys, kvstore; print('kvstore.testing' in sys.modules, 'pytest' in sys.modules)"
    assert run_python(code) == "False False\n"
