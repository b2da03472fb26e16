"""Values, byte ranges and permissions."""

from __future__ import annotations

import enum
import io
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from types import MappingProxyType
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.errors import (
    InvalidPermissionsError,
    InvalidRequestError,
    RangeError,
    UnsupportedOperationError,
)
from kvstore.values import (
    BUFFER_SIZE,
    DEFAULT_MIMETYPE,
    BytesOpener,
    Permissions,
    Record,
    Value,
    check_buffer_size,
    check_mimetype,
    check_permissions,
    check_range,
    copy_permissions,
    permissions_document,
    resolve_range,
)
from tests.cases import each

patient = settings(deadline=None)
bounds = st.none() | st.integers(-3, 12)

RECORD = Record(
    key="runs/1",
    metadata={"exposure": 1.5, "tags": ["a"]},
    size=6,
    created=1.0,
    modified=2.0,
    mimetype="text/plain",
    revision="r1",
    digest="sha256:00",
    permissions={"owned": {"me"}, "read": {"public"}},
)


class Opener(BytesOpener):
    """Opener that remembers what it gave out, and that it was closed."""

    __slots__ = ("closed", "streams")

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "runs/1")
        self.streams: list[BinaryIO] = []
        self.closed = 0

    def __call__(self, start: int | None, end: int | None) -> BinaryIO:
        stream = super().__call__(start, end)
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def opener() -> Opener:
    return Opener(b"abcdef")


@pytest.fixture
def value(opener: Opener) -> Value:
    return Value(RECORD, opener)


# -- ranges ----------------------------------------------------------------------------------


@given(bounds, bounds, st.integers(0, 9))
def test_a_range_is_a_slice_or_an_error(start: int | None, end: int | None, size: int) -> None:
    data = bytes(range(size))
    negative = any(bound is not None and bound < 0 for bound in (start, end))
    backwards = end is not None and (start or 0) > end
    behind = (start or 0) > size
    if negative or backwards or behind:
        with pytest.raises(RangeError):
            resolve_range(start, end, size)
        return
    first, last = resolve_range(start, end, size)
    assert 0 <= first <= last <= size
    assert data[first:last] == data[start:end]
    assert BytesOpener(data)(start, end).read() == data[start:end]
    # What was resolved means the same, and so it does in two steps.
    assert resolve_range(first, last, size) == (first, last)
    assert check_range(start, end) == (start or 0, end)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_adjacent_ranges_make_the_whole(size: int, cut: int, other: int) -> None:
    data = bytes(range(size))
    first, second = sorted((min(cut, size), min(other, size)))
    opener = BytesOpener(data)
    parts = [opener(None, first), opener(first, second), opener(second, None)]
    assert b"".join(part.read() for part in parts) == data


@each("bound", [-1, 1.0, "1", b"1", True, False, [0], 2.5])
def test_bounds_are_integers(bound: Any) -> None:
    for start, end in ((bound, None), (None, bound)):
        for check in (lambda s, e: check_range(s, e, key="k"), lambda s, e: opened(s, e)):
            with pytest.raises(RangeError, match="integers from 0, or None, not ") as caught:
                check(start, end)
            assert caught.value.key == "k"


def opened(start: Any, end: Any) -> BinaryIO:
    return BytesOpener(b"abc", "k")(start, end)


def test_a_range_error_says_why() -> None:
    with pytest.raises(RangeError, match="begins at 4, behind the data of 3 bytes") as caught:
        opened(4, None)
    assert (caught.value.size, caught.value.key) == (3, "k")
    with pytest.raises(RangeError, match="ends at 1, before its start 2"):
        opened(2, 1)
    with pytest.raises(RangeError) as long:
        check_range(None, "x" * 10_000)  # type: ignore[arg-type]
    assert len(long.value.message) < 200


def test_an_end_behind_the_data_and_an_empty_range() -> None:
    assert opened(1, 10**30).read() == b"bc"
    assert opened(3, None).read() == b""
    assert opened(3, 10**30).read() == b""
    assert opened(0, 0).read() == b""


# -- values ----------------------------------------------------------------------------------


def test_tells_what_the_record_says(value: Value) -> None:
    assert value.record is RECORD
    assert value.key == "runs/1"
    assert value.size == 6
    assert (value.created, value.modified) == (1.0, 2.0)
    assert (value.mimetype, value.revision, value.digest) == ("text/plain", "r1", "sha256:00")
    assert repr(value) == "<Value 'runs/1', 6 bytes, revision 'r1'>"


def test_defaults_of_a_record() -> None:
    record = Record("k", {}, 0)
    assert (record.created, record.modified, record.revision, record.digest) == (None,) * 4
    assert record.mimetype == DEFAULT_MIMETYPE == "application/octet-stream"
    assert record.permissions is None
    with pytest.raises(FrozenInstanceError):
        record.size = 1  # type: ignore[misc]


def test_metadata_is_a_copy_of_its_own(value: Value) -> None:
    value.metadata["tags"].append("b")
    value.metadata["new"] = 1
    assert value.metadata == {"exposure": 1.5, "tags": ["a", "b"], "new": 1}
    assert RECORD.metadata == {"exposure": 1.5, "tags": ["a"]}


def test_permissions_are_a_copy(value: Value) -> None:
    value.permissions["owned"].add("you")
    assert value.permissions == {"owned": {"me"}, "read": {"public"}}


def test_permissions_are_asked_for_where_the_record_has_none(opener: Opener) -> None:
    record = replace(RECORD, permissions=None)
    asked: list[int] = []

    def ask() -> Permissions:
        asked.append(1)
        return {"owned": {"me"}}

    value = Value(record, opener, ask)
    assert not asked
    assert value.permissions == {"owned": {"me"}}
    with pytest.raises(UnsupportedOperationError, match="'runs/1'") as caught:
        _ = Value(record, opener).permissions
    assert caught.value.key == "runs/1"


def test_data_is_one_stream(value: Value, opener: Opener) -> None:
    assert value.data is value.data
    assert value.data.read(2) == b"ab"
    assert value.data.read() == b"cdef"
    assert len(opener.streams) == 1


def test_other_streams_are_independent(value: Value) -> None:
    value.data.read(3)
    assert value.range(1, 3).read() == b"bc"
    assert value.range().read() == b"abcdef"
    assert value.open().read() == b"abcdef"
    assert value.read() == b"abcdef"
    assert value.data.read() == b"def"


def test_read_closes_its_stream(value: Value, opener: Opener) -> None:
    assert value.read() == b"abcdef"
    assert [stream.closed for stream in opener.streams] == [True]


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, BUFFER_SIZE])
def test_iterdata(value: Value, opener: Opener, size: int) -> None:
    steps: list[tuple[int, int]] = []
    pieces = list(value.iterdata(size, lambda done, total: steps.append((done, total))))
    assert b"".join(pieces) == b"abcdef"
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert 0 < len(pieces[-1]) <= size
    assert steps == [(min(n * size, 6), 6) for n in range(1, len(pieces) + 1)]
    assert opener.streams[0].closed


def test_iterdata_of_nothing() -> None:
    steps: list[Any] = []
    empty = Value(Record("k", {}, 0), BytesOpener(b""))
    assert list(empty.iterdata(progress=lambda *step: steps.append(step))) == []
    assert steps == []


def test_iterdata_given_up_closes_its_stream(value: Value, opener: Opener) -> None:
    pieces = value.iterdata(2)
    assert next(pieces) == b"ab"
    pieces.close()  # type: ignore[attr-defined]
    assert opener.streams[0].closed


def test_progress_can_end_iterdata(value: Value, opener: Opener) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(value.iterdata(2, stop))
    assert opener.streams[0].closed


@pytest.mark.parametrize("size", [0, -1, 1.0, "1", None, True])
def test_buffer_sizes_are_positive(value: Value, opener: Opener, size: Any) -> None:
    # At once, and not when the first piece is asked for: a size of 0 would yield nothing at all.
    with pytest.raises(InvalidRequestError, match="A buffer size is a positive number of bytes"):
        value.iterdata(size)
    with pytest.raises(InvalidRequestError, match=r"bytes, not .+\.$"):
        check_buffer_size(size)
    assert opener.streams == []
    assert check_buffer_size(1) == 1


def test_unpacks_as_data_and_metadata(value: Value) -> None:
    data, metadata = value
    assert data is value.data
    assert metadata is value.metadata
    assert len(value) == 2
    assert value[0] is value[-2] is data
    assert value[1] is value[-1] is metadata
    for index in (2, -3):
        with pytest.raises(IndexError):
            value[index]


def test_to_look_at_the_metadata_opens_nothing(value: Value, opener: Opener) -> None:
    assert value[1] == {"exposure": 1.5, "tags": ["a"]}
    assert value.metadata["exposure"] == 1.5
    assert opener.streams == []


def test_is_true_even_when_empty() -> None:
    assert Value(Record("k", {}, 0), BytesOpener(b""))


def test_with_gives_the_data_and_closes(value: Value, opener: Opener) -> None:
    with value as stream:
        assert stream is value.data
        assert stream.read(1) == b"a"
    assert stream.closed
    assert opener.closed == 1


def test_close_is_idempotent_and_needs_no_stream(value: Value, opener: Opener) -> None:
    value.close()
    value.close()
    assert opener.streams == []
    assert opener.closed == 2
    Value(RECORD, BytesOpener(b"")).close()  # whose opener holds nothing


# -- media types -----------------------------------------------------------------------------


@pytest.mark.parametrize("mimetype", ["text/plain", "text/plain; charset=utf-8", "x", "a" * 255])
def test_media_types(mimetype: str) -> None:
    assert check_mimetype(mimetype) == mimetype
    assert check_mimetype(None) is None


@each("mimetype", ["", "a" * 256, "text/plain\r\nX: y", "text/é", "a\0", "a\x7f", 5, b"text/plain"])
def test_what_no_header_can_carry_is_no_media_type(mimetype: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^A media type is 1 to 255 printable") as caught:
        check_mimetype(mimetype)
    assert caught.value.message.isprintable()


# -- permissions -----------------------------------------------------------------------------


class _Tag(str, enum.Enum):  # noqa: UP042 - its str() is the name, unlike that of StrEnum
    ME = "me"


@each(
    "given_, checked",
    [
        ({"owned": {"me"}}, {"owned": {"me"}}),
        ({"owned": ["me", "me", "you"]}, {"owned": {"me", "you"}}),
        ({"owned": ("me",), "read": frozenset(), "x y": {"": 1}.keys() - {""}}, None),
        (MappingProxyType({"owned": {"me": 1}.keys()}), {"owned": {"me"}}),
        ({_Tag.ME: {_Tag.ME}, "owned": {"a"}}, {"me": {"me"}, "owned": {"a"}}),
        ({"owned": {"é" * 256}, "q" * 256: {"😀"}}, None),
    ],
)
def test_permissions(given_: Mapping[str, Any], checked: Permissions | None) -> None:
    expected = checked or {name: set(tags) for name, tags in given_.items()}
    permissions = check_permissions(given_, complete=True)
    assert permissions == expected
    assert type(permissions) is dict
    assert {type(tags) for tags in permissions.values()} == {set}
    assert {type(text) for tags in permissions.values() for text in tags} == {str}
    assert {type(name) for name in permissions} == {str}


def test_permissions_are_copied_when_checked() -> None:
    mine: Permissions = {"owned": {"me"}}
    checked = check_permissions(mine, complete=True)
    mine["owned"].add("you")
    mine["read"] = {"public"}
    assert checked == {"owned": {"me"}}


@each(
    "permissions, reason",
    [
        (None, "dict of str to set of str, not None"),
        ([("owned", ["me"])], "dict of str to set of str, not "),
        ({"owned": "me"}, "tags of permission 'owned' are a set of str, not 'me'"),
        ({"owned": None}, "tags of permission 'owned'"),
        ({"owned": {"me": 1}}, "tags of permission 'owned'"),
        ({"owned": {"me"}, "read": iter(["a"])}, "tags of permission 'read'"),
        ({"owned": ["me", 1]}, "not valid at '/owned/1': 1 is not of type 'string'"),
        ({"owned": [["me"]]}, "/owned/0"),
        ({"owned": {"me"}, 5: {"me"}}, "Names of permissions are str"),
        ({"owned": {"me"}, "": {"me"}}, "not valid at "),
        ({"owned": {""}}, "/owned/0"),
        ({"owned": {"x" * 257}}, "/owned/0"),
        ({"owned": {"me"}, "q" * 257: set()}, "not valid at "),
        ({"owned": [str(n) for n in range(10_001)]}, "/owned"),
        ({"owned": {"a\ud800"}}, "no lone surrogate"),
        ({"owned": {"me"}, "r\udfff": set()}, "no lone surrogate"),
    ],
)
@each("complete", [True, False])
def test_no_permissions(permissions: Any, reason: str, complete: bool) -> None:
    with pytest.raises(InvalidPermissionsError, match=reason) as caught:
        check_permissions(permissions, complete=complete)
    assert len(caught.value.message) < 400
    assert caught.value.message.encode()


@pytest.mark.parametrize("permissions", [{}, {"owned": set()}, {"read": {"me"}}])
def test_only_complete_permissions_need_an_owner(permissions: Permissions) -> None:
    assert check_permissions(permissions, complete=False) == permissions
    with pytest.raises(InvalidPermissionsError, match="'owned' with at least one tag"):
        check_permissions(permissions, complete=True)


tags = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5))
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@patient
@given(st.dictionaries(names, tags, max_size=4))
def test_permissions_survive_the_trip(permissions: Permissions) -> None:
    document = permissions_document(permissions)
    assert list(document) == sorted(permissions)
    assert all(sent == sorted(sent) for sent in document.values())
    assert check_permissions(document, complete=False) == permissions


def test_copy_permissions() -> None:
    mine: Permissions = {"owned": {"me"}}
    copy = copy_permissions(mine)
    copy["owned"].add("you")
    assert mine == {"owned": {"me"}}


def test_bytes_opener_gives_independent_streams() -> None:
    opener = BytesOpener(b"abc")
    first, second = opener(None, None), opener(None, None)
    assert first.read(1) == b"a"
    assert second.read() == b"abc"
    assert isinstance(first, io.BytesIO)
