from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.cli.arguments import is_store, parse_pairs, parse_value, store_url
from kvstore.opening import open_store
from tests.cases import each

STORES = [
    "memory:",
    "sqlite:data",
    "sqlite:/srv/data",
    "file:data",
    "file:/srv/data",
    "http://127.0.0.1:8000",
    "https://example.org/lab",
    ".",
    "..",
    "~",
    "./data",
    "../data",
    "/srv/data",
    "~/data",
    "C:\\data",
]
NO_STORES = [
    "",
    "data",
    "data/",
    "runs/1",
    ".hidden",
    "...",
    "..a/b",
    "memory",
    "sqlite",
    "ftp://a/b",
    "~user",
]


@each("word", STORES)
def test_stores_are_told_by_their_spelling(word):
    assert is_store(word)


@each("word", NO_STORES)
def test_all_else_is_a_key(word):
    assert not is_store(word)
    with pytest.raises(click.UsageError, match="is no store"):
        store_url(word)


def test_a_password_in_what_is_no_store_is_not_shown():
    with pytest.raises(click.UsageError) as caught:
        store_url("ftp://ann:secret@example.org/data")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("name", ["plain", "with space", "a#b", "a?b", "100%", "a%20b", "é"])
def test_a_folder_is_the_folder_of_that_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open_store(store_url(f"./{name}")) as store:
        store.set("key", b"data")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_may_be_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_url("~/data") == (tmp_path / "data").as_uri()


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
@pytest.mark.parametrize("name", ["plain", "with space", "a#b", "100%", "a%20b", "é"])
def test_a_folder_is_whichever_store_is_in_it(tmp_path, monkeypatch, scheme, name):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    with open_store(f"{scheme}:{(tmp_path / name).as_uri().partition(':')[2]}") as store:
        store.set("key", b"data")
    for word in (f"./{name}", str(tmp_path / name)):
        assert store_url(word).startswith(f"{scheme}:///")
        with open_store(store_url(word)) as store:
            assert store.to_bytes("key") == b"data"


def test_a_file_named_as_the_index_is_a_key_of_a_store_of_files(tmp_path):
    with open_store(f"file:{tmp_path}") as store:
        store.set("kvstore.db", b"data")
    assert (tmp_path / "kvstore.db").is_file()
    assert store_url(str(tmp_path)) == tmp_path.as_uri()


def test_a_folder_that_is_missing_or_holds_no_store_is_one_of_files(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file").write_bytes(b"")
    for name in ("some", "none"):
        assert store_url(str(tmp_path / name)) == (tmp_path / name).as_uri()


def test_a_url_stays_as_it_is():
    assert store_url("sqlite:data") == "sqlite:data"
    assert store_url("file:data") == "file:data"
    assert store_url("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@each(
    "text, value",
    [
        ("30", 30),
        ("1.5", 1.5),
        ("-1e3", -1000.0),
        ("true", True),
        ("null", None),
        ('["a","b"]', ["a", "b"]),
        ('{"a": 1}', {"a": 1}),
        ('"30"', "30"),
        ("M31", "M31"),
        ("", ""),
        ("True", "True"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("007", "007"),
        ('{"a":1,"a":2}', '{"a":1,"a":2}'),
        ("a=b", "a=b"),
        ("\udcff", "\udcff"),
    ],
)
def test_a_value_is_json_if_it_can_be_and_else_text(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(JSON)
def test_every_json_value_can_be_given(value):
    assert parse_value(json.dumps(value)) == value
    assert parse_value(json.dumps(value, ensure_ascii=False)) == value


def test_pairs_are_fields():
    assert parse_pairs(["a=1", "b=x=y", "c=", "=d"]) == {"a": 1, "b": "x=y", "c": "", "": "d"}


@pytest.mark.parametrize(("words", "part"), [(["a"], "name=value"), (["a=1", "a=2"], "twice")])
def test_pairs_that_make_no_sense_are_refused(words, part):
    with pytest.raises(click.UsageError, match=part):
        parse_pairs(words)


# -- where the store is taken from ----------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        with open_store(f"file:{name}") as store:
            store.set(f"in-{name}", b"")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "env", "found"),
    [
        (["ls", "file:one"], {}, "in-one"),
        (["ls", "./one"], {}, "in-one"),
        (["ls", "--store", "file:one"], {}, "in-one"),
        (["ls"], {"KVSTORE_URL": "file:two"}, "in-two"),
        (["ls", "in-"], {"KVSTORE_URL": "./two"}, "in-two"),
        (["ls", "file:one"], {"KVSTORE_URL": "file:two"}, "in-one"),
        (["ls", "--store", "file:one"], {"KVSTORE_URL": "file:two"}, "in-one"),
        (["ls", "file:one", "in-"], {"KVSTORE_URL": "file:two"}, "in-one"),
    ],
)
def test_the_store_is_the_option_or_the_first_word_or_the_environment(
    folders, ok, words, env, found
):
    assert ok(*words, env=env) == f"{found}\n"


def test_behind_the_option_every_word_is_a_key(folders, refused):
    assert refused(3, "get", "--store", "file:one", "/two") == "There is no key '/two'."


@pytest.mark.parametrize(
    ("words", "env", "complaint"),
    [
        (["ls"], {}, "Missing STORE, as no KVSTORE_URL is in the environment"),
        (["ls", "one"], {}, "'one' is no store"),
        (["ls"], {"KVSTORE_URL": "one"}, "'one' is no store"),
        (["ls", "--store", "one"], {}, "'one' is no store"),
        (["get", "file:one"], {}, "Missing KEY"),
        (["get", "file:one", "a", "b"], {}, "Unexpected argument 'b'"),
        (["set", "file:one", "a"], {}, "Missing FILE"),
        (["rm", "file:one"], {}, "Missing KEY"),
        (["meta", "file:one"], {}, "Missing KEY"),
    ],
)
def test_what_is_missing_is_said(folders, refused, words, env, complaint):
    message = refused(2, *words, env=env)
    assert message.startswith(complaint)
    assert message.endswith(f"(see kvstore {words[0]} --help).")


@pytest.mark.parametrize(
    "command",
    [
        *(["ls"], ["get", "k"], ["query"], ["info"], ["meta", "k"], ["rm", "k"], ["perms", "k"]),
        *(["verify"], ["log"], ["versions", "k"], ["versions", "k", "--restore", "r"]),
        ["export", "out"],
    ],
)
def test_reading_makes_no_store_where_there_is_none(folders, refused, command):
    (folders / "photos").mkdir()
    for name in ("typo", "photos"):
        for url in (f"./{name}", f"sqlite:{folders / name}"):
            message = refused(1, command[0], url, *command[1:])
            assert message == f"There is no store in the folder {str(folders / name)!r}."
    assert not Path("out").exists()
    assert not Path("typo").exists()
    assert list(Path("photos").iterdir()) == []


def test_a_store_of_one_kind_is_not_made_where_there_is_one_of_the_other(folders, refused):
    with open_store("sqlite:three") as store:
        store.set("in-three", b"")
    assert refused(1, "ls", "file:three") == "There is no store in the folder 'three'."
    assert refused(1, "ls", "sqlite:one") == "There is no store in the folder 'one'."
    assert not Path("three", ".kvstore").exists()
    assert not Path("one", "kvstore.db").exists()
