"""Lists in the formats that servers have."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.errors import TransportError, UnsupportedOperationError
from kvstore.profiles.listings import Listing
from kvstore.profiles.xmllists import xml_entries
from tests.cases import each

KEY_LINE = {"key": "line"}


def read(document, *pieces):
    """The facts of all entries; those of folders with a ``/``."""
    page = Listing.of(document).read(pieces)
    return [{**told, "key": told["key"] + "/" * folder} for told, folder in page.entries]


@given(cuts=st.lists(st.integers(0, 40), max_size=5))
def test_lines_in_any_pieces(cuts):
    body = "a/1\r\n\nž\u2028x\n last ".encode()
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in pairwise(bounds)]
    found = read({"format": "lines", "facts": KEY_LINE}, *pieces)
    assert [told["key"] for told in found] == ["a/1", "ž\u2028x", " last "]


def test_tsv():
    facts = {"key": "column:0", "size": "column:2", "version": "column:1"}
    document = {"format": "tsv", "facts": facts}
    assert read(document, b"a\tr1\t5\nb\tr2\n", b"c\t\t7\n") == [
        {"key": "a", "size": 5, "version": "r1"},
        {"key": "b", "version": "r2"},
        {"key": "c", "size": 7},
    ]


def test_ndjson():
    document = {"format": "ndjson", "facts": {"key": "json:/k", "metadata": "json:/m"}}
    body = b'{"k": "a", "m": {"n": 1}}\n\n{"k": 5}'
    assert read(document, body) == [{"key": "a", "metadata": {"n": 1}}, {"key": "5"}]


def test_json_arrays_of_names_and_of_objects():
    names = {"format": "json", "items": "/files", "facts": {"key": "json:"}}
    assert read(names, b'{"files": ["a",', b'"b"]}') == [{"key": "a"}, {"key": "b"}]
    whole = {"format": "json", "facts": {"key": "json:/n", "size": "json:/s"}}
    assert read(whole, b'[{"n": "a", "s": 1}]') == [{"key": "a", "size": 1}]


def test_a_json_object_of_entries_has_the_names():
    document = {"format": "json", "facts": {"key": "json:/", "size": "json:/s"}}
    assert read(document, b'{"a": {"s": 1}, "b": {}}') == [{"key": "a", "size": 1}, {"key": "b"}]


def test_a_json_document_tells_the_next_page():
    document = {
        "format": "json",
        "items": "/items",
        "facts": {"key": "json:"},
        "next": {"from": "json:/next", "is": "cursor"},
    }
    page = Listing.of(document).read([b'{"items": [], "next": "c1"}'])
    assert (page.following, list(page.entries)) == ("c1", [])


XML = {
    "format": "xml",
    "namespaces": {"D": "DAV:", "x": "urn:x"},
    "entry": "D:response",
    "folder": "xml:D:kind/D:folder",
    "facts": {"key": "xml:D:href", "size": "xml:D:size", "version": "xml:x:rev/@number"},
}
MULTI = b"""<?xml version="1.0" encoding="utf-8"?>
<m xmlns="DAV:" xmlns:q="urn:x">
  <response><href> /a </href><kind/><size>5</size><q:rev number="7"/></response>
  <other/>
  <group><response><href>/f</href><kind><folder/></kind><size/></response></group>
</m>"""


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_xml_in_any_pieces(step):
    pieces = [MULTI[start : start + step] for start in range(0, len(MULTI), step)]
    assert read(XML, *pieces) == [{"key": "/a", "size": 5, "version": "7"}, {"key": "/f/"}]


@each(
    "body",
    [
        b"",
        b"no xml",
        MULTI[:-5],
        MULTI + b"<more/>",
        b'<!DOCTYPE m [<!ENTITY a "aa">]><m xmlns="DAV:"><response><href>&a;</href></response></m>',
        b'<!DOCTYPE m SYSTEM "http://127.0.0.1:1/"><m/>',
        b"<m>" * 100 + b"</m>" * 100,
        b"<m>&undefined;</m>",
        b'<m xmlns="DAV:"><response/></m>',
    ],
)
def test_xml_that_is_not_accepted(body):
    with pytest.raises(TransportError):
        read(XML, body)


def test_xml_is_not_kept():
    # Each entry is gone when the next one is asked for; else a long list would fill the memory.
    entry = b"<e><n>" + b"x" * 1000 + b"</n></e>"
    finders = xml_entries([b"<m>", *[entry] * 500, b"</m>"], "e", {})
    first = next(finders)
    assert first("n") == "x" * 1000
    next(finders)
    assert first("n") is None
    assert sum(1 for _ in finders) == 498


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    for name in ("defusedxml", "defusedxml.common", "defusedxml.ElementTree"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedOperationError, match=r"pip install 'kvstore\[webdav\]'"):
        read(XML, MULTI)


@each(
    "document, body",
    [
        ({"format": "lines", "facts": KEY_LINE}, b"\xff\n"),
        ({"format": "lines", "facts": KEY_LINE}, b"x" * (1 << 23)),
        ({"format": "tsv", "facts": {"key": "column:1"}}, b"a\n"),
        ({"format": "ndjson", "facts": {"key": "json:/k"}}, b"{}\n"),
        ({"format": "ndjson", "facts": {"key": "json:/k"}}, b'{"k": "a"'),
        ({"format": "ndjson", "facts": {"key": "json:/k", "size": "json:/s"}}, b'{"k":"a","s":-1}'),
        ({"format": "json", "items": "/x", "facts": {"key": "json:"}}, b"{}"),
        ({"format": "json", "items": "/x", "facts": {"key": "json:"}}, b'{"x": 5}'),
        ({"format": "json", "facts": {"key": "json:"}}, b"[1, 2"),
        ({"format": "json", "facts": {"key": "json:"}}, b"[NaN]"),
    ],
)
def test_what_is_no_list_is_an_error(document, body):
    with pytest.raises(TransportError):
        read(document, body)


def test_a_document_over_the_limit_is_an_error(monkeypatch):
    monkeypatch.setattr("kvstore.profiles.listings._DOCUMENT", 20)
    document = {"format": "json", "facts": {"key": "json:"}}
    assert read(document, json.dumps(["a"] * 4).encode()) == [{"key": "a"}] * 4
    with pytest.raises(TransportError, match="over 20 bytes"):
        read(document, json.dumps(["a"] * 5).encode())
