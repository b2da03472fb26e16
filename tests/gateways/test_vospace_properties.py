"""Properties of nodes over VOSpace 2.1, and what other clients have stored.

The letters beside cases say where they come from: S is the standard, P and C are the tests of
pyvospace and of opencadc/vos (cadc-test-vos), told as facts.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from kvstore.stores.memory import MemoryStore
from tests.cases import each, empty
from tests.gateways.vos_space import (
    CORE,
    VOS,
    XSI,
    Space,
    node,
    uri,
)

# -- keys of other clients -------------------------------------------------------------------------


def test_what_others_store_is_there(space: Space, store: MemoryStore) -> None:
    store.set("sky/m31/raw.fits", (b"SIMPLE", {"exposure": 30.0, "filter": "B", "title": "M31"}))
    assert space.children() == ["sky"]
    assert space.children("sky") == ["m31"]
    assert space.get("sky").get(f"{XSI}type") == "vos:ContainerNode"
    told = space.properties("sky/m31/raw.fits")
    assert told["urn:kvstore:meta:exposure"] == "30.0"
    assert told["filter"] == "B"
    assert told["title"] == "M31"
    assert told["MD5"] == hashlib.md5(b"SIMPLE").hexdigest()
    assert (
        space.post(
            "sky/m31/raw.fits", properties={"title": None, "urn:kvstore:meta:exposure": "[1]"}
        ).status
        == 200
    )
    assert store.get_metadata("sky/m31/raw.fits") == {"exposure": [1], "filter": "B"}


def test_an_md5_never_outlives_its_data(space: Space, store: MemoryStore) -> None:
    space.upload("n", b"one")
    assert store.get_metadata("n")["vospace"]["data"]["md5"] == hashlib.md5(b"one").hexdigest()
    store.set_data("n", b"two")
    assert space.properties("n")["MD5"] == hashlib.md5(b"two").hexdigest()
    answer = space.ask("GET", "/files/n")
    assert (
        answer.headers["Digest"] == "md5=" + base64.b64encode(hashlib.md5(b"two").digest()).decode()
    )


def test_a_link_over_which_others_write_is_one_no_more(space: Space, store: MemoryStore) -> None:
    space.put("n", "LinkNode", target=uri("m"))
    store.set_data("n", b"data")
    assert space.get("n").get(f"{XSI}type") == "vos:DataNode"
    assert space.bytes_of("n") == b"data"


@each(
    "keys, children",
    [
        (["a", "a/b"], ["a"]),  # a key with keys below it: the key is told
        (["a//b", "/c", "d"], ["a", "d"]),
        (["a/", "b"], ["a", "b"]),
        (["a-b", "a/b", "a0"], ["a-b", "a", "a0"]),
    ],
)
def test_keys_that_fit_badly(
    space: Space, store: MemoryStore, keys: list[str], children: list[str]
) -> None:
    empty(store)
    for key in keys:
        store.set_data(key, b"data")
    assert space.children() == children


ODD = {
    "title": "two\r\nlines & <tags>",
    "description": "\x00\x1f\ufffe",
    "subject": "",
    "plain": "text",
    "with space": "x",
    "urn:a:b": "c",
    "vospaces": 1,
    "nothing": None,
    "nested": {"a": [1, "ä\x01"]},
    "title_": " blanks ",
}


@each("name", ODD)
def test_any_metadata_survive_being_sent_back(space: Space, store: MemoryStore, name: str) -> None:
    store.set("n", (b"data", {name: ODD[name]}))
    found = space.get("n").findall(f"{VOS}properties/{VOS}property")
    sent: dict[str, str | None] = {one.get("uri"): one.text or "" for one in found}
    revision = store.record("n").revision
    assert space.ask("POST", "/nodes/n", body=_sent_back(sent)).status == 200
    assert store.record("n").revision == revision
    store.set("m", (b"data", {}))
    fields = {k: v for k, v in sent.items() if not k.startswith(CORE) or k in (f"{CORE}title",)}
    assert space.ask("POST", "/nodes/m", body=_sent_back(fields, "m")).status == 200
    assert store.get_metadata("m") == {name: ODD[name]}


def _sent_back(properties: dict[str, str | None], path: str = "n") -> str:
    told = node(path, properties={"@": "@"})
    each_one = "".join(
        f'<vos:property uri="{_escaped(name)}" readOnly="true">{_escaped(text or "")}'
        "</vos:property>"
        for name, text in properties.items()
    )
    before, _, after = told.partition("<vos:property ")
    return before + each_one + after.partition("</vos:property>")[2]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\r", "&#13;")


# -- setting properties (setNode, section 6.3.2) ---------------------------------------------------


def test_setting_is_a_union(space: Space) -> None:
    space.put("n", properties={"title": "a", "description": "b", "urn:x:y": "c"})
    assert space.post("n", properties={"title": "z", "description": None}).status == 200  # 34
    told = space.properties("n")
    assert (told["title"], told["urn:x:y"]) == ("z", "c")
    assert "description" not in told
    assert space.post("n", properties={"custom:secret-meaning": "s"}).status == 200  # 38 C
    assert space.post("n", properties={"title": "y"}).status == 200
    assert space.properties("n")["custom:secret-meaning"] == "s"


def test_a_node_may_be_sent_back_as_it_is(space: Space, store: MemoryStore) -> None:
    space.upload("n", b"data")
    body = space.ask("GET", "/nodes/n").body.decode()
    revision = store.record("n").revision
    answer = space.ask("POST", "/nodes/n", body=body)  # 41 C; the client does so, too
    assert answer.status == 200
    assert store.record("n").revision == revision


SET = [
    ("36 C another type", "n", {"kind": "ContainerNode"}, 400, "InvalidArgument"),
    ("37 C unknown", "n", {"properties": {"make-stuff-up": "x"}}, 400, "InvalidArgument"),
    ("S read only", "n", {"properties": {"length": "99"}}, 403, "PermissionDenied"),
    ("no lock", "n", {"properties": {"immutable": "true"}}, 400, "InvalidArgument"),
    ("no truth", "n", {"properties": {"ispublic": "maybe"}}, 400, "InvalidArgument"),
    ("no JSON", "n", {"properties": {"urn:kvstore:meta:x": "{"}}, 400, "InvalidArgument"),
    ("own field", "n", {"properties": {"urn:kvstore:meta:vospace": "{}"}}, 400, "InvalidArgument"),
    (
        "the root",
        "",
        {"kind": "ContainerNode", "properties": {"title": "x"}},
        403,
        "PermissionDenied",
    ),
]


@each("name, path, options, status, fault", SET, ids=[case[0] for case in SET])
def test_what_cannot_be_set(
    space: Space, store: MemoryStore, name: str, path: str, options: Any, status: int, fault: str
) -> None:
    store.set_data("n", b"data")
    revision = store.record("n").revision
    kind = options.get("kind", "DataNode")
    body = node(path, kind, properties=options.get("properties"))
    assert space.fault("POST", f"/nodes/{path}", body=body) == (status, fault)
    assert store.record("n").revision == revision


def test_who_may_read_and_write(space: Space, store: MemoryStore) -> None:
    space.upload("n", b"data")
    group = "ivo://cadc.nrc.ca/gms?{}"
    space.post(
        "n",
        properties={
            "ispublic": "true",
            "groupread": group.format("a"),
            "groupwrite": group.format("b"),
        },
    )
    assert store.get_permissions("n") == {
        "owned": {"local"},
        "read": {"public", "a"},
        "write": {"b"},
    }
    space.post(
        "n",
        properties={
            "ispublic": "false",
            "groupread": group.format("b"),
            "groupwrite": f"{group.format('a')} {group.format('c')}",
        },
    )  # 39 C
    assert store.get_permissions("n") == {"owned": {"local"}, "read": {"b"}, "write": {"a", "c"}}
    told = space.properties("n")
    assert told["groupread"] == group.format("b")
    assert (told["ispublic"], told["publicread"]) == ("false", "false")
    space.post("n", properties={"groupread": "", "groupwrite": None, "publicread": "true"})
    assert store.get_permissions("n") == {"owned": {"local"}, "read": {"public"}}


def test_properties_of_links_and_containers(space: Space, store: MemoryStore) -> None:
    space.put("link", "LinkNode", target=uri("n"))
    store.set_data("dir/n", b"data")
    assert space.post("link", "LinkNode", target=uri("n"), properties={"title": "x"}).status == 200
    assert space.post("dir", "ContainerNode", properties={"title": "y"}).status == 200  # 40 C
    assert space.properties("link")["title"] == "x"
    assert space.properties("dir")["title"] == "y"
    assert store.get_metadata("dir/") == {"title": "y"}
    assert space.children("dir") == ["n"]
