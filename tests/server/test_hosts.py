from __future__ import annotations

import pytest

from kvstore.errors import InvalidRequestError
from kvstore.server import serve_background
from kvstore.server.hosts import Hosts
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.server.sockets import Wire


def status(url: str, *lines: str, method: str = "GET", target: str = "/query") -> int:
    with Wire(url) as wire:
        wire.head(method, target, *lines, host=False)
        answer = wire.read(method)
    if answer.status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8080",
        "localhost:65535",
    ],
)
def test_names_of_this_machine(url: str, host: str) -> None:
    assert status(url, f"Host: {host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:80",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:x",
        "localhost:",
        "localhost.",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "2130706433",
        "::1",
        "[::1",
        "[::2]",
        "localhost/",
        "localhost, localhost",
        "",
        "*",
    ],
)
def test_other_names(url: str, host: str) -> None:
    assert status(url, f"Host: {host}") == 400


@pytest.mark.parametrize(
    "lines", [[], ["Host: localhost", "Host: localhost"], ["Host: localhost", "Host: evil"]]
)
def test_one_host_and_no_more(url: str, lines: list[str]) -> None:
    assert status(url, *lines) == 400


@pytest.mark.parametrize("target", ["/keys/a/data", "/nothing", "/.well-known/kvstore"])
def test_all_paths_look_at_the_host(url: str, target: str) -> None:
    assert status(url, "Host: evil.example", target=target) == 400


def test_names_that_are_given() -> None:
    with serve_background(
        MemoryStore(), hosts=["Data.Example", "other.example:8080", "::1"]
    ) as url:
        for host in ("data.example", "DATA.example:99", "other.example:8080", "[::1]:5"):
            assert status(url, f"Host: {host}") == 200
        for host in ("localhost", "other.example", "other.example:80"):
            assert status(url, f"Host: {host}") == 400


def test_any_name() -> None:
    with serve_background(MemoryStore(), hosts=["*"]) as url:
        assert status(url, "Host: whatever.example:5") == 200
        assert status(url, "Host: not a host") == 400
        assert status(url) == 400


@each("name", ["", "http://localhost", "a b", "localhost:x", "a/b", 5])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="no host name"):
        Hosts([name])


# -- pages of other sites ------------------------------------------------------------------


@each(
    "lines, allowed",
    [
        ([], True),
        (["Origin: http://localhost"], True),
        (["Origin: HTTP://LOCALHOST"], True),
        (["Sec-Fetch-Site: same-origin", "Origin: http://localhost"], True),
        (["Sec-Fetch-Site: none"], True),
        (["Origin: http://evil.example"], False),
        (["Origin: http://localhost:1"], False),
        (["Origin: null"], False),
        (["Sec-Fetch-Site: cross-site"], False),
        (["Sec-Fetch-Site: same-site", "Origin: http://localhost"], False),
    ],
)
@each("method", ["PUT", "POST", "DELETE"])
def test_who_may_change_something(
    url: str, store: MemoryStore, lines: list[str], allowed: bool, method: str
) -> None:
    store.set_metadata("a", {})
    target = "/keys/a" if method == "DELETE" else "/keys/a/metadata"
    fields = ["Host: localhost", "Content-Length: 2", *lines]
    with Wire(url) as wire:
        wire.head(method, target, *fields, host=False)
        wire.send(b"{}")
        assert wire.read(method).status == (204 if allowed else 403)
    # Reading is harmless: no page gets to see the answer.
    assert status(url, "Host: localhost", *lines) == 200
