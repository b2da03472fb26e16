"""What is a key and what is none, for the corpus of keys that broke stores and in general."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import InvalidKeyError
from kvstore.keys import MAX_KEY_BYTES, check_key
from tests.cases import each
from tests.corpora import Entry
from tests.corpora import keys as corpus_keys

CORPUS = [pytest.param(entry, key, id=entry["id"]) for entry, key in corpus_keys()]


def is_legal(key: str) -> bool:
    """Tell what a key is by the words of the contract, in the slowest way."""
    if not key or "\0" in key or any("\ud800" <= letter <= "\udfff" for letter in key):
        return False
    return len(key.encode()) <= 1024 and not any(part in (".", "..") for part in key.split("/"))


@each("entry, key", CORPUS)
def test_corpus(entry: Entry, key: str) -> None:
    if is_legal(key):
        assert check_key(key) is key
        return
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    assert caught.value.key == key
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@each("entry, key", CORPUS)
def test_corpus_expectations(entry: Entry, key: str) -> None:
    if entry["expect"] == "roundtrip":
        assert check_key(key) == key
    elif entry["expect"] == "clear-error":
        with pytest.raises(InvalidKeyError):
            check_key(key)


def test_corpus_has_both_kinds() -> None:
    legal = [is_legal(key) for _, key in corpus_keys()]
    assert (legal.count(True), legal.count(False)) == (520, 54)


@each(
    "key, reason",
    [
        ("", "at least one character"),
        ("a\0b", "NUL"),
        ("\0", "NUL"),
        ("a\ud800", "lone surrogate"),
        ("\udfff/a", "lone surrogate"),
        (".", r"no segment '\.' or '\.\.'"),
        ("..", "no segment"),
        ("a/../b", "no segment"),
        ("./a", "no segment"),
        ("a/.", "no segment"),
        ("ü/..", "no segment"),
        ("x" * 1025, "at most 1024 bytes of UTF-8, not 1025"),
        ("ü" * 513, "at most 1024 bytes of UTF-8, not 1026"),
        ("😀" * 256 + "x", "at most 1024 bytes of UTF-8, not 1025"),
    ],
)
def test_refused_with_its_reason(key: str, reason: str) -> None:
    with pytest.raises(InvalidKeyError, match=reason) as caught:
        check_key(key)
    assert caught.value.key == key


@each(
    "key",
    [
        *("a", " ", "/", "//", "a//b", "/a", "a/", "...", "a./.b", ".a", "a.", "..a/b..", "-", "~"),
        *("\n", "a\r\nb", "\x7f", "\u2028", "\ufeff", "\uffff", "é", "e\u0301", "😀", "CON", "a:b"),
        *("%2e%2e", "\u2024", "a\\..\\b", "?x=1#y", "a b", "data", "a/metadata"),
        "x" * MAX_KEY_BYTES,
        "ü" * 512,
        "😀" * 256,
    ],
)
def test_legal(key: str) -> None:
    assert check_key(key) is key


@each("key", [None, 1, 1.5, b"a", bytearray(b"a"), ["a"], ("a",), object()])
def test_only_str(key: Any) -> None:
    with pytest.raises(InvalidKeyError, match=f"not {type(key).__name__}: "):
        check_key(key)


def test_message_is_cut() -> None:
    with pytest.raises(InvalidKeyError) as caught:
        check_key("y" * 1_000_000)
    assert len(caught.value.message) < 200
    assert caught.value.message.endswith("y....")


class _Enum(str, enum.Enum):  # noqa: UP042 - its str() is the name, unlike that of StrEnum
    MEMBER = "runs/1"


class _Named(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __format__(self, spec: str) -> str:
        return "wrong"


@pytest.mark.parametrize("key", [_Enum.MEMBER, _Named("runs/1")])
def test_a_subclass_of_str_becomes_a_str(key: str) -> None:
    checked = check_key(key)
    assert type(checked) is str
    assert f"{checked}" == "runs/1"


@given(st.text(st.sampled_from("ab./\0\ud800\udc00é😀-"), max_size=12))
def test_agrees_with_the_contract(key: str) -> None:
    try:
        checked = check_key(key)
    except InvalidKeyError:
        assert not is_legal(key)
    else:
        assert is_legal(key)
        assert checked == key


@given(st.integers(0, 1030), st.sampled_from(["a", "é", "€", "😀"]))
def test_length_is_counted_in_bytes(count: int, letter: str) -> None:
    key = letter * count
    assert is_legal(key) is (1 <= len(letter.encode()) * count <= 1024)
    if is_legal(key):
        assert check_key(key) == key
    else:
        with pytest.raises(InvalidKeyError):
            check_key(key)
