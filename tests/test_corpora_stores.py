"""Every key and every metadata document that has broken other stores, on every store of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

import kvstore
from kvstore import FileSystemStore, InvalidKeyError, MemoryStore, SQLiteStore, Store
from kvstore.documents import check_metadata, parse_object
from kvstore.keys import check_key
from kvstore.testing import fake_server, live_server
from tests.corpora import entries, keys, raw

STORES = ["memory", "exact", "portable", "sqlite", "http-memory", "http-folder", "fake"]


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    with ExitStack() as stack:
        match request.param:
            case "memory":
                made: Store = MemoryStore()
            case "exact" | "portable" as names:
                made = FileSystemStore(folder, names=names)
            case "sqlite":
                made = SQLiteStore(folder)
            case "http-memory":
                made = kvstore.open(stack.enter_context(live_server(MemoryStore())))
            case "http-folder":
                made = kvstore.open(stack.enter_context(live_server(FileSystemStore(folder))))
            case _:
                backing = stack.enter_context(MemoryStore())
                made = kvstore.open(stack.enter_context(fake_server(backing)))
        yield stack.enter_context(made)


@cache
def sorted_keys() -> tuple[list[str], list[str]]:
    legal, illegal = set(), set()
    for _, key in keys():
        try:
            legal.add(check_key(key))
        except InvalidKeyError:
            illegal.add(key)
    return sorted(legal), sorted(illegal)


def test_legal_keys_live_side_by_side(store):
    legal, _ = sorted_keys()
    for number, key in enumerate(legal):
        store.set(key, str(number).encode(), metadata={"number": number})
    assert list(store.query_keys()) == legal
    for number, key in enumerate(legal):
        value = store.get(key)
        assert (value.key, value.read(), value.metadata) == (
            key,
            str(number).encode(),
            {"number": number},
        )
    for key in legal:
        store.delete(key)
        assert not store.exists(key)
    assert store.count() == 0


def test_what_is_no_key_is_refused(store):
    _, illegal = sorted_keys()
    assert len(illegal) > 50
    for key in illegal:
        for operation in (store.get, store.exists, store.delete, store.get_metadata):
            with pytest.raises(InvalidKeyError):
                operation(key)
        with pytest.raises(InvalidKeyError):
            store.set(key, b"data")
    assert list(store.query_keys()) == []


def test_metadata_comes_back_or_is_refused(store):
    kept = refused = 0
    for entry in entries("nasty_metadata"):
        try:
            document = check_metadata(parse_object(raw(entry)))
        except kvstore.StoreError:
            assert entry["expect"] != "accept", entry["id"]
            refused += 1
            continue
        assert entry["expect"] != "reject" or entry["cls"] == "content-type", entry["id"]
        store.set_metadata("key", document)
        assert store.get_metadata("key") == document, entry["id"]
        kept += 1
    assert kept > 40
    assert refused > 80
    store.delete("key")
