from __future__ import annotations

import pickle
import threading

import pytest
import requests

import kvstore
from kvstore import DynamicURLStore, KeyNotFoundError, MemoryStore, TransportError
from kvstore.server import Limits
from kvstore.testing import fake_server, live_server


@pytest.mark.parametrize("server", [fake_server, live_server])
def test_store_behind_a_server(server: object) -> None:
    with MemoryStore() as backing, server(backing) as url:  # type: ignore[operator]
        with kvstore.open(url) as store:
            store.set("a b/%", b"data", metadata={"a": 1})
            assert backing.to_bytes("a b/%") == b"data"
            backing.set_metadata("a b/%", {"a": 2})
            assert dict(store.query()) == {"a b/%": {"a": 2}}
            with pytest.raises(KeyNotFoundError):
                store.get("missing")
        assert backing.is_connected()


@pytest.mark.parametrize("server", [fake_server, live_server])
def test_store_is_connected_for_the_time_of_the_server(server: object) -> None:
    backing = MemoryStore()
    with server(backing) as url, kvstore.open(url) as store:  # type: ignore[operator]
        assert backing.is_connected()
        store.set("key", b"data")
    assert not backing.is_connected()
    with backing:
        assert backing.to_bytes("key") == b"data"


def test_plain_requests() -> None:
    with fake_server(MemoryStore(), "https://data.example:8443") as url:
        assert url == "https://data.example:8443"
        put = requests.put(f"{url}/keys/a/data", data=iter([b"da", b"ta"]), timeout=10)
        assert put.status_code == 201
        assert requests.get(f"{url}/keys/a/data", timeout=10).content == b"data"
        part = requests.get(f"{url}/keys/a/data", headers={"Range": "bytes=1-2"}, timeout=10)
        assert (part.status_code, part.content) == (206, b"at")
        head = requests.head(f"{url}/keys/a/data", timeout=10)
        assert (head.headers["Content-Length"], head.content) == ("4", b"")
        assert requests.get(f"{url}/query", timeout=10).text == "a\n"
        assert requests.delete(f"{url}/keys/a", timeout=10).status_code == 204
        assert requests.get(f"{url}/keys/a/data", timeout=10).status_code == 404


def test_seen_from_all_threads_and_by_clones() -> None:
    with fake_server(MemoryStore()) as url, kvstore.open(url) as store:
        with pickle.loads(pickle.dumps(store)) as clone:
            thread = threading.Thread(target=clone.set, args=("key", b"data"))
            thread.start()
            thread.join(30)
        assert store.to_bytes("key") == b"data"


def test_nothing_else_is_reached() -> None:
    with fake_server(MemoryStore()), pytest.raises(TransportError):
        kvstore.open("http://other.test")


def test_copy_from_one_server_to_another() -> None:
    data = bytes(range(256)) * 4000
    with (
        fake_server(MemoryStore(), "http://one.test") as one,
        fake_server(MemoryStore(), "http://two.test") as two,
        kvstore.open(one) as source,
        kvstore.open(two) as target,
    ):
        source.set("key", data, metadata={"a": 1})
        target.set("copy", source.get("key"))
        assert target.to_bytes("copy") == data
        assert target.get_metadata("copy") == {"a": 1}
        assert list(source.query_keys()) == ["key"]


def test_options_go_to_the_application() -> None:
    small = Limits(data=10)
    with (
        fake_server(MemoryStore(), limits=small, base="/b", query="/q") as url,
        DynamicURLStore(f"{url}/b", f"{url}/q") as store,
    ):
        store.set_data("key", b"0123456789")
        with pytest.raises(kvstore.TooLargeError):
            store.set_data("key", b"0123456789+")
        assert list(store.query_keys()) == ["key"]
    with fake_server(MemoryStore(), hosts=["only.test"]) as url:
        assert requests.get(f"{url}/query", timeout=10).status_code >= 400
