"""The parser for plain header blocks against the one of ``http.client``."""

from __future__ import annotations

import http.client
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvstore.transport.connections import StrictResponse
from kvstore.transport.heads import plain_head
from tests.cases import each

NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "ETag", "Connection", "X-A"]
)
VALUES = st.one_of(
    st.sampled_from(["0", "5", "-5", "five", "chunked", "close", "keep-alive", '"a"', "", "  7 "]),
    st.text(st.characters(max_codepoint=0xFF, blacklist_characters="\r\n\0"), max_size=9),
)
STATUSES = st.sampled_from([200, 204, 206, 304, 404, 412, 500, 599])


class Sock:
    """Answers from memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data), 1 << 16)  # type: ignore[arg-type]


def read(kind: type[http.client.HTTPResponse], data: bytes, method: str) -> dict[str, Any]:
    response = kind(Sock(data), method=method)  # type: ignore[arg-type]
    response.begin()
    shown = {
        name: getattr(response, name)
        for name in ("version", "status", "reason", "chunked", "length", "will_close")
    }
    shown["headers"] = response.headers.items()
    shown["etag"] = response.headers.get("etag")
    shown["has"] = "content-length" in response.headers, response.headers["X-a"]
    return shown


@given(
    status=STATUSES,
    minor=st.sampled_from([0, 1]),
    reason=st.sampled_from(["", " ", " OK", " Not  Found "]),
    fields=st.lists(st.tuples(NAMES, st.sampled_from([": ", ":", ":\t "]), VALUES), max_size=6),
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
)
def test_it_reads_what_http_client_reads(
    status: int, minor: int, reason: str, fields: list[tuple[str, str, str]], method: str
) -> None:
    lines = [f"HTTP/1.{minor} {status}{reason}", *("".join(field) for field in fields)]
    data = "\r\n".join([*lines, "", "body"]).encode("latin-1")
    expected = read(http.client.HTTPResponse, data, method)
    try:
        told = read(StrictResponse, data, method)
    except http.client.HTTPException:
        # Only lengths that are none are refused here.
        length = next(value for name, value in expected["headers"] if name.lower()[9:] == "ength")
        assert not length.strip().isdigit()
        return
    assert told == expected


@each(
    "block",
    [
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded",
        b"HTTP/1.1 200 OK\r\nA : 1",
        b"HTTP/1.1 200 OK\r\nA",
        b"HTTP/1.1 200 OK\r\n: 1",
        b"HTTP/1.1 200 OK\r\nA: 1\nB: 2",
        b"HTTP/1.1 200 OK\r\nA: 1\0",
        b"HTTP/1.1 200 OK\nA: 1",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\n" + b"\r\n".join([b"A: 1"] * 101),
    ],
)
def test_what_is_not_plain_is_left_to_http_client(block: bytes) -> None:
    assert plain_head(block) is None


def test_a_plain_one_is_read() -> None:
    block = b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\nX-A:\r\nx-a: \xe4'
    head = plain_head(block)
    assert head is not None
    version, status, reason, fields = head
    assert (version, status, reason) == (1, 206, "Partial Content")
    assert fields.items() == [("ETag", '"a"'), ("X-A", ""), ("x-a", "\xe4")]
    assert (fields["x-a"], fields.get("none"), fields.get_all("X-A")) == ("", None, ["", "\xe4"])
