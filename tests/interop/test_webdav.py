"""The profile for WebDAV servers, against wsgidav: the contract, as far as it can be kept."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

import kvstore
from kvstore import (
    ConflictError,
    InvalidKeyError,
    KeyNotFoundError,
    Store,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.testing import StoreContract
from kvstore.testing.odd_keys import ODD_KEYS
from tests.cases import each

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A WebDAV server: its URL and its folder."""
    folder = tmp_path_factory.mktemp("dav")
    config = {
        "provider_mapping": {"/": str(folder)},
        "http_authenticator": {"domain_controller": None},
        "simple_dc": {"user_mapping": {"*": True}},
        "logging": {"enable": False},
        "property_manager": None,
        "lock_storage": False,
    }
    logging.getLogger("wsgidav").setLevel(logging.CRITICAL)
    server = wsgi.Server(("127.0.0.1", 0), WsgiDAVApp(config), numthreads=20)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"http://127.0.0.1:{server.bind_addr[1]}", folder
    server.stop()
    thread.join()


def emptied(served: tuple[str, Path]) -> str:
    for path in served[1].iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return served[0]


@pytest.fixture
def store(served: tuple[str, Path]) -> Iterator[Store]:
    with kvstore.open(emptied(served), profile="webdav") as store:
        yield store


class TestContract(StoreContract):
    """What a folder on a server can keep of the contract; what it cannot stands at the end."""

    @pytest.fixture(autouse=True)
    def _served(self, served: tuple[str, Path]) -> None:
        self.served = served

    def make_store(self) -> Store:
        return kvstore.open(emptied(self.served), profile="webdav")

    # Files in folders: `a` and `a/b` cannot both be keys, nor can `a/`; see below for those that
    # can.
    test_any_history_agrees_with_a_dict = None
    test_glob = None
    test_keys_do_not_touch_each_other = None
    test_missing_key_exists_not = None
    test_odd_key_alone = None
    test_odd_keys_together = None
    test_odd_prefixes = None
    test_order_is_by_code_point = None
    test_pages = None
    test_prefix = None
    # The server decides the media type, by the name.
    test_find_tells_all_facts = None
    test_mimetype_goes_with_the_data = None
    test_paths = None
    test_value_is_a_value_for_any_store = None
    test_value_tells_all = None
    # The revision is that of the data; this server makes it of size, name and time in seconds.
    test_revision_is_new_after_every_write = None
    test_revisions_never_come_again = None
    test_updates_of_different_fields_all_stay = None
    # The server answers both, or fails, while one deletes what the other has found.
    test_delete_race_has_one_winner = None
    # Thousands of requests; what is asked is answered on this side, as for any other server.
    test_keyword_is_equality_of_json_values = None
    test_more_keys_than_a_page = None
    test_where = None
    # What takes one request honours conditions, although info() cannot say so; see below.
    test_condition_that_cannot_be_kept = None


# But for that of 512 folders, which takes as many requests, again and again.
@each("name", [name for name in ODD_KEYS if name != "longest of slashes"])
def test_an_odd_key_is_a_key_or_refused(store, name):
    key = ODD_KEYS[name]
    try:
        store.set(key, b"data", metadata={"key": key})
    except InvalidKeyError:
        assert list(store.query_keys()) == []
        return
    except TransportError:  # a name that is too long for the server's file system
        assert max(len(segment.encode()) for segment in key.split("/")) > 200
        return
    assert dict(store.query()) == {key: {"key": key}}
    assert store.to_bytes(key) == b"data"
    store.delete(key)
    assert not store.exists(key)
    assert list(store.query_keys()) == []


def test_most_odd_keys_are_keys(store):
    keys = []
    for key in ODD_KEYS.values():
        if key.count("/") > 100:
            continue
        try:
            store.set_data(key, key.encode())
            keys.append(key)
        except (InvalidKeyError, TransportError, ConflictError):
            continue
    assert len(keys) > len(ODD_KEYS) / 2
    assert list(store.query_keys()) == sorted(keys)
    assert {key: store.to_bytes(key) for key in keys} == {key: key.encode() for key in keys}


def test_listing_is_in_the_order_of_keys_across_folders(store):
    keys = ["a-b", "a/1", "a/b c/2", "a/b-c", "a/b/1", "a.b", "b", "z/é", "Z", "é/1"]
    for key in keys:
        store.set(key, b"12345", metadata={"n": len(key)})
    assert list(store.query_keys()) == sorted(keys)
    assert list(store.query_keys(prefix="a/")) == sorted(k for k in keys if k.startswith("a/"))
    assert list(store.query_keys(prefix="a/b")) == sorted(k for k in keys if k.startswith("a/b"))
    assert list(store.query_keys(prefix="no/such")) == []
    for after in keys:
        assert list(store.query_keys(after=after)) == sorted(k for k in keys if k > after)
    assert list(store.query_keys(glob="*/1")) == ["a/1", "a/b/1", "é/1"]
    assert list(store.query_keys(n=1)) == ["Z", "b"]
    (found,) = store.find(kvstore.Query(prefix="a/1"))
    assert (found.size, found.revision) == (5, store.record("a/1").revision)


def test_many_keys_are_listed(store, served):
    for number in range(1200):
        (served[1] / f"{number:04}").write_bytes(b"")
    assert list(store.query_keys()) == [f"{number:04}" for number in range(1200)]
    assert list(store.query_keys(limit=3, after="0007")) == ["0008", "0009", "0010"]
    assert store.count() == 1200


def test_metadata_are_a_file_beside_the_data(store, served):
    store.set("runs/1.dat", b"data", metadata={"n": 1})
    assert sorted(path.name for path in (served[1] / "runs").iterdir()) == [
        "1.dat",
        "1.dat.metadata.json",
    ]
    assert (served[1] / "runs" / "1.dat.metadata.json").read_bytes() == b'{"n":1}'
    store.set("runs/1.dat", b"data")
    assert [path.name for path in (served[1] / "runs").iterdir()] == ["1.dat"]
    assert store.get_metadata("runs/1.dat") == {}
    (served[1] / "runs" / "2.dat.metadata.json").write_bytes(b'{"left": "behind"}')
    assert list(store.query_keys()) == ["runs/1.dat"]
    with pytest.raises(KeyNotFoundError):
        store.get_metadata("runs/2.dat")
    store.set_data("runs/2.dat", b"")
    assert store.get_metadata("runs/2.dat") == {}
    with pytest.raises(InvalidKeyError, match="metadata of another key"):
        store.set("runs/3.metadata.json", b"")


def test_a_folder_is_no_key_and_is_never_deleted(store):
    store.set("folder/within/file", b"data")
    for key in ("folder", "folder/within"):
        assert not store.exists(key)
        for call in (store.get, store.get_data, store.get_metadata, store.record, store.delete):
            with pytest.raises(KeyNotFoundError):
                call(key)
        with pytest.raises(ConflictError):
            store.set_data(key, b"")
    with pytest.raises(ConflictError, match="no folder"):
        store.set_data("folder/within/file/below", b"")
    assert store.to_bytes("folder/within/file") == b"data"


def test_parents_are_made_for_data_that_can_be_read_only_once(store):
    store.set_data("new/folder/file", iter([b"one", b"two"]))
    assert store.to_bytes("new/folder/file") == b"onetwo"


def test_a_source_that_fails_leaves_all_as_it_was(store):
    store.set("key", b"old", metadata={"a": 1})

    def failing() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        raise RuntimeError("no more")

    for write in (store.set, store.set_data):
        with pytest.raises(RuntimeError):
            write("key", failing())
    assert store.to_bytes("key") == b"old"
    assert store.get_metadata("key") == {"a": 1}


WRITES: dict[str, Any] = {
    "set_data": lambda store, key, **when: store.set_data(key, b"newer", **when),
    "from_bytes": lambda store, key, **when: store.from_bytes(key, b"newer", **when),
    "delete": lambda store, key, **when: store.delete(key, **when),
}


@pytest.mark.parametrize("name", WRITES)
def test_conditions_hold_for_the_data(store, name):
    revision = store.set_data("key", b"old")
    assert isinstance(revision, str)
    for wrong in ("another", f"{revision}0"):
        with pytest.raises(ConflictError):
            WRITES[name](store, "key", if_match=wrong)
    assert store.to_bytes("key") == b"old"
    WRITES[name](store, "key", if_match=revision)
    assert not store.exists("key") or store.to_bytes("key") == b"newer"


def test_create_only(store):
    store.set_data("a/key", b"first", if_none_match="*")
    with pytest.raises(ConflictError):
        store.set_data("a/key", b"second", if_none_match="*")
    assert store.to_bytes("a/key") == b"first"


def test_conditions_for_two_requests_are_refused(store):
    store.set("key", b"old", metadata={"a": 1})
    for write in (
        lambda: store.set("key", b"new", if_match="*"),
        lambda: store.set("new", b"new", if_none_match="*"),
        lambda: store.set_metadata("key", {}, if_match="*"),
        lambda: store.update_metadata("key", {}, if_match="*"),
    ):
        with pytest.raises(UnsupportedOperationError):
            write()
    assert store.to_bytes("key") == b"old"
    assert store.get_metadata("key") == {"a": 1}
    assert list(store.query_keys()) == ["key"]
    info = store.info()
    assert (info["atomic_set"], info["conditional"], info["metadata"]) == (False, False, "document")
