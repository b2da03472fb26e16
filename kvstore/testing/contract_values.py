"""Contract: what ``get`` returns, and the streams of its data."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from kvstore import ConflictError, KeyNotFoundError, MemoryStore, Store
from kvstore.testing.contract_base import ContractBase, case, facts, needs

_DATA = bytes(range(256)) * 5


class ValuesContract(ContractBase):
    """Values and their streams."""

    def test_value_tells_all(self, store: Store) -> None:
        """Key, size, metadata, type, times, revision and digest are those of what was set."""
        store.set("key", _DATA, metadata={"a": 1}, mimetype="text/csv; charset=utf-8")
        with (value := store.get("key")) as stream:
            assert stream.read() == _DATA
        assert value.key == "key"
        assert value.size == len(_DATA)
        assert value.metadata == {"a": 1}
        assert value.mimetype == "text/csv; charset=utf-8"
        assert value.revision is None or (isinstance(value.revision, str) and value.revision)
        for time in (value.created, value.modified):
            assert time is None or (isinstance(time, float) and time > 1e9)
        if value.created is not None and value.modified is not None:
            assert value.modified >= value.created

    def test_size_is_that_of_the_data(self, store: Store) -> None:
        """It is told before anything is read."""
        for size in (0, 1, 1000, 70_000):
            with case(size):
                store.set("key", os.urandom(size))
                assert facts(store, "key").size == size
                store.set_data("key", (b"x" for _ in range(3)))
                assert facts(store, "key").size == 3

    def test_digest_is_sha256(self, store: Store) -> None:
        """Of the data as they are now; None only where the store records none."""
        for data in (b"", b"\x00", _DATA):
            store.set("key", b"before")
            store.set_data("key", data)
            digest = facts(store, "key").digest
            if digest is not None or store.info()["digests"]:
                assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}", data

    def test_digest_survives_change_of_metadata(self, store: Store) -> None:
        """It is about the data alone."""
        needs(store, "digests")
        store.set("key", b"data")
        digest = facts(store, "key").digest
        store.set_metadata("key", {"a": 1})
        store.update_metadata("key", {"b": 1})
        assert facts(store, "key").digest == digest

    def test_value_unpacks(self, store: Store) -> None:
        """A value is also the pair of its data and its metadata."""
        store.set("key", b"data", metadata={"a": 1})
        data, metadata = store.get("key")
        with data:
            assert (data.read(), metadata) == (b"data", {"a": 1})

    def test_data_is_one_stream_and_open_gives_others(self, store: Store) -> None:
        """``data`` goes on where it stood; ``open`` and ``read`` begin anew and disturb nobody."""
        store.set("key", b"0123456789")
        value = store.get("key")
        try:
            assert value.data.read(3) == b"012"
            with value.open() as other:
                assert other.read(2) == b"01"
                assert value.read() == b"0123456789"
                assert value.data.read(3) == b"345"
                assert other.read() == b"23456789"
            assert value.data.read() == b"6789"
            assert value.data.read() == b""
        finally:
            value.close()

    def test_two_values_of_one_key_are_independent(self, store: Store) -> None:
        """Reading one moves no other."""
        store.set("key", b"0123456789")
        one, two = store.get("key"), store.get("key")
        try:
            assert one.data.read(4) == b"0123"
            assert two.data.read(2) == b"01"
            assert one.data.read() == b"456789"
            assert two.data.read() == b"23456789"
        finally:
            one.close()
            two.close()

    def test_close_is_idempotent(self, store: Store) -> None:
        """A value may be closed read, unread and twice."""
        store.set("key", _DATA)
        value = store.get("key")
        value.close()
        value.close()
        with store.get("key") as stream:
            assert stream.read(1) == _DATA[:1]
        assert stream.closed

    def test_get_data_is_a_stream(self, store: Store) -> None:
        """It reads in any steps, is a context manager, and ends with empty bytes."""
        store.set("key", _DATA)
        with store.get_data("key") as stream:
            assert stream.readable()
            pieces = [stream.read(1), stream.read(0), stream.read(500), stream.read()]
            assert b"".join(pieces) == _DATA
            assert [len(piece) for piece in pieces] == [1, 0, 500, len(_DATA) - 501]
            assert stream.read(10) == b""
        assert stream.closed

    def test_streams_have_lines(self, store: Store) -> None:
        """Text readers of the standard library work on them."""
        store.set("key", "a\r\n\u00e9\n\nend".encode())
        with store.get_data("key") as stream:
            assert list(stream) == [b"a\r\n", b"\xc3\xa9\n", b"\n", b"end"]
        with io.TextIOWrapper(store.get_data("key"), encoding="utf-8", newline="") as text:
            assert text.read() == "a\r\n\u00e9\n\nend"

    def test_iterdata(self, store: Store) -> None:
        """Pieces of the size asked for, with progress after each."""
        store.set("key", b"0123456789")
        value = store.get("key")
        calls: list[tuple[int, int]] = []
        try:
            pieces = list(value.iterdata(4, lambda done, total: calls.append((done, total))))
        finally:
            value.close()
        assert pieces == [b"0123", b"4567", b"89"]
        assert calls == [(4, 10), (8, 10), (10, 10)]

    def test_iterdata_of_nothing(self, store: Store) -> None:
        """No piece at all."""
        store.set("key", b"")
        value = store.get("key")
        try:
            assert list(value.iterdata()) == []
        finally:
            value.close()

    def test_value_never_gives_data_of_another_revision(self, store: Store) -> None:
        """Read after a change it gives the bytes it told of, or raises; never the new ones."""
        store.set("key", b"old bytes", metadata={"is": "old"})
        value = store.get("key")
        store.set("key", b"new bytes", metadata={"is": "new"})
        try:
            assert value.metadata == {"is": "old"}
            assert value.read() == b"old bytes"
        except ConflictError:
            pass
        finally:
            value.close()

    def test_value_of_a_deleted_key(self, store: Store) -> None:
        """The bytes it told of, or an error that says they are gone."""
        store.set("key", b"bytes")
        value = store.get("key")
        store.delete("key")
        try:
            assert value.read() == b"bytes"
        except (ConflictError, KeyNotFoundError):
            pass
        finally:
            value.close()

    def test_value_is_a_value_for_any_store(self, store: Store) -> None:
        """``set`` takes values of this store and of others, with metadata and type."""
        store.set("key", _DATA, metadata={"a": [1]}, mimetype="image/png")
        with MemoryStore() as other:
            other.set("there", store.get("key"))
            assert other.to_bytes("there") == _DATA
            store.set("back", other.get("there"))
        store.set("copy", store.get("key"))
        for key in ("back", "copy"):
            record = facts(store, key)
            assert store.to_bytes(key) == _DATA
            assert (record.metadata, record.mimetype) == ({"a": [1]}, "image/png")

    def test_value_over_itself(self, store: Store) -> None:
        """A key can be set to its own value."""
        store.set("key", _DATA, metadata={"a": 1})
        store.set("key", store.get("key"))
        assert store.to_bytes("key") == _DATA
        assert store.get_metadata("key") == {"a": 1}

    def test_to_file(self, store: Store, folder: Path) -> None:
        """The file is replaced whole, by ``str`` or path, in any steps."""
        store.set("key", _DATA)
        target = folder / "target"
        target.write_bytes(b"much longer than what comes" * 1000)
        store.to_file("key", target, 7)
        assert target.read_bytes() == _DATA
        store.set("key", b"")
        store.to_file("key", str(target))
        assert target.read_bytes() == b""
        assert [path.name for path in folder.iterdir()] == ["target"]

    def test_to_file_without_folder(self, store: Store, folder: Path) -> None:
        """The operating system's error comes through."""
        store.set("key", b"data")
        with pytest.raises(OSError):
            store.to_file("key", folder / "no such folder" / "target")
        assert list(folder.iterdir()) == []

    def test_to_bytes(self, store: Store) -> None:
        """All the data, in whatever steps they are read."""
        store.set("key", _DATA)
        for buffer_size in (1, 1279, 1280, 1281, 1 << 20):
            with case(buffer_size):
                assert store.to_bytes("key", buffer_size) == _DATA
