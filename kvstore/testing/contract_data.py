"""Contract: everything that may be given as data arrives as the bytes that it is."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvstore import InvalidRequestError, Store, StoreError
from kvstore.testing.contract_base import ContractBase, case, content, facts, listing
from kvstore.testing.faults import (
    BrokenFile,
    OnlyRead,
    SourceBrokenError,
    Unseekable,
    broken_pieces,
)

_DATA = bytes(range(256)) * 20 + b"\r\n\x00\x00end."
SIZES = (0, 1, 65535, 65536, 65537, (1 << 20) + 1)

#: Forms of data, each holding the bytes it is made of.
FORMS: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of words": lambda data: memoryview(data).cast("I"),
    "list": lambda data: [data[:100], b"", data[100:]],
    "tuple": lambda data: (data[:1], data[1:2], data[2:]),
    "generator": lambda data: (data[i : i + 777] for i in range(0, len(data), 777)),
    "mixed pieces": lambda data: iter([bytearray(data[:9]), memoryview(data)[9:], b""]),
    "BytesIO": io.BytesIO,
    "buffered reader": lambda data: io.BufferedReader(io.BytesIO(data)),
    "stream without seek": lambda data: io.BufferedReader(Unseekable(data)),
    "raw stream without seek": Unseekable,
    "object with read alone": OnlyRead,
}
#: What is no data, though some of it looks like it.
NO_DATA: dict[str, Callable[[], Any]] = {
    "str": lambda: "text",
    "empty str": lambda: "",
    "int": lambda: 7,
    "None": lambda: None,
    "list of str": lambda: ["text"],
    "list of int": lambda: [1, 2],
    "str after bytes": lambda: iter([b"bytes", "text"]),
    "text file": lambda: io.StringIO("text"),
}
#: Sources that fail.
BROKEN: dict[str, Callable[[], Any]] = {
    "at once": broken_pieces,
    "after a piece": lambda: broken_pieces(b"new"),
    "after many": lambda: broken_pieces(*[b"n" * 70_000] * 20),
    "file with a size": lambda: BrokenFile(b"n" * 200_000),
}


class DataContract(ContractBase):
    """Data in."""

    def test_binary_sizes(self, store: Store) -> None:
        """Random bytes of the sizes around which buffers end come back as they were."""
        for size in SIZES:
            key, data = f"{size} bytes", os.urandom(size)
            with case(key):
                store.set(key, data)
                assert store.to_bytes(key) == data
                assert facts(store, key).size == size
                with store.get_data(key) as stream:
                    assert stream.read() == data

    def test_three_mebibytes_in_every_way(self, store: Store, folder: Path) -> None:
        """From bytes, a file, a generator and a value; to bytes, a file and a stream."""
        data = os.urandom(3 << 20)
        source, target = folder / "source", folder / "target"
        source.write_bytes(data)
        store.set("bytes", data)
        store.from_file("file", source)
        store.set_data("pieces", (data[i : i + 99_991] for i in range(0, len(data), 99_991)))
        store.set("value", store.get("file"))
        for key in ("bytes", "file", "pieces", "value"):
            assert store.to_bytes(key) == data
            assert facts(store, key).size == len(data)
        store.to_file("value", target)
        assert target.read_bytes() == data
        value = store.get("pieces")
        assert b"".join(value.iterdata(1 << 18)) == data
        value.close()

    def test_every_form(self, store: Store) -> None:
        """``set_data`` and, but for tuples, ``set`` take it, in large steps and small ones."""
        for form, data in itertools.product(FORMS, (b"", _DATA)):
            key = f"{form} of {len(data)} bytes"
            with case(key):
                store.set_data(key, FORMS[form](data))
                assert store.to_bytes(key) == data
                store.set_data(key, FORMS[form](data), 100)
                assert store.to_bytes(key) == data
                if form != "tuple":
                    store.set(f"other {key}", FORMS[form](data), metadata={"a": 1})
                    assert store.to_bytes(f"other {key}") == data
                    assert store.get_metadata(f"other {key}") == {"a": 1}

    def test_pair_of_data_and_metadata(self, store: Store) -> None:
        """``set`` takes the pair that values were before they had a class."""
        store.set("bytes", (b"1", {"a": 1}))
        store.set("file", (io.BytesIO(b"2"), {"a": 2}))
        store.set("instead", (b"3", {"a": 3}), metadata={"b": 3})
        assert [store.to_bytes(key) for key in ("bytes", "file", "instead")] == [b"1", b"2", b"3"]
        assert store.get_metadata("bytes") == {"a": 1}
        assert store.get_metadata("file") == {"a": 2}
        assert store.get_metadata("instead") == {"b": 3}

    def test_other_tuples_are_refused(self, store: Store) -> None:
        """A tuple that is no such pair is a mistake, not data."""
        pairs: list[Any] = [(b"1",), (b"1", b"2"), (b"1", {}, {}), ()]
        for pair in pairs:
            with case(pair), pytest.raises(InvalidRequestError):
                store.set("key", pair)
        assert listing(store) == []

    def test_paths(self, store: Store, folder: Path) -> None:
        """``from_file`` takes ``str`` and paths; as data a path is a path and a ``str`` is not."""
        source = folder / "source"
        source.write_bytes(_DATA)
        store.set("path", source)
        store.from_file("str", str(source), 100)
        store.from_file("from_file", source, mimetype="text/plain")
        assert {store.to_bytes(key) for key in ("path", "str", "from_file")} == {_DATA}
        assert facts(store, "from_file").mimetype == "text/plain"

    def test_path_that_cannot_be_read(self, store: Store, folder: Path) -> None:
        """The operating system's error comes through, and nothing is changed."""
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        with pytest.raises(FileNotFoundError):
            store.from_file("key", folder / "missing")
        with pytest.raises(FileNotFoundError):
            store.set("key", folder / "missing", metadata={"a": 2})
        with pytest.raises(OSError):
            store.set_data("key", folder)
        assert content(store, "key") == before

    def test_from_bytes_and_from_file_keep_metadata(self, store: Store, folder: Path) -> None:
        """They set data, and data alone."""
        source = folder / "source"
        source.write_bytes(b"file")
        store.set("key", b"old", metadata={"a": 1})
        store.from_bytes("key", b"bytes")
        assert (store.to_bytes("key"), store.get_metadata("key")) == (b"bytes", {"a": 1})
        store.from_file("key", source)
        assert (store.to_bytes("key"), store.get_metadata("key")) == (b"file", {"a": 1})

    def test_file_is_read_from_where_it_stands_and_stays_open(
        self, store: Store, folder: Path
    ) -> None:
        """Whoever opened a file closes it."""
        source = folder / "source"
        source.write_bytes(b"0123456789")
        with source.open("rb") as stream:
            stream.seek(4)
            store.set_data("key", stream)
            assert not stream.closed
            assert store.to_bytes("key") == b"456789"
            stream.seek(10)
            store.set("key", stream)
            assert store.to_bytes("key") == b""
        memory = io.BytesIO(b"0123456789")
        memory.read(7)
        store.set("key", memory, 2)
        assert not memory.closed
        assert store.to_bytes("key") == b"789"
        pipe = io.BufferedReader(Unseekable(b"0123456789"))
        pipe.read(8)
        store.set("key", pipe)
        assert not pipe.closed
        assert store.to_bytes("key") == b"89"

    def test_bytearray_changed_afterwards(self, store: Store) -> None:
        """What is stored is what was given at the time."""
        data = bytearray(b"given")
        store.set("key", data)
        data[:] = b"later, and longer"
        assert store.to_bytes("key") == b"given"
        view = memoryview(bytearray(b"seen"))
        store.set_data("key", view)
        view[:] = b"gone"
        assert store.to_bytes("key") == b"seen"

    def test_what_is_no_data(self, store: Store) -> None:
        """It is refused, and neither an old value nor a new key suffers."""
        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        for name, make in NO_DATA.items():
            with case(name):
                with pytest.raises(InvalidRequestError):
                    store.set("key", make(), metadata={"a": 2})
                with pytest.raises(InvalidRequestError):
                    store.set_data("key", make())
                with pytest.raises(InvalidRequestError):
                    store.set("new", make())
                assert content(store, "key") == before
                assert listing(store) == ["key"]

    def test_buffer_size(self, store: Store) -> None:
        """A buffer has a positive number of bytes."""
        sizes: list[Any] = [0, -1, 1.5, None, "1"]
        for size in sizes:
            with case(size), pytest.raises(InvalidRequestError):
                store.set("key", b"data", size)
        assert listing(store) == []

    def test_source_that_fails_leaves_all_as_it_was(self, store: Store) -> None:
        """Its own error comes through; old data and metadata stay, a new key does not come."""
        for name, make in BROKEN.items():
            with case(name):
                store.set("key", b"old data", metadata={"is": "old"}, mimetype="text/plain")
                before = content(store, "key")
                with pytest.raises(SourceBrokenError):
                    store.set("key", make(), 1000, metadata={"is": "new"})
                with pytest.raises(SourceBrokenError):
                    store.set_data("key", make(), 1000)
                with pytest.raises(SourceBrokenError):
                    store.set("new", make(), 1000, metadata={"is": "new"})
                assert content(store, "key") == before
                assert listing(store) == ["key"]
                assert store.count() == 1
                store.set("key", b"next", metadata={"is": "next"})
                assert store.to_bytes("key") == b"next"

    def test_source_that_fails_with_an_os_error(self, store: Store) -> None:
        """The same for the errors that disks and networks raise."""

        def pieces() -> Any:
            yield b"new"
            raise OSError("the disk broke")

        store.set("key", b"old", metadata={"a": 1})
        before = content(store, "key")
        with pytest.raises((OSError, StoreError)):
            store.set("key", pieces(), metadata={"a": 2})
        assert content(store, "key") == before
