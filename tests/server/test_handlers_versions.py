from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from kvstore.compose.authorized import AuthorizedStore
from kvstore.compose.readonly import ReadOnly
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from kvstore.stores.sqlite import SQLiteStore

Served = tuple[MemoryStore | SQLiteStore, str, list[str]]

LARGE = bytes(range(256)) * 800
_REQUEST_ID = re.compile(rb'"request_id":"[^"]*"')


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A store with a key of two versions and one that was deleted, its URL, and the revisions."""
    store: MemoryStore | SQLiteStore
    if request.param == "memory":
        store = MemoryStore(keep_versions=9)
    else:
        store = SQLiteStore(tmp_path / "store", keep_versions=9)
    with store, serve_background(store) as url:
        old = store.set("a/versions", LARGE, metadata={"n": 1}, mimetype="text/plain")
        new = store.set("a/versions", b"new", metadata={"n": 2})
        gone = store.set("gone", b"gone")
        store.delete("gone")
        yield store, url, [str(old), str(new), str(gone)]


def lines(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


def problem(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_versions_are_records_the_newest_first(kept: Served, web: requests.Session) -> None:
    store, url, (old, new, gone) = kept
    answer = web.get(f"{url}/keys/a/versions/versions")
    wanted = [asdict(record) for record in store.versions("a/versions")]
    assert [record.pop("permissions") is not None for record in wanted] == [True, True]
    assert lines(answer) == wanted
    assert [record["revision"] for record in wanted] == [new, old]
    assert answer.headers["Cache-Control"] == "no-store"
    head = web.head(f"{url}/keys/a/versions/versions")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]
    assert [record["revision"] for record in lines(web.get(f"{url}/keys/gone/versions"))] == [gone]
    assert lines(web.get(f"{url}/keys/never/versions")) == []


def test_data_of_a_version_is_as_data_are(kept: Served, web: requests.Session) -> None:
    _, url, (old, new, gone) = kept
    address = f"{url}/keys/a/versions/data"
    answer = web.get(address, params={"$version": old})
    assert (answer.status_code, answer.content) == (200, LARGE)
    assert answer.headers["ETag"] == f'"{old}"'
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Cache-Control"] == "private, max-age=86400, immutable"
    assert answer.headers["Vary"] == "authorization"
    part = web.get(f"{address}?$version={old}", headers={"Range": "bytes=5-9", "If-Match": "*"})
    assert (part.status_code, part.content) == (206, LARGE[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{len(LARGE)}"
    head = web.head(f"{address}?%24version={old}&more=1")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(LARGE)))
    same = web.get(address, params={"$version": old}, headers={"If-None-Match": f'"{old}"'})
    assert same.status_code == 304
    assert same.headers["Cache-Control"] == answer.headers["Cache-Control"]
    other = web.get(address, params={"$version": old}, headers={"If-Match": f'"{new}"'})
    assert problem(other) == (412, "conflict")
    assert web.get(address, params={"$version": new}).content == web.get(address).content == b"new"
    assert web.get(address).headers["Cache-Control"] == "no-cache"
    assert web.get(f"{url}/keys/gone/data", params={"$version": gone}).content == b"gone"


def test_a_value_of_a_version_has_its_record(kept: Served, web: requests.Session) -> None:
    _, url, (old, _, _) = kept
    address = f"{url}/keys/a/versions/value"
    line, _, data = web.get(address, params={"$version": old}).content.partition(b"\n")
    assert data == LARGE
    record = json.loads(line)
    assert (record["revision"], record["metadata"]) == (old, {"n": 1})


def test_what_is_no_version(kept: Served, web: requests.Session) -> None:
    _, url, _ = kept
    for target, wanted in (
        ("data?$version=none", (404, "key-not-found")),
        ("value?$version=none", (404, "key-not-found")),
        ("data?$version=", (400, "invalid-request")),
        ("data?$version", (400, "invalid-request")),
        ("data?$version=%C3%A9", (400, "invalid-request")),
        ("data?$version=a&$version=b", (400, "invalid-request")),
        ("data?$vers=a", (400, "invalid-request")),
        ("metadata?$version=a", (400, "invalid-request")),
        ("auth?$version=a", (400, "invalid-request")),
        ("versions?$version=a", (400, "invalid-request")),
    ):
        assert problem(web.get(f"{url}/keys/a/versions/{target}")) == wanted, target


def test_nothing_is_written_at_the_url_of_a_version(kept: Served, web: requests.Session) -> None:
    store, url, (old, new, _) = kept
    key = f"{url}/keys/a/versions"
    for method, target in (
        ("PUT", f"{key}/data?$version={old}"),
        ("PUT", f"{key}/value?$version={old}"),
        ("POST", f"{key}/metadata?$version={old}"),
        ("DELETE", f"{key}?$version={old}"),
    ):
        assert problem(web.request(method, target, data=b"{}")) == (400, "invalid-request")
    assert store.record("a/versions").revision == new


def test_restoring_is_one_request(kept: Served, web: requests.Session) -> None:
    store, url, (old, new, gone) = kept
    address = f"{url}/keys/a/versions/versions"
    wrong = web.post(address, json={"restore": old}, headers={"If-Match": f'"{old}"'})
    assert problem(wrong) == (412, "conflict")
    answer = web.post(address, json={"restore": old}, headers={"If-Match": f'"{new}"'})
    assert answer.status_code == 204
    now = store.record("a/versions")
    assert answer.headers["ETag"] == f'"{now.revision}"'
    assert now.revision not in (old, new)
    assert (now.metadata, now.mimetype) == ({"n": 1}, "text/plain")
    assert store.to_bytes("a/versions") == LARGE
    assert (
        answer.headers["Repr-Digest"]
        == web.head(f"{url}/keys/a/versions/data").headers["Repr-Digest"]
    )
    again = web.post(
        f"{url}/keys/gone/versions", json={"restore": gone}, headers={"If-None-Match": "*"}
    )
    assert again.status_code == 201
    assert store.to_bytes("gone") == b"gone"


def test_what_cannot_be_restored(kept: Served, web: requests.Session) -> None:
    store, url, (_, new, _) = kept
    for body, wanted in (
        (b'{"restore": "none"}', (404, "key-not-found")),
        (b'{"restore": ""}', (400, "invalid-request")),
        (b'{"restore": 5}', (400, "invalid-request")),
        (b"{}", (400, "invalid-request")),
        (b'{"restore": "a", "n": 1}', (400, "invalid-request")),
        (b"", (400, "invalid-request")),
        (b"[" * 100_000, (413, "too-large")),
    ):
        answer = web.post(f"{url}/keys/a/versions/versions", data=body)
        assert problem(answer) == wanted, body
    assert store.record("a/versions").revision == new


def test_who_may_read_sees_the_versions_that_he_could_read_and_restores_none(
    web: requests.Session,
) -> None:
    with (
        MemoryStore(user_tag="ann", keep_versions=5) as store,
        serve_background(AuthorizedStore(store, "ann")) as anns,
        serve_background(AuthorizedStore(store, "bob")) as bobs,
    ):
        first = store.set("a", b"1")
        second = store.set_permissions("a", {"owned": {"ann"}, "read": {"bob"}})
        assert len(lines(web.get(f"{anns}/keys/a/versions"))) == 2
        seen = lines(web.get(f"{bobs}/keys/a/versions"))
        assert [record["revision"] for record in seen] == [second]
        hidden = web.get(f"{bobs}/keys/a/data", params={"$version": first})
        assert problem(hidden) == (404, "key-not-found")
        refused = web.post(f"{bobs}/keys/a/versions", json={"restore": second})
        assert problem(refused) == (403, "authorization")
        assert web.post(f"{anns}/keys/a/versions", json={"restore": first}).status_code == 204
        assert store.get_permissions("a")["read"] == {"bob"}


def test_what_is_hidden_has_as_many_versions_as_what_never_was(web: requests.Session) -> None:
    def told(key: str) -> list[tuple[int, dict[str, str], bytes]]:
        answers = [
            web.get(f"{url}/keys/{key}/versions"),
            web.head(f"{url}/keys/{key}/versions"),
            web.get(f"{url}/keys/{key}/data", params={"$version": revision}),
            web.get(f"{url}/keys/{key}/value", params={"$version": revision}),
            web.post(f"{url}/keys/{key}/versions", json={"restore": revision}),
        ]
        varying = {"date": "", "x-request-id": "", "content-length": ""}
        return [
            (
                answer.status_code,
                {**answer.headers, **varying},
                _REQUEST_ID.sub(b"", answer.content.replace(key.encode(), b"KEY")),
            )
            for answer in answers
        ]

    with (
        MemoryStore(user_tag="ann", keep_versions=5) as store,
        serve_background(AuthorizedStore(store, "bob")) as url,
    ):
        revision = store.set("hidden", b"1")
        store.set("hidden", b"2")
        assert told("hidden") == told("never")
        assert [answer[0] for answer in told("never")] == [200, 200, 404, 404, 404]
        store.delete("hidden")
        assert told("hidden") == told("never")


def test_a_store_that_can_only_be_read_shows_versions(web: requests.Session) -> None:
    with MemoryStore(keep_versions=5) as store, serve_background(ReadOnly(store)) as url:
        revision = store.set("a", b"1")
        store.set("a", b"2")
        assert len(lines(web.get(f"{url}/keys/a/versions"))) == 2
        assert web.get(f"{url}/keys/a/data?$version={revision}").content == b"1"
        refused = web.post(f"{url}/keys/a/versions", json={"restore": revision})
        assert problem(refused) == (405, "unsupported-operation")


def test_a_store_without_versions_has_no_such_urls(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    revision = store.set("a", b"1")
    assert web.get(f"{url}/keys/a/versions").status_code == 404
    assert web.post(f"{url}/keys/a/versions", json={"restore": revision}).status_code == 404
    refused = web.get(f"{url}/keys/a/data?$version={revision}")
    assert problem(refused) == (501, "unsupported-operation")
