"""Listings: plain ones and records, in pages, cut, unordered and endless."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kvstore.errors import InvalidRequestError, StoreError, TransportError
from tests.cases import each
from tests.transport.clients import announced, client
from tests.transport.wire_server import Wire, WireServer, answer, as_json, chunked


def line(key: object, **facts: object) -> bytes:
    document = {"key": key, "metadata": {}, "size": 1, **facts}
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def records(*keys: object, **headers: object) -> bytes:
    return answer(200, b"".join(map(line, keys)), **headers)


def served(*steps: Any) -> WireServer:
    return WireServer(steps, service=announced("records"))


# -- plain ---------------------------------------------------------------------------------


@each("end", [b"\n", b"\r\n", b"\r"])
@each("last", [True, False])
def test_lines_of_any_ending(end, last):
    body = end.join([b"a", b"b c", "é\u2028\x85\x0b".encode()]) + (end if last else b"")
    for page in (answer(200, body), chunked(bytes([byte]) for byte in body)):
        with WireServer([page]) as server, client(server) as store:
            assert list(store.query_keys()) == ["a", "b c", "é\u2028\x85\x0b"]


def test_a_long_listing_is_read_in_pieces_and_given_in_order():
    keys = [f"key/{number:06}/\u00e9" for number in range(30_000)]
    body = "\r\n".join(reversed(keys)).encode()
    with WireServer([answer(200, body), chunked([body[:99_999], body[99_999:]])]) as server:
        with client(server) as store:
            for _ in range(2):
                assert list(store.query_keys()) == keys


@each(
    "body",
    [
        b"a\n\xff\n",
        b"\xc3",
        b"a\n\nb\n",
        b"\n",
        b"../up\n",
        b"a\0b\n",
        b"x" * 1025,
        b"x" * 1_000_000,
        b"\xed\xa0\x80\n",
        b"<!doctype html>\n<p>\n\n</p>",
    ],
)
def test_a_listing_of_what_is_no_key_is_an_error(body):
    with WireServer([answer(200, body), answer(200, b"a\n")]) as server, client(server) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())
        assert list(store.query_keys()) == ["a"]


def test_a_listing_that_is_cut_is_an_error():
    def cut(wire: Wire) -> None:
        wire.send(answer(200, b"a\nb\nc\n")[:-2])
        wire.close()

    with WireServer([cut]) as server, client(server) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())


def test_what_is_asked_of_a_plain_server():
    with WireServer([answer(200)]) as server, client(server) as store:
        found = store.query_keys(
            prefix="p", limit=3, where={"n": {"gt": 1}}, a="x y&z=é", b=None, c=[1, {"d": True}]
        )
        assert list(found) == []
    assert server.told == [
        "GET /query?a=%22x+y%26z%3D%C3%A9%22&b=null&c=%5B1%2C%7B%22d%22%3Atrue%7D%5D"
    ]


# -- records -------------------------------------------------------------------------------


def test_records_come_in_pages():
    def then(target: str) -> dict[str, object]:
        return {"Link": f'</other>; rel="prev", <{target}>; title="a, b"; rel="last Next"'}

    steps = [
        records("a", "b", **then("/query?page=2")),
        records(**then("?page=3")),
        chunked([line("c"), line("d")[:10], line("d")[10:]], **then("../query?page=4#x")),
        records("e"),
    ]
    with served(*steps) as server, client(server) as store:
        assert list(store.query_keys()) == ["a", "b", "c", "d", "e"]
    pages = ["", "?page=2", "?page=3", "?page=4"]
    assert server.told == [f"GET /query{page}" for page in pages]
    assert server.connections == 1


def test_a_limit_is_kept_over_pages_and_whatever_the_server_sends():
    steps = [records("a", "b", Link='<?p=2>; rel="next"'), records("c", "d", "e")]
    with served(*steps, records("a", "b", "c")) as server, client(server) as store:
        assert list(store.query_keys(limit=3)) == ["a", "b", "c"]
        assert list(store.query_keys(limit=0)) == []
        assert list(store.query_keys(limit=2)) == ["a", "b"]
    assert server.told == ["GET /query?%24limit=3", "GET /query?p=2", "GET /query?%24limit=2"]


def test_a_listing_that_is_left_early_is_closed():
    def endless(wire: Wire) -> None:
        wire.send(answer(200, Content_Length=None, Transfer_Encoding="chunked"))
        number = 0
        while True:
            piece = b"".join(line(f"{number + i:09}") for i in range(1000))
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            number += 1000

    with served(endless, endless, records("a")) as server, client(server) as store:
        found = store.query_keys()
        assert next(found) == "000000000"
        found.close()
        assert server.connection_ended(0)
        assert len(list(store.query_keys(limit=10))) == 10
        assert server.connection_ended(1)
        assert list(store.query_keys()) == ["a"]


@each(
    "page",
    [
        records("b", "a"),
        records("a", "a"),
        records("B", "b", "a"),
        records(""),
        records("a/../b"),
        records(1),
        answer(200, line("a", metadata=[])),
        answer(200, line("a", size="1")),
        answer(200, line("a", size=None)),
        answer(200, line("a")[:-1]),
        answer(200, line("a") + b"\n"),
        answer(200, b"{}\n"),
        answer(200, b'{"key": "a", "key": "b", "metadata": {}, "size": 1}\n'),
        answer(200, b'{"key": "\xff", "metadata": {}, "size": 1}\n'),
        answer(200, b'{"key": "a", "metadata": {"n": NaN}, "size": 1}\n'),
        answer(200, b"a\nb\n", Content_Type="text/plain"),
        answer(200, b"x" * (5 << 20)),
        records("a", Link='<http://127.0.0.1:1/query>; rel="next"'),
        records("a", Link='<https://127.0.0.1/query>; rel="next"'),
        records("a", Link='<http://[>; rel="next"'),
        records("a", Link='</query>; rel="next"'),
        records("a", Link='</query#again>; rel="next"'),
        records("a", Content_Encoding="gzip"),
        answer(204),
        answer(206, line("a")),
    ],
)
def test_records_that_cannot_be_trusted_are_an_error(page):
    with served(page, records("z")) as server, client(server) as store:
        with pytest.raises(TransportError):
            list(store.query_keys())
        assert list(store.query_keys()) == ["z"]


def test_pages_that_go_round_are_an_error():
    there = records("a", "b", Link='<?p=1>; rel="next"')
    with served(there, there) as server, client(server) as store:
        found = store.query_keys()
        assert [next(found), next(found)] == ["a", "b"]
        with pytest.raises(TransportError, match="after"):
            next(found)


def test_an_order_of_its_own_is_not_judged():
    with served(records("b", "a")) as server, client(server) as store:
        assert list(store.query_keys(order_by="n")) == ["b", "a"]
    assert server.told == ["GET /query?%24order=n"]


def test_records_cut_anywhere_are_an_error_after_those_that_came():
    body = line("a") + line("b")
    full = chunked([body])
    start = full.index(b"\r\n\r\n") + 4

    def cut(at: int) -> Any:
        def step(wire: Wire) -> None:
            wire.send(full[:at])
            wire.close()

        return step

    cuts = range(start, len(full) - 4)
    with served(*map(cut, cuts)) as server, client(server) as store:
        for _ in cuts:
            came: list[str] = []
            with pytest.raises(TransportError):
                came.extend(store.query_keys())
            assert came == ["a", "b"][: len(came)]


def test_a_field_named_like_a_parameter_travels_in_the_filter():
    with served(records()) as server, client(server) as store:
        assert list(store.query_keys(**{"$limit": 1, "n": 3}, where={"m": 2})) == []  # type: ignore[arg-type]
    sent = dict(parse_qsl(urlsplit(server.seen[0].target).query))
    assert sent.keys() == {"n", "$where"}
    assert json.loads(sent["$where"]) == {"all": [{"$limit": {"eq": 1}}, {"m": 2}]}


@each(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"3",
        b'{"count": -1}',
        b'{"count": true}',
        b'{"count": 1.0}',
        b"{",
        b"\xff",
    ],
)
def test_a_count_that_is_none_is_an_error_of_the_server(body):
    with served(answer(200, body), as_json({"count": 3})) as server, client(server) as store:
        with pytest.raises(TransportError):
            store.count()
        assert store.count(prefix="p", n=1) == 3
    assert server.told[1] == "GET /query?n=1&%24prefix=p&%24count=true"


@pytest.mark.parametrize("capabilities", [(), ("records",)])
def test_a_query_url_that_is_wrong_is_told_as_such(capabilities):
    with WireServer([answer(404)] * 2, service=announced(*capabilities)) as server:
        with client(server) as store:
            for ask in (lambda: list(store.query()), store.count):
                with pytest.raises(InvalidRequestError) as caught:
                    ask()
                assert not isinstance(caught.value, KeyError)
                assert isinstance(caught.value, StoreError)
