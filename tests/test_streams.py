"""Data in all its forms on the way in, and streams that check what they carry on the way out."""

from __future__ import annotations

import array
import gc
import gzip
import hashlib
import io
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.errors import (
    IntegrityError,
    InvalidRequestError,
    StoreError,
    UnsupportedOperationError,
)
from kvstore.hashing import ParallelHash, sha256
from kvstore.readers import CheckedReader, LimitedReader, buffered
from kvstore.streams import Source
from kvstore.values import BytesOpener, Record, Value
from tests.cases import each

patient = settings(deadline=None)
DATA = bytes(range(256)) * 5
MIB = 1 << 20


class Dribble(io.RawIOBase):
    """A raw stream that cannot be rewound and gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int = 3) -> None:
        self._data = data
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(self._most, len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class Pieces:
    """An iterable that can be iterated again, and is no sequence."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([DATA[:7], b"", DATA[7:]])


class Location:
    """A path by no other means than the protocol."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


class Duck:
    """Just something with ``read``."""

    def __init__(self, *answers: Any) -> None:
        self._answers = [*answers, b""]

    def read(self, _size: int) -> Any:
        return self._answers.pop(0)


def value_of(data: bytes, mimetype: str = "text/plain") -> Value:
    return Value(Record("k", {"a": 1}, len(data), mimetype=mimetype), BytesOpener(data))


def opened(path: Path) -> BinaryIO:
    stream = path.open("rb")
    stream.seek(5)
    return stream


FORMS: dict[str, tuple[Callable[[Path], Any], int | None, bool]] = {
    # form: (how to make it from a file with DATA, the size known, whether it can be read again)
    "bytes": (lambda path: path.read_bytes(), 1280, True),
    "bytearray": (lambda path: bytearray(path.read_bytes()), 1280, True),
    "memoryview": (lambda path: memoryview(path.read_bytes()), 1280, True),
    "array view": (lambda path: memoryview(array.array("I", path.read_bytes())), 1280, True),
    "path": (lambda path: path, 1280, True),
    "path-like": (Location, 1280, True),
    "file": (lambda path: path.open("rb"), 1280, True),
    "raw file": (lambda path: path.open("rb", buffering=0), 1280, True),
    "BytesIO": (lambda path: io.BytesIO(path.read_bytes()), 1280, True),
    "gzip": (lambda path: gzip.GzipFile(fileobj=packed(path)), 1280, True),
    "spooled": (lambda path: spooled(path), 1280, True),
    "value": (lambda path: value_of(path.read_bytes()), 1280, True),
    "list": (lambda path: [path.read_bytes()[:1000], path.read_bytes()[1000:]], None, True),
    "iterable": (lambda path: Pieces(), None, True),
    "mixed pieces": (lambda path: (bytearray(DATA[:9]), b"", memoryview(DATA)[9:]), None, True),
    "generator": (lambda path: (DATA[i : i + 100] for i in range(0, 1280, 100)), None, False),
    "unseekable": (lambda path: Dribble(path.read_bytes()), None, False),
    "duck": (lambda path: Duck(DATA[:3], DATA[3:]), None, False),
}


def packed(path: Path) -> BinaryIO:
    return io.BytesIO(gzip.compress(path.read_bytes()))


def spooled(path: Path) -> Any:
    file = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
    file.write(path.read_bytes())
    file.seek(0)
    return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, path: Path) -> Iterator[tuple[Any, int | None, bool]]:
    make, size, replayable = FORMS[request.param]
    data = make(path)
    yield data, size, replayable
    if hasattr(data, "close"):
        data.close()


# -- sources ---------------------------------------------------------------------------------


def test_each_form_gives_the_data(form: tuple[Any, int | None, bool]) -> None:
    data, size, replayable = form
    source = Source(data)
    assert source.size == size
    assert source.replayable is replayable
    pieces = list(source)
    assert b"".join(pieces) == DATA
    assert {type(piece) for piece in pieces} == {bytes}
    assert b"" not in pieces


def test_each_form_gives_the_whole(form: tuple[Any, int | None, bool]) -> None:
    data, _, _ = form
    assert Source(data).whole() == DATA


@pytest.mark.parametrize("again", [list, Source.whole])
@pytest.mark.parametrize("first", [list, Source.whole])
def test_each_form_can_be_had_again_or_says_that_it_cannot(
    form: tuple[Any, int | None, bool], first: Callable[[Source], Any], again: Callable[..., Any]
) -> None:
    data, _, replayable = form
    source = Source(data)
    first(source)
    if replayable:
        assert b"".join(source) == DATA
        assert source.whole() == DATA
        return
    with pytest.raises(UnsupportedOperationError, match="only once"):
        again(source)


def test_each_form_can_be_had_again_from_the_middle(form: tuple[Any, int | None, bool]) -> None:
    data, _, replayable = form
    source = Source(data, buffer_size=100)
    begun = iter(source)
    next(begun)
    if replayable:
        assert b"".join(source) == DATA
    else:
        with pytest.raises(UnsupportedOperationError):
            iter(source)


def test_each_form_gives_what_is_behind_its_beginning(form: tuple[Any, int | None, bool]) -> None:
    data, size, replayable = form
    source = Source(data, buffer_size=100)
    done: list[int] = []
    source.report = done.append
    rest = source.behind(250)
    assert rest.size == (None if size is None else size - 250)
    assert rest.in_memory is None
    assert b"".join(rest) == DATA[250:]
    assert done[-1] == len(DATA)
    if replayable:
        assert b"".join(rest.behind(30)) == DATA[280:]
        assert list(rest.behind(len(DATA) - 250)) == []
        assert source.whole() == DATA


def test_what_comes_before_is_not_read_where_that_can_be_sought() -> None:
    asked: list[tuple[int | None, int | None]] = []

    class Sought(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append((self.tell(), size))
            return super().read(size)

    def opened(start: int | None, end: int | None) -> BinaryIO:
        asked.append((start, end))
        return BytesOpener(DATA)(start, end)

    with Sought(b"before" + DATA) as stream:
        stream.seek(6)
        assert b"".join(Source(stream).behind(1000)) == DATA[1000:]
    assert asked == [(1006, 280)]
    assert b"".join(Source(Value(Record("k", {}, 1280), opened)).behind(1000)) == DATA[1000:]
    assert asked == [(1006, 280), (1000, None)]


def test_a_file_of_the_caller_stays_open(path: Path) -> None:
    with path.open("rb") as stream:
        Source(stream).whole()
        assert not stream.closed


def test_a_file_is_read_from_where_it_stands(path: Path) -> None:
    with opened(path) as stream:
        source = Source(stream)
        assert source.size == len(DATA) - 5
        stream.seek(700)  # what happens to it later does not matter
        assert source.whole() == DATA[5:]
        assert source.whole() == DATA[5:]


def test_a_file_at_or_behind_its_end_gives_nothing(path: Path) -> None:
    with path.open("rb") as stream:
        for position in (len(DATA), len(DATA) + 9):
            stream.seek(position)
            source = Source(stream)
            assert (source.size, source.whole()) == (0, b"")
            assert stream.tell() == position


@pytest.mark.parametrize("make", [lambda _: b"", lambda p: p, lambda p: io.BytesIO(), lambda p: []])
def test_no_data(make: Callable[[Path], Any], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    source = Source(make(empty))
    assert source.size == (None if make(empty) == [] else 0)
    assert list(source) == []
    assert source.whole() == b""


def test_a_memory_map(path: Path) -> None:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert Source(data).whole() == DATA


def test_a_view_with_gaps() -> None:
    assert Source(memoryview(b"abcdef")[::2]).whole() == b"ace"


def test_bytes_are_not_copied_and_the_changeable_is() -> None:
    assert Source(DATA).whole() is DATA
    assert Source(DATA).in_memory is DATA
    mine = bytearray(b"abc")
    source = Source(mine)
    mine[0] = ord("x")
    assert source.whole() == source.in_memory == b"abc"
    assert Source(io.BytesIO(b"abc")).in_memory is None


def test_a_value_brings_its_media_type_along() -> None:
    assert Source(value_of(b"abc")).mimetype == "text/plain"
    # The type of unknown bytes says nothing, so that it must not win over another.
    assert Source(value_of(b"abc", "application/octet-stream")).mimetype is None
    assert Source(b"abc").mimetype is None


def test_the_stream_of_a_value_is_closed_whatever_happens() -> None:
    streams: list[BinaryIO] = []

    def opener(start: int | None, end: int | None) -> BinaryIO:
        streams.append(BytesOpener(DATA)(start, end))
        return streams[-1]

    source = Source(Value(Record("k", {}, len(DATA)), opener), buffer_size=100)
    source.whole()
    begun = iter(source)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    short = Source(Value(Record("k", {}, len(DATA) + 1), opener))
    with pytest.raises(IntegrityError):
        short.whole()
    assert [stream.closed for stream in streams] == [True] * 3


def test_an_iterator_that_is_never_begun_opens_nothing(path: Path) -> None:
    # A leak would be a ResourceWarning, which fails the test.
    iter(Source(path))
    gc.collect()

    def opener(_start: int | None, _end: int | None) -> BinaryIO:
        raise AssertionError

    iter(Source(Value(Record("k", {}, 3), opener)))


@patient
@given(st.binary(max_size=50), st.integers(1, 60))
def test_pieces_have_the_size_asked_for(data: bytes, size: int) -> None:
    for form in (data, io.BytesIO(data), value_of(data)):
        pieces = list(Source(form, buffer_size=size))
        assert b"".join(pieces) == data
        assert [len(piece) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
        assert all(0 < len(piece) <= size for piece in pieces)
    dribble = list(Source(Dribble(data, 3), buffer_size=size))
    assert b"".join(dribble) == data
    assert all(0 < len(piece) <= min(size, 3) for piece in dribble)


def test_pieces_of_an_iterable_come_as_they_are() -> None:
    assert list(Source([b"a" * 10, b"b"], buffer_size=3)) == [b"a" * 10, b"b"]


@each("size", [0, -1, 1.5, "1", None, True])
def test_buffer_sizes(size: Any) -> None:
    with pytest.raises(InvalidRequestError, match="A buffer size is a positive number of bytes"):
        Source(b"abc", buffer_size=size)


@each(
    "data, reason",
    [
        ("text", "Data is bytes, not str .*: 'text'"),
        ("", "Data is bytes, not str"),
        (None, "not None"),
        (5, "not 5"),
        (1.5, "not 1.5"),
        (object, "not <class 'object'>"),
        (io.StringIO("text"), "this one has text"),
    ],
)
def test_what_is_no_data(data: Any, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        Source(data)
    assert len(caught.value.message) < 300


def test_a_file_opened_as_text_is_no_data(path: Path) -> None:
    with path.open(encoding="latin-1") as stream, pytest.raises(InvalidRequestError, match="text"):
        Source(stream)  # type: ignore[arg-type]


@each(
    "data, reason",
    [
        (["text"], "yields bytes, not 'text'"),
        ([b"a", 5], "yields bytes, not 5"),
        ({"a": b"b"}, "yields bytes, not 'a'"),
        (range(3), "yields bytes, not 0"),
        (array.array("B", b"ab"), "yields bytes, not 97"),
        (Duck("text"), "reads bytes, this one read 'text'"),
        (Duck(b"a", None), "reads bytes, this one read None"),
        (Duck(bytearray(b"a")), "reads bytes, this one read bytearray"),
    ],
)
def test_what_turns_out_to_be_no_data(data: Any, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        Source(data).whole()


def test_a_path_that_cannot_be_read_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Source(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        Source(tmp_path)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_file_that_shrinks_is_an_error(path: Path, as_file: bool) -> None:
    with path.open("rb") as stream:
        source = Source(stream if as_file else path, buffer_size=100)
        path.write_bytes(DATA[:150])
        with pytest.raises(IntegrityError, match="ended 1130 bytes before its 1280"):
            list(source)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_file_that_grows_is_taken_as_it_was(path: Path, as_file: bool) -> None:
    with path.open("rb") as stream:
        source = Source(stream if as_file else path, buffer_size=100)
        begun = iter(source)
        next(begun)
        with path.open("ab") as more:
            more.write(b"more")
        assert DATA[:100] + b"".join(begun) == DATA
        assert source.whole() == DATA


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
@pytest.mark.parametrize("as_file", [True, False])
def test_files_that_do_not_tell_their_size(as_file: bool) -> None:
    path = Path("/proc/version")
    with path.open("rb") as stream:
        source = Source(stream if as_file else path)
        assert source.size is None
        assert source.whole() == path.read_bytes() != b""
        assert source.whole() == path.read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("as_file", [True, False])
def test_a_named_pipe_is_opened_once(tmp_path: Path, as_file: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(DATA,))
    writer.start()
    if as_file:
        with pipe.open("rb") as stream:
            source = Source(stream)
            assert source.whole() == DATA
    else:
        source = Source(pipe)
        assert source.whole() == DATA
    writer.join()
    assert (source.size, source.replayable) == (None, False)
    with pytest.raises(UnsupportedOperationError):
        iter(source)


def test_a_source_that_fails_is_heard() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    begun = iter(Source(pieces()))
    assert next(begun) == b"a"
    with pytest.raises(ZeroDivisionError):
        next(begun)


def test_report_is_told_after_each_piece() -> None:
    source = Source(io.BytesIO(b"abcdefg"), buffer_size=3)
    events: list[Any] = []
    source.report = events.append
    for piece in source:
        events.append(piece)  # noqa: PERF402
    assert events == [b"abc", 3, b"def", 6, b"g", 7]
    events.clear()
    assert source.whole() == b"abcdefg"
    assert events == [3, 6, 7]


def test_report_of_bytes_as_a_whole() -> None:
    source = Source(b"abc")
    steps: list[int] = []
    source.report = steps.append
    assert source.whole() == b"abc"
    assert list(source) == [b"abc"]
    assert steps == [3, 3]


def test_report_can_end_it(path: Path) -> None:
    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    for data in (b"abc", path):
        source = Source(data)
        source.report = stop
        with pytest.raises(KeyboardInterrupt):
            source.whole()


# -- checked streams -------------------------------------------------------------------------


def reader(data: bytes, **announced: Any) -> CheckedReader:
    given = {"size": len(data), "digest": sha256(data), "key": "k", **announced}
    return CheckedReader(Dribble(data), **given)


def test_sha256() -> None:
    assert sha256(b"abc") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


@each("size", [1, 2, 3, 4, 100, -1])
@each("data", [b"", b"a", b"abcdefghij"])
def test_what_is_as_announced_is_given_out(data: bytes, size: int) -> None:
    for announced in ({}, {"digest": None}, {"size": None}, {"size": None, "digest": None}):
        stream = buffered(reader(data, **announced))
        assert b"".join(iter(lambda s=stream: s.read(size), b"")) == data
        assert stream.read() == b""
        assert reader(data, **announced).readall() == data
        assert reader(data, **announced).read() == data


def test_last_bytes_are_given_out_after_the_check() -> None:
    stream = reader(b"abcdefgh", digest=sha256(b"ABCDEFGH"))
    assert stream.read(3) == b"abc"
    assert stream.read(3) == b"def"
    for _ in range(3):  # it stays an error
        with pytest.raises(IntegrityError, match=r"has sha256:.*, not sha256:.* as recorded") as e:
            stream.read(3)
        assert e.value.key == "k"


@pytest.mark.parametrize("digest", [True, False])
def test_data_that_ends_early(digest: bool) -> None:
    stream = reader(b"abcde", size=8, **({} if digest else {"digest": None}))
    assert stream.read(3) == b"abc"
    assert stream.read(3) == b"de"
    with pytest.raises(IntegrityError, match="data of 'k' ended 3 bytes before its 8") as caught:
        stream.read(3)
    assert caught.value.key == "k"


@pytest.mark.parametrize("digest", [True, False])
def test_data_that_goes_on(digest: bool) -> None:
    # The digest of the part alone would be right.
    announced = {"size": 6, "digest": sha256(b"abcdef") if digest else None}
    stream = reader(b"abcdefg", **announced)
    assert stream.read(3) == b"abc"
    for _ in range(3):
        with pytest.raises(IntegrityError, match="does not end with its 6 bytes"):
            stream.read(3)
    with pytest.raises(IntegrityError, match="does not end with its 0 bytes"):
        reader(b"a", size=0, digest=None).read()


def test_no_data_is_checked_too() -> None:
    for stream in (reader(b"", digest=sha256(b"a")), reader(b"", size=None, digest=sha256(b"a"))):
        with pytest.raises(IntegrityError):
            stream.read()
    with pytest.raises(IntegrityError):
        reader(b"", digest=sha256(b"a")).read(1)


def test_a_size_that_only_the_stream_knows() -> None:
    stream = reader(b"abcdef", size=None, digest=sha256(b"ABCDEF"))
    assert stream.read(3) == b"abc"
    with pytest.raises(IntegrityError):
        stream.read()


@patient
@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_flipped_bit_never_comes_out_whole(data: bytes, more: st.DataObject) -> None:
    place = more.draw(st.integers(0, len(data) - 1))
    bit = more.draw(st.integers(0, 7))
    size = more.draw(st.integers(1, 40))
    wrong = bytearray(data)
    wrong[place] ^= 1 << bit
    dribble = more.draw(st.integers(1, 40))
    for wrap in (buffered, lambda raw: raw):
        raw = CheckedReader(
            Dribble(bytes(wrong), dribble), size=len(data), digest=sha256(data), key="k"
        )
        stream = wrap(raw)
        got = bytearray()
        with pytest.raises(IntegrityError):
            while piece := stream.read(size):
                got += piece
        assert len(got) < len(data)
        assert wrong.startswith(got)


@patient
@given(st.binary(max_size=40), st.integers(1, 9), st.lists(st.integers(1, 12), max_size=9))
def test_reading_in_any_steps(data: bytes, dribble: int, steps: list[int]) -> None:
    raw = CheckedReader(Dribble(data, dribble), size=len(data), digest=sha256(data), key="k")
    with buffered(raw) as stream:
        got = [stream.read(step) for step in steps]
        assert all(len(p) == s for p, s in zip(got, steps, strict=True) if sum(steps) <= len(data))
        assert b"".join(got) + stream.read() == data
        assert stream.read(1) == b""


def test_closing_closes_what_it_reads_from() -> None:
    for make in (lambda inner: reader_over(inner), lambda inner: LimitedReader(inner, 0, 3)):
        inner = io.BytesIO(b"abc")
        stream = make(inner)
        assert stream.readable()
        stream.close()
        stream.close()
        assert inner.closed
        assert stream.closed


def reader_over(inner: BinaryIO) -> CheckedReader:
    return CheckedReader(inner, size=3, digest=None, key="k")


def test_with_closes() -> None:
    inner = io.BytesIO(b"abc")
    with buffered(reader_over(inner)) as stream:
        assert stream.read(1) == b"a"
    assert inner.closed


# -- limited streams -------------------------------------------------------------------------


@patient
@given(st.binary(max_size=30), st.data())
def test_a_limited_stream_is_a_slice(data: bytes, more: st.DataObject) -> None:
    start = more.draw(st.integers(0, len(data)))
    end = more.draw(st.integers(start, len(data)))
    size = more.draw(st.integers(1, 40))
    for wrap in (buffered, lambda raw: raw):
        stream = wrap(LimitedReader(io.BytesIO(data), start, end))
        assert b"".join(iter(lambda s=stream: s.read(size), b"")) == data[start:end]
        assert stream.read() == b""
    assert LimitedReader(io.BytesIO(data), start, end).read() == data[start:end]


@each("size", [1, 2, 3, 100, -1])
def test_a_range_that_the_stream_does_not_have(size: int) -> None:
    stream = LimitedReader(io.BytesIO(b"abcde"), 3, 8, key="k")
    got = bytearray()
    with pytest.raises(StoreError, match="ended 3 bytes before the end of the range") as caught:
        while piece := stream.read(size):
            got += piece
    assert isinstance(caught.value, IntegrityError)
    assert caught.value.key == "k"
    assert b"de".startswith(got)


def test_buffered_has_lines_and_exact_sizes() -> None:
    stream = buffered(Dribble(b"one\ntwo\n\nlast", 2))
    assert stream.readline() == b"one\n"
    assert stream.read(5) == b"two\n\n"
    assert list(stream) == [b"last"]
    assert isinstance(stream, io.BufferedReader)


# -- ParallelHash ----------------------------------------------------------------------------


@each(
    "sizes",
    [
        [],
        [0],
        [1, 2, 3],
        [MIB] * 9,
        [MIB] * 5 + [10] + [MIB] * 3 + [5 * MIB, 1],
        [6 * MIB],
    ],
    ids=str,
)
def test_a_parallel_hash_is_the_hash(sizes):
    before = threading.active_count()
    plain = hashlib.sha256()
    with ParallelHash() as parallel:
        for number, size in enumerate(sizes):
            piece = bytes([number + 1]) * size
            plain.update(piece)
            parallel.update(piece)
        assert parallel.digest() == plain.digest()
    assert threading.active_count() == before


def test_a_parallel_hash_that_is_given_up_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), ParallelHash() as parallel:
        for _ in range(8):
            parallel.update(bytes(MIB))
        raise ZeroDivisionError
    assert threading.active_count() == before


@each("size", [0, 5, 4 * MIB, 4 * MIB + 7, 9 * MIB + 1])
def test_pieces_that_are_overwritten_are_hashed_as_they_were(size):
    data = (DATA * (size // len(DATA) + 1))[:size]
    buffer = bytearray(MIB + 3)
    with ParallelHash() as digest:
        for start in range(0, size, len(buffer)):
            piece = data[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            digest.update_copied(memoryview(buffer)[: len(piece)])
            buffer[: len(piece)] = bytes(len(piece))
        assert digest.digest() == digest.digest() == hashlib.sha256(data).digest()
