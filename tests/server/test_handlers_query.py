from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
import requests

from kvstore.query import Query
from kvstore.server import Limits, serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.values import Record
from tests.cases import each
from tests.corpora import Entry, entries
from tests.server.sockets import Wire, ask

NDJSON = {"Accept": "application/x-ndjson"}


def records(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    *lines, rest = answer.content.split(b"\n")
    assert rest == b""
    return [json.loads(line) for line in lines]


def keys_of(answer: requests.Response) -> list[str]:
    return [record["key"] for record in records(answer)]


# -- plain keys ----------------------------------------------------------------------------


def test_keys_are_lines_of_text(url: str, store: MemoryStore, web: requests.Session) -> None:
    for key in ("b", "a/é", "z\u2028x", "a b", "x\ny", "x\rz", "\U0001f600"):
        store.set_metadata(key, {"n": 1})
    answer = web.get(f"{url}/query")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Keys-Omitted"] == "2"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.content.decode() == "a b\na/é\nb\nz\u2028x\n\U0001f600\n"
    head = web.head(f"{url}/query")
    assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}


def test_nothing_found(url: str, store: MemoryStore, web: requests.Session) -> None:
    answer = web.get(f"{url}/query")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["X-Keys-Omitted"] == "0"
    found = web.get(f"{url}/query", headers=NDJSON)
    assert records(found) == []
    head = web.head(f"{url}/query", headers=NDJSON)
    assert {**head.headers, "date": ""} == {**found.headers, "date": ""}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1, ["int", "float"]),
        (1.0, ["int", "float"]),
        (True, ["true"]),
        (None, ["null"]),
        ("1", ["str"]),
        ([1, 2], ["list"]),
        ({"a": 1}, ["dict"]),
        ("te st&=é%+", ["odd"]),
    ],
)
def test_fields_are_compared_as_json(
    url: str, store: MemoryStore, web: requests.Session, value: object, found: list[str]
) -> None:
    values = {
        "int": 1, "float": 1.0, "true": True, "null": None, "str": "1", "list": [1, 2],
        "dict": {"a": 1}, "odd": "te st&=é%+",
    }  # fmt: skip
    for key, stored in values.items():
        store.set_metadata(key, {"f é": stored})
    answer = web.get(f"{url}/query", params={"f é": json.dumps(value)})
    assert answer.text.split() == sorted(found)


@pytest.mark.parametrize(
    "name", ["select", "where", "prefix", "glob", "order_by", "limit", "after", "self", ""]
)
def test_fields_may_have_any_name(
    url: str, store: MemoryStore, web: requests.Session, name: str
) -> None:
    store.set_metadata("a", {name: 1})
    store.set_metadata("b", {name: 2})
    answer = web.get(f"{url}/query", params={name: "1"})
    assert answer.text == "a\n"
    assert web.get(f"{url}/query", params={name: "1", "$count": "true"}).json() == {"count": 1}


@each(
    "query",
    [
        "a",
        "a=",
        "a=x",
        "a=NaN",
        'a={"b":1,"b":2}',
        "a=1&a=1",
        "a=%zz",
        "a=%ff",
        "%e9=1",
        "a=1%",
        "$nothing=1",
        "$prefix=a&$prefix=a",
        "$limit=x",
        "$limit=-1",
        "$limit=",
        "$limit=1.5",
        "$limit=%D9%A1",
        "$where=1",
        "$where=[]",
        "$where={",
        '$where={"a":{"odd":1}}',
        '$where={"a":{}}',
        "$count=perhaps",
        "$count=true&$limit=1",
        "$count=true&$after=a",
        "$order=a&$after=nonsense",
        f"$glob={'a' * 2000}",
    ],
)
@each("accept", ["*/*", "application/x-ndjson"])
def test_malformed_parameters_are_refused(
    url: str, store: MemoryStore, query: str, accept: str
) -> None:
    answer = ask(url, "GET", f"/query?{query.replace(' ', '%20')}", f"Accept: {accept}")
    assert answer.status == 400
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"


@each("entry", list(entries("queries")), ids=lambda e: ascii(e["value"])[:40])
def test_query_corpus(url: str, store: MemoryStore, entry: Entry, web: requests.Session) -> None:
    for key in ("a" * 60, "abc", "x/..y", "%", "a\n"):
        store.set_metadata(key, {"a": 1})
    name = "$glob" if entry["kind"] == "glob" else "$where"
    answer = web.get(f"{url}/query", params={name: entry["value"]}, headers=NDJSON)
    assert answer.status_code in (200, 400, 414)


# -- records -------------------------------------------------------------------------------


def test_records_hold_all_facts(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set("x\ny", b"data", metadata={"é": "\n\u2028"}, mimetype="text/csv")
    store.set("b", b"", metadata={})
    first, second = records(web.get(f"{url}/query", headers=NDJSON))
    assert first["key"] == "b"
    record = store.get("x\ny").record
    assert second == {
        "key": "x\ny",
        "metadata": {"é": "\n\u2028"},
        "size": 4,
        "created": record.created,
        "modified": record.modified,
        "mimetype": "text/csv",
        "revision": record.revision,
        "digest": record.digest,
    }


@pytest.mark.parametrize(
    ("accept", "is_records"),
    [
        ("application/x-ndjson", True),
        ("APPLICATION/X-NDJSON", True),
        ("text/plain, application/x-ndjson;q=0.5", True),
        ("application/x-ndjson;q=0, */*", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_records_are_for_who_asks(
    url: str, store: MemoryStore, accept: str, is_records: bool
) -> None:
    answer = ask(url, "GET", "/query", f"Accept: {accept}")
    kind = "application/x-ndjson" if is_records else "text/plain; charset=utf-8"
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Vary"] == "accept"


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"$prefix": "b"}, ["b0", "b1", "b2"]),
        ({"$glob": "?1"}, ["a1", "b1", "c1"]),
        ({"$prefix": "b", "$glob": "*2"}, ["b2"]),
        ({"$where": '{"n": {"ge": 2}}'}, ["a2", "b2", "c2"]),
        ({"$where": '{"any": [{"g": "a"}, {"n": 0}]}', "$prefix": "b"}, ["b0"]),
        ({"$order": "-n", "$prefix": "b"}, ["b2", "b1", "b0"]),
        ({"$order": "n", "g": '"a"'}, ["a0", "a1", "a2"]),
        ({"$after": "b1"}, ["b2", "c0", "c1", "c2"]),
        ({"n": "1", "g": '"c"'}, ["c1"]),
        ({"$limit": "0"}, []),
        ({"$limit": "2"}, ["a0", "a1"]),
        ({"$count": "false", "$prefix": "c"}, ["c0", "c1", "c2"]),
    ],
)
def test_options(
    url: str,
    store: MemoryStore,
    web: requests.Session,
    parameters: dict[str, str],
    found: list[str],
) -> None:
    for group in "abc":
        for number in range(3):
            store.set_metadata(f"{group}{number}", {"g": group, "n": number})
    answer = web.get(f"{url}/query", params=parameters, headers=NDJSON)
    assert keys_of(answer) == found
    plain = web.get(f"{url}/query", params=parameters)
    assert plain.text.split() == found
    assert plain.links == answer.links
    if not {"$limit", "$after"} & parameters.keys():
        counted = web.get(f"{url}/query", params={**parameters, "$count": "1"})
        assert counted.headers["Content-Type"] == "application/json"
        assert counted.json() == {"count": len(found)}


def test_select(url: str, store: MemoryStore, web: requests.Session) -> None:
    store.set_metadata("a", {"x": 1, "y": 2, "z": 3})
    for select, fields in (("x,z", {"x": 1, "z": 3}), ("", {}), ("q", {}), ("x,,q", {"x": 1})):
        (record,) = records(web.get(f"{url}/query", params={"$select": select}, headers=NDJSON))
        assert record["metadata"] == fields


# -- pages ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many() -> Iterator[tuple[MemoryStore, str]]:
    store = MemoryStore()
    with store, serve_background(store, limits=Limits(page=100)) as url:
        for number in range(1050):
            store.set_metadata(f"k é&{number:04}", {"n": number % 7, "even": number % 2 == 0})
        yield store, url


def pages(web: requests.Session, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    link: str | None = url
    while link is not None:
        answer = web.get(link, headers=headers)
        yield answer
        link = urljoin(answer.url, answer.links["next"]["url"]) if answer.links else None


@pytest.mark.parametrize("limit", [1000, 100, 70, 1])
@pytest.mark.parametrize("headers", [NDJSON, {}])
@pytest.mark.parametrize("order", [None, "-n", "absent"])
def test_pages_hold_everything_once(
    many: tuple[MemoryStore, str],
    web: requests.Session,
    limit: int,
    headers: dict[str, str],
    order: str | None,
) -> None:
    store, url = many
    prefix = "k é&00" if limit == 1 else "k"
    options = {"$limit": str(limit), "$prefix": prefix, "even": "true"}
    expected = list(store.query_keys(prefix=prefix, even=True, order_by=order))
    if order is not None:
        options["$order"] = order
    found = []
    for answer in pages(web, f"{url}/query?{urlencode(options)}", headers):
        page = keys_of(answer) if headers else answer.text.splitlines()
        assert 0 < len(page) <= min(limit, 100)
        found += page
    assert found == expected


def test_the_last_page_has_no_next_one(
    many: tuple[MemoryStore, str], web: requests.Session
) -> None:
    _, url = many
    for prefix, limit, is_last in (("k é&00", 100, True), ("k é&00", 99, False), ("none", 5, True)):
        parameters = {"$prefix": prefix, "$limit": str(limit)}
        answer = web.get(f"{url}/query", params=parameters, headers=NDJSON)
        assert bool(answer.links) == (not is_last)


def test_a_page_after_which_no_url_can_ask(url: str, store: MemoryStore) -> None:
    for key in "ab":
        store.set_metadata(key, {"text": "x" * 10_000})
    answer = ask(url, "GET", "/query?$order=text&$limit=1", "Accept: application/x-ndjson")
    assert answer.problem["type"] == "urn:kvstore:error:invalid-request"
    assert ask(url, "GET", "/query?$order=text&$limit=2").status == 200


# -- streams -------------------------------------------------------------------------------


def test_long_answers_are_streamed(many: tuple[MemoryStore, str], web: requests.Session) -> None:
    store, url = many
    answer = web.get(f"{url}/query", headers=NDJSON)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert keys_of(answer) == list(store.query_keys())
    head = web.head(f"{url}/query", headers=NDJSON)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == "application/x-ndjson"


def test_long_plain_answers_have_a_length(web: requests.Session) -> None:
    with MemoryStore() as store, serve_background(store) as url:
        for number in range(3000):
            store.set_metadata(f"{number:04}{'x' * 1000}", {})
        answer = web.get(f"{url}/query")
        assert int(answer.headers["Content-Length"]) == 3000 * 1005
        assert answer.text.splitlines() == list(store.query_keys())


class BreakingStore(MemoryStore):
    """Its listing fails after so many records."""

    good = 0

    def _query(self, query: Query) -> Iterator[Record]:
        for number in range(self.good):
            yield Record(f"{number:06}", {"text": "x" * 100}, 0)
        raise OSError("the disk /secret/path is gone")

    _query_keys = _query


@pytest.mark.parametrize("target", ["/query", "/query?$limit=10"])
@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson"])
def test_an_error_at_the_beginning_is_told(target: str, accept: str) -> None:
    with serve_background(BreakingStore()) as url:
        answer = ask(url, "GET", target, f"Accept: {accept}")
        assert answer.problem["status"] == 500
        assert b"secret" not in answer.body


def test_an_error_within_the_stream_breaks_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = BreakingStore()
    store.good = 5000
    with serve_background(store) as url, Wire(url) as wire:
        wire.head("GET", "/query", "Accept: application/x-ndjson")
        with pytest.raises(http.client.IncompleteRead):
            wire.read()
    assert "the disk /secret/path is gone" in caplog.text


class EndlessStore(MemoryStore):
    """Lists keys until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0
        self.closed = False

    def _query(self, query: Query) -> Iterator[Record]:
        try:
            while True:
                self.listed += 1
                yield Record(f"{self.listed}", {"text": "x" * 1000}, 0)
        finally:
            self.closed = True


def test_a_listing_ends_when_the_client_goes() -> None:
    store = EndlessStore()
    with serve_background(store) as url:
        with Wire(url) as wire:
            wire.head("GET", "/query", "Accept: application/x-ndjson")
            wire.socket.recv(100_000)
        with requests.Session() as web:
            web.trust_env = False
            while not store.closed:  # the test's own time-out ends what would never end
                web.get(f"{url}/.well-known/kvstore")


def test_a_client_that_does_not_read_holds_the_listing_back() -> None:
    store = EndlessStore()
    with serve_background(store) as url, Wire(url) as wire:
        wire.head("GET", "/query", "Accept: application/x-ndjson")
        wire.socket.recv(1)
        listed = -1
        while listed != store.listed:  # until it stands still
            listed = store.listed
            for _ in range(20):
                ask(url, "GET", "/.well-known/kvstore")
        assert store.listed < 50_000
        assert not store.closed


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_queries_are_only_read(url: str, store: MemoryStore, method: str) -> None:
    answer = ask(url, method, "/query")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    options = ask(url, "OPTIONS", "/query")
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
