"""What a user may do with the keys of others, and what is found of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kvstore import (
    AuthorizationError,
    AuthorizedStore,
    Change,
    ConflictError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    MemoryStore,
    Source,
    StoreError,
    StoreUpdateEvent,
    UnavailableError,
)
from kvstore.writes import Condition, Written


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore(user_tag="root") as store:
        yield store


def user(store: MemoryStore, *tags: str) -> AuthorizedStore:
    return AuthorizedStore(store, tags[0], tags[1:])


#: Permissions beside the owner's, and what Bob of the staff may do with them.
RIGHTS: dict[str, tuple[dict[str, set[str]], str]] = {
    "none": ({}, ""),
    "of somebody else": ({"read": {"eve"}, "write": {"eve"}}, ""),
    "unknown": ({"admin": {"bob"}}, ""),
    "read": ({"read": {"bob"}}, "r"),
    "read by a group": ({"read": {"staff"}}, "r"),
    "read by all": ({"read": {"public"}}, "r"),
    "write": ({"write": {"bob"}}, "w"),
    "read and write": ({"read": {"public"}, "write": {"staff"}}, "rw"),
    "owned": ({"owned": {"ann", "bob"}}, "rwo"),
}
READING: dict[str, Callable[[Any], object]] = {
    "get": lambda store: store.get("key"),
    "record": lambda store: store.record("key"),
    "get_data": lambda store: store.get_data("key").close(),
    "get_data_range": lambda store: store.get_data_range("key", 0, 1).close(),
    "get_metadata": lambda store: store.get_metadata("key"),
    "to_bytes": lambda store: store.to_bytes("key"),
    "multiget": lambda store: list(store.multiget(["key"])),
}
CHANGING: dict[str, Callable[[Any], object]] = {
    "set": lambda store: store.set("key", b"new"),
    "set_data": lambda store: store.set_data("key", b"new"),
    "set_metadata": lambda store: store.set_metadata("key", {"new": 1}),
    "if it exists": lambda store: store.set("key", b"new", if_match="*"),
    "update_metadata": lambda store: store.update_metadata("key", {"new": 1}),
    "delete": lambda store: store.delete("key"),
}
OWNING: dict[str, Callable[[Any], object]] = {
    "get_permissions": lambda store: store.get_permissions("key"),
    "set_permissions": lambda store: store.set_permissions("key", {"owned": {"bob"}}),
    "update_permissions": lambda store: store.update_permissions("key", {"read": {"bob"}}),
    "write": lambda store: store.write(
        "key", Change(data=Source(b""), permissions={"owned": {"bob"}})
    ),
}


def outcome(call: Callable[[Any], object], store: AuthorizedStore) -> str:
    try:
        call(store)
    except StoreError as error:
        return f"{type(error).__name__} of {error.key}"
    return "done"


@pytest.mark.parametrize("name", RIGHTS)
def test_what_each_permission_allows(store: MemoryStore, name: str) -> None:
    more, rights = RIGHTS[name]
    bob = user(store, "bob", "staff")
    for calls, right in ((READING, "r"), (CHANGING, "w"), (OWNING, "o")):
        for what, call in calls.items():
            store.set("key", b"old", metadata={"n": 1})
            store.set_permissions("key", {"owned": {"ann"}, **more})
            before = store.record("key")
            if right in rights:
                expected = "done"
            elif not rights and what not in ("set", "set_data", "set_metadata", "write"):
                expected = "KeyNotFoundError of key"
                if what == "if it exists":
                    expected = "ConflictError of key"
            elif right == "r" or (what == "get_permissions" and "r" not in rights):
                expected = "KeyNotFoundError of key"
            else:
                expected = "AuthorizationError of key"
            assert outcome(call, bob) == expected, what
            if expected != "done":
                assert store.record("key") == before


def test_who_may_not_read_finds_nothing(store: MemoryStore) -> None:
    ann, bob = user(store, "ann"), user(store, "bob")
    for number in range(6):
        (ann if number % 2 else bob).set_metadata(f"k{number}", {"n": number})
    assert list(bob.query_keys()) == ["k0", "k2", "k4"]
    assert list(bob.query_keys(limit=2)) == ["k0", "k2"]
    assert list(bob.query_keys(order_by="-n", limit=2)) == ["k4", "k2"]
    assert (list(bob.glob("k[1-3]")), bob.count(), bob.exists("k1")) == (["k2"], 3, False)
    page = bob.query_keys(limit=1)
    assert list(page) == ["k0"]
    assert list(bob.query_keys(after=page.cursor, limit=1)) == ["k2"]
    assert dict(bob.query(n=1)) == {}
    assert [entry.key for entry in bob.changes()] == ["k0", "k2", "k4"]
    assert [entry.key for entry in bob.changes(0, 2)] == ["k0", "k2"]
    assert list(bob.mapping()) == ["k0", "k2", "k4"]


PROBES: dict[str, Callable[[Any, str], object]] = {
    "get": lambda store, key: store.get(key),
    "range": lambda store, key: store.get_data_range(key, 10**9),
    "record": lambda store, key: store.record(key),
    "version": lambda store, key: store.get(key, version="x"),
    "versions": lambda store, key: store.versions(key),
    "delete": lambda store, key: store.delete(key),
    "delete if": lambda store, key: store.delete(key, if_match="x"),
    "update": lambda store, key: store.update_metadata(key, {}),
    "update if": lambda store, key: store.update_metadata(key, {}, if_match="x"),
    "set if it exists": lambda store, key: store.set(key, b"", if_match="*"),
    "set if": lambda store, key: store.set(key, b"", if_match="x"),
    "permissions": lambda store, key: store.get_permissions(key),
    "set permissions": lambda store, key: store.set_permissions(key, {"owned": {"bob"}}),
    "add permissions": lambda store, key: store.update_permissions(key, {"read": {"bob"}}),
}


@pytest.mark.parametrize("probe", PROBES)
def test_a_hidden_key_is_told_in_the_words_of_a_missing_one(store: MemoryStore, probe: str) -> None:
    user(store, "ann").set("hidden", b"data", metadata={"a": 1})
    bob = user(store, "bob")

    def told(key: str) -> tuple[Any, ...]:
        try:
            return (PROBES[probe](bob, key),)
        except StoreError as error:
            return type(error), error.message, vars(error), error.__cause__

    hidden = told("hidden")
    store.delete("hidden")
    assert hidden == told("hidden")


@pytest.mark.parametrize("condition", [{}, {"if_none_match": "*"}])
def test_making_a_hidden_key_is_refused(store: MemoryStore, condition: dict[str, Any]) -> None:
    user(store, "ann").set("key", b"old")
    bob = user(store, "bob")
    with pytest.raises(AuthorizationError) as refused:
        bob.set("key", b"new", **condition)
    assert refused.value.message == "The user 'bob' may not write the key 'key'."
    assert store.to_bytes("key") == b"old"
    store.update_permissions("key", {"read": {"bob"}})
    with pytest.raises(AuthorizationError) as again:
        bob.set("key", b"new", **condition)
    assert again.value.message == refused.value.message


def test_a_new_key_is_owned_by_the_user(store: MemoryStore) -> None:
    ann = user(store, "ann", "staff")
    ann.set("key", b"")
    assert store.get_permissions("key") == {"owned": {"ann"}}
    store.delete("key")
    ann.write("key", Change(metadata={}, permissions={"owned": {"staff"}, "read": {"x"}}))
    assert store.get_permissions("key") == {"owned": {"staff"}, "read": {"x"}}
    assert ann.get_permissions("key") == store.get_permissions("key")


def test_permissions_are_shown_to_owners_alone(store: MemoryStore) -> None:
    ann, bob = user(store, "ann"), user(store, "bob")
    ann.set("key", b"data")
    ann.update_permissions("key", {"read": {"public"}})
    permissions = {"owned": {"ann"}, "read": {"public"}}
    assert ann.record("key").permissions == ann.get("key").permissions == permissions
    value = bob.get("key")
    assert (value.record.permissions, value.read()) == (None, b"data")
    with pytest.raises(AuthorizationError):
        _ = value.permissions
    assert bob.record("key").permissions is None
    assert all(record.permissions is None for record in bob.versions("key"))


def test_who_writes_without_reading_is_told_nothing(store: MemoryStore) -> None:
    user(store, "ann").set("key", b"", metadata={"secret": 1})
    store.update_permissions("key", {"write": {"bob"}})
    bob = user(store, "bob")
    events: list[StoreUpdateEvent] = []
    with bob.events.connected_to(StoreUpdateEvent, events.append):
        bob.update_metadata("key", {"more": 2})
    assert [event.metadata for event in events] == [{"more": 2}]
    assert store.get_metadata("key") == {"secret": 1, "more": 2}
    assert not bob.exists("key")


class Between(MemoryStore):
    """Lets a test act between the look at the permissions and what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.act: Callable[[], object] | None = None

    def _write(self, key: str, change: Change) -> Any:
        self._acted()
        return super()._write(key, change)

    def _delete(self, key: str, condition: Any) -> Any:
        self._acted()
        return super()._delete(key, condition)

    def _acted(self) -> None:
        act, self.act = self.act, None
        if act is not None:
            act()


@pytest.fixture
def between() -> Iterator[Between]:
    with Between() as store:
        store.set("key", b"old")
        store.set_permissions("key", {"owned": {"ann"}, "read": {"bob"}, "write": {"bob"}})
        yield store


@pytest.mark.parametrize("what", ["set", "update_metadata", "delete"])
def test_a_right_that_is_taken_meanwhile_is_gone(between: Between, what: str) -> None:
    bob = AuthorizedStore(between, "bob")
    between.act = lambda: between.set_permissions("key", {"owned": {"ann"}, "read": {"bob"}})
    with pytest.raises(AuthorizationError):
        CHANGING[what](bob)
    assert between.act is None
    assert (between.to_bytes("key"), between.get_metadata("key")) == (b"old", {})


def test_a_key_that_another_one_makes_meanwhile_is_his(between: Between) -> None:
    bob = AuthorizedStore(between, "bob")
    between.act = lambda: AuthorizedStore(between, "ann").set("new", b"ann")
    with pytest.raises(AuthorizationError):
        bob.set("new", b"bob")
    assert between.to_bytes("new") == b"ann"
    between.act = lambda: between.delete("key")
    bob.set("key", b"bob")  # it is another one by now
    assert between.get_permissions("key") == {"owned": {"bob"}}


def test_other_changes_meanwhile_are_no_matter(between: Between) -> None:
    bob = AuthorizedStore(between, "bob")
    between.act = lambda: between.set_metadata("key", {"theirs": 1})
    bob.update_metadata("key", {"mine": 1})
    assert between.get_metadata("key") == {"theirs": 1, "mine": 1}
    revision = between.record("key").revision
    between.act = lambda: between.set_metadata("key", {"theirs": 2})
    with pytest.raises(ConflictError):
        bob.set("key", b"new", if_match=revision)
    between.act = lambda: between.set_metadata("key", {"theirs": 3})
    bob.delete("key")
    assert not between.exists("key")


def test_data_that_can_be_read_once_are_not_read_twice(between: Between) -> None:
    bob = AuthorizedStore(between, "bob")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        between.set_metadata("key", {"theirs": 1})

    with pytest.raises(UnavailableError):
        bob.set_data("key", pieces())
    assert between.to_bytes("key") == b"old"
    between.act = lambda: between.set_metadata("key", {"theirs": 2})
    bob.set_data("key", iter([b"new"]))  # they had not been touched when it was refused
    assert between.to_bytes("key") == b"new"


def test_changes_without_end_are_given_up(between: Between) -> None:
    bob = AuthorizedStore(between, "bob")

    def again() -> None:
        between.set_metadata("key", {})
        between.act = again

    between.act = again
    with pytest.raises(UnavailableError, match="'key' was changed by others"):
        bob.set_metadata("key", {"mine": 1})


def test_deletions_are_told_to_who_might_read(store: MemoryStore) -> None:
    ann, bob = user(store, "ann"), user(store, "bob")
    ann.set("shared", b"", metadata={"a": 1})
    ann.update_permissions("shared", {"read": {"bob"}})
    ann.set("secret", b"", metadata={"s": 1})
    ann.delete("shared")
    ann.delete("secret")
    assert [(entry.action, entry.key) for entry in bob.changes()] == [
        ("update", "shared"),
        ("delete", "shared"),
    ]
    bob.set("secret", b"mine")  # another one, whose past is not Bob's
    told = [(entry.action, entry.key, entry.metadata) for entry in bob.changes()]
    assert told[2:] == [("set", "secret", {})]
    told = [(entry.action, entry.key, entry.metadata) for entry in ann.changes()]
    assert told[-1] == ("delete", "secret", {"s": 1})
    ann.set("shared", b"")
    ann.update_permissions("shared", {"read": {"bob"}})
    store.delete("shared")  # by somebody who knows nothing of users, as another process may be
    assert [(entry.action, entry.key) for entry in bob.changes()][-1] == ("delete", "shared")
    assert all(entry.permissions is None for entry in bob.changes() if entry.key == "shared")


def test_versions_of_others_stay_hidden() -> None:
    with MemoryStore(keep_versions=5) as store:
        ann, bob = user(store, "ann"), user(store, "bob")
        secret = ann.set("key", b"secret")
        ann.set("key", b"open")
        ann.update_permissions("key", {"read": {"bob"}})
        assert [record.size for record in bob.versions("key")] == [4]
        with pytest.raises(KeyNotFoundError):
            bob.get("key", version=str(secret))
        shown = bob.record("key").revision
        ann.delete("key")
        assert [record.revision for record in bob.versions("key")] == [shown]
        bob.set("key", b"bob")
        assert ann.versions("key") == []
        with pytest.raises(KeyNotFoundError):
            bob.restore("key", str(secret))


class Racing(MemoryStore):
    """Somebody comes between the look at the rights and the restoring."""

    meanwhile: Callable[[], object] | None = None

    def _restore(self, key: str, version: str, condition: Condition) -> Written:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super()._restore(key, version, condition)


def test_what_is_restored_is_what_was_allowed_then() -> None:
    with Racing(keep_versions=3) as store:
        ann, bob = user(store, "ann"), user(store, "bob")
        first = str(ann.set("key", b"one"))
        shared = {"owned": {"ann"}, "read": {"bob"}, "write": {"bob"}}
        second = str(ann.set_permissions("key", shared))
        with pytest.raises(KeyNotFoundError):  # he could not read it then
            bob.restore("key", first)
        with pytest.raises(ConflictError):
            bob.restore("key", second, if_match=first)
        store.meanwhile = lambda: ann.set("key", b"two")
        bob.restore("key", second)
        assert store.to_bytes("key") == b"one"
        store.meanwhile = lambda: ann.set_permissions("key", {"owned": {"ann"}, "read": {"bob"}})
        with pytest.raises(AuthorizationError):
            bob.restore("key", second)
        for number in range(3):
            ann.set_metadata("key", {"n": number})
        with pytest.raises(KeyNotFoundError):
            ann.restore("key", second)


def test_a_restored_key_belongs_to_who_restores_it() -> None:
    with MemoryStore(keep_versions=5) as store:
        ann = user(store, "ann")
        revision = ann.set("key", b"data")
        ann.delete("key")
        ann.restore("key", str(revision))
        assert store.get_permissions("key") == {"owned": {"ann"}}


def test_threads_of_users_do_not_mix(store: MemoryStore) -> None:
    users = [user(store, f"user {number}") for number in range(4)]

    def work(mine: AuthorizedStore) -> int:
        made = 0
        for number in range(20):
            try:
                mine.set(f"k{number}", mine.user_tag().encode())
                made += 1
            except AuthorizationError:
                assert not mine.exists(f"k{number}")
        return made

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, users)) == 20
    for number in range(20):
        owner = store.to_bytes(f"k{number}").decode()
        assert store.get_permissions(f"k{number}") == {"owned": {owner}}


def test_who_the_user_is(store: MemoryStore) -> None:
    ann = user(store, "ann", "staff")
    assert ann.user_tag() == "ann"
    assert ann.is_connected()
    with pytest.raises(InvalidRequestError):
        ann.connect("eve")
    assert store.user_tag() == "root"
    clone = pickle.loads(pickle.dumps(ann))
    store.set("key", b"")
    assert clone.user_tag() == "ann"
    for wrong in ("", 5):
        with pytest.raises(InvalidPermissionsError):
            AuthorizedStore(store, wrong)
    with pytest.raises(InvalidPermissionsError):
        AuthorizedStore(store, "ann", "staff")
