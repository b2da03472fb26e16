"""What every gateway is given: its path, its callers, and words of its own for errors."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from kvstore.errors import InvalidRequestError
from kvstore.server import Gateway, Settings, create_app, serve_background
from kvstore.server.answers import Reply, length_field
from kvstore.server.exchange import Exchange
from kvstore.server.gateways import gateways_of, known
from kvstore.server.running.refusals import refusals
from kvstore.server.running.run import running
from kvstore.server.site import Site
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.server.access import lab_of
from tests.server.sockets import ask


class Shouting(Gateway):
    """Answers with the data of a key in capitals, and with errors in plain text."""

    name = "shouting"
    prefix = "/shouting"

    async def answer(self, site: Site, exchange: Exchange, path: str) -> Reply | None:
        if exchange.method == "PUT":
            body = await exchange.body.gather()
            await site.workers.run(site.writer.set_data, path.removeprefix("/"), body)
            return Reply(204, [])
        body = await site.workers.run(site.store.to_bytes, path.removeprefix("/"))
        if exchange.has(b"x-streamed"):
            await exchange.begin(200, [(b"content-type", b"text/plain")])
            await exchange.write(body.upper())
            return None
        return Reply(200, [length_field(len(body))], body.upper())

    def refusal(self, error: Exception, reply: Reply) -> Reply:
        body = type(error).__name__.encode()
        return Reply(reply.status, [length_field(len(body))], body)


def test_it_has_all_below_its_path() -> None:
    store = MemoryStore()
    with serve_background(store, gateways=[Shouting()]) as url:
        assert ask(url, "PUT", "/shouting/a/b", body=b"data").status == 204
        assert store.to_bytes("a/b") == b"data"
        assert ask(url, "GET", "/shouting/a/b").body == b"DATA"
        assert ask(url, "GET", "/shouting/a/b", "X-Streamed: yes").body == b"DATA"
        assert ask(url, "GET", "/keys/a%2Fb/data").body == b"data"
        assert ask(url, "GET", "/shoutings/a/b").status == 404
        metrics = ask(url, "GET", "/metrics").body.decode()
    assert 'kvstore_requests_total{method="PUT",route="shouting"' in metrics


@each("path", ["/shouting/missing", "/shouting", "/shouting/", "/shouting/%00"])
def test_errors_are_told_in_its_words(path: str) -> None:
    with serve_background(MemoryStore(), gateways=[Shouting()]) as url:
        answer = ask(url, "GET", path)
    assert answer.status in (400, 404)
    assert answer.body in (b"KeyNotFoundError", b"InvalidKeyError")
    assert answer.headers["X-Request-Id"]


def test_it_can_be_mounted_with_the_server() -> None:
    store = MemoryStore()
    store.connect()
    store.set_data("k", b"data")
    inner = create_app(store, gateways=[Shouting()])

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "root_path": "/lab"} if scope["type"] == "http" else scope
        await inner(scope, receive, send)

    app: ASGIApp = outer
    with running(app) as url:
        assert ask(url, "GET", "/lab/shouting/k").body == b"DATA"


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_the_token_may_be_the_password(tmp_path: Path) -> None:
    with lab_of(MemoryStore(), tmp_path, gateways=[Shouting()]) as lab:
        token = lab.token("alice", user="alice")
        lab.store.set_data("hidden", b"data")
        for line in (basic("any", token), lab.line("alice")):
            assert ask(lab.url, "PUT", "/shouting/k", line, body=b"data").status == 204
            assert ask(lab.url, "GET", "/shouting/k", line).body == b"DATA"
            assert ask(lab.url, "GET", "/shouting/hidden", line).body == b"KeyNotFoundError"
        assert lab.store.get_permissions("k")["owned"] == {"alice"}
        for line in (basic(token, ""), basic("any", "kvs_wrong"), "Authorization: Basic ?"):
            answer = ask(lab.url, "GET", "/shouting/k", line)
            assert (answer.status, answer.body) == (401, b"AuthenticationError")
        assert ask(lab.url, "GET", "/shouting/k").status == 401
        # A browser that was told a password somewhere would send it by itself.
        assert ask(lab.url, "GET", "/keys/k/data", basic("any", token)).status == 401


@each("path", ["/keys", "/uploads", "/healthz", "/query"])
def test_a_path_that_is_taken(path: str) -> None:
    kind = type("Greedy", (Shouting,), {"prefix": path})
    with MemoryStore() as store, pytest.raises(InvalidRequestError, match=path):
        create_app(store, gateways=[kind()])
    with MemoryStore() as store, pytest.raises(InvalidRequestError, match="/shouting"):
        create_app(store, gateways=[Shouting(), Shouting()])


def test_gateways_by_name() -> None:
    assert {"filetracker", "datasafe", "meteorpi", "vospace"} <= known().keys()
    found = list(refusals(Settings(gateways=("nonesuch",))))
    assert len(found) == 1
    assert "'nonesuch'" in found[0]
    assert "vospace" in found[0]
    with pytest.raises(InvalidRequestError, match="nonesuch"):
        gateways_of(Settings(gateways=("nonesuch",)))


@each(
    "text, complaint",
    [
        ("vospace?id=", "''"),
        ("vospace?id=lab", "'lab'"),
        ("vospace?name=x", "no option 'name'"),
        ("filetracker?id=x", "no option 'id'"),
    ],
)
def test_options_of_gateways(text: str, complaint: str) -> None:
    assert complaint in next(iter(refusals(Settings(gateways=(text,)))))
    fine = Settings(gateways=("vospace?id=ivo://lab.example/space", "filetracker"))
    assert list(refusals(fine)) == []
    assert [gateway.name for gateway in gateways_of(fine)] == ["vospace", "filetracker"]


def test_a_gateway_given_twice() -> None:
    names = ("vospace", "vospace?id=ivo://lab.example/space")
    assert "/vos" in next(iter(refusals(Settings(gateways=names))))


class Open(Shouting):
    """Says of itself what it is."""

    def public(self, exchange: Exchange, path: str) -> Reply | None:
        return Reply(200, [length_field(4)], b"open") if path == "/about" else None


def test_what_everybody_may_know(tmp_path: Path) -> None:
    with lab_of(MemoryStore(), tmp_path, gateways=[Open()]) as lab:
        lab.token("alice")
        assert ask(lab.url, "GET", "/shouting/about").body == b"open"
        assert ask(lab.url, "GET", "/shouting/k").status == 401
