"""Conditions and changes: what may happen to a key, and what comes of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from kvstore.errors import (
    ConflictError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    TooLargeError,
)
from kvstore.streams import Source
from kvstore.values import BytesOpener, Record, Value
from kvstore.writes import ALWAYS, Change, Condition, Written, missing, schema_check
from tests.cases import each

OLD = Record(
    "k", {"a": 1, "o": {"x": 1}}, 3, revision="r1", permissions={"owned": {"me"}, "read": {"you"}}
)


def value(revision: str | None) -> Value:
    return Value(Record("k", {}, 0, revision=revision), BytesOpener(b""))


# -- conditions ------------------------------------------------------------------------------


def test_no_condition() -> None:
    assert Condition.of(None, None) is ALWAYS
    assert not ALWAYS
    ALWAYS.check("k", None, exists=False)
    ALWAYS.check("k", "r1", exists=True)


@each(
    "if_match, if_none_match, condition",
    [
        ("r1", None, Condition("r1")),
        ("*", None, Condition("*")),
        (value("r1"), None, Condition("r1")),
        (OLD, None, Condition("r1")),
        (None, "*", Condition(create_only=True)),
        ("r1", "*", Condition("r1", create_only=True)),
    ],
)
def test_conditions_from_arguments(if_match: Any, if_none_match: Any, condition: Any) -> None:
    assert Condition.of(if_match, if_none_match) == condition
    assert condition


@each(
    "if_match, if_none_match, culprit",
    [
        ("", None, "if_match is a revision or a Value with one, not ''"),
        (5, None, "if_match is a revision or a Value with one, not 5"),
        (b"r1", None, "if_match"),
        (True, None, "if_match"),
        (["r1"], None, "if_match"),
        (value(None), None, "if_match is a revision or a Value with one, not <Value 'k'"),
        (value(""), None, "if_match"),
        (None, "r1", r"if_none_match is '\*' \(create only\), not 'r1'"),
        (None, True, "if_none_match"),
        (None, value("r1"), "if_none_match"),
        ("r1", "", "if_none_match"),
    ],
)
def test_no_conditions(if_match: Any, if_none_match: Any, culprit: str) -> None:
    with pytest.raises(InvalidRequestError, match=culprit):
        Condition.of(if_match, if_none_match)


@each(
    "condition, revision, exists, reason",
    [
        (Condition("r1"), "r1", True, None),
        (Condition("r1"), "r2", True, "The key 'k' is at revision r2, not 'r1'"),
        (Condition("r1"), None, True, "The key 'k' is at revision None, not 'r1'"),
        (Condition("r1"), None, False, "does not exist"),
        (Condition("*"), "r1", True, None),
        (Condition("*"), None, True, None),
        (Condition("*"), None, False, "does not exist"),
        (Condition(create_only=True), None, False, None),
        (Condition(create_only=True), "r1", True, "The key exists already: 'k'"),
        (Condition("r1", create_only=True), "r1", True, "exists already"),
        (Condition("r1", create_only=True), None, False, "does not exist"),
    ],
)
def test_what_a_condition_lets_through(
    condition: Condition, revision: str | None, exists: bool, reason: str | None
) -> None:
    if reason is None:
        condition.check("k", revision, exists=exists)
        return
    with pytest.raises(ConflictError, match=reason) as caught:
        condition.check("k", revision, exists=exists)
    assert caught.value.key == "k"


def test_a_conflict_is_told_in_few_words() -> None:
    with pytest.raises(ConflictError) as caught:
        Condition("é" * 10_000).check("k", "r", exists=True)
    assert len(caught.value.message) < 200
    assert caught.value.message.isascii()


# -- changes ---------------------------------------------------------------------------------

DATA = Source(b"abc")


@each(
    "change, needs",
    [
        (Change(data=DATA), False),
        (Change(metadata={}), False),
        (Change(data=DATA, metadata={}), False),
        (Change(data=DATA, permissions={"owned": {"me"}}), False),
        (Change(permissions={"owned": {"me"}}), True),
        (Change(permissions={"read": {"me"}}, merge=True), True),
        (Change(metadata={}, merge=True), True),
        (Change(), True),
    ],
)
def test_what_needs_a_key_that_is_there(change: Change, needs: bool) -> None:
    assert change.needs_key is needs
    change.check("k", OLD)
    if needs:
        with pytest.raises(KeyNotFoundError, match=r"^There is no key 'k'") as caught:
            change.check("k", None)
        assert caught.value.key == "k"
    else:
        change.check("k", None)


def test_a_change_checks_its_condition() -> None:
    change = Change(metadata={}, condition=Condition("r1"))
    change.check("k", OLD)
    with pytest.raises(ConflictError):
        change.check("k", Record("k", {}, 0, revision="r2"))
    with pytest.raises(ConflictError):
        change.check("k", None)
    # That a key is missing goes before what was asked of it.
    with pytest.raises(KeyNotFoundError):
        Change(metadata={}, merge=True, condition=Condition("r1")).check("k", None)


@each(
    "change, old, metadata",
    [
        (Change(data=DATA), None, {}),
        (Change(data=DATA), OLD, {"a": 1, "o": {"x": 1}}),
        (Change(metadata={"b": 2}), None, {"b": 2}),
        (Change(metadata={"b": 2}), OLD, {"b": 2}),
        (Change(metadata={}), OLD, {}),
        (Change(metadata={"b": 2}, merge=True), OLD, {"a": 1, "o": {"x": 1}, "b": 2}),
        (Change(metadata={"a": None}, merge=True), OLD, {"a": None, "o": {"x": 1}}),
        (Change(metadata={"o": {}}, merge=True), OLD, {"a": 1, "o": {}}),  # not deeply
        (Change(metadata={}, merge=True), OLD, {"a": 1, "o": {"x": 1}}),
        (Change(permissions={"owned": {"me"}}), OLD, {"a": 1, "o": {"x": 1}}),
    ],
)
def test_new_metadata(change: Change, old: Record | None, metadata: dict[str, Any]) -> None:
    assert change.new_metadata(old) == metadata
    assert OLD.metadata == {"a": 1, "o": {"x": 1}}


def test_updates_cannot_make_metadata_too_large() -> None:
    old = Record("k", {"a": "x" * 600_000}, 0)
    assert Change(metadata={"b": "x" * 400_000}, merge=True).new_metadata(old)
    assert Change(metadata={"a": "y" * 600_000}, merge=True).new_metadata(old)
    with pytest.raises(TooLargeError):
        Change(metadata={"b": "x" * 600_000}, merge=True).new_metadata(old)


@each(
    "change, old, permissions",
    [
        (Change(data=DATA), None, {"owned": {"new"}}),
        (Change(data=DATA), OLD, {"owned": {"me"}, "read": {"you"}}),
        (Change(data=DATA), Record("k", {}, 0), {"owned": {"new"}}),
        (Change(data=DATA, permissions={"owned": {"x"}}), None, {"owned": {"x"}}),
        (Change(permissions={"owned": {"x"}}), OLD, {"owned": {"x"}}),
        (
            Change(permissions={"owned": {"x"}, "write": {"y"}}, merge=True),
            OLD,
            {"owned": {"me", "x"}, "read": {"you"}, "write": {"y"}},
        ),
        (Change(permissions={}, merge=True), OLD, {"owned": {"me"}, "read": {"you"}}),
        (Change(permissions={"read": set()}, merge=True), OLD, {"owned": {"me"}, "read": {"you"}}),
        (Change(permissions={"a": {"b"}}, merge=True), Record("k", {}, 0), {"a": {"b"}}),
        (Change(metadata={}, merge=True), OLD, {"owned": {"me"}, "read": {"you"}}),
    ],
)
def test_new_permissions(change: Change, old: Record | None, permissions: dict[str, Any]) -> None:
    assert change.new_permissions(old, "new") == permissions
    assert OLD.permissions == {"owned": {"me"}, "read": {"you"}}


def test_values_are_frozen() -> None:
    for frozen in (ALWAYS, Change(), Written("r1", existed=True)):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, frozen.__slots__[0], None)  # type: ignore[attr-defined]


def test_missing() -> None:
    error = missing("a\nb")
    assert isinstance(error, KeyNotFoundError)
    assert (str(error), error.key) == ("There is no key 'a\\nb'.", "a\nb")


# -- the schema of a store -------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "integer"}, "list": {"items": {"maximum": 3}}},
}


def test_no_schema_is_no_check() -> None:
    assert schema_check(None) is None
    with pytest.raises(InvalidRequestError, match="no JSON Schema"):
        schema_check({"type": "nosuch"})


@pytest.mark.parametrize(
    ("metadata", "pointer", "reason"),
    [
        ({}, "", "schema at '/': 'a' is a required property"),
        ({"a": "x"}, "/a", "schema at '/a': 'x' is not of type 'integer'"),
        ({"a": 1, "list": [1, 5]}, "/list/1", "5 is greater than the maximum of 3"),
    ],
)
def test_the_schema_says_where(metadata: dict[str, Any], pointer: str, reason: str) -> None:
    check = schema_check(SCHEMA)
    assert check is not None
    check({"a": 1, "list": [1]})
    with pytest.raises(InvalidMetadataError, match=reason) as caught:
        check(metadata)
    assert (caught.value.pointer, caught.value.status) == (pointer, 422)


@each(
    "change, old, fits",
    [
        (Change(metadata={"a": 1}), None, True),
        (Change(metadata={"a": "x"}), None, False),
        (Change(metadata={}), OLD, False),
        (Change(metadata={"list": [9]}, merge=True), OLD, False),
        (Change(metadata={"list": [1]}, merge=True), OLD, True),
        (Change(metadata={"a": None}, merge=True), OLD, False),
        # A new key gets {}, which may not fit; data alone leaves what was there unasked.
        (Change(data=DATA), None, False),
        (Change(data=DATA), Record("k", {}, 0), True),
    ],
)
def test_what_would_be_stored_must_fit(change: Change, old: Record | None, fits: bool) -> None:
    checked = Change(
        data=change.data,
        metadata=change.metadata,
        merge=change.merge,
        check_metadata=schema_check(SCHEMA),
    )
    if fits:
        assert checked.new_metadata(old) == change.new_metadata(old)
    else:
        with pytest.raises(InvalidMetadataError):
            checked.new_metadata(old)
