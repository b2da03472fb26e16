from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from kvstore.compose import AuthorizedStore
from kvstore.query import Query, run
from kvstore.server import Limits, serve_background
from kvstore.server.handlers.folders import Folder, entries, folder_of
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore
from kvstore.values import Record
from tests.server.sockets import ask

NDJSON = {"Accept": "application/x-ndjson"}
KEYS = [
    *("/", "//", "/a", "a", "a/", "a//", "a//b", "a/b", "a/b/c", "a/\U0010ffff", "a0", "a.", "b/1"),
    *("b/2", "b/sub/3", "c", "d/\U0010ffff\U0010ffff", "line\nbreak/x", "é/ü", "z/" + "y" * 1000),
]


def expected(keys: list[str], prefix: str, delimiter: str = "/") -> list[str]:
    """The same by reading everything."""
    found: dict[str, None] = {}
    for key in sorted(key for key in keys if key.startswith(prefix)):
        found[folder_of(key, prefix, delimiter) or key] = None
    return list(found)


def named(line: dict[str, str]) -> str:
    return line["folder"] if "folder" in line else line["key"]


def listed(web: requests.Session, url: str, **options: str) -> Iterator[list[str]]:
    """The names on each page of a listing of folders."""
    link: str | None = f"{url}/query"
    parameters = {f"${name}": value for name, value in options.items()} or None
    while link is not None:
        answer = web.get(link, params=parameters, headers=NDJSON)
        assert answer.status_code == 200, answer.text
        yield [named(json.loads(line)) for line in answer.content.decode().split("\n")[:-1]]
        link = urljoin(answer.url, answer.links["next"]["url"]) if answer.links else None
        parameters = None


KEY_TEXT = st.text(st.sampled_from("ab/0.\U0010ffff"), min_size=1, max_size=6)


@given(
    keys=st.sets(KEY_TEXT), prefix=st.text(st.sampled_from("ab/"), max_size=3), at=st.integers(0)
)
def test_folders_are_those_of_all_keys(keys: set[str], prefix: str, at: int) -> None:
    records = [Record(key, {}, 0) for key in sorted(keys)]
    found = list(entries(Query(prefix=prefix), "/", lambda query: run(query, iter(records))))
    names = [entry.key for entry in found]
    assert names == expected(list(keys), prefix)
    assert all(
        isinstance(entry, Folder) == (entry.key.count("/", len(prefix)) > 0) for entry in found
    )
    if names:  # it goes on behind any of them
        after = names[at % len(names)]
        rest = entries(
            Query(prefix=prefix, after=after), "/", lambda query: run(query, iter(records))
        )
        assert [entry.key for entry in rest] == names[at % len(names) + 1 :]


@pytest.mark.parametrize("limit", ["1", "2", "7", "1000"])
def test_levels_page_by_page(
    journaled: tuple[MemoryStore | SQLiteStore, str], web: requests.Session, limit: str
) -> None:
    store, url = journaled
    for key in KEYS:
        store.set_metadata(key, {"n": 1})
    for prefix in ("", "a", "a/", "a//", "b/", "z/", "none", "/"):
        pages = list(listed(web, url, delimiter="/", prefix=prefix, limit=limit))
        assert [name for page in pages for name in page] == expected(KEYS, prefix)
        assert all(len(page) <= int(limit) for page in pages)


def test_records_stand_between_folders(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set("a/1", b"x")
    store.set("b", b"xy", metadata={"n": 1, "m": 2})
    parameters = {"$delimiter": "/", "$select": "n"}
    lines = web.get(f"{url}/query", params=parameters, headers=NDJSON).text.splitlines()
    first, second = map(json.loads, lines)
    assert first == {"folder": "a/"}
    assert (second["key"], second["size"], second["metadata"]) == ("b", 2, {"n": 1})
    store.set("line\nbreak/x", b"")
    plain = web.get(f"{url}/query", params={"$delimiter": "/"})
    assert (plain.text, plain.headers["X-Keys-Omitted"]) == ("a/\nb\n", "1")
    other = web.get(f"{url}/query", params={"$delimiter": "/1"}, headers=NDJSON)
    assert [named(json.loads(line)) for line in other.text.splitlines()] == [
        "a/1",
        "b",
        "line\nbreak/x",
    ]


def test_a_filter_holds_for_what_is_in_folders(
    journaled: tuple[MemoryStore | SQLiteStore, str], web: requests.Session
) -> None:
    store, url = journaled
    for number in range(100):
        store.set_metadata(f"f{number // 10}/{number:03}", {"n": number})
    where = '{"n": {"in": [5, 33, 34, 99]}}'
    assert list(listed(web, url, delimiter="/", where=where)) == [["f0/", "f3/", "f9/"]]
    assert list(listed(web, url, delimiter="/", glob="*/0[4-6]2")) == [["f4/", "f5/", "f6/"]]


def test_a_level_is_never_told_at_once(web: requests.Session) -> None:
    with MemoryStore() as store, serve_background(store, limits=Limits(page=10)) as url:
        for number in range(35):
            store.set_metadata(f"{number:02}/a", {})
        assert [len(page) for page in listed(web, url, delimiter="/")] == [10, 10, 10, 5]


def test_what_is_in_a_folder_is_not_read(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path) as store:
        with store.transaction("fill"):
            for number in range(3000):
                store.set_metadata(f"{number // 1000}/{number}", {})
        read = 0

        def find(query: Query) -> Iterator[Record]:
            nonlocal read
            for record in store._query(query):
                read += 1
                yield record

        assert [entry.key for entry in entries(Query(), "/", find)] == ["0/", "1/", "2/"]
        assert read < 10


def test_a_hidden_key_makes_no_folder(tmp_path: Path, web: requests.Session) -> None:
    with SQLiteStore(tmp_path) as store:
        store.set("hidden/deep/k", b"")
        store.set("mixed/hidden/k", b"")
        store.set("mixed/k", b"")
        store.set_permissions("mixed/k", {"owned": {"local"}, "read": {"bob"}})
        with serve_background(AuthorizedStore(store, "bob")) as url:
            assert list(listed(web, url, delimiter="/")) == [["mixed/"]]
            assert list(listed(web, url, delimiter="/", prefix="mixed/")) == [["mixed/k"]]
            assert list(listed(web, url, delimiter="/", prefix="hidden/")) == [[]]


@pytest.mark.parametrize("query", ["$delimiter=", "$delimiter=/&$order=n", "$delimiter=/&$count=1"])
def test_what_has_no_folders_is_refused(url: str, store: MemoryStore, query: str) -> None:
    answer = ask(url, "GET", f"/query?{query}")
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"
