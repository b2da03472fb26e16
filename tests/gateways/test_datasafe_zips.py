"""ZIP archives: those of others, of which nothing is believed, and our own."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile

import pytest

from kvstore.errors import InvalidRequestError, StoreError, TooLargeError
from kvstore.gateways.datasafe.archives import Archive
from kvstore.gateways.datasafe.packing import Entry, PieceReader, packed, packed_size
from tests import corpora
from tests.cases import each

MOST = 5 << 30
ZIPS = list(corpora.entries("nasty_zips"))


def opened(data: bytes, most: int = MOST) -> Archive:
    return Archive(io.BytesIO(data), most=most)


def contents(data: bytes) -> dict[str, bytes]:
    archive = opened(data)
    return {name: b"".join(archive.pieces(name)) for name in archive.members}


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def entry(name: str, *pieces: bytes, modified: float | None = 1.7e9) -> Entry:
    return Entry(name, sum(map(len, pieces)), modified, lambda: pieces)


@each("case", ZIPS, [case["id"] for case in ZIPS])
def test_the_corpus(case):
    data = corpora.raw(case)
    refusal = None
    try:
        archive = opened(data)
        sizes = {name: sum(map(len, archive.pieces(name))) for name in archive.members}
    except (InvalidRequestError, TooLargeError) as error:
        refusal = error.message
    if refusal is not None:
        assert case["expect"] != "accept", refusal
        assert len(refusal) < 400
        return
    assert case["expect"] != "refuse"
    for name, size in sizes.items():
        assert {"", ".", ".."}.isdisjoint(name.split("/"))
        assert size == archive.members[name].size


def test_bombs_cost_no_memory():
    bombs = [case for case in ZIPS if case["id"].startswith("bomb")]
    assert len(bombs) > 5
    for case in bombs:
        data = corpora.raw(case)
        tracemalloc.start()
        try:
            archive = opened(data)
            for name in archive.members:
                for _ in archive.pieces(name):
                    pass
        except StoreError:
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 << 20, case["id"]


def test_members_that_share_bytes_are_told_before_they_are_read():
    (case,) = [case for case in ZIPS if case["id"] == "bomb-overlap"]
    with pytest.raises(InvalidRequestError, match="in another member"):
        opened(corpora.raw(case))


def test_too_many_members_are_told_before_they_are_read():
    data = b"".join(packed(entry(str(number)) for number in range(10_001)))
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="10000 members"):
        opened(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(data) + (1 << 20)
    # It says that there are few of them, and lists many.
    lying = bytearray(data)
    struct.pack_into("<2H", lying, len(data) - 14, 3, 3)
    with pytest.raises(InvalidRequestError, match="members, not 3"):
        opened(bytes(lying))


def test_too_many_bytes_are_refused():
    data = zipped(("a", b"x" * 600), ("b", b"x" * 600))
    with pytest.raises(TooLargeError, match="1000 bytes, not 1200"):
        opened(data, most=1000)
    assert opened(data, most=1200).members.keys() == {"a", "b"}


def test_what_is_taken():
    files = {"a": b"1", "sub/b": os.urandom(3 << 20), "sub/deep/ü": b"", "empty/": b"", "x/y/": b""}
    data = zipped(*files.items(), comment=b"made by hand")
    archive = opened(data)
    assert archive.empty_folders == ["empty", "x/y"]
    assert contents(data) == {name: data for name, data in files.items() if name[-1] != "/"}


def test_a_member_that_lies_about_its_size():
    good = zipped(("a", b"x" * 5000))
    listed = good.index(b"PK\x01\x02")
    for size in (4999, 5001):
        bad = bytearray(good)
        struct.pack_into("<L", bad, listed + 24, size)
        with pytest.raises(InvalidRequestError):
            contents(bytes(bad))


@each("position", [0, 26, 30, 40, 4990])
def test_damage_is_found(position):
    data = bytearray(zipped(("a", os.urandom(5000))))
    data[position] ^= 0x55
    with pytest.raises(InvalidRequestError):
        contents(bytes(data))


def test_no_cut_archive_is_taken():
    data = zipped(("a", b"hello"), ("b/c", b"x"))
    for length in range(len(data)):
        with pytest.raises(InvalidRequestError):
            contents(data[:length])


def test_archives_of_ours_can_be_read_by_others(tmp_path):
    entries = [
        entry("a.txt", b"hello ", b"world"),
        entry("sub/ü.bin", os.urandom(2 << 20), modified=None),
        entry("empty/", modified=-1.0),
        entry("late", b"", modified=5e9),
    ]
    data = b"".join(packed(entries))
    assert len(data) == packed_size(entries)
    (tmp_path / "a.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.txt", "sub/ü.bin", "empty/", "late"]
        assert archive.read("a.txt") == b"hello world"
        assert archive.getinfo("a.txt").date_time == (2023, 11, 14, 22, 13, 20)
        assert archive.getinfo("late").date_time[0] == 1980
        archive.extractall(tmp_path / "out")
    assert (tmp_path / "out" / "empty").is_dir()
    assert contents(data).keys() == {"a.txt", "sub/ü.bin", "late"}
    assert packed_size([]) == len(b"".join(packed([]))) == 22


def test_large_archives_have_large_numbers():
    # Nobody has to write 5 GiB to see what the list of their members says.
    large = Entry("large", 5 << 30, 0.0, lambda: ())
    assert packed_size([large]) == 30 + 5 + 20 + (5 << 30) + 24 + 46 + 5 + 28 + 56 + 20 + 22
    with pytest.raises(EOFError, match="0 bytes, not 5368709120"):
        list(packed([large]))


@pytest.mark.slow
def test_an_archive_of_more_than_4_gib(tmp_path):
    piece = bytes(1 << 20)
    size = (4 << 30) + 5
    large = Entry("large", size, 0.0, lambda: [*[piece] * 4096, b"hello"])
    entries = [large, entry("behind", b"x")]
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        for part in packed(entries):
            if part is piece:
                file.seek(len(piece), 1)  # a hole: the zeros need no room
            else:
                file.write(part)
    assert path.stat().st_size == packed_size(entries)
    with path.open("rb") as file:
        archive = Archive(file, most=MOST)
        assert archive.members["large"].size == size
        assert b"".join(archive.pieces("behind")) == b"x"
    with zipfile.ZipFile(path) as other:
        assert other.getinfo("large").file_size == size
        assert other.read("behind") == b"x"


def test_a_file_that_changes_its_size_ends_the_archive():
    for pieces in ([b"12"], [b"1234"]):
        with pytest.raises(EOFError):
            list(packed([Entry("a", 3, None, lambda pieces=pieces: pieces)]))


def test_pieces_are_read_in_any_portions():
    reader = PieceReader(iter([b"abc", b"", b"defgh", b"i"]))
    assert [reader.read(2), reader.read(4), reader.read(1), reader.read()] == [
        b"ab",
        b"cdef",
        b"g",
        b"hi",
    ]
    assert reader.read(5) == b""
    closed = []

    def pieces():
        try:
            yield b"abc"
        finally:
            closed.append(True)

    reader = PieceReader(pieces())
    assert reader.read(1) == b"a"
    reader.close()
    reader.close()
    assert closed == [True]
