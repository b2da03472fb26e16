"""A user's session is honoured in all that it says, and both ways of sending say the same."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth

from kvstore import DynamicURLStore
from kvstore.errors import InvalidKeyError, TransportError, UnsupportedOperationError
from kvstore.keys import check_key
from kvstore.transport.sender import BearerAuth
from tests.corpora import keys as corpus_keys
from tests.transport.clients import EVERYTHING, HASTY, ONCE, announced, client, whole
from tests.transport.wire_server import Wire, WireServer, answer, refused_port


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def headers_of(session: Any, times: int = 1, **options: Any) -> list[dict[str, str]]:
    """The header fields of requests that a store on this session sends."""
    with WireServer([answer(404)] * times) as server:
        with client(server, credentials=(None, session), **options) as store:
            for _ in range(times):
                store.exists("k")
        return [seen.headers for seen in server.seen]


# -- what a session says -------------------------------------------------------------------


def test_headers_of_the_session_are_sent_but_never_another_encoding(session):
    session.headers.update({"X-Mine": "1", "user-agent": "me/1", "accept-encoding": "gzip, br"})
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        (sent,) = headers_of(session)
        assert (sent["x-mine"], sent["user-agent"]) == ("1", "me/1")
        assert sent["accept-encoding"] == "identity"


def test_a_header_of_the_session_that_is_none_is_not_sent(session):
    session.headers.update({"Accept": None, "X-Mine": None})
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        (sent,) = headers_of(session)
        assert not {"accept", "x-mine"} & sent.keys()


def test_headers_of_the_protocol_win_over_those_of_the_session(session):
    session.headers.update({"content-type": "text/html", "RANGE": "bytes=1-"})
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        with WireServer([answer(201), answer(206, b"d", Content_Range="bytes 5-5/6")]) as server:
            with client(server, credentials=(None, session)) as store:
                store.set_data("k", b"d", mimetype="image/x")
                store.get_data_range("k", 5)
        assert server.seen[0].headers["content-type"] == "image/x"
        assert server.seen[0].headers["content-length"] == "1"
        assert server.seen[1].headers["range"] == "bytes=5-"


def test_headers_may_be_a_plain_dict(session):
    session.headers = {"x-mine": "1", "accept-encoding": "gzip"}  # type: ignore[assignment]
    (sent,) = headers_of(session)
    assert (sent["x-mine"], sent["accept-encoding"]) == ("1", "identity")


class Signature(AuthBase):
    """Signs what is sent, as the authentication of object stores does."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        size = request.headers.get("Content-Length", "-")
        request.headers["Authorization"] = f"Sig {request.method} {request.path_url} {size}"
        return request


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (("us er", "pä:ss"), "Basic dXMgZXI6cOQ6c3M="),
        (HTTPBasicAuth("a", "b"), "Basic YTpi"),
        (BearerAuth("t0ken"), "Bearer t0ken"),
        (Signature(), "Sig PUT /keys/a%20b/data 4"),
        (lambda request: Signature()(request), "Sig PUT /keys/a%20b/data 4"),
    ],
)
def test_authentication_of_the_session(session, auth, expected):
    session.auth = auth
    with WireServer([answer(201)]) as server, client(server, credentials=(None, session)) as store:
        store.set_data("a b", b"data")
    assert server.seen[0].headers["authorization"] == expected
    assert server.lookups[0].headers["authorization"].split()[0] == expected.split()[0]


CHALLENGE = answer(401, WWW_Authenticate='Digest realm="r", nonce="n", qop="auth"')


def test_digest_authentication_sends_the_body_again(session):
    session.auth = HTTPDigestAuth("user", "pw")
    with WireServer([CHALLENGE, answer(201)]) as server:
        with client(server, credentials=(None, session)) as store:
            store.set_data("k", b"data")
    assert server.seen[1].headers["authorization"].startswith('Digest username="user"')
    assert [seen.body for seen in server.seen] == [b"data", b"data"]


def test_digest_authentication_never_sends_an_empty_body_instead(session):
    session.auth = HTTPDigestAuth("user", "pw")
    with WireServer([CHALLENGE, Wire.body]) as server:
        with client(server, credentials=(None, session)) as store:
            with pytest.raises(UnsupportedOperationError):
                store.set_data("k", iter([b"da", b"ta"]))
    assert not server.seen[1].is_whole


def test_cookies_that_the_server_sets_come_back(session):
    told = {"Set_Cookie": "sid=1; Path=/"}
    for credentials in (None, (None, session)):
        steps = [answer(404, **told), answer(404, Set_Cookie="sid=2; Path=/keys"), answer(404)]
        with WireServer(steps) as server, client(server, credentials=credentials) as store:
            for _ in range(3):
                assert not store.exists("k")
        assert [seen.headers.get("cookie") for seen in server.seen] == [
            None,
            "sid=1",
            "sid=2; sid=1",
        ]
        assert {seen.headers["user-agent"] for seen in server.seen} == {
            server.lookups[0].headers["user-agent"]
        }


def test_cookies_parameters_and_hooks_of_the_session(session):
    heard: list[int] = []
    session.cookies.set("c", "1")
    session.params = {"token": "x&y"}
    session.hooks["response"].append(lambda response, **told: heard.append(response.status_code))
    with WireServer([answer(200)] * 2) as server:
        with client(server, credentials=(None, session)) as store:
            store.exists("k")
            assert list(store.query_keys(n=1)) == []
    assert server.told == [
        "HEAD /keys/k/data?token=x%26y",
        "GET /query?n=1&token=x%26y",
    ]
    assert {seen.headers["cookie"] for seen in server.seen} == {"c=1"}
    assert heard == [404, 200, 200]


class Tagged(HTTPAdapter):
    """An adapter of a user's own."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def add_headers(self, request: requests.PreparedRequest, **options: Any) -> None:
        request.headers["X-Adapter"] = self.tag


def test_adapters_of_the_session_are_used_where_they_are_mounted(session):
    with WireServer([answer(404)] * 3) as server:
        session.mount("http://", Tagged("all"))
        session.mount(f"{server.url}/keys/special", Tagged("special"))
        session.mount("http://elsewhere", Tagged("elsewhere"))
        with client(server, credentials=(None, session)) as store:
            for key in ("k", "special", "special/more"):
                store.exists(key)
    tags = [seen.headers["x-adapter"] for seen in server.seen]
    assert tags == ["all", "special", "special"]


class Canned(requests.adapters.BaseAdapter):
    """Answers from memory, as the mocks of users do."""

    def __init__(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        super().__init__()
        self.canned = status, content, headers

    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response._content, headers = self.canned
        response.headers.update(headers)
        response.url, response.request = request.url, request
        return response

    def close(self) -> None:
        pass


def test_an_adapter_that_answers_from_memory(session):
    session.mount("mock://", Canned(200, b"never", {}))
    for content, length in ((b"data", 4), (b"", 0)):
        session.mount("http://", Canned(200, content, {"Content-Length": str(length)}))
        store = DynamicURLStore("http://host/keys", "http://host/query", policy=ONCE)
        store.connect((None, session))
        assert store.get_data("k").read() == content
        store.disconnect()
    for headers in ({}, {"Content-Length": "5"}, {"Content-Length": "3"}):
        session.mount("http://", Canned(200, b"data", headers))
        store.connect((None, session))
        with pytest.raises(TransportError):
            store.get_data("k").read()
    store.disconnect()


class Counting(requests.Session):
    """A session of a class of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        self.asked.append(method)
        assert options["stream"]
        assert options["allow_redirects"] is False
        assert options["timeout"] == (ONCE.connect_timeout, ONCE.read_timeout)
        return super().request(method, url, **options)


def test_a_session_of_a_class_of_its_own_is_used_entirely():
    with (
        Counting() as session,
        WireServer([answer(201), answer(301, b"x", Location="/")]) as server,
    ):
        with client(server, credentials=(None, session)) as store:
            store.set_data("k", b"d")
            with pytest.raises(TransportError):
                store.delete("k")
    assert session.asked == ["GET", "PUT", "DELETE"]


def test_what_is_changed_in_the_session_later_counts_too(session):
    with WireServer([answer(404)] * 7) as server:
        with client(server, credentials=(None, session)) as store:
            store.exists("k")
            session.headers["X-Later"] = "1"
            store.exists("k")
            session.auth = ("a", "b")
            store.exists("k")
            session.auth = Signature()
            store.exists("k")
            session.params = {"p": "1"}
            store.exists("k")
            session.mount("http://", Tagged("later"))
            store.exists("k")
            session.params, session.auth = {}, None
            session.mount("http://", HTTPAdapter())
            store.exists("k")
    seen = [request.headers for request in server.seen]
    assert [headers.get("x-later") for headers in seen] == [None, *["1"] * 6]
    told = [headers.get("authorization", "").split(" ")[0] for headers in seen]
    assert told == ["", "", "Basic", "Sig", "Sig", "Sig", ""]
    assert [request.target for request in server.seen][4:6] == ["/keys/k/data?p=1"] * 2
    assert [headers.get("x-adapter") for headers in seen] == [*[None] * 5, "later", None]


def test_the_session_stays_open_and_as_it_was(session):
    before = dict(vars(session), adapters=dict(session.adapters))
    for _ in range(2):
        headers_of(session)
    session.hooks["response"].append(lambda response, **told: None)
    headers_of(session)
    session.hooks["response"].clear()
    assert dict(vars(session), adapters=dict(session.adapters)) == before
    with WireServer([answer(200, b"by hand")]) as server:
        assert session.get(f"{server.url}/").content == b"by hand"


# -- both ways say the same ----------------------------------------------------------------

KEYS = [
    "plain",
    "a b+c",
    "/leading",
    "//two",
    "trailing/",
    "a//b",
    "a;b=c,d",
    "%2E%2e",
    "%",
    "a%2Fb",
    "...",
    "a/.../b",
    ".hidden",
    "q?x=1&y#z",
    "é/\u4e2d/\U0001f600",
    '[x]{y}|\\^`"<>',
    "~!$&'()*+,;=:@-._",
    "\t\r\n\x7f\x80",
    "a:b",
    "http://x/y",
    "data",
    "x" * 1024,
]
OPERATIONS: list[Callable[[Any, str], object]] = [
    lambda store, key: store.set(key, (b"data", {"n": 1}), mimetype="text/x"),
    lambda store, key: store.set_data(key, iter([b"da", b"ta"])),
    lambda store, key: store.set_data(key, b""),
    lambda store, key: store.set_metadata(key, {"é": "\u2028"}, if_none_match="*"),
    lambda store, key: store.update_metadata(key, {}, if_match="r"),
    lambda store, key: store.set_permissions(key, {"owned": {"x"}}),
    lambda store, key: store.get_data(key),
    lambda store, key: store.get_data_range(key, 0, 2),
    lambda store, key: store.exists(key),
    lambda store, key: store.get_metadata(key),
    lambda store, key: list(store.query_keys(prefix=key[:9], n="a b", where={"x": {"gt": 1}})),
    lambda store, key: store.count(glob="*"),
    lambda store, key: store.delete(key),
]


def by_method(wire: Wire) -> None:
    wire.body()
    counts = "count=true" in wire.seen.target
    body = b'{"count": 0}' if counts else b"" if "query" in wire.seen.target else b"{}"
    wire.send(answer(200, body if wire.seen.method == "GET" else b"", ETag='"r"'))


def sent(base: str, credentials: Any, keys: list[str], **profile: str) -> list[Any]:
    service = announced(*EVERYTHING, profile={"base": base or "/", "query": "/query", **profile})
    with WireServer(default=by_method, service=service) as server:
        url = f"{server.url}{base}"
        store = DynamicURLStore(url, f"{server.url}/query", policy=ONCE, **profile)  # type: ignore[arg-type]
        store.connect(credentials)
        with store:
            for key in keys:
                for operation in OPERATIONS:
                    operation(store, key)
        port = str(server.port).encode()
        heads = [re.sub(rb"(?m)^Connection:.*\r\n", b"", seen.raw_head) for seen in server.seen]
        assert len(server.seen) == len(keys) * len(OPERATIONS)
        return [
            (sorted(head.replace(port, b"PORT").split(b"\r\n")), seen.body)
            for head, seen in zip(heads, server.seen, strict=True)
        ]


@pytest.mark.parametrize(
    ("base", "profile"),
    [
        ("/keys", {}),
        ("", {}),
        ("/a/b;c/~d", {}),
        ("", {"url_format": "{base}?id={key}&part={part}", "url_format_no_part": "{base}?{key}"}),
    ],
)
def test_both_ways_send_the_same_bytes(session, base, profile):
    lean = sent(base, (None, session), KEYS, **profile)
    assert lean == sent(base, whole(), KEYS, **profile)


def test_keys_of_the_corpus_arrive_as_they_are_on_both_ways(session):
    def is_legal(key: str) -> bool:
        try:
            check_key(key)
        except InvalidKeyError:
            return False
        return True

    legal = [key for _, key in corpus_keys() if is_legal(key)]
    assert len(legal) > 300
    arrived: list[list[str]] = []
    for credentials in ((None, session), whole()):
        with WireServer(default=answer(404)) as server:
            store = DynamicURLStore(server.url, f"{server.url}/query", policy=ONCE)
            store.connect(credentials)
            with store:
                for key in legal:
                    assert not store.exists(key)
        targets = [seen.target for seen in server.seen]
        arrived.append(targets)
        assert [unquote(target[1:].rpartition("/")[0]) for target in targets] == legal
    assert arrived[0] == arrived[1]


# -- who is asked --------------------------------------------------------------------------


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WireServer, list[Any]]]:
    """A server that stands for every host there is, and the addresses asked for."""
    asked: list[Any] = []
    with WireServer(default=answer(404)) as server:

        def connect(address: Any, *args: Any, **options: Any) -> Any:
            asked.append(address)
            return socket.create_connection(("127.0.0.1", server.port))

        monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
        yield server, asked


@pytest.mark.parametrize("other", ["http://data2/query", "http://data:8080/query", "http://data.x"])
@pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])
def test_a_query_url_elsewhere_is_not_taken_for_the_base(reached, other, credentials):
    server, asked = reached
    store = DynamicURLStore("http://data/keys", other, policy=ONCE)
    store.connect(credentials())
    with store:
        assert not store.exists("k")
        with pytest.raises(ValueError, match="no query"):
            list(store.query_keys(n=1))
    host = other.removeprefix("http://").partition("/")[0]
    name, _, port = host.partition(":")
    assert asked == [("data", 80), (name, int(port or 80))]
    seen = [(request.headers["host"], request.target) for request in server.seen]
    path = "/query" if "query" in other else "/"
    assert seen == [("data", "/keys/k/data"), (host, f"{path}?n=1")]


@pytest.mark.parametrize(
    "base", ["HTTP://Data/keys", "http://data:80/keys", "http://DATA:080/keys"]
)
def test_a_base_url_in_another_spelling(reached, base):
    server, asked = reached
    with DynamicURLStore(base, base, policy=ONCE) as store:
        assert not store.exists("k")
    assert [(name.lower(), port) for name, port in asked] == [("data", 80)]
    assert [seen.target for seen in server.seen] == ["/keys/k/data"]


# -- proxies, certificates, .netrc ---------------------------------------------------------


@pytest.fixture
def proxy() -> Iterator[WireServer]:
    with WireServer(default=answer(404)) as server:
        yield server


def test_a_proxy_of_the_environment_is_used(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:pw@"))
    with DynamicURLStore("http://data/keys", "http://data/query", policy=ONCE) as store:
        assert not store.exists("a b")
    assert proxy.told[-1] == "HEAD http://data/keys/a%20b/data"
    assert proxy.seen[-1].headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
    assert proxy.seen[-1].headers["host"] == "data"


def test_answers_of_a_proxy_are_read_as_strictly(monkeypatch):
    def cut(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Mo")
        wire.close()

    with WireServer([answer(404), cut]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with DynamicURLStore("http://data/keys", "http://data/q", policy=ONCE) as store:
            with pytest.raises(TransportError):
                store.get_data("k")


@pytest.mark.parametrize("name", ["no_proxy", "trust_env"])
def test_a_proxy_that_does_not_hold_for_the_host(monkeypatch, proxy, session, name):
    monkeypatch.setenv("http_proxy", proxy.url)
    if name == "no_proxy":
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    else:
        session.trust_env = False
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        headers_of(session)
    assert proxy.connections == 0


@pytest.mark.parametrize("named", ["http", "all", "http://127.0.0.1", "all://127.0.0.1"])
def test_a_proxy_of_the_session_wins_over_the_environment(monkeypatch, proxy, session, named):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{refused_port()}")
    session.proxies[named] = proxy.url
    with WireServer() as server, client(server, credentials=(None, session)) as store:
        assert not store.exists("k")
    assert proxy.told[-1] == f"HEAD {server.url}/keys/k/data"


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("named", ["http", "all"])
def test_no_proxy_of_the_session_wins_over_the_environment(
    monkeypatch, proxy, session, named, nothing
):
    monkeypatch.setenv("http_proxy", proxy.url)
    session.proxies[named] = nothing  # type: ignore[assignment]
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        headers_of(session)
    assert proxy.connections == 0


def test_a_proxy_given_later(proxy, session):
    with WireServer([answer(404)] * 2) as server:
        with client(server, credentials=(None, session)) as store:
            store.exists("k")
            session.proxies["http"] = proxy.url
            store.exists("k")
            del session.proxies["http"]
            store.exists("k")
    assert len(proxy.seen) == 1


def test_a_proxy_for_one_of_two_origins(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with WireServer([answer(404)]) as server:
        store = DynamicURLStore(f"{server.url}/keys", "http://elsewhere/query", policy=ONCE)
        with store:
            assert not store.exists("k")
            with pytest.raises(ValueError, match="no query"):
                list(store.query_keys())
    assert proxy.told == ["GET http://elsewhere/query"]


def test_a_proxy_that_is_not_there_is_a_transport_error(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    with DynamicURLStore("http://data/keys", "http://data/query", policy=HASTY) as store:
        with pytest.raises(TransportError, match="refused") as caught:
            store.update_metadata("k", {})
        assert caught.value.attempts == HASTY.attempts


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A ``.netrc`` with an entry for this host."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login me password pw\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


NETRC = "Basic bWU6cHc="


@pytest.mark.usefixtures("netrc")
def test_netrc_is_used_where_nothing_else_is_told(session):
    for hooks in ([], [lambda response, **told: None]):
        session.hooks["response"] = hooks
        assert headers_of(session)[0]["authorization"] == NETRC
        session.trust_env = False
        assert "authorization" not in headers_of(session)[0]
        session.trust_env = True
    assert headers_of(None)[0]["authorization"] == NETRC


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("hooks", [[], [lambda response, **told: None]], ids=["lean", "whole"])
def test_netrc_never_replaces_what_was_told(session, hooks):
    session.hooks["response"] = hooks
    session.headers["Authorization"] = "Bearer mine"
    assert headers_of(session)[0]["authorization"] == "Bearer mine"
    del session.headers["Authorization"]
    for auth, told in ((("a", "b"), "Basic YTpi"), (BearerAuth("t"), "Bearer t")):
        session.auth = auth
        assert headers_of(session)[0]["authorization"] == told
    session.auth = None
    with WireServer([answer(404)] * 2) as server:
        with client(server, credentials=(None, session)) as store:
            store.exists("k")
            session.headers["authorization"] = "Bearer later"
            store.exists("k")
    assert [seen.headers["authorization"] for seen in server.seen] == [NETRC, "Bearer later"]


@pytest.mark.usefixtures("netrc")
def test_netrc_of_one_host_is_not_told_to_another():
    with WireServer([answer(404)]) as server, WireServer([answer(200)]) as other:
        store = DynamicURLStore(
            f"{server.url}/keys", f"http://localhost:{other.port}/query", policy=ONCE
        )
        with store:
            store.exists("k")
            assert list(store.query_keys()) == []
    assert server.seen[0].headers["authorization"] == NETRC
    assert "authorization" not in other.seen[0].headers


@pytest.mark.usefixtures("netrc")
def test_credentials_in_the_url_win_over_netrc():
    with WireServer([answer(404)]) as server:
        url = server.url.replace("//", "//a:b@")
        with DynamicURLStore(f"{url}/keys", f"{url}/query", policy=ONCE) as store:
            store.exists("k")
    assert server.seen[0].headers["authorization"] == "Basic YTpi"
