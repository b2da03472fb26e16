"""Every method of every URL, asked for by everybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from kvstore.server.access import token_text
from kvstore.server.paths import BROWSER_PATH, HEALTH_PATH, METRICS_PATH, OPENAPI_PATH
from kvstore.server.routes import templates_of
from kvstore.server.running.run import app_of
from kvstore.server.running.settings import Settings
from kvstore.stores.memory import MemoryStore
from tests.server.access import Lab, lab_of
from tests.server.sockets import Answer
from tests.server.tus import PART, TUS, named

KEY = "runs/1"
#: For everybody: who is to sign in needs them.
PAGES = ("/", f"{BROWSER_PATH}/{{file}}", OPENAPI_PATH)
NDJSON = "Content-Type: application/x-ndjson"

LINE = {
    "batch": {"op": "set_metadata", "key": KEY, "metadata": {"n": 2}},
    "have": {"key": KEY, "revision": "r", "digest": None},
}
#: What to send with it, by method and the end of the URL.
BODIES = {
    ("PUT", "data"): b"new",
    ("PUT", "metadata"): b'{"n": 2}',
    ("POST", "metadata"): b'{"n": 2}',
    ("PUT", "auth"): b'{"owned": ["ann"]}',
    ("POST", "auth"): b'{"read": ["ann"]}',
    ("PUT", "value"): b'{"metadata": {"n": 2}}\nnew',
    ("POST", "batch"): json.dumps(LINE["batch"]).encode(),
    ("POST", "have"): json.dumps(LINE["have"]).encode(),
}
READS = ("GET", "HEAD", "OPTIONS")
#: What who has no right to the key is told: as much as of a key that is not there, but that one
#: cannot make it. Lists have nothing of it in them.
STRANGER = {
    ("PUT", "data"): 403,
    ("PUT", "metadata"): 403,
    ("PUT", "value"): 403,
    ("POST", "batch"): 403,
    ("POST", "uploads"): 403,
    **{("GET", name): 200 for name in ("versions", "query", "changes", "kvstore")},
    ("GET", "metrics"): 200,
    ("POST", "have"): 200,
}
OWNER = {
    **{("PUT", name): 204 for name in ("data", "metadata", "value", "auth")},
    **{("POST", name): 204 for name in ("metadata", "auth", "versions")},
    ("DELETE", "{key}"): 204,
    ("POST", "uploads"): 201,
    ("PATCH", "{upload}"): 204,
    ("DELETE", "{upload}"): 204,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_of(MemoryStore(keep_versions=3), tmp_path_factory.mktemp("lab")) as lab:
        now = lab.tokens.clock()
        lab.token("ann", scopes=["read", "write", "metrics"])
        lab.token("bob", scopes=["read", "write", "metrics"])
        lab.token("reader", user="ann", scopes=["read"])
        lab.token("watcher", user="ann", scopes=["metrics"])
        lab.token("late", user="ann", expires=now + 1)
        lab.tokens.clock = lambda: now + 2
        lab.token("gone", user="ann")
        lab.tokens.revoke("gone")
        lab.known["unknown"] = token_text.new_text(token_text.new_id())
        wrong = next(token.id for token in lab.tokens.load().values() if token.name == "ann")
        lab.known["wrong"] = token_text.new_text(wrong)
        yield lab


def routes() -> list[tuple[str, str]]:
    with MemoryStore(keep_versions=3) as store:
        found = templates_of(app_of(store, Settings()).site)
    assert set(PAGES) <= found.keys()
    found[METRICS_PATH] = ["GET", "HEAD"]
    return [(method, path) for path, its in found.items() for method in (*its, "OPTIONS")]


ROUTES = routes()


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def ask(lab: Lab, name: str | None, method: str, template: str, upload: str) -> Answer:
    lines = []
    path = template.format(key=KEY, upload=upload, file="app.js")
    body = BODIES.get((method, name_of(template)), b"")
    if name_of(template) == "versions" and method == "POST":
        revision = lab.store.record(KEY).revision
        body = json.dumps({"restore": revision}).encode()
    if "uploads" in template:
        lines += [TUS]
        if method == "POST":
            lines += [named(KEY), "Upload-Length: 0"]
        elif method == "PATCH":
            lines += [PART, "Upload-Offset: 0"]
            body = b"whole"
    return lab.ask(name, method, path, *lines, body=body)


def prepared(lab: Lab, template: str) -> str:
    """Return the name of an upload of ann's, and have her key as it was."""
    lab.store.set(KEY, b"data", metadata={"n": 1})
    lab.store.set_permissions(KEY, {"owned": {"ann"}})
    if "{upload}" not in template:
        return ""
    lines = (TUS, named("runs/2"), "Upload-Length: 5")
    answer = lab.ask("ann", "POST", "/uploads", *lines)
    return name_of(answer.headers["Location"])


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_a_route_is_for_those_who_may(lab: Lab, method: str, template: str) -> None:
    name, is_page = name_of(template), template in PAGES
    upload = prepared(lab, template)
    before = lab.store.record(KEY)

    def status(who: str | None) -> int:
        answer = ask(lab, who, method, template, upload)
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        return answer.status

    if is_page or method == "OPTIONS":  # which methods there are is no secret
        assert status(None) in (200, 204)
        return
    for who in (None, "unknown", "wrong", "late", "gone"):
        assert status(who) == 401, who
    reads = method in READS or name == "have"
    is_metrics = name == "metrics"
    if not is_metrics:
        assert status("watcher") == 403
    if not reads or is_metrics:
        assert status("reader") == 403
    stranger = STRANGER.get(("GET" if method == "HEAD" else method, name), 404)
    assert status("bob") == stranger
    assert lab.store.record(KEY) == before
    if reads and not is_metrics:
        assert status("reader") in (200, 204)
    assert status("ann") == OWNER.get((method, name), 200)


def test_the_service_document_says_who_asks(lab: Lab) -> None:
    document = json.loads(lab.ask("ann", "GET", "/.well-known/kvstore").body)
    assert document["user"] == {"tag": "ann", "tags": ["ann", "public"]}
    assert document["store"]["readonly"] is False
    document = json.loads(lab.ask("reader", "GET", "/.well-known/kvstore").body)
    assert document["store"]["readonly"] is True


@pytest.mark.parametrize("path", [HEALTH_PATH, "/nothing", "/keys", "/uploads/"])
def test_other_urls_tell_nothing(lab: Lab, path: str) -> None:
    answer = lab.ask(None, "GET", path)
    assert answer.status in (200, 401, 404, 405)
    assert b"runs" not in answer.body


def test_what_is_public_may_be_read_by_everybody_where_that_is_said(tmp_path) -> None:
    with lab_of(MemoryStore(), tmp_path, public_read=True) as lab:
        lab.put("ann", "a", b"open")
        lab.put("ann", "b", b"closed")
        lab.ask("ann", "POST", "/keys/a/auth", body=b'{"read": ["public"]}')
        assert lab.ask(None, "GET", "/keys/a/data").body == b"open"
        assert lab.ask(None, "GET", "/query").body == b"a\n"
        assert lab.ask(None, "GET", "/keys/b/data").status == 404
        assert lab.ask(None, "GET", "/keys/a/auth").status == 403
        assert lab.ask(None, "PUT", "/keys/a/data", body=b"x").status == 401
        assert lab.ask(None, "PUT", "/keys/c/data", body=b"x").status == 401
        assert lab.ask(None, "GET", METRICS_PATH).status == 401
        assert lab.ask(None, "GET", "/query", "Authorization: Bearer x").status == 401


class OpenStore(MemoryStore):
    capabilities: ClassVar[dict[str, Any]] = {**MemoryStore.capabilities, "authorizing": False}


def test_a_store_without_permissions_is_all_or_nothing(tmp_path) -> None:
    with lab_of(OpenStore(), tmp_path, public_read=True) as lab:
        lab.put("ann", "a")
        assert lab.ask("bob", "GET", "/keys/a/data").body == b"data"
        assert lab.ask("bob", "GET", "/changes").body.count(b"\n") == 1
        for target in ("/query", "/keys/a/data", "/changes", "/.well-known/kvstore"):
            assert lab.ask(None, "GET", target).status == 401
        lab.token("reader", scopes=["read"])
        assert lab.ask("reader", "GET", "/keys/a/data").status == 200
        assert lab.ask("reader", "DELETE", "/keys/a").status == 403
