"""What the parts of the contract have in common: the factory, the fixture, and ways to look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from kvstore import AuthorizingStore, Event, Permissions, Record, Store


class ContractBase:
    """The hooks that a user of the contract gives.

    A test asks ``info()`` what the store can do, never which class it has.
    """

    def make_store(self) -> Store:
        """Return a fresh and empty store, each time another one. It is disconnected at the end."""
        raise NotImplementedError(f"{type(self).__name__} must define make_store().")

    def make_store_with_schema(self, schema: dict[str, Any]) -> Store:
        """Return a fresh store whose metadata must fit *schema*. Optional."""
        pytest.skip("make_store_with_schema() is not given")

    @pytest.fixture
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """An empty folder for a test's files; ``tmp_path`` may hold those of the store."""
        return tmp_path_factory.mktemp("contract")

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """The store under test, connected."""
        with self.make_store() as store:
            yield store


@dataclass(frozen=True)
class Content:
    """All that a store tells about a key, for comparing before and after."""

    data: bytes
    metadata: dict[str, Any]
    mimetype: str
    revision: str | None
    created: float | None
    modified: float | None
    permissions: Permissions | None


def content(store: Store, key: str) -> Content:
    """Return all that *store* tells about *key*."""
    value = store.get(key)
    try:
        permissions = None
        if store.info()["authorizing"]:
            permissions = cast(AuthorizingStore, store).get_permissions(key)
        return Content(
            value.read(),
            value.metadata,
            value.mimetype,
            value.revision,
            value.created,
            value.modified,
            permissions,
        )
    finally:
        value.close()


def facts(store: Store, key: str) -> Record:
    """Return the record of *key*, with nothing left open."""
    value = store.get(key)
    value.close()
    return value.record


def listing(store: Store) -> list[str]:
    """Return all keys, in the order in which the store lists them."""
    return list(store.query_keys())


@contextmanager
def case(name: object) -> Iterator[None]:
    """Have whatever fails during a ``with`` statement tell *name*, one of many cases of a test.

    Many cases of one rule share a test, as each test costs a store, over a network a connection.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name!a:.200}")
        raise


def needs(store: Store, capability: str) -> None:
    """Skip the test unless the store says that it has *capability*."""
    if not store.info()[capability]:
        pytest.skip(f"info() says {capability!r}: False")


def needs_queries(store: Store, *arguments: str) -> None:
    """Skip the test unless the store can answer queries with all these *arguments*."""
    lacking = set(arguments).difference(store.info()["queries"])
    if lacking:
        pytest.skip(f"info()['queries'] lacks {', '.join(sorted(lacking))}")


def authorizing(store: Store) -> AuthorizingStore:
    """Return the store as one with permissions; skip the test if it has none."""
    needs(store, "authorizing")
    return cast(AuthorizingStore, store)


@contextmanager
def recorded(store: Store, kind: type[Event] = Event) -> Iterator[list[Any]]:
    """Collect the events of *store* during a ``with`` statement; skip if it emits none."""
    needs(store, "events")
    seen: list[Any] = []
    with store.events.connected_to(kind, seen.append):
        yield seen


def same_json(a: Any, b: Any) -> bool:
    """Tell whether two JSON values are the same, ``true`` and ``1`` being different."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)
