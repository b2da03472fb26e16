"""Stores from URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvstore
from kvstore.opening import folder_of
from tests.cases import each


@pytest.mark.parametrize(
    ("scheme", "kind"), [("sqlite", kvstore.SQLiteStore), ("file", kvstore.FileSystemStore)]
)
@pytest.mark.parametrize("spelling", ["data", "./data", "{here}/data", "//{here}/data"])
def test_a_folder_may_be_spelled_in_several_ways(tmp_path, monkeypatch, scheme, kind, spelling):
    monkeypatch.chdir(tmp_path)
    with kvstore.open(f"{scheme}:{spelling.format(here=tmp_path)}") as store:
        assert type(store) is kind
        store.set("key", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with kind("data") as store:
        assert store.to_bytes("key") == b"data"


def test_options_are_those_of_the_class(tmp_path):
    with kvstore.open(f"sqlite:{tmp_path}", keep_versions=3, durable=True) as store:
        assert store.info()["versions"] == 3
        assert store.info()["durability"] == "power-loss"
    with kvstore.open("memory:", "ann", keep_versions=1) as store:
        assert isinstance(store, kvstore.MemoryStore)
        assert (store.info()["versions"], store.user_tag()) == (1, "ann")


def test_slashes_make_it_a_url_which_is_percent_encoded():
    assert folder_of("sqlite:///srv/a%20b") == Path("/srv/a b")
    assert folder_of("sqlite:/srv/a%20b") == Path("/srv/a%20b")
    assert folder_of("file://localhost/srv") == Path("/srv")


@pytest.mark.parametrize(
    "url", ["sqlite:", "file:", "sqlite://host/data", "file:a?b", "file:a#b", "sqlite:a?b"]
)
def test_a_url_may_name_no_folder_of_this_machine(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kvstore.InvalidRequestError, match="names no folder of this machine") as no:
        kvstore.open(url)
    assert repr(url) in no.value.message
    assert list(tmp_path.iterdir()) == []


@each("url", ["", "data", "memory:x", "ftp://host/data", "sqlite3:data"])
def test_what_is_no_url_of_a_store_is_refused(url):
    with pytest.raises(kvstore.InvalidRequestError) as no:
        kvstore.open(url)
    known = "memory:, sqlite:PATH, file:PATH, http(s)://HOST or vos://…"
    wanted = f"A store URL is {known}, not {url!r}."
    assert no.value.message == wanted


def test_a_password_is_not_shown():
    with pytest.raises(kvstore.InvalidRequestError) as no:
        kvstore.open("ftp://ann:secret@host")
    assert "secret" not in no.value.message


def test_a_url_is_a_str():
    with pytest.raises(kvstore.InvalidRequestError, match="A store URL is a str"):
        kvstore.open(Path("data"))  # type: ignore[arg-type]
