"""A Hypothesis state machine: a store and a plain dict live through the same history."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvstore import AuthorizingStore, ConflictError, KeyNotFoundError, RangeError, Store
from kvstore.testing import strategies
from kvstore.testing.oracle import equal, holds

_FIELDS = ("a", "b", "c")
_KEYS = st.integers(0, 5)
_METADATA = strategies.metadata(fields=_FIELDS)
_DATA = strategies.data()
_BOUNDS = st.none() | st.integers(0, 400)
_TAGS = st.frozensets(st.sampled_from(["x", "y", "\u00e9", "public"]), max_size=3)
_STEPS = st.sampled_from(["set", "set_data", "set_metadata", "update_metadata", "delete"])

#: Bounded, so that a machine takes seconds; where ``CI`` is set every run does the same.
SETTINGS = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


@dataclass
class Entry:
    """What the model knows of a key."""

    data: bytes
    metadata: dict[str, Any]
    permissions: dict[str, set[str]]


class _StoppedError(Exception):
    """What leaves a transaction that is to be rolled back."""


def store_machine(make_store: Callable[[], Store]) -> type[StoreMachine]:
    """Return a state machine class for the stores that *make_store* makes.

    ``TestHistory = store_machine(make_store).TestCase`` puts it into a test module.

    Args:
        make_store: returns a fresh and empty store, many times; each is disconnected.
    """
    namespace = {"make_store": staticmethod(make_store), "__doc__": StoreMachine.__doc__}
    machine = cast(type[StoreMachine], type("Machine", (StoreMachine,), namespace))
    machine.TestCase.settings = SETTINGS
    return machine


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to a dict, and compares them after each step."""

    make_store: Callable[[], Store]

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        if not self.store.is_connected():
            self.store.connect()
        self.info = self.store.info()
        self.model: dict[str, Entry] = {}
        self.stale: list[str] = []
        self.keys: list[str] = []
        self.owner = {"owned": {self._authorizing.user_tag()}} if self.info["authorizing"] else {}

    @property
    def _authorizing(self) -> AuthorizingStore:
        return cast(AuthorizingStore, self.store)

    @initialize(odd=st.lists(strategies.keys(), max_size=3, unique=True))
    def choose_keys(self, odd: list[str]) -> None:
        """Few keys, so that what is done meets what was done."""
        self.keys = (list(dict.fromkeys([*odd, "a", "a/b", "A", "a/", "b", "\u00e9"])))[:6]

    # -- writes ----------------------------------------------------------------------------

    @rule(number=_KEYS, data=_DATA, metadata=_METADATA, form=st.integers(0, 3))
    def set(self, number: int, data: bytes, metadata: dict[str, Any], form: int) -> None:
        """``set``, with data and metadata in one of the forms they may have."""
        key = self.keys[number]
        forms: list[Any] = [
            data,
            (data, metadata),
            io.BytesIO(data),
            (data[i : i + 99] for i in range(0, len(data), 99)),
        ]
        self._remember(key)
        revision = self.store.set(key, forms[form], metadata=None if form == 1 else metadata)
        self._put(key, data, metadata)
        self._check_revision(key, revision)

    @rule(number=_KEYS, data=_DATA)
    def set_data(self, number: int, data: bytes) -> None:
        """``set_data``."""
        self._do("set_data", self.keys[number], data, {})

    @rule(number=_KEYS, metadata=_METADATA)
    def set_metadata(self, number: int, metadata: dict[str, Any]) -> None:
        """``set_metadata``."""
        self._do("set_metadata", self.keys[number], b"", metadata)

    @rule(number=_KEYS, metadata=_METADATA)
    def update_metadata(self, number: int, metadata: dict[str, Any]) -> None:
        """``update_metadata``; of a missing key it is an error."""
        self._do("update_metadata", self.keys[number], b"", metadata)

    @rule(number=_KEYS)
    def delete(self, number: int) -> None:
        """``delete``; of a missing key it is an error."""
        self._do("delete", self.keys[number], b"", {})

    @rule(number=_KEYS, step=_STEPS, data=_DATA, metadata=_METADATA, stale=st.integers(0, 9))
    def write_if_match(
        self, number: int, step: str, data: bytes, metadata: dict[str, Any], stale: int
    ) -> None:
        """A write under a revision: it happens if it is the current one, else nothing does."""
        key = self.keys[number]
        if not self.info["conditional"]:
            return
        if stale < len(self.stale) or key not in self.model:
            revision = self.stale[stale] if stale < len(self.stale) else "*"
            missing = KeyNotFoundError if step in ("update_metadata", "delete") else ConflictError
            with pytest.raises(ConflictError if key in self.model else (ConflictError, missing)):
                self._call(step, key, data, metadata, if_match=revision)
            return
        value = self.store.get(key)
        value.close()
        self._do(step, key, data, metadata, if_match=value)

    @rule(number=_KEYS, data=_DATA, metadata=_METADATA)
    def create(self, number: int, data: bytes, metadata: dict[str, Any]) -> None:
        """``set`` of new keys alone."""
        key = self.keys[number]
        if not self.info["conditional"]:
            return
        if key in self.model:
            with pytest.raises(ConflictError):
                self.store.set(key, data, metadata=metadata, if_none_match="*")
            return
        self.store.set(key, data, metadata=metadata, if_none_match="*")
        self._put(key, data, metadata)

    @rule(number=_KEYS, read=_TAGS, write=_TAGS, replace=st.booleans())
    def permit(
        self, number: int, read: frozenset[str], write: frozenset[str], replace: bool
    ) -> None:
        """``set_permissions`` and ``update_permissions``."""
        key = self.keys[number]
        if not self.info["authorizing"]:
            return
        given = {"read": set(read), "write": set(write), **(self.owner if replace else {})}
        store = self._authorizing
        change = store.set_permissions if replace else store.update_permissions
        if key not in self.model:
            with pytest.raises(KeyNotFoundError):
                change(key, given)
            return
        self._remember(key)
        self._check_revision(key, change(key, given))
        old = {} if replace else self.model[key].permissions
        names = {*old, *given}
        self.model[key].permissions = {
            name: old.get(name, set()) | given.get(name, set()) for name in names
        }

    @rule(
        steps=st.lists(st.tuples(_STEPS, _KEYS, _DATA, _METADATA), max_size=5),
        commit=st.booleans(),
    )
    def transaction(
        self, steps: list[tuple[str, int, bytes, dict[str, Any]]], commit: bool
    ) -> None:
        """Several writes that are all kept or all undone."""
        before, stale = copy.deepcopy(self.model), list(self.stale)
        try:
            with self.store.transaction("history"):
                for step, number, data, metadata in steps:
                    self._do(step, self.keys[number], data, metadata)
                if not commit:
                    raise _StoppedError
        except _StoppedError:
            if self.info["transactions"]:
                # What was made stale is current again.
                self.model, self.stale = before, stale

    # -- reads -----------------------------------------------------------------------------

    @rule(number=_KEYS, start=_BOUNDS, end=_BOUNDS)
    def read_range(self, number: int, start: int | None, end: int | None) -> None:
        """A range gives what the slice gives, or is none."""
        key = self.keys[number]
        if key not in self.model:
            with pytest.raises((KeyNotFoundError, RangeError)):
                self.store.get_data_range(key, start, end)
            return
        data = self.model[key].data
        if (start or 0) > len(data) or (end is not None and end < (start or 0)):
            with pytest.raises(RangeError):
                self.store.get_data_range(key, start, end)
            return
        with self.store.get_data_range(key, start, end) as stream:
            assert stream.read() == data[start:end]

    @rule(number=_KEYS)
    def read(self, number: int) -> None:
        """Everything that is told of one key."""
        self._check(self.keys[number])

    @rule(
        where=strategies.filters(_FIELDS),
        prefix=st.sampled_from(["", "a", "a/", "A", "\u00e9"]),
        limit=st.none() | st.integers(0, 4),
        after=st.none() | _KEYS,
    )
    def query(
        self, where: dict[str, Any], prefix: str, limit: int | None, after: int | None
    ) -> None:
        """A query finds what the model has, in order."""
        if not {"where", "prefix", "limit", "after"} <= set(self.info["queries"]):
            return
        start = None if after is None else self.keys[after]
        found = [
            key
            for key in sorted(self.model)
            if key[: len(prefix)] == prefix and holds(where, self.model[key].metadata)
        ]
        assert self.store.count(where=where, prefix=prefix) == len(found)
        page = [key for key in found if start is None or key > start][:limit]
        told = dict(self.store.query(where=where, prefix=prefix, limit=limit, after=start))
        assert list(told) == page
        assert all(equal(told[key], self.model[key].metadata) for key in page)

    @rule(name=st.sampled_from(_FIELDS), value=_METADATA)
    def query_by_keyword(self, name: str, value: dict[str, Any]) -> None:
        """A keyword finds equal JSON values."""
        wanted = next(iter(value.values()), 1)
        match: dict[str, Any] = {name: wanted}
        assert list(self.store.query_keys(**match)) == [
            key
            for key in sorted(self.model)
            if name in self.model[key].metadata and equal(self.model[key].metadata[name], wanted)
        ]

    @invariant()
    def keys_and_metadata_agree(self) -> None:
        """After each step the listing is that of the model."""
        told = list(self.store.query())
        assert [key for key, _ in told] == sorted(self.model)
        for key, metadata in told:
            assert equal(metadata, self.model[key].metadata), key

    def teardown(self) -> None:
        """Compare the rest."""
        try:
            for key in self.keys:
                self._check(key)
        finally:
            self.store.disconnect()

    # -- the model -------------------------------------------------------------------------

    def _do(self, step: str, key: str, data: bytes, metadata: dict[str, Any], **when: Any) -> None:
        if step in ("update_metadata", "delete") and key not in self.model:
            with pytest.raises(KeyNotFoundError):
                self._call(step, key, data, metadata, **when)
            return
        self._remember(key)
        revision = self._call(step, key, data, metadata, **when)
        old = self.model.get(key)
        if step == "delete":
            del self.model[key]
            return
        if step == "set_data":
            metadata = old.metadata if old is not None else {}
        elif step in ("set_metadata", "update_metadata"):
            data = old.data if old is not None else b""
        if step == "update_metadata" and old is not None:
            metadata = {**old.metadata, **metadata}
        self._put(key, data, metadata)
        self._check_revision(key, revision)

    def _call(
        self, step: str, key: str, data: bytes, metadata: dict[str, Any], **when: Any
    ) -> str | None:
        method = getattr(self.store, step)
        arguments: dict[str, tuple[Any, ...]] = {
            "set": (key, (data, metadata)),
            "set_data": (key, data),
            "set_metadata": (key, metadata),
            "update_metadata": (key, metadata),
            "delete": (key,),
        }
        return cast("str | None", method(*arguments[step], **when))

    def _put(self, key: str, data: bytes, metadata: dict[str, Any]) -> None:
        old = self.model.get(key)
        permissions = old.permissions if old is not None else dict(self.owner)
        self.model[key] = Entry(data, copy.deepcopy(metadata), permissions)

    def _remember(self, key: str) -> None:
        # The revision that the next write makes stale; ten of them are enough to try.
        if self.info["conditional"] and key in self.model and len(self.stale) < 10:
            value = self.store.get(key)
            value.close()
            self.stale.append(str(value.revision))

    def _check_revision(self, key: str, revision: str | None) -> None:
        value = self.store.get(key)
        value.close()
        assert value.revision == revision
        assert revision not in self.stale

    def _check(self, key: str) -> None:
        entry = self.model.get(key)
        assert self.store.exists(key) == (entry is not None)
        if entry is None:
            with pytest.raises(KeyNotFoundError):
                self.store.get(key)
            return
        value = self.store.get(key)
        try:
            assert value.read() == entry.data
            assert value.size == len(entry.data)
            assert equal(value.metadata, entry.metadata)
        finally:
            value.close()
        assert equal(self.store.get_metadata(key), entry.metadata)
        assert self.store.to_bytes(key) == entry.data
        if self.info["authorizing"]:
            told = self._authorizing.get_permissions(key)
            assert {name: tags for name, tags in told.items() if tags} == {
                name: tags for name, tags in entry.permissions.items() if tags
            }
