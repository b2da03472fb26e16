"""The profile for filetracker, against the real server and beside its own client."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kvstore
from kvstore import (
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidRequestError,
    KeyNotFoundError,
    MemoryStore,
    RangeError,
    Store,
    StoreEvent,
    StoreModificationEvent,
    StoreSetEvent,
    StoreUpdateEvent,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.documents import copy_json
from kvstore.gateways.filetracker import FiletrackerGateway
from kvstore.profiles.loading import load_profile
from kvstore.server import serve_background
from tests.interop.peers import FILETRACKER, PATIENCE, installed, running

pytestmark = pytest.mark.timeout(400)

#: Text that is compressed to much less.
TEXT = b"the same line again\n" * 50_000


@dataclass
class Server:
    """A running filetracker server."""

    url: str
    folder: Path
    programs: Path

    def client(self, program: str) -> str:
        """Run a program with ``client``, one of filetracker's own; returns what it prints."""
        head = (
            "import sys, filetracker.client as f\n"
            f"client = f.Client(local_store=None, remote_url={self.url!r})\n"
        )
        done = subprocess.run(
            [self.programs / "python", "-W", "ignore", "-c", head + program],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    programs = installed("filetracker", FILETRACKER)
    folder = tmp_path_factory.mktemp("filetracker")
    command = [programs / "filetracker-server", "-D", "-l", "127.0.0.1", "-p", "0", "-d", folder]
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}
    with running(command, r"Listening at: (http://127\.0\.0\.1:\d+)", cwd=folder, env=env) as match:
        yield Server(match[1], folder, programs)


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    with kvstore.open(server.url, profile="filetracker") as store:
        for key in list(store.query_keys()):
            store.delete(key)
        yield store


def test_what_is_set_can_be_got(store):
    began = int(time.time())
    revision = store.set("contest/1/in.txt", TEXT)
    assert began <= int(revision) <= time.time()
    with store.get("contest/1/in.txt") as stream:
        assert stream.read() == TEXT
    record = store.record("contest/1/in.txt")
    assert (record.size, record.revision) == (len(TEXT), revision)
    assert record.modified == float(revision)
    assert record.metadata == {"version": int(revision)}
    assert store.exists("contest/1/in.txt")
    assert not store.exists("contest/1")
    assert not store.exists("contest/2")


@pytest.mark.parametrize("data", [b"", b"\0", b"\x1f\x8b not gzip", bytes(range(256)) * 4096])
def test_bytes_come_back_as_they_were(store, data):
    store.set_data("blob", data)
    value = store.get("blob")
    assert (value.size, value.read()) == (len(data), data)


def test_data_of_unknown_size_and_from_files(store, tmp_path):
    path = tmp_path / "source"
    path.write_bytes(TEXT)
    store.set_data("pieces", iter([TEXT, b"end"]))
    store.from_file("file", path)
    assert store.to_bytes("pieces") == TEXT + b"end"
    store.to_file("file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == TEXT


def test_ranges_although_the_server_has_none(store):
    store.set_data("blob", TEXT)
    for start, end in [(0, 1), (3, 40), (999_990, None), (None, 5), (100_000, 2_000_000)]:
        assert store.get_data_range("blob", start, end).read() == TEXT[start:end]
    assert store.get_data_range("blob", len(TEXT)).read() == b""
    with pytest.raises(RangeError):
        store.get_data_range("blob", len(TEXT) + 1)


def test_a_version_may_be_given(store):
    assert store.set("blob", b"old", metadata={"version": 1000}) == "1000"
    assert store.get_metadata("blob") == {"version": 1000}
    assert store.set("blob", b"equal", metadata={"version": 1000}) == "1000"
    assert store.set("blob", b"newer", metadata={"version": 1001}) == "1001"
    assert store.to_bytes("blob") == b"newer"


def test_a_write_that_the_server_ignored_is_a_conflict(store):
    ahead = int(time.time()) + 10_000
    store.set("blob", b"newer", metadata={"version": ahead})
    for write in (
        lambda: store.set("blob", b"older", metadata={"version": ahead - 1}),
        lambda: store.set("blob", b"now"),
        lambda: store.set_data("blob", b"now"),
    ):
        with pytest.raises(ConflictError, match="newer version") as caught:
            write()
        assert caught.value.key == "blob"
    assert store.to_bytes("blob") == b"newer"
    store.delete("blob")
    assert not store.exists("blob")


def test_a_delete_under_a_condition(store):
    store.set("blob", b"old", metadata={"version": 1000})
    for wrong in ("999", "1001"):
        with pytest.raises(ConflictError) as caught:
            store.delete("blob", if_match=wrong)
        assert caught.value.key == "blob"
    assert store.to_bytes("blob") == b"old"
    store.delete("blob", if_match=store.get("blob"))
    assert not store.exists("blob")
    store.set("blob", b"new")
    store.delete("blob", if_match="*")
    for condition in ("1000", "*"):
        with pytest.raises(KeyNotFoundError):
            store.delete("blob", if_match=condition)


def test_listing_with_prefix_and_cutoff(store):
    for key, version in {"a/1": 1000, "a/b/2": 2000, "ab": 3000}.items():
        store.set(key, b"", metadata={"version": version})
    store.set("a/now", b"")
    store.set("future", b"", metadata={"version": int(time.time()) + 10_000})
    assert list(store.query_keys()) == ["a/1", "a/b/2", "a/now", "ab", "future"]
    assert list(store.query_keys(prefix="a/")) == ["a/1", "a/b/2", "a/now"]
    assert list(store.query_keys(prefix="a/b")) == ["a/b/2"]
    assert list(store.query_keys(prefix="nothing/here")) == []
    assert list(store.query_keys(where={"version": {"le": 2000}})) == ["a/1", "a/b/2"]
    assert list(store.query_keys(where={"version": {"lt": 2000}})) == ["a/1"]
    assert list(store.query_keys(version=3000)) == ["ab"]
    assert list(store.query(glob="*b*", limit=1)) == [("a/b/2", {"version": 2000})]
    assert list(store.query_keys(order_by="-version", limit=2)) == ["future", "a/now"]


def test_events_tell_new_from_old(store):
    seen: list[StoreEvent] = []
    with store.events.connected_to(StoreModificationEvent, seen.append):
        store.set("blob", b"", metadata={"version": 5})
        store.set("blob", b"", metadata={"version": 6})
    assert [type(event) for event in seen] == [StoreSetEvent, StoreUpdateEvent]
    assert [event.metadata for event in seen] == [{"version": 5}, {"version": 6}]


def test_missing_keys_and_folders_are_errors(store):
    store.set_data("dir/file", b"")
    for key in ("none", "dir"):
        for read in (store.get, store.get_data, store.get_metadata, store.record, store.delete):
            with pytest.raises(KeyNotFoundError):
                read(key)
    for key in ("dir", "dir/file/c"):
        with pytest.raises(TransportError, match="irectory"):
            store.set_data(key, b"")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "ž", "a\nb", "a\0b", "a/../b", "."])
def test_keys_that_the_server_would_garble_are_refused(store, key):
    for call in (store.get, store.exists, store.delete, lambda key: store.set(key, b"")):
        with pytest.raises(InvalidKeyError):
            call(key)


def test_what_the_protocol_has_no_means_for(store):
    store.set_data("blob", b"old")
    for call in (
        lambda: store.set("blob", b"", metadata={"other": 1}),
        lambda: store.set_metadata("blob", {"version": 1}),
        lambda: store.update_metadata("blob", {"version": 1}),
        lambda: store.get_permissions("blob"),
        lambda: store.set_data("blob", b"", if_none_match="*"),
        lambda: store.set_data("blob", b"", if_match="1"),
    ):
        with pytest.raises(UnsupportedOperationError, match="filetracker"):
            call()
    with pytest.raises(InvalidRequestError):
        store.set("blob", b"", metadata={"version": "first"})
    assert store.to_bytes("blob") == b"old"
    info = store.info()
    assert (info["conditional"], info["authorizing"], info["readonly"]) == (False, False, False)


def test_a_blob_that_was_cut_short_is_an_error_and_leaves_the_file_alone(store, server, tmp_path):
    store.set_data("cut", TEXT)
    blob = (server.folder / "links" / "cut").resolve()
    blob.write_bytes(blob.read_bytes()[:-20])
    path = tmp_path / "copy"
    path.write_bytes(b"previous content")
    for read in (lambda: store.to_bytes("cut"), lambda: store.to_file("cut", path)):
        with pytest.raises(IntegrityError):
            read()
    assert path.read_bytes() == b"previous content"
    assert list(tmp_path.iterdir()) == [path]


def test_beside_its_own_client(store, server, tmp_path):
    store.set("ours/file", TEXT, metadata={"version": 1234})
    (tmp_path / "theirs").write_bytes(b"from the other client")
    shown = server.client(
        "stream, version = client.get_stream('/ours/file')\n"
        "data = b''\n"
        "while piece := stream.read(1 << 16):\n"
        "    data += piece\n"
        "print(len(data), version)\n"
        f"print(client.put_file('/theirs/file', {str(tmp_path / 'theirs')!r}))\n"
        "print(sorted(client.list_remote_files()))\n"
    )
    name = store.record("theirs/file").revision
    said = [line for line in shown.splitlines() if "protocol version" not in line]
    assert said[:2] == [f"{len(TEXT)} /ours/file@1234", f"/theirs/file@{name}"]
    assert said[2] == "['ours/file', 'theirs/file']"
    assert store.to_bytes("theirs/file") == b"from the other client"
    assert list(store.query_keys()) == ["ours/file", "theirs/file"]


def test_no_other_operation_has_that_condition():
    document = copy_json(load_profile("filetracker").document)
    document["operations"]["set"]["if_match"] = "newest"
    with pytest.raises(InvalidRequestError, match="only delete"):
        kvstore.Profile.of(document)


def test_files_move_to_our_server_with_their_versions(store, server):
    for key, version in {"a/1": 1000, "b": 2000}.items():
        store.set(key, TEXT + key.encode(), metadata={"version": version})
    with MemoryStore() as ours, serve_background(ours, gateways=[FiletrackerGateway()]) as url:
        with kvstore.open(f"{url}/filetracker", profile="filetracker") as new:
            new.probe()
            for key in store.query_keys():
                new.set(key, store.get(key))
            assert list(new.query(order_by="-version")) == list(store.query(order_by="-version"))
            assert list(new.query_keys(where={"version": {"le": 1500}})) == ["a/1"]
            assert new.record("b").digest == ours.record("b").digest
            with pytest.raises(ConflictError, match="newer version"):
                new.set("b", b"older", metadata={"version": 1999})
            with pytest.raises(ConflictError):
                new.delete("b", if_match="1999")
            new.delete("b", if_match="2000")
        moved = Server(f"{url}/filetracker", server.folder, server.programs)
        said = moved.client("print(client.get_stream('/a/1')[1], client.list_remote_files())")
        assert said.splitlines()[-1] == "/a/1@1000 ['a/1']"
        assert ours.to_bytes("a/1") == TEXT + b"a/1"


def test_it_is_found_out(server):
    with kvstore.open(server.url, profile="filetracker") as store:
        store.probe()
    with kvstore.open(server.url, profile="datasafe") as store, pytest.raises(kvstore.StoreError):
        store.probe()
