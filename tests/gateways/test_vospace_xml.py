"""XML from outside: what is no document of ours, what would fetch, fill memory or never end."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.gateways.vospace import VospaceGateway
from kvstore.gateways.vospace.faults import Fault
from kvstore.gateways.vospace.markup import read_document
from kvstore.server import serve_background
from kvstore.stores.memory import MemoryStore
from tests.cases import each
from tests.gateways.vos_space import IDENTIFIER, Space, node

CORPUS = json.loads((Path(__file__).parent.parent / "data" / "nasty_xml.json").read_text())
#: What is refused before it is parsed: a document has a megabyte at most.
_MOST = 8 << 20


def _bytes(entry: dict[str, Any]) -> bytes:
    if "parts" in entry:
        return b"".join(base64.b64decode(part) * times for part, times in entry["parts"])
    return base64.b64decode(entry["b64"])


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with serve_background(MemoryStore(), gateways=[VospaceGateway(IDENTIFIER)]) as url:
        yield Space(url)


@each("entry", CORPUS, ids=[entry["id"] for entry in CORPUS])
def test_nasty_documents_are_refused(entry: dict[str, Any]) -> None:
    body = _bytes(entry)
    if entry["expect"] == "accept" and b"VOSpace/v2.0" in body:
        assert read_document(body, "node").attributes["uri"]
        return
    # The others are no node, so even what is sound XML ends in a fault; never in another error.
    with pytest.raises(Fault) as raised:
        read_document(body, "node")
    assert raised.value.name == "InvalidArgument"
    is_sound = "The body is a document" in raised.value.detail
    if entry["expect"] != "either":
        is_too_deep = entry["id"] == "depth-100"  # sound, and over what any document here has
        assert is_sound == (entry["expect"] == "accept" and not is_too_deep)


@each("entry", [entry for entry in CORPUS if len(_bytes(entry)) < 5000][::4])
def test_nasty_documents_are_refused_on_the_wire(space: Space, entry: dict[str, Any]) -> None:
    body = _bytes(entry) or b" "
    for method, path in (("PUT", "/nodes/n"), ("POST", "/nodes/n"), ("POST", "/synctrans")):
        assert space.fault(method, path, body=body) == (400, "InvalidArgument")


def _wrapped(inner: str) -> bytes:
    return node("n").replace("<vos:properties>", f"<vos:properties>{inner}").encode()


BOUNDS = [
    ("a document type", b"<!DOCTYPE node>" + node("n").encode()),
    ("bytes", _wrapped(" " * _MOST)),
    ("elements", _wrapped("<vos:x/>" * 20_001)),
    ("levels", _wrapped("<vos:x>" * 40 + "</vos:x>" * 40)),
    ("attributes that clash", _wrapped('<vos:x a="1" a="2"/>')),
    ("two lists", _wrapped("</vos:properties><vos:properties>")),
    ("a property without a name", _wrapped("<vos:property>x</vos:property>")),
    ("elements in a property", _wrapped('<vos:property uri="a"><vos:x/></vos:property>')),
]


@each("name, body", BOUNDS, ids=[case[0] for case in BOUNDS])
def test_documents_within_bounds(space: Space, name: str, body: bytes) -> None:
    answer = space.ask("PUT", "/nodes/n", body=body)
    assert answer.status in (400, 413)
    assert space.ask("GET", "/nodes/n").status == 404


def test_a_comment_does_not_split_a_text(space: Space) -> None:
    body = node("split", properties={"title": "ab"}).replace("ab", "a<!-- c -->b")
    assert space.ask("PUT", "/nodes/split", body=body).status == 201
    assert space.properties("split")["title"] == "ab"


def test_many_attributes_and_names(space: Space) -> None:
    many = " ".join(f'a{number}="x"' for number in range(5000))
    body = node("many").replace("<vos:node ", f"<vos:node {many} ")
    assert space.ask("PUT", "/nodes/many", body=body).status == 201
    names = " ".join(f'xmlns:n{number}="urn:{number}"' for number in range(3000))
    body = node("names").replace("<vos:node ", f"<vos:node {names} ")
    assert space.ask("PUT", "/nodes/names", body=body).status == 201


@each("text", ["]]>", "<script>", "&amp;amp;", "\u2028\x85", '"', "'"])
def test_texts_are_escaped(space: Space, text: str) -> None:
    space.ask("DELETE", "/nodes/text")
    assert space.put("text", properties={"title": text, f"urn:{text}": text}).status == 201
    told = space.properties("text")
    assert (told["title"], told[f"urn:{text}"]) == (text, text)
