"""Nodes over VOSpace 2.1: made, read and deleted as its standard says.

The letters beside cases say where they come from: S is the standard, P and C are the tests of
pyvospace and of opencadc/vos (cadc-test-vos), told as facts.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kvstore.stores.memory import MemoryStore
from tests.cases import each, empty
from tests.gateways.vos_space import (
    CORE,
    ROOT,
    VOS,
    XSI,
    Space,
    node,
    uri,
)

# -- making nodes (createNode, section 6.2.1) ------------------------------------------------------


@each("kind", ["DataNode", "UnstructuredDataNode", "StructuredDataNode", "ContainerNode"])
def test_every_type_of_node_can_be_made(space: Space, store: MemoryStore, kind: str) -> None:
    empty(store)
    answer = space.put("n", kind, properties={"title": "first run"})
    assert answer.status == 201
    found = space.get("n")
    assert found.get(f"{XSI}type") == f"vos:{kind}"
    assert found.get("uri") == f"{ROOT}/n"
    assert space.properties("n")["title"] == "first run"
    assert store.get_metadata("n/" if kind == "ContainerNode" else "n")["title"] == "first run"


@each("kind", [None, "Node"])
def test_a_node_without_a_type_holds_data(space: Space, store: MemoryStore, kind: Any) -> None:
    empty(store)
    assert space.put("n", kind).status == 201
    assert space.get("n").get(f"{XSI}type") == "vos:DataNode"


@each("target", ["http://127.0.0.1:9/x?a=b&c", uri("somewhere"), "vos://else.where!space/x"])
def test_a_link_may_lead_anywhere(space: Space, store: MemoryStore, target: str) -> None:
    empty(store)
    assert space.put("link", "LinkNode", target=target).status == 201
    assert space.get("link").findtext(f"{VOS}target") == target


def test_many_children_and_nested_containers(space: Space) -> None:
    space.make("lab/", "lab/in/")
    for number in range(20):
        assert space.put(f"lab/in/{number:02}").status == 201
    assert space.children("lab/in") == [f"{number:02}" for number in range(20)]
    assert space.children("lab") == ["in"]
    assert space.children() == ["lab"]


REFUSED = [
    ("9 P S exists", "lab", {"kind": "ContainerNode"}, 409, "DuplicateNode"),
    ("9 data where a container is", "lab", {}, 409, "DuplicateNode"),
    ("the root", "", {"kind": "ContainerNode"}, 409, "DuplicateNode"),
    ("10 P S no parent", "none/n", {}, 404, "ContainerNotFound"),
    ("10 parent holds data", "lab/run/n", {}, 404, "ContainerNotFound"),
    ("11 P S parent is a link", "link/n", {}, 400, "LinkFound"),
    ("11 a link further up", "link/deep/n", {}, 400, "LinkFound"),
    ("12 P S C other uri", "lab/n", {"at": uri("lab/m")}, 400, "InvalidURI"),
    ("12 other space", "lab/n", {"at": "vos://else~where/lab/n"}, 400, "InvalidURI"),
    ("12 no vos uri", "lab/n", {"at": "http://127.0.0.1/lab/n"}, 400, "InvalidURI"),
    ("13 P no uri", "lab/n", {"at": ""}, 400, "InvalidURI"),
    ("14 P S unknown type", "lab/n", {"kind": "MagicNode"}, 400, "TypeNotSupported"),
    (
        "a link without a target",
        "lab/n",
        {"kind": "LinkNode", "target": ""},
        400,
        "InvalidArgument",
    ),
    ("no such core property", "lab/n", {"properties": {"x": "y"}}, 400, "InvalidArgument"),
]


@pytest.fixture
def small(space: Space) -> Space:
    space.make("lab/", "lab/run")
    space.put("link", "LinkNode", target=uri("lab"))
    return space


@each("name, path, options, status, fault", REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_made(
    small: Space, store: MemoryStore, name: str, path: str, options: Any, status: int, fault: str
) -> None:
    before = sorted(store.query_keys())
    body = node(
        path, options.get("kind", "DataNode"), **{k: v for k, v in options.items() if k != "kind"}
    )
    assert small.fault("PUT", f"/nodes/{path}", body=body) == (status, fault)
    assert sorted(store.query_keys()) == before


@each("body", [b"", b"no xml", b"<a/>", node("n").encode()[:-3], b"\xff\xfe<", b"<a>" * 100])
def test_what_is_no_document_of_a_node(small: Space, body: bytes) -> None:
    # pyvospace answers 500 to these.
    assert small.fault("PUT", "/nodes/n", body=body) == (400, "InvalidArgument")


def test_properties_that_the_server_sets_mean_nothing_in_a_new_node(space: Space) -> None:
    assert space.put("n", properties={"length": "123", "MD5": "00"}).status == 201  # 16 C
    assert space.properties("n")["length"] == "0"


def test_both_separators_and_the_other_namespace_are_understood(space: Space) -> None:
    for number, authority in enumerate(
        ["kvstore.test!space", "kvstore.test~space", "KVstore.test!space"]
    ):
        body = node(f"n{number}", at=f"vos://{authority}/n{number}")
        assert space.ask("PUT", f"/nodes/n{number}", body=body).status == 201
    body = node("m").replace("VOSpace/v2.0", "VOSpace/v2.1")
    assert space.ask("PUT", "/nodes/m", body=body).status == 201
    assert all(one.startswith("n") or one == "m" for one in space.children())


def test_the_server_names_a_node_that_is_called_auto(space: Space, store: MemoryStore) -> None:
    space.make("lab/")
    assert space.put("lab/.auto").status == 201
    (name,) = space.children("lab")
    assert name != ".auto"


NAMES = ["a b", "ä€", "50%", "q?r#s", "a&b<c>", 'it\'s "so"', "+", "~!$'()*,;=:@", "a\nb", "\u2028"]


@each("name", NAMES)
def test_names_come_back_as_they_were(space: Space, store: MemoryStore, name: str) -> None:
    empty(store)
    assert space.put(name).status == 201
    assert space.upload(name, b"data").status == 201
    assert list(store.query_keys()) == [name]
    (child,) = space.get().findall(f"{VOS}nodes/{VOS}node")
    assert space.ask("GET", child.get("uri").replace(ROOT, "/nodes")).status == 200
    assert space.bytes_of(name) == b"data"
    assert space.ask("DELETE", child.get("uri").replace(ROOT, "/nodes")).status == 204


@each("path", ["a//b", "a/%2e%2e/b", "a/../b", "a%2Fb", "%zz", "%ff", "a%00", "x" * 1025, "a/./b"])
def test_what_names_no_node(space: Space, path: str) -> None:
    assert space.fault("GET", f"/nodes/{path}") == (400, "InvalidURI")
    assert space.fault("GET", f"/files/{path}") == (400, "InvalidURI")


# -- reading nodes (getNode, section 6.3.1) --------------------------------------------------------


@pytest.fixture
def six(space: Space) -> Space:
    space.make("c/", *(f"c/child{number}" for number in range(1, 7)))
    return space


PAGES = [
    ("?limit=0", []),  # 26 C
    ("?limit=1", [1]),  # 27 P
    ("?limit=2", [1, 2]),  # 28 C
    ("?limit=100", [1, 2, 3, 4, 5, 6]),
    ("", [1, 2, 3, 4, 5, 6]),  # 22
    ("?detail=min", [1, 2, 3, 4, 5, 6]),  # 21
    ("?detail=max", [1, 2, 3, 4, 5, 6]),
    ("?detail=properties", [1, 2, 3, 4, 5, 6]),
    (f"?uri={ROOT}/c/child1&limit=3", [1, 2, 3]),  # 29 C
    (f"?uri={ROOT}/c/child3&limit=3", [3, 4, 5]),
    (f"?uri={ROOT}/c/child5&limit=3", [5, 6]),
    (f"?uri={ROOT}/c/child3.5&limit=1", [4]),  # deleted meanwhile
    (f"?sort={CORE.replace('#', '%23')}length&order=desc&limit=2", [6, 5]),
    (f"?sort={CORE.replace('#', '%23')}date&order=asc", [1, 2, 3, 4, 5, 6]),
    (f"?order=desc&uri={ROOT}/c/child2", [2, 1]),
]


@each("query, numbers", PAGES)
def test_pages_of_a_container(six: Space, query: str, numbers: list[int]) -> None:
    assert six.children("c", query) == [f"child{number}" for number in numbers]


BAD_QUERIES = [
    ("?detail=invalid", "InvalidArgument"),  # 23 P
    ("?limit=-1", "InvalidArgument"),  # 24 P C
    ("?limit=string", "InvalidArgument"),  # 25 P C
    ("?limit=1&limit=2", "InvalidArgument"),
    ("?order=up", "InvalidArgument"),
    ("?sort=colour", "OptionNotSupported"),
    (f"?uri={ROOT}/other/child1", "InvalidURI"),  # 30 C
    ("?uri=child1", "InvalidURI"),
    ("?%ff=1", "InvalidArgument"),
]


@each("query, fault", BAD_QUERIES)
def test_parameters_that_make_no_sense(six: Space, query: str, fault: str) -> None:
    assert six.fault("GET", f"/nodes/c{query}") == (400, fault)


def test_details(six: Space) -> None:
    least = six.get("c", "?detail=min")
    assert not list(least.iter(f"{VOS}property"))
    most = six.get("c/child1", "?detail=max")
    assert len(most.find(f"{VOS}accepts"))  # 7 P
    assert len(most.find(f"{VOS}provides"))
    told = six.properties("c/child1")
    assert told["length"] == "8"
    assert told["MD5"] == hashlib.md5(b"c/child1").hexdigest()
    assert len(told["date"]) == len("2026-11-22T04:00:00.000")


@each("path", ["missing", "lab/missing", "missing/deeper"])
def test_a_node_that_is_not_there(small: Space, path: str) -> None:
    assert small.fault("GET", f"/nodes/{path}") == (404, "NodeNotFound")  # 19 P C S
    assert small.fault("DELETE", f"/nodes/{path}") == (404, "NodeNotFound")  # 43 C S
    assert small.fault("POST", f"/nodes/{path}", body=node(path)) == (404, "NodeNotFound")  # 35


@each("path", ["", "/"])
def test_the_root(small: Space, path: str) -> None:
    assert small.ask("GET", f"/nodes{path}").status == 200  # 20 P
    assert small.ask("GET", f"/nodes{path}?limit=0").status == 200
    assert small.fault("DELETE", f"/nodes{path}") == (403, "PermissionDenied")


def test_a_view_of_the_data_is_elsewhere(small: Space) -> None:
    answer = small.ask("GET", "/nodes/lab/run?view=data")  # 32 C
    assert answer.status == 303
    assert small.ask("GET", small.path_of(answer)).body == b"lab/run"


def test_links_in_a_path_are_followed(small: Space) -> None:
    assert small.get("link/run").get("uri") == f"{ROOT}/lab/run"
    assert small.get("link").get(f"{XSI}type") == "vos:LinkNode"
    small.put("circle", "LinkNode", target=uri("circle/x"))
    assert small.fault("GET", "/nodes/circle/y") == (400, "InvalidURI")


# -- deleting (deleteNode, section 6.2.4) ----------------------------------------------------------


def test_what_a_container_holds_goes_with_it(space: Space, store: MemoryStore) -> None:
    space.make("lab/", "lab/a", "lab/in/", "lab/in/b", "labs")
    assert space.ask("DELETE", "/nodes/lab").status == 204  # 42, 44
    assert list(store.query_keys()) == ["labs"]
    assert space.fault("GET", "/nodes/lab/in/b") == (404, "NodeNotFound")


def test_a_link_goes_and_its_target_stays(small: Space) -> None:
    assert small.fault("DELETE", "/nodes/link/run") == (400, "LinkFound")
    assert small.ask("DELETE", "/nodes/link").status == 204
    assert small.bytes_of("lab/run") == b"lab/run"


def test_an_empty_container_stays(space: Space) -> None:
    space.make("lab/", "lab/n")
    assert space.ask("DELETE", "/nodes/lab/n").status == 204
    assert space.children() == ["lab"]
