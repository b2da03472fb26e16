"""How facts are spelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import InvalidRequestError, TransportError
from kvstore.profiles.codecs import CODECS, decode, encode
from kvstore.profiles.facts import Fact, Place, at_pointer, facts_of, read_facts
from tests.cases import each

DIGEST = f"sha256:{'ab' * 32}"
#: A value and its spelling, exact both ways.
PAIRS = {
    "str": ("text", "text"),
    "int": (1000, "1000"),
    "float": (1.5, "1.5"),
    "json": ({"a": [1, "ü"]}, '{"a":[1,"\\u00fc"]}'),
    "http-date": (1000.0, "Thu, 01 Jan 1970 00:16:40 GMT"),
    "rfc2822-date": (1000, "Thu, 01 Jan 1970 00:16:40 -0000"),
    "iso-date": (1000.0, "1970-01-01T00:16:40+00:00"),
    "epoch": (1000.0, "1000"),
    "epoch-ms": (1000.0, "1000000"),
    "etag": ("r1", '"r1"'),
    "sha256-hex": (DIGEST, "ab" * 32),
    "sha256-base64": (DIGEST, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="),
    "repr-digest": (DIGEST, "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:"),
}


def test_every_codec_is_tried_here():
    assert PAIRS.keys() == CODECS.keys()


@each("name", PAIRS)
def test_both_ways(name):
    value, text = PAIRS[name]
    assert encode(name, value) == text
    assert decode(name, text) == value
    assert type(decode(name, text)) is type(value)


@given(seconds=st.integers(0, 4_000_000_000))
@pytest.mark.parametrize("name", ["http-date", "rfc2822-date", "iso-date", "epoch", "epoch-ms"])
def test_times_come_back_in_whole_seconds(name, seconds):
    assert decode(name, encode(name, seconds)) == seconds
    assert decode(name, encode(name, seconds + 0.5)) in (seconds, seconds + 0.5)


@each(
    "name, text",
    [
        *[("int", text) for text in ("", "1.5", "0x1", "1e3", "one", "1" * 30, True, None, [])],
        *[("float", text) for text in ("", "nan", "inf", "1e999", True, None)],
        *[("http-date", text) for text in ("", "yesterday", "1970-01-01", 7, None)],
        *[("rfc2822-date", text) for text in ("", "yesterday")],
        *[("iso-date", text) for text in ("", "yesterday", "1970-13-01", 7)],
        *[("etag", text) for text in ("", "r1", 'W/"r1"', '"r1', '"a" "b"')],
        *[("sha256-hex", text) for text in ("", "ab", "zz" * 32, "ab" * 33, 7)],
        *[("sha256-base64", text) for text in ("", "q6s=", "!", 7)],
        *[("repr-digest", text) for text in ("md5=:q6s=:", "sha-256=:q6s=:", "x")],
        *[("json", text) for text in ("{", "nan", '{"a":1,"a":2}')],
        *[("str", value) for value in (True, None, [], {})],
    ],
)
def test_what_is_spelled_otherwise_is_refused(name, text):
    with pytest.raises(InvalidRequestError):
        decode(name, text)


@each(
    "name, value",
    [("int", "x"), ("http-date", "x"), ("etag", 'a"b'), ("sha256-hex", "zz"), ("epoch", None)],
)
def test_what_cannot_be_sent_is_refused(name, value):
    with pytest.raises(InvalidRequestError):
        encode(name, value)


def test_a_date_without_a_zone_is_utc():
    assert decode("iso-date", "1970-01-01T00:16:40") == 1000.0


def find(told):
    return lambda place: told.get(str(place))


def test_facts_are_read_from_where_they_are_told():
    facts = facts_of(
        {
            "size": "header:X-Size",
            "version": {"from": "header:ETag", "codec": "etag"},
            "modified": {"from": "json:/time", "codec": "epoch"},
            "mimetype": "const:image/png",
            "digest": "header:Repr-Digest",
        }
    )
    told = {"header:X-Size": "12", "header:ETag": '"r"', "json:/time": 5}
    assert read_facts(facts, find(told)) == {
        "size": 12,
        "version": "r",
        "modified": 5.0,
        "mimetype": "image/png",
    }
    assert read_facts(facts, find({"header:ETag": 'W/"r"', "header:X-Size": ""})) == {
        "mimetype": "image/png"
    }


@pytest.mark.parametrize("size", ["-1", "1.5", "many", "1" * 40])
def test_a_size_that_is_none_is_an_error(size):
    with pytest.raises(TransportError):
        read_facts(facts_of({"size": "header:S"}), find({"header:S": size}))


def test_json_that_is_text_stays_text():
    assert Fact(Place("json", "/a"), "json").read(lambda place: "1") == "1"
    assert Fact(Place("header", "A"), "json").read(lambda place: "1") == 1


def test_pointers():
    document = {"a": [{"b/c": 1, "~": 2, "": 3}], "n": None}
    pointers = {"": document, "/a/0/b~1c": 1, "/a/0/~0": 2, "/a/0/": 3, "/n": None}
    assert {pointer: at_pointer(document, pointer) for pointer in pointers} == pointers
    for absent in ("/b", "/a/1", "/a/x", "/a/-1", "/n/x", "/a/0/b~1c/d"):
        assert at_pointer(document, absent) is None
