from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urljoin

import requests

from kvstore.documents import check_document
from kvstore.profiles.service import Service
from kvstore.server import Limits, serve_background
from kvstore.server.handlers.service import capabilities
from kvstore.stores.memory import MemoryStore
from kvstore.version import __version__
from tests.cases import each

ALL = [
    *("value", "conditional", "digest", "records", "folders"),
    *("changes", "batch", "uploads", "have"),
]
#: What bounds every request, whatever the store can do.
REQUESTS = {
    "target": 8192,
    "header_lines": 100,
    "header_bytes": 65536,
    "header_time": 10,
    "idle_time": 30,
    "query_time": 30,
    "rate": 1024,
}


def test_the_document_fits_its_schema(url: str, web: requests.Session) -> None:
    answer = web.get(f"{url}/.well-known/kvstore")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    check_document(document, "service", what="service document")
    assert document == {
        "protocol": 1,
        "server": {"name": "kvstore", "version": __version__},
        "profile": {
            "base": "../keys",
            "query": "../query",
            "changes": "../changes",
            "batch": "../batch",
            "uploads": "../uploads",
            "have": "../have",
            "url_format": "{base}/{key}/{part}",
            "url_format_no_part": "{base}/{key}",
            "parts": {"data": "data", "metadata": "metadata", "permissions": "auth"},
        },
        "capabilities": ALL,
        "store": MemoryStore().info(),
        "limits": {
            "key": 1024,
            "metadata": 1 << 20,
            "data": 5 << 30,
            "page": 1000,
            **REQUESTS,
            "changes": 10_000,
            "batch": 1000,
            "batch_bytes": 16 << 20,
            "have": 10_000,
            "have_bytes": 16 << 20,
        },
        "user": {"tag": "alice", "tags": ["alice", "public"]},
    }
    head = web.head(f"{url}/.well-known/kvstore")
    own = {"date": "", "x-request-id": ""}
    assert {**head.headers, **own} == {**answer.headers, **own}


def test_its_urls_are_those_that_answer(
    url: str, store: MemoryStore, web: requests.Session
) -> None:
    store.set_data("a", b"x")
    address = f"{url}/.well-known/kvstore"
    profile = web.get(address).json()["profile"]
    assert urljoin(address, profile["query"]) == f"{url}/query"
    assert urljoin(address, profile["base"]) == f"{url}/keys"
    service = Service.of_document(web.get(address).json(), address)
    assert (service.base, service.query) == (f"{url}/keys", f"{url}/query")
    assert service.capabilities == set(ALL)
    urls = (service.changes, service.batch, service.uploads, service.have)
    assert urls == (f"{url}/changes", f"{url}/batch", f"{url}/uploads", f"{url}/have")


def test_it_tells_the_limits_in_force(web: requests.Session) -> None:
    limits = Limits(
        metadata=5, data=6, page=7, changes=8, batch=9, batch_bytes=10, have=11, have_bytes=12
    )
    with serve_background(MemoryStore(), limits=limits) as url:
        document = web.get(f"{url}/.well-known/kvstore").json()
        told = {"key": 1024, "metadata": 5, "data": 6, "page": 7, **REQUESTS}
        told |= {"changes": 8, "batch": 9, "batch_bytes": 10, "have": 11, "have_bytes": 12}
        assert document["limits"] == told


ABLE = {
    "atomic_set": ["value", "uploads"],
    "conditional": ["conditional"],
    "digests": ["digest", "have"],
    "changes": ["changes"],
    "transactions": ["batch"],
}


@each("missing", ABLE)
def test_only_what_the_store_can_do_is_announced(missing: str) -> None:
    info = dict.fromkeys(ABLE, True)
    assert capabilities(info) == ALL
    left = [name for name in ALL if name not in ABLE[missing]]
    assert capabilities({**info, missing: False}) == left
    assert capabilities({}) == ["records", "folders"]
    with_versions = [*ALL[:5], "versions", *ALL[5:]]
    assert capabilities({**dict.fromkeys(ABLE, True), "versions": 3}) == with_versions


def test_a_store_that_can_only_be_read() -> None:
    info = {**dict.fromkeys(ABLE, True), "readonly": True}
    assert capabilities(info) == [*ALL[:6], "have"]


class PlainStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {
        **MemoryStore.capabilities,
        "transactions": False,
        "changes": False,
        "atomic_set": False,
        "digests": False,
    }


def test_urls_of_what_is_not_announced_are_none(web: requests.Session) -> None:
    with serve_background(PlainStore()) as url:
        address = f"{url}/.well-known/kvstore"
        document = web.get(address).json()
        assert document["limits"].keys() == {"key", "metadata", "data", "page", *REQUESTS}
        service = Service.of_document(document, address)
        urls = (service.changes, service.batch, service.uploads, service.have)
        assert urls == ("", "", "", "")
        for path in ("changes", "batch", "uploads", "uploads/x", "have"):
            for method in ("GET", "POST", "HEAD", "OPTIONS"):
                assert web.request(method, f"{url}/{path}").status_code == 404


class OpenStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "authorizing": False}


def test_a_store_without_permissions(web: requests.Session) -> None:
    with serve_background(OpenStore()) as url:
        document = web.get(f"{url}/.well-known/kvstore").json()
        assert document["profile"]["parts"] == {"data": "data", "metadata": "metadata"}
