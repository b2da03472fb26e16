"""The names that a FileSystemStore gives its files, and the order in which it lists its keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import FileSystemStore, InvalidKeyError, check_key
from tests.corpora import keys as corpus_keys

FORMS = ["exact", "portable"]


@pytest.fixture(autouse=True)
def _without_flushes() -> Iterator[None]:
    """No test here cuts the power."""
    with mock.patch("os.fsync"):
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FileSystemStore]:
    with FileSystemStore(root) as store:
        yield store


TWINS = [
    ["a", "a/b", "a.b", "a.data", "a.data/b", "a/", "a//b", "a/b/c"],
    ["x", "x.meta.json", "x.data", "x.data.meta.json"],
    ["Straße", "STRASSE", "straße", "Strasse", "strasse"],
    [unicodedata.normalize(form, "Müller/Å") for form in ("NFC", "NFD")],
    ["k" * 1023 + "1", "k" * 1023 + "2", "k" * 1023, "k" * 240, "k" * 239 + "/" + "k" * 700],
    ["ü" * 512, "ü" * 511, "日" * 341, "日" * 340 + "本"],
    [".kvstore/format.json", ".kvstore", ".hidden", "..."],
    ["con", "CON.txt", "a:b", "a\\b", "trailing.", "trailing ", " leading", "tab\t", "%2E", "%"],
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keys", TWINS, ids=lambda keys: ascii(keys[0])[:12])
def test_keys_that_look_alike_are_kept_apart(root: Path, form: Any, keys: list[str]) -> None:
    with FileSystemStore(root, names=form) as store:
        for number, key in enumerate(keys):
            store.set(key, str(number).encode(), metadata={"n": number})
        assert list(store.query_keys()) == sorted(keys)
        for number, key in enumerate(keys):
            assert store.get(key).read() == str(number).encode()
            assert store.get_metadata(key) == {"n": number}
        gone = keys.pop()
        store.delete(gone)
        assert list(store.query_keys()) == sorted(keys)
        assert not store.exists(gone)


def test_portable_names_are_lower_case_and_ascii(root: Path) -> None:
    with FileSystemStore(root, names="portable") as store:
        for key in ("Ä/B", "ä/b", "A\u0308/b"):
            store.set(key, b"")
    paths = [path.relative_to(root) for path in root.rglob("*")]
    names = {part for path in paths for part in path.parts}
    assert all(name.isascii() for name in names)
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize("form", FORMS)
def test_every_legal_key(root: Path, form: Any) -> None:
    legal = []
    for _, key in corpus_keys():
        try:
            legal.append(check_key(key))
        except InvalidKeyError:
            continue
    legal = list(dict.fromkeys(legal))
    assert len(legal) > 400
    with FileSystemStore(root, names=form) as store:
        for key in legal:
            store.set(key, key.encode())
        assert list(store.query_keys()) == sorted(legal)
        assert [key for key, _ in store.query()] == sorted(legal)
        for key in legal:
            assert store.get(key).read() == key.encode()
            store.delete(key)
    assert [path.name for path in root.iterdir()] == [".kvstore"]


segments = st.sampled_from(
    ["", "a", "A", "a.b", "b.", ".x", "é", "z" * 200, "z" * 199 + "y" * 90, "z" * 250]
)
some_keys = (
    st.lists(segments, min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda key: 0 < len(key.encode()) <= 1024)
)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(
    keys=st.sets(some_keys, max_size=12),
    prefix=st.one_of(st.just(""), some_keys),
    cut=st.integers(0, 300),
    after=st.none() | some_keys,
)
def test_listing_is_sorted_and_exact(
    tmp_path_factory: pytest.TempPathFactory,
    form: Any,
    keys: set[str],
    prefix: str,
    cut: int,
    after: str | None,
) -> None:
    prefix = prefix[:cut]
    with FileSystemStore(tmp_path_factory.mktemp("listing"), names=form) as store:
        for key in keys:
            store.set_metadata(key, {})
        expected = sorted(k for k in keys if k.startswith(prefix) and (after is None or k > after))
        assert list(store.query_keys(prefix=prefix, after=after)) == expected
        assert [key for key, _ in store.query(prefix=prefix, after=after)] == expected
        assert store.count(prefix=prefix) == sum(key.startswith(prefix) for key in keys)


@pytest.mark.parametrize("prefix", ["../", "a/./", "\0/", "x" * 2000 + "/"])
def test_prefixes_that_no_key_has_find_nothing(store: FileSystemStore, prefix: str) -> None:
    store.set("a/key", b"")
    assert list(store.query_keys(prefix=prefix)) == []


def test_longest_prefix_finds_its_key(store: FileSystemStore) -> None:
    key = "x" * 1023 + "/"
    store.set(key, b"data")
    assert list(store.query_keys(prefix=key)) == [key]


def test_listing_goes_on_while_keys_come_and_go(store: FileSystemStore) -> None:
    for number in range(6):
        store.set(f"{number // 2}/{number}", b"", metadata={"n": number})
    found = store.query()
    assert next(found)[0] == "0/0"
    for key in ("0/1", "1/2", "1/3"):
        store.delete(key)
    store.set("2/45", b"")
    assert [key for key, _ in found] == ["2/4", "2/45", "2/5"]
