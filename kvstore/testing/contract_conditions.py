"""Contract: conditions hold or nothing happens; where they cannot be kept they are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore import (
    ConflictError,
    InvalidRequestError,
    KeyNotFoundError,
    Store,
    UnsupportedOperationError,
)
from kvstore.testing.contract_base import (
    ContractBase,
    case,
    content,
    facts,
    listing,
    needs,
)

_Write = Callable[..., object]

#: Writes that take ``if_match`` and ``if_none_match``.
MAKING: dict[str, _Write] = {
    "set": lambda store, key, **when: store.set(key, b"new", metadata={"new": 1}, **when),
    "set_data": lambda store, key, **when: store.set_data(key, b"new", **when),
    "set_data of pieces": lambda store, key, **when: store.set_data(key, iter([b"new"]), **when),
    "set_metadata": lambda store, key, **when: store.set_metadata(key, {"new": 1}, **when),
    "from_bytes": lambda store, key, **when: store.from_bytes(key, b"new", **when),
    "from_file": lambda store, key, **when: store.from_file(key, Path(__file__), **when),
}
#: Writes that take ``if_match`` alone, as the key must exist.
CHANGING: dict[str, _Write] = {
    "update_metadata": lambda store, key, **when: store.update_metadata(key, {"new": 1}, **when),
    "delete": lambda store, key, **when: store.delete(key, **when),
}
#: What says neither.
NO_CONDITIONS: list[dict[str, Any]] = [
    {"if_match": 7},
    {"if_match": ""},
    {"if_match": b"revision"},
    {"if_match": ["a"]},
    {"if_none_match": "a"},
    {"if_none_match": ""},
    {"if_none_match": True},
]
PERMITTING: dict[str, _Write] = {
    "set_permissions": lambda store, key, **when: store.set_permissions(
        key, {"owned": {store.user_tag()}, "read": {"new"}}, **when
    ),
    "update_permissions": lambda store, key, **when: store.update_permissions(
        key, {"read": {"new"}}, **when
    ),
}


def _changing(store: Store) -> dict[str, _Write]:
    """Return the writes that need a key, those of permissions if *store* has them."""
    return {**CHANGING, **(PERMITTING if store.info()["authorizing"] else {})}


class ConditionsContract(ContractBase):
    """``if_match`` and ``if_none_match``."""

    def test_current_revision(self, store: Store) -> None:
        """The write happens, whether the revision is given or a value that has it."""
        needs(store, "conditional")
        for operation, call in {**MAKING, **_changing(store)}.items():
            for kind in ("returned", "value", "record", "any"):
                with case((operation, kind)):
                    revision = store.set("key", b"old", metadata={"a": 1})
                    value = store.get("key")
                    value.close()
                    given: Any = {"returned": revision, "value": value, "record": value.record}
                    call(store, "key", if_match=given.get(kind, "*"))
                    if operation == "delete":
                        assert not store.exists("key")
                    else:
                        assert facts(store, "key").revision != revision

    def test_stale_revision(self, store: Store) -> None:
        """It is a ConflictError and nothing is changed."""
        needs(store, "conditional")
        stale = store.set("key", b"old", metadata={"a": 1})
        store.set("key", b"current", metadata={"a": 2})
        before = content(store, "key")
        for operation, call in {**MAKING, **_changing(store)}.items():
            for revision in (stale, "no-such-revision"):
                with case((operation, revision)):
                    with pytest.raises(ConflictError) as caught:
                        call(store, "key", if_match=revision)
                    assert caught.value.key == "key"
            for revision in ("not made by a store", 'W/"odd, one"', "\u00e9"):
                refused = pytest.raises((ConflictError, InvalidRequestError))
                with case((operation, revision)), refused:
                    call(store, "key", if_match=revision)
            with case(operation):
                assert content(store, "key") == before

    def test_lost_update_is_refused(self, store: Store) -> None:
        """Of two who read the same and write it back, the second is told."""
        needs(store, "conditional")
        store.set("key", b"", metadata={"n": 0})
        mine, theirs = store.get("key"), store.get("key")
        mine.close()
        theirs.close()
        store.set_metadata("key", {"n": mine.metadata["n"] + 1}, if_match=mine)
        with pytest.raises(ConflictError):
            store.set_metadata("key", {"n": theirs.metadata["n"] + 1}, if_match=theirs)
        assert store.get_metadata("key") == {"n": 1}

    def test_revision_of_a_deleted_key(self, store: Store) -> None:
        """It does not fit the key that was made again with the same content."""
        needs(store, "conditional")
        revision = store.set("key", b"same", metadata={"a": 1})
        store.delete("key")
        store.set("key", b"same", metadata={"a": 1})
        before = content(store, "key")
        for operation in ("set", "set_metadata", "update_metadata", "delete"):
            with case(operation), pytest.raises(ConflictError):
                {**MAKING, **CHANGING}[operation](store, "key", if_match=revision)
        assert content(store, "key") == before

    def test_revision_of_another_key(self, store: Store) -> None:
        """It says nothing about this one."""
        needs(store, "conditional")
        store.set("key", b"same")
        other = store.set("other", b"same")
        with pytest.raises(ConflictError):
            store.set("key", b"new", if_match=other)
        assert store.to_bytes("key") == b"same"

    def test_if_match_on_a_missing_key(self, store: Store) -> None:
        """What does not exist matches nothing."""
        needs(store, "conditional")
        for operation, call in MAKING.items():
            for if_match in ("*", "no-such-revision"):
                with case((operation, if_match)), pytest.raises(ConflictError):
                    call(store, "key", if_match=if_match)
                assert listing(store) == [], (operation, if_match)

    def test_missing_key_that_must_exist(self, store: Store) -> None:
        """It is missing, whatever the condition."""
        needs(store, "conditional")
        for operation, call in _changing(store).items():
            for if_match in ("*", "no-such-revision"):
                with case((operation, if_match)):
                    with pytest.raises((KeyNotFoundError, ConflictError)):
                        call(store, "key", if_match=if_match)
                    assert listing(store) == []

    def test_create_only(self, store: Store) -> None:
        """The first makes the key, the second is a ConflictError; after a delete it is free."""
        needs(store, "conditional")
        for operation, create in MAKING.items():
            with case(operation):
                revision = create(store, "key", if_none_match="*")
                assert isinstance(revision, str)
                before = content(store, "key")
                assert before.revision == revision
                with pytest.raises(ConflictError) as caught:
                    create(store, "key", if_none_match="*")
                assert caught.value.key == "key"
                assert content(store, "key") == before
                store.delete("key")
                create(store, "key", if_none_match="*")
                assert listing(store) == ["key"]
                store.delete("key")

    def test_both_conditions_cannot_hold(self, store: Store) -> None:
        """A key cannot exist at a revision and not exist."""
        needs(store, "conditional")
        revision = store.set("key", b"old")
        for key in ("key", "missing"):
            with pytest.raises((ConflictError, InvalidRequestError)):
                store.set(key, b"new", if_match=revision, if_none_match="*")
        assert dict(store.mapping()) == {"key": b"old"}

    def test_what_is_no_condition(self, store: Store) -> None:
        """It is refused, never ignored."""
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for when in NO_CONDITIONS:
            for operation, call in {**MAKING, **CHANGING}.items():
                if operation in MAKING or "if_match" in when:
                    with case((operation, when)), pytest.raises(InvalidRequestError):
                        call(store, "key", **when)
            assert content(store, "key") == before, when

    def test_condition_that_cannot_be_kept(self, store: Store) -> None:
        """A store without conditions refuses them, and changes nothing."""
        if store.info()["conditional"]:
            pytest.skip("info() says 'conditional': True")
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for operation, call in {**MAKING, **_changing(store)}.items():
            with case(operation):
                with pytest.raises(UnsupportedOperationError):
                    call(store, "key", if_match="*")
                if operation in MAKING:
                    with pytest.raises(UnsupportedOperationError):
                        call(store, "new", if_none_match="*")
                assert content(store, "key") == before
                assert listing(store) == ["key"]
