"""Contract: permissions, where ``info()`` says that the store has them."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import InvalidPermissionsError, Store
from kvstore.testing.contract_base import ContractBase, authorizing, case, facts

#: What are no permissions, not even to be added.
NO_PERMISSIONS: dict[str, Any] = {
    "None": None,
    "list": [],
    "pairs": [("owned", {"a"})],
    "str as tags": {"owned": "abc"},
    "None as tags": {"read": None},
    "int as tags": {"read": 1},
    "dict as tags": {"read": {"a": 1}},
    "int as tag": {"owned": {"a"}, "read": {1}},
    "bytes as tag": {"owned": {b"a"}},
    "int as name": {1: {"a"}},
    "empty tag": {"owned": {"a", ""}},
    "empty name": {"": {"a"}},
}
#: What may be added, but is not complete.
INCOMPLETE: dict[str, Any] = {
    "nothing": {},
    "no owned": {"read": {"a"}},
    "owned by nobody": {"owned": set(), "read": {"a"}},
    "owned in capitals": {"OWNED": {"a"}},
}


class PermissionsContract(ContractBase):
    """Permission to set of tags."""

    def test_new_key_is_owned_by_the_user(self, store: Store) -> None:
        """However it is made; the user's tag is text."""
        store_ = authorizing(store)
        assert isinstance(store_.user_tag(), str)
        assert store_.user_tag()
        store_.set("set", b"")
        store_.set_data("set_data", b"")
        store_.set_metadata("set_metadata", {})
        for key in ("set", "set_data", "set_metadata"):
            assert store_.get_permissions(key) == {"owned": {store_.user_tag()}}

    def test_set_permissions_replaces_all(self, store: Store) -> None:
        """Names and tags are free text; tags may come as any collection, and are sets."""
        store_ = authorizing(store)
        store_.set("key", b"data", metadata={"a": 1})
        me = store_.user_tag()
        first = {
            "owned": {me, "group: staff"},
            "read": {"public"},
            "l\u00e4sa \U0001f600": {"\u00e9/%"},
        }
        store_.set_permissions("key", first)
        assert store_.get_permissions("key") == first
        given: Any = {"owned": [me, me], "write": ("a", "b"), "read": frozenset()}
        store_.set_permissions("key", given)
        after = store_.get_permissions("key")
        assert after.pop("read", set()) == set()
        assert after == {"owned": {me}, "write": {"a", "b"}}
        assert all(type(tags) is set for tags in after.values())
        assert (store_.to_bytes("key"), store_.get_metadata("key")) == (b"data", {"a": 1})

    def test_update_permissions_adds_tags(self, store: Store) -> None:
        """To the set of each permission; none is taken away."""
        store_ = authorizing(store)
        store_.set("key", b"data", metadata={"a": 1})
        me = store_.user_tag()
        store_.update_permissions("key", {"read": {"a"}})
        store_.update_permissions("key", {"read": {"b"}, "owned": {"c"}, "write": {"a", "d"}})
        store_.update_permissions("key", {"owned": set()})
        store_.update_permissions("key", {})
        assert store_.get_permissions("key") == {
            "owned": {me, "c"},
            "read": {"a", "b"},
            "write": {"a", "d"},
        }
        assert (store_.to_bytes("key"), store_.get_metadata("key")) == (b"data", {"a": 1})

    def test_permissions_survive_writes(self, store: Store) -> None:
        """All but ``delete``: a key made again begins anew."""
        store_ = authorizing(store)
        store_.set("key", b"old")
        me = store_.user_tag()
        permissions = {"owned": {me}, "read": {"public"}}
        store_.set_permissions("key", permissions)
        store_.set("key", b"new", metadata={"a": 1})
        store_.set_data("key", b"newer")
        store_.set_metadata("key", {"b": 1})
        store_.update_metadata("key", {"c": 1})
        assert store_.get_permissions("key") == permissions
        store_.delete("key")
        store_.set("key", b"again")
        assert store_.get_permissions("key") == {"owned": {me}}

    def test_permissions_do_not_travel_with_values(self, store: Store) -> None:
        """A copy belongs to who made it."""
        store_ = authorizing(store)
        store_.set("key", b"data")
        me = store_.user_tag()
        store_.set_permissions("key", {"owned": {me, "friend"}, "read": {"public"}})
        store_.set("copy", store_.get("key"))
        assert store_.get_permissions("copy") == {"owned": {me}}

    def test_value_tells_permissions(self, store: Store) -> None:
        """As ``get_permissions`` does."""
        store_ = authorizing(store)
        store_.set("key", b"data")
        store_.update_permissions("key", {"read": {"a", "b"}})
        value = store_.get("key")
        value.close()
        assert value.permissions == store_.get_permissions("key")
        assert value.permissions["read"] == {"a", "b"}

    def test_changed_permissions_are_a_new_revision(self, store: Store) -> None:
        """Returned by the write; data, creation and type are as before."""
        store_ = authorizing(store)
        store_.set("key", b"data", mimetype="text/plain")
        old = facts(store_, "key")
        revisions = [
            old.revision,
            store_.set_permissions("key", {"owned": {store_.user_tag()}, "read": {"a"}}),
            store_.update_permissions("key", {"read": {"b"}}),
        ]
        new = facts(store_, "key")
        assert new.revision == revisions[-1]
        assert (new.created, new.mimetype, new.size) == (old.created, old.mimetype, old.size)
        if store_.info()["conditional"]:
            assert len(set(revisions)) == 3

    def test_invalid_permissions_are_refused(self, store: Store) -> None:
        """``owned`` is never without a tag; what was stays."""
        store_ = authorizing(store)
        store_.set("key", b"data")
        store_.update_permissions("key", {"read": {"a"}})
        before, revision = store_.get_permissions("key"), facts(store_, "key").revision
        for name, wrong in {**NO_PERMISSIONS, **INCOMPLETE}.items():
            with case(name):
                with pytest.raises(InvalidPermissionsError):
                    store_.set_permissions("key", wrong)
                if name in NO_PERMISSIONS:
                    with pytest.raises(InvalidPermissionsError):
                        store_.update_permissions("key", wrong)
                assert store_.get_permissions("key") == before
                assert facts(store_, "key").revision == revision
