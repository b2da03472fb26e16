"""What a VOSpace service may say, and what of it is taken: order, pages, transfers, hostile XML."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator

import pytest

import kvstore
from kvstore import (
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidRequestError,
    KeyNotFoundError,
    Policy,
    TransportError,
    UnsupportedOperationError,
)
from kvstore.profiles.loading import load_profile
from tests.cases import each
from tests.profiles.vospace_service import CORE, NAMES, Service, node, served

ONCE = Policy(attempts=1)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with served() as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.begin()
    return running


@pytest.fixture
def store(service: Service):
    with kvstore.open(f"vos+{service.url}", policy=ONCE, token="secret") as store:
        yield store


def md5_field(data: bytes) -> str:
    return f"md5={base64.b64encode(hashlib.md5(data).digest()).decode()}"


def transfer(*endpoints: str) -> str:
    told = "".join(
        f'<vos:protocol uri="{CORE}httpget"><vos:endpoint>{url}</vos:endpoint></vos:protocol>'
        for url in endpoints
    )
    return f"<vos:transfer {NAMES}><vos:target>x</vos:target>{told}</vos:transfer>"


def arranged(service: Service, *endpoints: str, error: str = "") -> None:
    details = "/transfers/1/results/transferDetails"
    service.pages["POST /synctrans"] = (303, "", {"Location": f"{service.url}{details}"})
    service.pages[f"GET {details}"] = transfer(*endpoints)
    service.pages["GET /transfers/1/error"] = error


def holding(service: Service, *endpoints: str, error: str = "") -> None:
    """Let there be a node, too."""
    arranged(service, *endpoints, error=error)
    service.pages["GET /nodes/k"] = node("/k")


# -- lists ---------------------------------------------------------------------------------


def test_keys_come_in_their_order_whatever_that_of_the_service_is(service, store):
    inner = node("/b", "ContainerNode") + node("/b.x") + node("/a") + node("/B") + node("/b-")
    service.pages["GET /nodes"] = node("", "ContainerNode", inner)
    service.pages["GET /nodes/b"] = node("/b", "ContainerNode", node("/b/z") + node("/b/c%20d"))
    assert list(store.query_keys()) == ["B", "a", "b-", "b.x", "b/c d", "b/z"]
    assert list(store.query_keys(prefix="b/")) == ["b/c d", "b/z"]
    assert list(store.query_keys(after="b.x", limit=1)) == ["b/c d"]


@each("most", [2, 3, 7, 1000])
def test_a_list_is_whole_however_few_nodes_a_page_has(service, store, most):
    names = [f"/n{number:02}" for number in range(7)]

    def page(asked):
        first = asked.get("uri", "vos://a~b/").removeprefix("vos://a~b")
        left = [name for name in names if name >= first][:most]
        return node("", "ContainerNode", "".join(node(name) for name in left))

    service.pages["GET /nodes"] = page
    assert list(store.query_keys()) == [name[1:] for name in names]


def test_a_service_that_begins_each_page_anew_is_asked_no_more(service, store):
    service.pages["GET /nodes"] = node("", "ContainerNode", node("/a") + node("/b"))
    assert list(store.query_keys()) == ["a", "b"]
    assert len([one for one in service.asked if one[1].startswith("/nodes")]) == 2


def test_what_is_no_key_is_not_listed(service, store):
    inner = node("/a%2Fb") + node("/.null") + node("/l", "LinkNode") + node("/%2E%2E") + node("/k")
    service.pages["GET /nodes"] = node("", "ContainerNode", inner)
    assert list(store.query_keys()) == ["k"]


def test_a_list_without_properties_is_completed_node_by_node(service, store):
    service.pages["GET /nodes"] = node("", "ContainerNode", node("/k"))
    service.pages["GET /nodes/k"] = node("/k", title="T", length="3")
    assert list(store.query()) == [("k", {"title": "T"})]


# -- transfers -----------------------------------------------------------------------------


def test_bytes_come_from_where_the_service_says(service, store):
    holding(service, f"{service.url}/d/1")
    service.pages["GET /d/1"] = (200, "abc", {"Digest": md5_field(b"abc")})
    assert store.to_bytes("k") == b"abc"
    assert service.asked[-1][2]["authorization"] == "Bearer secret"
    sent = next(body for method, _, _, body in service.asked if method == "POST")
    assert b"<vos:target>vos://a~b/k</vos:target>" in sent


def test_bytes_of_another_md5_are_an_error(service, store):
    holding(service, f"{service.url}/d/1")
    service.pages["GET /d/1"] = (200, "abd", {"Digest": md5_field(b"abc")})
    with pytest.raises(IntegrityError, match="MD5"):
        store.to_bytes("k")


@each("knows_ranges", [True, False])
@each("knows_md5", [True, False])
def test_a_transfer_that_breaks_off_goes_on(service, knows_ranges, knows_md5):
    data = random.Random(2).randbytes(1 << 20)
    fields = {"Digest": md5_field(data)} if knows_md5 else {}

    def answer(asked):
        sent = service.asked[-1][2].get("range")
        if sent is None:
            first = sum(1 for one in service.asked if one[1] == "/d/1") == 1
            return 200, data, {**fields, **({"cut": 600_000} if first else {})}
        if not knows_ranges:
            return 200, data, dict(fields)
        start = int(sent.removeprefix("bytes=").partition("-")[0])
        told = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return 206, data[start:], {**fields, "Content-Range": told}

    service.begin()
    holding(service, f"{service.url}/d/1")
    service.pages["GET /nodes/k"] = node("/k", length=str(len(data)))
    service.pages["GET /d/1"] = answer
    policy = Policy(attempts=3, backoff=0)
    with kvstore.open(f"vos+{service.url}", policy=policy) as store:
        assert store.to_bytes("k") == data
    assert sum(1 for one in service.asked if one[1] == "/d/1") == 2


def test_a_range_of_a_service_without_ranges(service, store):
    arranged(service, f"{service.url}/d/1")
    service.pages["GET /d/1"] = "abcdef"
    with store.get_data_range("k", 2, 4) as stream:
        assert stream.read() == b"cd"


@each("error, kind", [("NodeNotFound", KeyNotFoundError), ("PermissionDenied", AuthorizationError)])
def test_a_transfer_that_is_refused(service, store, error, kind):
    holding(service, error=error)
    with pytest.raises(kind):
        store.to_bytes("k")


def test_credentials_do_not_go_to_another_server(service, store):
    with served() as other:
        other.begin()
        other.pages["GET /d"] = "abc"
        holding(service, f"{other.url}/d")
        with pytest.raises(TransportError, match="another origin"):
            store.to_bytes("k")
        assert other.asked == []
        profile = {**load_profile("vospace").document, "vospace": {"endpoints": "anywhere"}}
        with kvstore.open(f"vos+{service.url}", profile=profile, token="secret") as far:
            assert far.to_bytes("k") == b"abc"
        assert "authorization" not in other.asked[-1][2]


def test_a_transfer_that_is_arranged_elsewhere_is_not_followed(service, store):
    with served() as other:
        other.begin()
        details = f"{other.url}/transfers/1/results/transferDetails"
        service.pages["POST /synctrans"] = (303, "", {"Location": details})
        for move in (lambda: store.to_bytes("k"), lambda: store.set("k", b"data")):
            service.pages["GET /nodes/k"] = node("/k", length="4")
            with pytest.raises(TransportError, match="elsewhere"):
                move()
        assert other.asked == []


def test_who_may_read_is_said_again_where_a_transfer_clears_it(service, store):
    arranged(service, f"{service.url}/d/1")
    service.pages["PUT /d/1"] = (201, "", {})
    service.pages["POST /nodes/k"] = node("/k")
    group = "ivo://cadc.nrc.ca/gms?team"

    def told(asked):
        sent = any(url == "/d/1" for _, url, _, _ in service.asked)
        kept = {} if sent else {"groupread": group, "ispublic": "true"}
        return node("/k", length="4", **kept)

    service.pages["GET /nodes/k"] = told
    store.set_data("k", b"data")
    (body,) = [
        body for method, _, _, body in service.asked if method == "POST" and group in str(body)
    ]
    assert b"core#ispublic" in body


def test_what_was_stored_otherwise_is_an_error(service, store):
    arranged(service, f"{service.url}/d/1")
    service.pages["PUT /d/1"] = (201, "", {"Digest": md5_field(b"other")})
    with pytest.raises(IntegrityError, match="MD5"):
        store.set("k", b"data")
    assert service.asked[-1][2]["digest"] == md5_field(b"data")


def test_data_refused_for_their_digest(service, store):
    arranged(service, f"{service.url}/d/1")
    service.pages["PUT /d/1"] = (412, "PreconditionFailed", {})
    with pytest.raises(IntegrityError):
        store.set("k", b"data")


def test_an_empty_key_is_not_left_where_its_data_failed(service, store):
    arranged(service, error="PermissionDenied")
    service.pages["PUT /nodes/k"] = (201, node("/k"), {})
    service.pages["DELETE /nodes/k"] = (204, "", {})

    def deleted(asked):
        made = [one for one in service.asked if one[0] == "PUT"]
        return node("/k", length="0") if made else (404, "NodeNotFound", {})

    service.pages["GET /nodes/k"] = deleted
    with pytest.raises(AuthorizationError):
        store.set("k", b"data", if_none_match="*")
    assert service.asked[-1][0] == "DELETE"


# -- hostile answers -----------------------------------------------------------------------

_DTD = '<!DOCTYPE n [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
HOSTILE = {
    "bomb": f"{_DTD}<n>&b;</n>",
    "external entity": '<!DOCTYPE n [<!ENTITY a SYSTEM "file:///etc/passwd">]><n>&a;</n>',
    "external DTD": '<!DOCTYPE n SYSTEM "http://127.0.0.1:9/x.dtd"><n/>',
    "no XML": "{}",
    "nothing": "",
    "cut short": node("/k")[:-9],
    "deep": "<a>" * 10_000,
    "other root": "<html/>",
    "other namespace": '<vos:node xmlns:vos="urn:x" uri="vos://a~b/k"/>',
    "no uri": f"<vos:node {NAMES}/>",
    "other scheme": node("/k", "ContainerNode").replace("vos://", "file://"),
    "odd encoding": '<?xml version="1.0" encoding="unicode_escape"?><n/>',
    "many bytes in a code": '<?xml version="1.0" encoding="utf-7"?><n/>',
    "NUL": node("/k").replace("vos:properties", "\0", 1),
}


@each("name", HOSTILE)
def test_hostile_documents_are_errors(service, store, name):
    for path in ("/nodes", "/nodes/k"):
        service.pages[f"GET {path}"] = HOSTILE[name]
    with pytest.raises(TransportError):
        store.get("k")
    with pytest.raises(TransportError):
        list(store.query_keys())
    service.begin()
    service.pages["GET /capabilities"] = HOSTILE[name]
    with kvstore.open(f"vos+{service.url}", policy=ONCE) as other, pytest.raises(TransportError):
        other.exists("k")


def test_a_document_without_end_is_not_kept(service, store):
    service.pages["GET /nodes/k"] = node("/k", title="x" * (9 << 20))
    with pytest.raises(TransportError, match="over"):
        store.get("k")
    huge = node("", "ContainerNode", node("/k", title="x" * (34 << 20)))
    service.pages["GET /nodes"] = huge
    with pytest.raises(TransportError, match="over"):
        list(store.query())


def test_capabilities_elsewhere_are_not_followed(service):
    page = service.pages["GET /capabilities"]
    service.pages["GET /capabilities"] = page.replace(service.url, "http://127.0.0.2:1")
    with kvstore.open(f"vos+{service.url}") as store, pytest.raises(TransportError, match="origin"):
        store.exists("k")


@each(
    "properties",
    [
        {"length": "-1", "date": "yesterday", "type": "a\nb", "MD5": "zz"},
        {"length": "9" * 400, "date": "9999-99-99", "type": ""},
    ],
)
def test_facts_that_are_none_are_not_told(service, store, properties):
    service.pages["GET /nodes/k"] = node("/k", **properties)
    record = store.record("k")
    assert (record.size, record.modified, record.metadata) == (0, None, {})
    assert record.mimetype.startswith("application/octet") or "\n" not in record.mimetype


def test_json_that_is_none_is_another_clients_property(service, store):
    page = node("/k", **{"urn:kvstore:meta:n": "{", "urn:kvstore:meta:m": "[1]"})
    service.pages["GET /nodes/k"] = page
    own = {"properties": {"urn:kvstore:meta:n": "{"}}
    assert store.get_metadata("k") == {"m": [1], "vospace": own}


@each(
    "status, text, kind",
    [
        (404, "NodeNotFound no", KeyNotFoundError),
        (403, "PermissionDenied", AuthorizationError),
        (400, "InvalidURI", InvalidKeyError),
        (400, "TypeNotSupported x", UnsupportedOperationError),
        (400, "something else", InvalidRequestError),
        (409, "DuplicateNode", ConflictError),
        (500, "InternalFault\x1b[31m", TransportError),
    ],
)
def test_faults_are_our_errors(service, store, status, text, kind):
    service.pages["GET /nodes/k"] = (status, text, {})
    with pytest.raises(kind) as caught:
        store.record("k")
    assert "\x1b" not in str(caught.value)


# -- keys, metadata, URLs ------------------------------------------------------------------


@each("key", ["a/", "/a", "a//b", ".null", "x/.auto", ".null/x"])
def test_no_node_is_called_so(store, service, key):
    for call in (store.get, store.exists, store.delete, store.to_bytes):
        with pytest.raises(InvalidKeyError):
            call(key)
    with pytest.raises(InvalidKeyError):
        store.set(key, b"")
    assert [one for one in service.asked if one[0] != "GET"] == []


@each(
    "own",
    [
        1,
        {"properties": 1},
        {"properties": {"urn:x": 1}},
        {"properties": {CORE + "length": "1"}},
        {"properties": {"urn:x": "\x00"}},
        {"properties": {"plain": "x"}},
        {"other": {}},
    ],
)
def test_what_is_no_property_is_refused_before_anything_is_sent(service, store, own):
    with pytest.raises(InvalidMetadataError) as caught:
        store.set("k", b"data", metadata={"vospace": own})
    assert caught.value.pointer == "/vospace"
    assert {one[0] for one in service.asked} <= {"GET"}


def test_a_container_is_no_key_and_is_never_deleted(service, store):
    service.pages["GET /nodes/k"] = node("/k", "ContainerNode")
    with pytest.raises(KeyNotFoundError):
        store.delete("k")
    with pytest.raises(ConflictError, match="ContainerNode"):
        store.set("k", b"")
    assert {one[0] for one in service.asked} == {"GET"}


def test_a_node_behind_a_link_is_not_written(service, store):
    service.pages["GET /nodes/l/k"] = node("/real/k")
    with pytest.raises(ConflictError, match="LinkNode"):
        store.set("l/k", b"")


def test_a_space_by_its_name(service, tmp_path, monkeypatch):
    registry = tmp_path / "resource-caps"
    lines = f"# known\nivo://a/b = {service.url}/capabilities\nivo://a/c = ftp://x\n"
    registry.write_text(lines)
    service.pages["GET /nodes/lab"] = node("/lab", "ContainerNode", node("/lab/k", length="0"))
    for name in ("a~b", "a!b"):
        with kvstore.open(f"vos://{name}/lab", registry=registry) as store:
            assert list(store.query_keys()) == ["k"]
    monkeypatch.setenv("KVSTORE_VOSPACE_REGISTRY", str(registry))
    with kvstore.open("vos://a~b/lab") as store:
        assert list(store.query_keys()) == ["k"]
    wrong = (
        "vos://a~d",
        "vos://a~c",
        "vos://a",
        "vos://u:secret@a~b",
        "vos://a~b?x",
        "vos://a~b/..",
    )
    for url in wrong:
        with pytest.raises(ValueError) as caught:
            kvstore.open(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(InvalidRequestError, match="registry"):
        kvstore.open("vos://a~b", registry=tmp_path / "none")
    with pytest.raises(InvalidRequestError, match="no VOSpace"):
        kvstore.open(f"vos+{service.url}", profile="webdav")
