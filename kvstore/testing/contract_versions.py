"""Contract: earlier versions of keys, where ``make_store_with_versions`` is given."""

# ruff: noqa: PT012 - what is tested is that an error leaves a block of several statements

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    InvalidRequestError,
    KeyNotFoundError,
    Store,
    StoreUpdateEvent,
    UnsupportedOperationError,
)
from kvstore.testing.contract_base import ContractBase, authorizing, content, needs, recorded

KEPT = 3


class _StoppedError(Exception):
    """What leaves a block in these tests."""


def _revisions(store: Store, key: str) -> list[Any]:
    return [record.revision for record in store.versions(key)]


class VersionsContract(ContractBase):
    """``versions``, ``get(version=)`` and ``restore``."""

    def make_store_with_versions(self, keep: int) -> Store:
        """Return a fresh store that keeps so many earlier versions of each key. Optional."""
        pytest.skip("make_store_with_versions() is not given")

    @pytest.fixture
    def kept(self) -> Iterator[Store]:
        """A store that keeps versions, connected."""
        with self.make_store_with_versions(KEPT) as store:
            assert store.info()["versions"] == KEPT
            yield store

    def test_without_versions(self, store: Store) -> None:
        """There is the current one, or the store says that it cannot tell."""
        if store.info()["versions"]:
            pytest.skip("info() says that it keeps versions")
        old = store.set("key", b"old")
        new = store.set("key", b"new")
        try:
            assert _revisions(store, "key") == [new]
        except UnsupportedOperationError:
            return
        with pytest.raises(KeyNotFoundError):
            store.get("key", version=str(old))

    def test_versions_are_kept_with_all_they_had(self, kept: Store) -> None:
        """The newest first, the current one among them."""
        first = kept.set("key", b"one", metadata={"n": 1}, mimetype="text/plain")
        second = kept.set_metadata("key", {"n": 2})
        third = kept.set_data("key", b"three" * 50_000)
        assert _revisions(kept, "key") == [third, second, first]
        records = kept.versions("key")
        assert [record.metadata["n"] for record in records] == [2, 2, 1]
        assert [record.size for record in records] == [250_000, 3, 3]
        for revision, data in ((first, b"one"), (second, b"one"), (third, b"three" * 50_000)):
            value = kept.get("key", version=str(revision))
            assert (value.read(), value.revision) == (data, revision)
            value.close()
        assert kept.get("key", version=str(first)).mimetype == "text/plain"
        assert kept.to_bytes("key") == b"three" * 50_000

    def test_only_so_many_are_kept(self, kept: Store) -> None:
        """The oldest are forgotten, with their data."""
        revisions = [kept.set("key", b"%d" % number * 40_000) for number in range(KEPT + 3)]
        assert _revisions(kept, "key") == revisions[: -KEPT - 2 : -1]
        with pytest.raises(KeyNotFoundError):
            kept.get("key", version=str(revisions[0]))
        assert kept.get("key", version=str(revisions[2])).read() == b"2" * 40_000

    def test_keys_have_versions_of_their_own(self, kept: Store) -> None:
        """A version of one key is none of another, and there are none of what never was."""
        revision = kept.set("a", b"")
        kept.set("b", b"")
        with pytest.raises(KeyNotFoundError):
            kept.get("b", version=str(revision))
        assert kept.versions("never") == []
        with pytest.raises(KeyNotFoundError):
            kept.get("never", version="x")
        for wrong in ("", 5):
            with pytest.raises(InvalidRequestError):
                kept.get("a", version=wrong)  # type: ignore[arg-type]

    def test_restoring(self, kept: Store) -> None:
        """Makes a new version of an old one; permissions stay."""
        first = kept.set("key", b"one" * 30_000, metadata={"n": 1}, mimetype="text/plain")
        second = kept.set("key", b"two", metadata={"m": 2})
        if kept.info()["authorizing"]:
            me = authorizing(kept).user_tag()
            authorizing(kept).set_permissions("key", {"owned": {me}, "read": {"a"}})
        before = content(kept, "key")
        with recorded(kept, StoreUpdateEvent) as events:
            third = kept.restore("key", str(first))
        assert [(event.revision, event.metadata) for event in events] == [(third, {"n": 1})]
        after = content(kept, "key")
        assert (after.data, after.metadata, after.mimetype) == (
            b"one" * 30_000,
            {"n": 1},
            "text/plain",
        )
        assert (after.permissions, after.created) == (before.permissions, before.created)
        assert third not in (first, second)
        with pytest.raises(ConflictError):
            kept.restore("key", str(first), if_match=second)
        with pytest.raises(KeyNotFoundError):
            kept.restore("key", "no such version")
        assert content(kept, "key") == after

    def test_a_deleted_key_can_be_restored(self, kept: Store) -> None:
        """Its versions stay, and are those of the key that is made anew, too."""
        revision = kept.set("key", b"data" * 30_000, metadata={"n": 1})
        kept.delete("key")
        assert not kept.exists("key")
        assert _revisions(kept, "key") == [revision]
        again = kept.restore("key", str(revision))
        assert kept.to_bytes("key") == b"data" * 30_000
        assert kept.get_metadata("key") == {"n": 1}
        assert _revisions(kept, "key") == [again, revision]
        assert list(kept.query_keys(n=1)) == ["key"]

    def test_a_rollback_restores_the_versions(self, kept: Store) -> None:
        """What was forgotten for the sake of new ones is there again."""
        needs(kept, "transactions")
        revisions = [kept.set("key", b"%d" % number * 40_000) for number in range(KEPT + 1)]
        with pytest.raises(_StoppedError), kept.transaction():
            kept.set("key", b"new")
            kept.delete("key")
            raise _StoppedError
        assert _revisions(kept, "key") == revisions[::-1]
        assert kept.get("key", version=str(revisions[0])).read() == b"0" * 40_000
