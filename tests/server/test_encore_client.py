"""The client that came before, as it is on PyPI, speaks its whole protocol to this server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from encore.storage.dynamic_url_store import DynamicURLStore
from encore.storage.string_value import StringValue

from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.corpora import keys as corpus_keys

DATA = bytes(range(256)) * 40
ODD_KEYS = [
    "a b", "a/b", "a//b", "/a", "a/", "a/data", "data", "100%", "%2F", "a+b", "a&b=c", "é",
    "\U0001f600", "a?b#c", "{key}", '"quoted"', "back\\slash", "semi;colon", "tilde~", "x" * 1000,
    "e\u0301", "-_.!*'()",
]  # fmt: skip


@pytest.fixture
def old(url: str) -> Iterator[Any]:
    with requests.Session() as session:
        session.trust_env = False
        client = DynamicURLStore(f"{url}/keys", f"{url}/query")
        client.connect(("alice", session))
        yield client


def test_data(old: Any, store: MemoryStore) -> None:
    old.set_data("a", io.BytesIO(DATA))
    assert store.to_bytes("a") == DATA
    assert old.get_data("a").read() == DATA
    assert old.to_bytes("a") == DATA
    old.from_bytes("a", b"other")
    assert store.to_bytes("a") == b"other"
    old.set_data("a", b"")
    assert old.get_data("a").read() == b""


# It warns of the pair that values used to be, and unpacks them as pairs itself.
@pytest.mark.filterwarnings("ignore:The 2-tuple interface:DeprecationWarning")
def test_files(old: Any, store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    old.from_file("a", str(tmp_path / "in"))
    assert store.to_bytes("a") == DATA
    old.to_file("a", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == DATA


def test_values(old: Any, store: MemoryStore) -> None:
    old.set("a", StringValue(DATA, {"n": 1, "é": [None, True]}))
    assert store.get_metadata("a") == {"n": 1, "é": [None, True]}
    value = old.get("a")
    assert value.size == len(DATA)
    assert value.mimetype == "application/octet-stream"
    assert value.modified == int(store.get("a").modified or 0)
    assert value.data.read() == DATA
    assert value.metadata == {"n": 1, "é": [None, True]}
    assert value.permissions == {"owned": ["alice"]}
    old.set("b", (io.BytesIO(b"pair"), {"n": 2}))
    assert (store.to_bytes("b"), store.get_metadata("b")) == (b"pair", {"n": 2})


def test_ranges(old: Any, store: MemoryStore) -> None:
    store.set_data("a", DATA)
    # The end is that of HTTP here, inclusive: what that client has always given on.
    assert old.get_data_range("a", 10, 19).read() == DATA[10:20]
    assert old.get_data_range("a", 10_000).read() == DATA[10_000:]
    assert old.get_data_range("a", 10_200, 99_999).read() == DATA[10_200:]
    assert old.get("a").range().read() == DATA


def test_metadata(old: Any, store: MemoryStore) -> None:
    old.set_metadata("a", {"n": 1, "text": "é"})
    assert store.to_bytes("a") == b""
    assert old.get_metadata("a") == {"n": 1, "text": "é"}
    assert old.get_metadata("a", select=["n", "absent"]) == {"n": 1}
    old.update_metadata("a", {"n": None, "more": {"b": 1}})
    assert store.get_metadata("a") == {"n": None, "text": "é", "more": {"b": 1}}


def test_permissions(old: Any, store: MemoryStore) -> None:
    store.set_data("a", b"x")
    assert old.get_permissions("a") == {"owned": ["alice"]}
    old.set_permissions("a", {"owned": ["alice", "bob"], "get": ["public"]})
    old.update_permissions("a", {"get": ["carol"]})
    assert store.get_permissions("a") == {"owned": {"alice", "bob"}, "get": {"carol", "public"}}


def test_queries(old: Any, store: MemoryStore) -> None:
    fields = {"s": 'te st&é"', "i": 1, "f": 2.0, "t": True, "n": None, "b": [1, 2]}
    store.set_metadata("all", fields)
    store.set_metadata("other", {**fields, "i": 2})
    assert list(old.query_keys()) == [b"all", b"other"]
    assert list(old.query_keys(**fields)) == [b"all"]
    assert list(old.query_keys(i=3)) == []
    # It takes what it is told for the keys, and those are bytes to it.
    assert [(key.decode(), found) for key, found in plain_query(old, ["i"], t=True)] == [
        ("all", {"i": 1}),
        ("other", {"i": 2}),
    ]


def plain_query(old: Any, select: list[str], **match: Any) -> Iterator[tuple[bytes, Any]]:
    for key in old.query_keys(**match):
        yield key, old.get_metadata(key.decode(), select=select)


def test_delete(old: Any, store: MemoryStore) -> None:
    for key in ("a", "a/data"):
        store.set_data(key, b"x")
    old.delete("a/data")
    assert list(store.query_keys()) == ["a"]
    old.delete("a")
    assert list(store.query_keys()) == []


def test_missing_keys(old: Any) -> None:
    assert not old.exists("a")
    for call in (old.get, old.get_data, old.get_metadata, old.get_permissions):
        with pytest.raises(KeyError):
            call("a")
    with pytest.raises(KeyError):
        old.update_metadata("a", {"n": 1})
    with pytest.raises(KeyError):
        old.set_permissions("a", {"owned": ["alice"]})


def test_what_is_refused_is_an_error(old: Any, store: MemoryStore) -> None:
    store.set("a", b"x", metadata={"n": 1})
    with pytest.raises(requests.HTTPError, match="400"):
        old.set_metadata("a", {"n": float("nan")})
    with pytest.raises(requests.HTTPError, match="400"):
        old.set_permissions("a", {"owned": []})
    assert store.get_metadata("a") == {"n": 1}


@each("key", ODD_KEYS)
def test_odd_keys(old: Any, store: MemoryStore, key: str) -> None:
    old.set(key, StringValue(b"data", {"n": 1}))
    assert list(store.query_keys()) == [key]
    assert old.exists(key)
    assert old.get(key).metadata == {"n": 1}
    assert old.get_data(key).read() == b"data"
    assert [line.decode() for line in old.query_keys()] == [key]
    old.delete(key)
    assert not store.exists(key)


def test_the_keys_of_the_corpus(old: Any, store: MemoryStore) -> None:
    legal = [
        key for entry, key in corpus_keys() if entry["expect"] == "roundtrip" and len(key) <= 1000
    ]
    for number, key in enumerate(legal):
        old.set_data(key, b"%d" % number)
    assert set(store.query_keys()) == set(legal)


@pytest.mark.parametrize("pieces", [[], [b""], [b"one"], [b"one", b"two"], [DATA] * 300])
def test_chunked_uploads(old: Any, store: MemoryStore, pieces: list[bytes]) -> None:
    old.set_data("a", iter(pieces))
    assert store.to_bytes("a") == b"".join(pieces)


def test_an_empty_file_is_sent_in_chunks(old: Any, store: MemoryStore) -> None:
    old.set_data("a", io.BytesIO(b""))
    assert store.to_bytes("a") == b""


def test_copies_between_keys(old: Any, store: MemoryStore) -> None:
    """The upload goes on while the download is open on another connection."""
    store.set("a", DATA * 300, metadata={"n": 1})
    old.set("b", old.get("a"))
    assert store.to_bytes("b") == DATA * 300
    assert store.get_metadata("b") == {"n": 1}


def test_copies_between_servers(old: Any, store: MemoryStore) -> None:
    store.set("a", DATA, metadata={"n": 1})
    other = MemoryStore()
    with other, serve_background(other) as url, requests.Session() as session:
        target = DynamicURLStore(f"{url}/keys", f"{url}/query")
        target.connect(("alice", session))
        target.set("a", old.get("a"))
        assert (other.to_bytes("a"), other.get_metadata("a")) == (DATA, {"n": 1})
