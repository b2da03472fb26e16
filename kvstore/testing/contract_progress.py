"""Contract: what ``progress=`` is told, and that it can end what it watches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvstore import Store
from kvstore.testing.contract_base import ContractBase, case, content, listing
from kvstore.testing.faults import SourceBrokenError


class Calls(list[tuple[int, int]]):
    """A function for ``progress=`` that remembers its calls."""

    def __call__(self, done: int, total: int) -> None:
        """Remember one."""
        self.append((done, total))


class ProgressContract(ContractBase):
    """``progress=``."""

    def test_uploads(self, store: Store, folder: Path) -> None:
        """It is called with bytes done and in all, -1 for what cannot be known."""
        source = folder / "source"
        source.write_bytes(b"x" * 2500)
        forms: list[tuple[Any, int]] = [(b"x" * 2500, 2500), (source, 2500)]
        forms.append(((b"x" * 500 for _ in range(5)), -1))
        calls = Calls()
        for data, total in forms:
            calls.clear()
            store.set("key", data, 1000, progress=calls)
            assert {all_ for _, all_ in calls} == {total}
            counts = [done for done, _ in calls]
            assert counts == sorted(set(counts))
            assert counts[-1] == 2500
        store.set_data("key", b"12345", progress=calls)
        assert calls[-1] == (5, 5)
        store.from_bytes("key", b"123456", progress=calls)
        assert calls[-1] == (6, 6)
        calls.clear()
        store.from_file("key", source, progress=calls)
        assert calls[-1] == (2500, 2500)

    def test_downloads(self, store: Store, folder: Path) -> None:
        """The same for ``to_bytes`` and ``to_file``."""
        store.set("key", b"x" * 1000)
        for buffer_size in (300, 1 << 20):
            with case(buffer_size):
                calls = Calls()
                store.to_bytes("key", buffer_size, progress=calls)
                assert calls[-1] == (1000, 1000)
                assert [done for done, _ in calls] == sorted({done for done, _ in calls})
                calls.clear()
                store.to_file("key", folder / "file", buffer_size, progress=calls)
                assert calls[-1] == (1000, 1000)

    def test_progress_that_raises_ends_an_upload(self, store: Store) -> None:
        """Its error comes through, and all is as it was."""

        def stop(done: int, total: int) -> None:
            raise SourceBrokenError(f"stopped at {done}")

        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for piece in (b"x", b"x" * 70_000):
            with pytest.raises(SourceBrokenError):
                store.set("key", iter([piece] * 4), metadata={"a": 2}, progress=stop)
            with pytest.raises(SourceBrokenError):
                store.set_data("new", iter([piece] * 4), progress=stop)
        assert content(store, "key") == before
        assert listing(store) == ["key"]

    def test_progress_that_raises_ends_a_download(self, store: Store, folder: Path) -> None:
        """The target file is as it was, and nothing is left beside it."""

        def stop(done: int, total: int) -> None:
            raise SourceBrokenError(f"stopped at {done} of {total}")

        store.set("key", b"x" * 1000)
        target = folder / "target"
        target.write_bytes(b"precious")
        with pytest.raises(SourceBrokenError):
            store.to_file("key", target, 100, progress=stop)
        with pytest.raises(SourceBrokenError):
            store.to_bytes("key", 100, progress=stop)
        assert target.read_bytes() == b"precious"
        assert [path.name for path in folder.iterdir()] == ["target"]
        assert store.to_bytes("key") == b"x" * 1000
