"""The profile for files on a web server, against nginx."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

import kvstore
from kvstore import (
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    KeyNotFoundError,
    RangeError,
    Store,
    UnsupportedOperationError,
)
from tests.interop.peers import NotStartedError, free_port, program, running

pytestmark = pytest.mark.timeout(400)

CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    default_type application/octet-stream;
    types {{ text/plain txt; application/json json; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""
BIG = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A running nginx: its URL, and the folder that it serves."""
    nginx = program("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    www = folder / "www"
    (www / "a").mkdir(parents=True)
    (www / "a" / "plain.txt").write_bytes(b"hello")
    (www / "a" / "big ü.bin").write_bytes(BIG)
    (www / "unlisted.txt").write_bytes(b"not in the index")
    # Else the workers of a server that root starts are somebody who cannot read these folders.
    user = "user root root;" if os.geteuid() == 0 else ""
    for attempt in range(5):
        port = free_port()
        (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, user=user))
        command = [nginx, "-p", folder, "-c", folder / "nginx.conf"]
        try:
            with running(command, "start worker process ", cwd=folder):
                yield f"http://127.0.0.1:{port}", www
                return
        except NotStartedError as error:
            if "Address already in use" not in str(error) or attempt == 4:
                raise


@pytest.fixture
def store(site: tuple[str, Path]) -> Iterator[Store]:
    url, www = site
    entries = [
        {
            "key": "a/plain.txt",
            "size": 5,
            "digest": f"sha256:{sha256(b'hello').hexdigest()}",
            "metadata": {"n": 1, "tags": ["x"]},
        },
        {"key": "a/big ü.bin", "mimetype": "image/x-raw", "metadata": {"n": 2}},
    ]
    (www / "index.json").write_text(json.dumps({"profile": "static", "keys": entries}))
    with kvstore.open(url, profile="static") as store:
        yield store


def test_keys_come_from_the_index_and_metadata_too(store):
    assert list(store.query()) == [
        ("a/big ü.bin", {"n": 2}),
        ("a/plain.txt", {"n": 1, "tags": ["x"]}),
    ]
    assert list(store.query_keys(n=1)) == ["a/plain.txt"]
    assert list(store.query_keys(where={"n": {"ge": 1}}, order_by="-n", limit=1)) == ["a/big ü.bin"]
    assert list(store.query_keys(prefix="a/p")) == ["a/plain.txt"]
    assert store.count() == 2
    assert store.get_metadata("a/plain.txt") == {"n": 1, "tags": ["x"]}
    assert store.get_metadata("unlisted.txt") == {}


def test_facts_come_from_the_headers_and_the_index(store):
    record = store.record("a/plain.txt")
    assert (record.size, record.mimetype) == (5, "text/plain")
    assert record.digest == f"sha256:{sha256(b'hello').hexdigest()}"
    assert record.modified is not None
    assert record.revision is not None
    assert store.record("a/big ü.bin").mimetype == "image/x-raw"
    assert [found.size for found in store.find(kvstore.Query())] == [-1, 5]


def test_data_and_ranges(store, tmp_path):
    assert store.to_bytes("a/plain.txt") == b"hello"
    assert store.to_bytes("unlisted.txt") == b"not in the index"
    store.to_file("a/big ü.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG
    for start, end in [(0, 1), (5, 9), (1_000_000, 1_000_300), (2097151, None), (None, 3)]:
        assert store.get_data_range("a/big ü.bin", start, end).read() == BIG[start:end]
    assert store.get_data_range("a/plain.txt", 5).read() == b""
    assert store.get_data_range("a/plain.txt", 2, 2).read() == b""
    with pytest.raises(RangeError):
        store.get_data_range("a/plain.txt", 6)


def test_a_value_is_of_one_version(store, site):
    path = site[1] / "changing.bin"
    path.write_bytes(BIG)
    value = store.get("changing.bin")
    value.open().close()
    path.write_bytes(BIG[:-1])
    with pytest.raises(ConflictError):
        value.open()
    value.close()


def test_a_file_that_is_not_what_the_index_says_is_an_error(store, site):
    path = site[1] / "a" / "plain.txt"
    path.write_bytes(b"hullo")
    try:
        with pytest.raises(IntegrityError):
            store.to_bytes("a/plain.txt")
    finally:
        path.write_bytes(b"hello")


def test_what_is_no_key(store):
    for key in ("none", "a/none", "a"):  # the last is a folder
        assert not store.exists(key)
        with pytest.raises(KeyNotFoundError):
            store.get(key)
    for key in ("index.json", "a//plain.txt", "/a", "a/"):
        with pytest.raises(InvalidKeyError, match="static"):
            store.get(key)


def test_it_is_read_only(store):
    assert store.info()["readonly"] is True
    for operation in (
        lambda: store.set("a/plain.txt", b"new"),
        lambda: store.set_data("a/plain.txt", b"new"),
        lambda: store.set_metadata("a/plain.txt", {}),
        lambda: store.update_metadata("a/plain.txt", {}),
        lambda: store.delete("a/plain.txt"),
        lambda: store.reserve("a"),
    ):
        with pytest.raises(UnsupportedOperationError, match="'static' has no operation"):
            operation()
    assert store.to_bytes("a/plain.txt") == b"hello"
