"""Answers that are cut, malformed or not what was asked for: always an error, never data."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from kvstore.errors import IntegrityError, KeyNotFoundError, StoreError, TransportError
from kvstore.transport.addresses import origin_of
from kvstore.transport.policy import Policy
from tests.cases import each
from tests.transport.clients import EVERYTHING, HASTY, ONCE, announced, client, whole
from tests.transport.wire_server import Step, Wire, WireServer, answer, as_json, chunked

DATA = b"0123456789abcdefghij"
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"


def then(data: bytes, end: Callable[[Wire], object] = Wire.close) -> Step:
    """Answer with *data* alone, whatever it lacks, and end the connection."""

    def step(wire: Wire) -> None:
        wire.body()
        wire.send(data)
        end(wire)

    return step


def paths() -> Any:
    return pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])


# -- cut short -----------------------------------------------------------------------------


@paths()
@pytest.mark.parametrize("end", [Wire.close, Wire.reset], ids=["closed", "reset"])
def test_an_answer_cut_anywhere_is_an_error(end, credentials):
    full = answer(200, DATA, ETag='"r"', Repr_Digest=DIGEST)
    server = WireServer([then(full[:cut], end) for cut in range(len(full))])
    with server, client(server, credentials=credentials()) as store:
        for _ in range(len(full)):
            with pytest.raises(TransportError):
                store.get_data("k").read()


@paths()
def test_an_answer_without_a_body_cut_anywhere_is_an_error(credentials):
    head = answer(200, b"", Content_Length=1024, ETag='"r"')
    put = answer(204, ETag='"r"')
    cuts = range(0, len(head), 3)
    steps = [then(full[:cut]) for full in (head, put) for cut in cuts if cut < len(full)]
    with WireServer(steps) as server, client(server, credentials=credentials()) as store:
        for full, ask in ((head, store.exists), (put, lambda key: store.set_data(key, b"d"))):
            for cut in cuts:
                if cut < len(full):
                    with pytest.raises(TransportError):
                        ask("k")


@paths()
def test_chunks_cut_anywhere_are_an_error(credentials):
    # With zeros before it a size that is cut looks like the last chunk's.
    head = answer(200, Content_Length=None, Transfer_Encoding="chunked")
    full = head + b"000A\r\n0123456789\r\n000a;x=y\r\nabcdefghij\r\n0000\r\n"
    steps = [then(full[:cut]) for cut in range(len(full))]
    with WireServer([*steps, then(full)]) as server:
        with client(server, credentials=credentials()) as store:
            for _ in range(len(full)):
                with pytest.raises(TransportError):
                    store.get_data("k").read()
            assert store.get_data("k").read() == DATA


def test_large_data_cut_short_is_an_error_before_its_end():
    data = b"x" * 400_000
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
    cuts = [b"", data[:1], data[:300_000], data[:-1]]
    head = answer(200, b"", Content_Length=len(data), Repr_Digest=digest)
    with WireServer([then(head + cut) for cut in cuts]) as server, client(server) as store:
        for cut in cuts:
            with store.get_data("k") as stream:
                came = b""
                with pytest.raises(StoreError) as caught:
                    while piece := stream.read(1 << 14):
                        came += piece
                assert isinstance(caught.value, (TransportError, IntegrityError))
            assert cut.startswith(came)


def test_a_small_answer_that_broke_off_is_asked_for_again():
    good = answer(200, b'{"n": 1}')
    with WireServer([then(good[:-1]), then(good[:-4], Wire.reset), good, good]) as server:
        with client(server, Policy(attempts=2, backoff=0)) as store:
            with pytest.raises(TransportError) as caught:
                store.get_metadata("k")
            assert caught.value.attempts == 2
            assert store.get_metadata("k") == {"n": 1}
            assert store.get_data("k").read() == b'{"n": 1}'


def test_what_a_write_is_answered_with_need_not_come_whole():
    full = answer(200, b"<h1>Thank you</h1>")
    large = answer(201, b"x" * 200_000)
    with WireServer([then(full[:-3]), large, answer(200, b"ok")]) as server:
        with client(server) as store:
            store.set_data("k", b"d")
            store.set_data("k", b"d")
            store.update_metadata("k", {})


# -- framing -------------------------------------------------------------------------------


BAD_FRAMES = {
    "no framing": b"\r\n" + DATA,
    "length is no number": b"Content-Length: abc\r\n\r\n" + DATA,
    "negative length": b"Content-Length: -20\r\n\r\n" + DATA,
    "signed length": b"Content-Length: +20\r\n\r\n" + DATA,
    "underscore in length": b"Content-Length: 2_0\r\n\r\n" + DATA,
    "length in hexadecimal": b"Content-Length: 0x14\r\n\r\n" + DATA,
    "length with another digit": "Content-Length: 2²\r\n\r\n".encode("latin-1") + DATA,
    "empty length": b"Content-Length:\r\n\r\n" + DATA,
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\n" + DATA,
    "length beyond memory": b"Content-Length: 9223372036854775807\r\n\r\n" + DATA,
    "length of 5000 digits": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + DATA,
    "two lengths": b"Content-Length: 20\r\nContent-Length: 10\r\n\r\n" + DATA,
    "the same length twice": b"Content-Length: 20\r\nContent-Length: 20\r\n\r\n" + DATA,
    "two lengths in a line": b"Content-Length: 20, 10\r\n\r\n" + DATA,
    "length and chunks": b"Content-Length: 20\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n"
    + DATA
    + b"\r\n0\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n14\r\n" + DATA + b"\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n" + DATA,
    "coding in two lines": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
    + DATA,
    "identity": b"Transfer-Encoding: identity\r\n\r\n" + DATA,
    "chunked in the name": b"Transfer-Encoding: xchunked\r\n\r\n" + DATA,
    "malformed line before the length": b"oops\r\nContent-Length: 20\r\n\r\n" + DATA,
    "malformed line after the length": b"Content-Length: 20\r\noops\r\nETag: x\r\n\r\n" + DATA,
    "first line is a continuation": b" oops: 1\r\nContent-Length: 20\r\n\r\n" + DATA,
    "too many lines": b"X: y\r\n" * 200 + b"Content-Length: 20\r\n\r\n" + DATA,
    "too long a line": b"X: " + b"y" * 70_000 + b"\r\nContent-Length: 20\r\n\r\n" + DATA,
    **{
        f"chunk size {size!r}": b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n" + DATA
        for size in (b"", b"x", b"-14", b"-1", b"+14", b"0x14", b"1_4", b" 14", b"14 14", b"F" * 15)
    },
}


@each("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_an_answer_that_cannot_be_told_to_be_whole_is_an_error(frame):
    page = b"HTTP/1.1 200 OK\r\n" + frame
    for credentials in (None, whole()):
        with WireServer([then(page), then(page)]) as server:
            with client(server, credentials=credentials) as store:
                with pytest.raises(TransportError):
                    store.get_data("k").read()
                with pytest.raises(TransportError):
                    store.get_metadata("k")


@each(
    "page",
    [
        b"",
        b"\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_an_error(page):
    with WireServer([then(page)] * 2) as server, client(server) as store:
        with pytest.raises(TransportError):
            store.get_data("k").read()
        with pytest.raises(TransportError):
            store.delete("k")


def test_interim_answers_are_passed_over():
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with WireServer([hints + answer(200, DATA), hints + answer(204)]) as server:
        with client(server) as store:
            assert store.get_data("k").read() == DATA
            store.set_data("k", b"d")
    assert server.connections == 1


def test_an_answer_cut_behind_an_interim_one_is_an_error():
    full = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(201, ETag='"r"')
    steps = [then(full[:cut]) for cut in range(len(full))]
    with WireServer(steps) as server, client(server) as store:
        for _ in steps:
            with pytest.raises(TransportError):
                store.set_data("k", b"d")


@pytest.mark.parametrize("spelling", ["chunked", "Chunked", "CHUNKED"])
def test_chunks_in_any_spelling(spelling):
    head = answer(200, Content_Length=None, Transfer_Encoding=spelling)
    body = b'5;ext="a;b"\r\n01234\r\nF \r\n56789abcdefghij\r\n0\r\nTrailer: x\r\n\r\n'
    with WireServer([head + body, answer(200, b"{}")]) as server, client(server) as store:
        assert store.get_data("k").read() == DATA
        assert store.get_metadata("k") == {}
    assert server.connections == 1


@paths()
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate", "identity, gzip", "unknown"])
def test_an_encoded_answer_is_an_error(coding, credentials):
    page = answer(200, gzip.compress(DATA), Content_Encoding=coding)
    head = answer(200, b"", Content_Length=77, Content_Encoding=coding)
    with WireServer([page, page, page, head, answer(200, b"{}")]) as server:
        with client(server, credentials=credentials()) as store:
            for ask in (store.get_data, store.get_metadata, lambda key: list(store.query_keys())):
                with pytest.raises(TransportError):
                    ask("k")
            with pytest.raises(TransportError):
                store.get("k")  # its size would be that of the encoded bytes


def test_an_answer_encoded_as_identity_is_taken():
    with WireServer([answer(200, DATA, Content_Encoding="Identity")]) as server:
        with client(server) as store:
            assert store.get_data("k").read() == DATA


# -- statuses ------------------------------------------------------------------------------


@each("status", [100, 101, 201, 202, 203, 204, 205, 206, 226, 299, 300, 304])
def test_a_success_nobody_asked_for_is_none(status):
    page = answer(status, DATA if status not in (100, 101, 204, 304) else b"", Content_Range="x")
    with WireServer(default=then(page)) as server, client(server) as store:
        for ask in (
            lambda: store.get_data("k"),
            lambda: store.get_metadata("k"),
            lambda: store.exists("k"),
            lambda: list(store.query_keys()),
        ):
            with pytest.raises(TransportError) as caught:
                ask()
            assert caught.value.status in ((None,) if status == 100 else (status,))


@each("status", [202, 203, 205, 206, 304])
def test_a_write_answered_so_has_not_happened(status):
    with WireServer(default=then(answer(status))) as server, client(server) as store:
        for ask in (
            lambda: store.set_data("k", b"d"),
            lambda: store.set_metadata("k", {}),
            lambda: store.update_metadata("k", {}),
            lambda: store.delete("k"),
        ):
            with pytest.raises(TransportError) as caught:
                ask()
            assert caught.value.status == status


@paths()
@pytest.mark.parametrize("status", [301, 302, 303, 305, 307, 308])
def test_redirects_that_are_not_followed(status, credentials):
    with WireServer() as server, client(server, credentials=credentials()) as store:
        for location in (None, "/keys/k/data", "http://[", ""):
            follows = status in (307, 308) and location == "/keys/k/data"
            server.default = answer(status, b"moved", Location=location)
            for ask in (
                lambda: store.set_data("k", b"data"),
                lambda: store.get_data("k"),
                lambda: store.delete("k"),
            ):
                asked = len(server.seen)
                with pytest.raises(StoreError) as caught:
                    ask()
                assert len(server.seen) == asked + (1 + ONCE.redirects if follows else 1)
                assert isinstance(caught.value, TransportError)
                assert caught.value.status == status
    assert {seen.target for seen in server.seen} <= {"/keys/k/data", "/keys/k"}


@paths()
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_origin_keeps_method_and_body(status, credentials):
    steps = [
        answer(status, b"x" * 100, Location="/new/k"),
        answer(status, Location="newer#fragment"),
        answer(201, ETag='"r"'),
        answer(status, Location="/new/k"),
        answer(200, DATA),
    ]
    with WireServer(steps) as server, client(server, credentials=credentials()) as store:
        assert store.set_data("k", b"data", mimetype="text/x") == "r"
        assert store.get_data("k").read() == DATA
    puts = server.seen[:3]
    assert [str(seen) for seen in puts] == ["PUT /keys/k/data", "PUT /new/k", "PUT /new/newer"]
    assert {(seen.body, seen.headers["content-type"]) for seen in puts} == {(b"data", "text/x")}


@paths()
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_never_leave_for_another_origin(status, credentials):
    told = credentials()
    with WireServer() as other, WireServer() as server:
        location = f"{other.url}/keys/k/data"
        for place in (location, location.replace("//", "//user:pw@"), f"//localhost:{other.port}/"):
            server.default = answer(status, Location=place)
            with client(server, credentials=told) as store:
                for ask, *data in ((store.get_data,), (store.set_data, b"secret")):
                    with pytest.raises(TransportError) as caught:
                        ask("k", *data)
                    assert "pw" not in str(caught.value)
    assert other.connections == 0


def test_the_same_host_with_another_name_of_its_port_is_the_same_origin():
    # A server that writes its port, or its name in capitals, means itself.
    same = ["http://host/a", "HTTP://host/b", "http://HOST:80/", "http://host:080"]
    assert len({origin_of(url) for url in same}) == 1
    others = ["https://host/", "http://host:81/", "http://host.org/", "http://u@host/"]
    assert len({origin_of(url) for url in [*others, same[0]]}) == 5


# -- content -------------------------------------------------------------------------------


@each(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1} trailing',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a": ' * 1000 + b"1" + b"}" * 1000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"<html></html>",
        b" " * (1 << 22) + b"{}",
    ],
)
def test_metadata_and_permissions_that_are_no_json_object(body):
    pages = [answer(200, body), chunked([body])]
    with WireServer([page for page in pages for _ in "mp"]) as server, client(server) as store:
        for _ in pages:
            with pytest.raises(TransportError):
                store.get_metadata("k")
            with pytest.raises(TransportError):
                store.get_permissions("k")


def test_a_digest_that_does_not_fit_is_no_data():
    small = answer(200, b"0123456789", Repr_Digest=DIGEST)
    large = answer(200, b"x" * 300_000, Repr_Digest=DIGEST)
    in_chunks = chunked([b"0123456789"], Repr_Digest=DIGEST)
    steps = [small, large, in_chunks]
    with WireServer(steps, service=announced("digest")) as server, client(server) as store:
        with pytest.raises(IntegrityError):
            store.get_data("k")
        for size in (300_000, 10):
            stream = store.get_data("k")
            came = b""
            with pytest.raises(IntegrityError):
                while piece := stream.read(7):
                    came += piece
            assert len(came) < size, "the last bytes are given out only after the check"


def test_digests_are_not_checked_where_that_is_not_wanted():
    page = answer(200, b"other", Repr_Digest=DIGEST)
    with WireServer([page]) as server, client(server, verify_digests=False) as store:
        assert store.get_data("k").read() == b"other"


@each(
    "field",
    ["sha-256", "sha-256=abc", "sha-256=:QUJD:", "sha-256=:!:", "sha-256=::", ", ,", "sha-256=:A:"],
)
def test_a_malformed_digest_is_an_error(field):
    steps = [answer(200, DATA, Repr_Digest=field), answer(200, DATA)]
    with WireServer(steps) as server, client(server) as store:
        with pytest.raises(TransportError):
            store.get_data("k")
        assert store.get_data("k").read() == DATA


@pytest.mark.parametrize("field", ["", "md5=:AAAA:", "sha-512=:AAAA:", "unixsum=:AA==:;q=1"])
def test_digests_of_other_algorithms_are_not_looked_at(field):
    with WireServer([answer(200, DATA, Repr_Digest=field)]) as server, client(server) as store:
        assert store.get_data("k").read() == DATA


def record(**changes: object) -> bytes:
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    facts = {"key": "k", "metadata": {"n": 1}, "size": len(DATA), "revision": "r", "digest": digest}
    return json.dumps({**facts, **changes}).encode() + b"\n"


BAD_VALUES = {
    "another key": record(key="other") + DATA,
    "another key, by case": record(key="K") + DATA,
    "size too large": record(size=21) + DATA,
    "size too small": record(size=19) + DATA,
    "size is no number": record(size="20") + DATA,
    "size is a boolean": record(size=False) + DATA,
    "size is negative": record(size=-1) + DATA,
    "size is a fraction": record(size=20.0) + DATA,
    "no metadata": record(metadata=None) + DATA,
    "metadata is an array": record(metadata=[]) + DATA,
    "another digest": record(digest=f"sha256:{'0' * 64}") + DATA,
    "digest of another kind": record(digest="md5:abc") + DATA,
    "digest in capitals": record(digest=f"sha256:{'A' * 64}") + DATA,
    "a time no float holds": record(created=10**400) + DATA,
    "a time that is text": record(modified="today") + DATA,
    "a revision that is none": record(revision=7) + DATA,
    "a media type that is none": record(mimetype=7) + DATA,
    "no newline": record()[:-1],
    "nothing": b"",
    "a newline": b"\n" + DATA,
    "no object": b"[]\n" + DATA,
    "NaN": b'{"key": "k", "metadata": {"n": NaN}, "size": 20}\n' + DATA,
}


@each("body", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_that_is_none(body):
    pages = [answer(200, body), chunked([body[:5], body[5:], b"x" * 0])]
    with WireServer(pages, service=announced(*EVERYTHING)) as server, client(server) as store:
        for _ in pages:
            with pytest.raises((TransportError, IntegrityError)):
                store.get("k").read()


def test_a_value_cut_anywhere_is_an_error():
    full = answer(200, record() + DATA, ETag='"r"')
    parts = chunked([record()[:30], record()[30:], DATA])[:-2]
    steps = [then(page[:cut]) for page in (full, parts) for cut in range(0, len(page), 3)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server, client(server) as store:
        for _ in steps:
            with pytest.raises((TransportError, IntegrityError)):
                store.get("k").read()


def test_a_large_value_with_a_wrong_length_is_refused_before_its_data_is_read():
    line = record(size=400_000)
    page = answer(200, line + b"x" * 400_001)
    with WireServer([page, answer(404)], service=announced("value")) as server:
        with client(server) as store:
            with pytest.raises(TransportError):
                store.get("k")
            with pytest.raises(KeyNotFoundError):
                store.get("k")


def test_a_record_line_without_end_is_refused():
    with WireServer([answer(200, b"x" * (6 << 20))], service=announced("value")) as server:
        with client(server) as store, pytest.raises(TransportError):
            store.get("k")


def test_an_error_keeps_its_status_whatever_its_page_is_like():
    pages = [
        answer(404, b"x" * 100_000),
        answer(404, b"x", Content_Length=None),
        answer(404, b"x", Content_Length=50),
        answer(404, b"x", Content_Encoding="gzip"),
        answer(404, Content_Length=None, Transfer_Encoding="chunked") + b"zz\r\n",
        as_json({"type": "urn:kvstore:error:conflict", "status": 404}, 404),
        answer(404, b'{"a":', Content_Type="application/problem+json"),
        answer(404, b"\xff\xfe", Content_Type="application/json"),
    ]
    # The next request may go over a connection that is about to end, and is then sent again.
    with WireServer([then(page) for page in pages]) as server, client(server, HASTY) as store:
        for _ in pages:
            with pytest.raises(KeyNotFoundError):
                store.get_data("k")


def test_control_characters_of_a_server_do_not_reach_the_terminal():
    page = as_json({"detail": "a\x1b[2Jb\nc\u202ed"}, 400)
    with WireServer([page]) as server, client(server) as store, pytest.raises(StoreError) as caught:
        store.get_data("k")
    assert caught.value.message.isprintable()
