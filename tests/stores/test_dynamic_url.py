"""`DynamicURLStore` as its users meet it: basic servers, service documents, configuration."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth

from kvstore import DynamicURLStore, MemoryStore
from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    NotConnectedError,
    RangeError,
    StorageFullError,
    StoreError,
    TooLargeError,
    TransportError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.events import StoreDeleteEvent, StoreEvent, StoreSetEvent, StoreUpdateEvent
from kvstore.profiles.wire import SERVICE_PATH
from kvstore.transport.policy import Policy
from kvstore.transport.sender import BearerAuth
from tests.cases import each
from tests.transport.basic_server import BasicServer, Entry, basic_server
from tests.transport.wire_server import Wire, WireServer, answer, as_json, refused_port

HASTY = Policy(backoff=0)


def store_of(server: BasicServer | WireServer, **options: Any) -> DynamicURLStore:
    options.setdefault("policy", HASTY)
    store = DynamicURLStore(f"{server.url}/keys", f"{server.url}/query", **options)
    store.connect()
    return store


def service(base: str = "/keys", *capabilities: str, **members: Any) -> dict[str, Any]:
    profile = {"base": base, "query": "/query", **members.pop("profile", {})}
    return {"protocol": 1, "profile": profile, "capabilities": list(capabilities), **members}


@pytest.fixture(params=["plain", "etags and ranges"])
def basic(request: pytest.FixtureRequest) -> Iterator[BasicServer]:
    more = request.param != "plain"
    with basic_server(etags=more, ranges=more) as server:
        yield server


# -- servers of the basic protocol ---------------------------------------------------------


def test_every_operation_works_on_a_basic_server(basic):
    with store_of(basic) as store:
        store.set("a/b c", (b"0123456789", {"n": 1, "t": [True, None]}), mimetype="text/plain")
        store.set_data("plain", iter([b"in ", b"pieces"]))
        store.set_metadata("only", {"n": 1.0})
        store.update_metadata("a/b c", {"m": "é"})
        store.set_permissions("a/b c", {"owned": {"me"}, "read": {"x"}})
        store.update_permissions("a/b c", {"read": {"y"}})

        value = store.get("a/b c")
        assert (value.size, value.mimetype, value.created) == (10, "text/plain", None)
        assert (
            value.metadata == store.get_metadata("a/b c") == {"n": 1, "t": [True, None], "m": "é"}
        )
        assert value.read() == value.data.read() == store.to_bytes("a/b c") == b"0123456789"
        assert value.range(2, 5).read() == b"234"
        assert value.permissions == {"owned": {"me"}, "read": {"x", "y"}}
        assert value.digest is None
        assert store.get_metadata("a/b c", ["m", "absent"]) == {"m": "é"}
        assert store.get_data("plain").read() == b"in pieces"
        assert store.get_data_range("a/b c", 7).read() == b"789"
        assert store.get_data_range("a/b c", None, 3).read() == b"012"
        assert store.get("only").size == 0
        assert store.exists("only")
        assert not store.exists("other")

        assert list(store.query_keys()) == ["a/b c", "only", "plain"]
        assert list(store.query(n=1)) == [("a/b c", value.metadata), ("only", {"n": 1.0})]
        assert list(store.query(select=["n"], prefix="a", n=1)) == [("a/b c", {"n": 1})]
        assert list(store.query_keys(where={"n": {"exists": False}})) == ["plain"]
        assert list(store.query_keys(order_by="-n", limit=2)) == ["a/b c", "only"]
        assert list(store.query_keys(after="a/b c", limit=1)) == ["only"]
        assert list(store.glob("*l*")) == ["only", "plain"]
        assert store.count(prefix="o") == 1

        store.set("copy", store.get("a/b c"))
        assert store.get("copy").read() == b"0123456789"
        store.delete("copy")
        assert "copy" not in basic.entries


def test_no_extension_is_used_on_a_basic_server(basic):
    with store_of(basic) as store:
        store.set("k", (b"data", {"n": 1}))
        store.set_metadata("k", {"n": 2})
        value = store.get("k")
        value.read()
        store.get_data_range("k", 1, 3).read()
        list(store.query(n=2))
        store.count()
        store.delete("k")
    assert basic.told == [
        "PUT /keys/k/data",
        "PUT /keys/k/metadata",
        "PUT /keys/k/metadata",
        "HEAD /keys/k/data",
        "GET /keys/k/metadata",
        "GET /keys/k/data",
        "GET /keys/k/data",
        "GET /query?n=2",
        "GET /keys/k/metadata",
        "GET /query",
        "DELETE /keys/k",
    ]
    extensions = {"if-match", "if-none-match", "if-range", "repr-digest", "content-digest"}
    for seen in basic.seen:
        assert not extensions & seen.headers.keys()
        assert "vnd.kvstore" not in str(seen.headers)
        assert "ndjson" not in str(seen.headers)
        assert seen.headers["accept-encoding"] == "identity"


@each(
    "write",
    [
        lambda store, **condition: store.set("k", b"new", **condition),
        lambda store, **condition: store.set("k", (b"new", {"n": 2}), **condition),
        lambda store, **condition: store.set_data("k", b"new", **condition),
        lambda store, **condition: store.set_data("k", iter([b"new"]), **condition),
        lambda store, **condition: store.set_metadata("k", {"n": 2}, **condition),
        lambda store, **condition: store.from_bytes("k", b"new", **condition),
    ],
)
@each("condition", [{"if_match": "r"}, {"if_match": "*"}, {"if_none_match": "*"}])
def test_a_condition_is_refused_before_anything_is_sent(basic, write, condition):
    basic.entries["k"] = Entry(b"old", {"n": 1})
    with store_of(basic) as store, pytest.raises(UnsupportedOperationError):
        write(store, **condition)
    assert basic.told == []


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.update_metadata("k", {"n": 2}, if_match="r"),
        lambda store: store.delete("k", if_match="r"),
        lambda store: store.set_permissions("k", {"owned": {"x"}}, if_match="r"),
        lambda store: store.update_permissions("k", {"read": {"x"}}, if_match="r"),
    ],
)
def test_a_condition_is_refused_for_other_changes_too(basic, change):
    basic.entries["k"] = Entry(b"old")
    with store_of(basic) as store, pytest.raises(UnsupportedOperationError):
        change(store)
    assert basic.told == []


def test_the_revision_of_a_value_is_its_etag_but_no_condition_without_the_extension():
    with basic_server(etags=True) as server, store_of(server) as store:
        server.entries["k"] = Entry(b"old")
        value = store.get("k")
        assert value.revision is not None
        with pytest.raises(UnsupportedOperationError):
            store.set_data("k", b"new", if_match=value)


def test_data_that_was_changed_is_not_given_for_that_of_an_older_value():
    with basic_server(etags=True) as server, store_of(server) as store:
        server.entries["k"] = Entry(b"old data")
        value = store.get("k")
        server.entries["k"] = Entry(b"new data")
        with pytest.raises(ConflictError):
            value.read()
        with pytest.raises(ConflictError):
            value.range(0, 3)


def test_missing_keys(basic, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"kept")
    with store_of(basic) as store:
        for ask in (
            store.get,
            store.get_data,
            store.get_metadata,
            store.get_permissions,
            store.delete,
            store.to_bytes,
            lambda key: store.get_data_range(key, 1),
            lambda key: store.get_data_range(key, 1, 1),
            lambda key: store.update_metadata(key, {}),
            lambda key: store.update_permissions(key, {}),
            lambda key: store.to_file(key, target),
        ):
            with pytest.raises(KeyNotFoundError) as caught:
                ask("a b")
            assert caught.value.key == "a b"
            assert caught.value.status == 404
    assert target.read_bytes() == b"kept"


def test_info_tells_what_a_basic_server_can(basic):
    store = DynamicURLStore(f"{basic.url}/keys", f"{basic.url}/query")
    before = store.info()
    assert (before["type"], before["url"]) == ("DynamicURLStore", f"{basic.url}/keys")
    assert basic.seen == []
    with store:
        info = store.info()
        assert info["capabilities"] == []
        assert not any(info[name] for name in ("atomic_set", "conditional", "digests"))
        assert store.user_tag() == "public"


def test_a_page_that_lists_a_key_twice_or_out_of_order():
    with WireServer([answer(200, b"b\r\na\nb\n")]) as server, store_of(server) as store:
        assert list(store.query_keys()) == ["a", "b"]


def test_a_key_deleted_while_a_query_runs_is_left_out(basic):
    basic.entries.update(a=Entry(), b=Entry())
    with store_of(basic) as store:
        found = store.query()
        assert next(found) == ("a", {})
        del basic.entries["b"]
        assert list(found) == []


def test_keys_that_a_plain_listing_cannot_tell_are_logged(caplog):
    with (
        WireServer([answer(200, b"a\n", X_Keys_Omitted=3)]) as server,
        store_of(server) as store,
    ):
        assert list(store.query_keys()) == ["a"]
    assert "3 keys" in caplog.text


def test_a_query_url_that_is_wrong_is_no_missing_key():
    with WireServer([answer(404)]) as server, store_of(server) as store:
        with pytest.raises(InvalidRequestError) as caught:
            list(store.query_keys())
    assert not isinstance(caught.value, KeyError)


# -- service documents ---------------------------------------------------------------------


@each(
    "page",
    [
        answer(404, b"<h1>no</h1>"),
        answer(404, Content_Length=None),  # an old server: the end of the connection is the end
        answer(200, b"<!doctype html>", Content_Type="text/html"),
        answer(200, b"<!doctype html>", Content_Length=None),
        answer(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
        answer(200, b"{"),
        answer(200, b"[]"),
        answer(200, b"{}"),
        answer(200, b"\xff\xfe{}"),
        answer(200, b'{"protocol": NaN}'),
        answer(200, b" " * ((1 << 22) + 1)),
        answer(204),
        answer(206, b"{}", Content_Range="bytes 0-1/2"),
        answer(301, Location="/elsewhere"),
        answer(302, Location="http://localhost:1/"),
        answer(307, Location="/elsewhere"),
        answer(401),
        answer(403),
        answer(500, b"Traceback"),
        answer(501),
        as_json({**service(), "protocol": 2}),
        as_json(service("/other", "value", "conditional")),
        as_json(service("http://elsewhere/keys", "value")),
        as_json(service("http://[", "value")),
        as_json(service("/keys", "value", profile={"url_format": "{base}/{part}/{key}"})),
        as_json(service("/keys", "value", profile={"parts": {"data": "d"}})),
    ],
)
def test_what_is_no_service_document_of_ours_is_none(page):
    def close_after(wire: Wire) -> None:
        wire.body()
        wire.send(page)
        wire.close()

    server = WireServer([answer(200, b"data"), answer(204)])
    server.service = close_after  # type: ignore[assignment]
    with server, store_of(server) as store:
        assert store.get_data("k").read() == b"data"
        with pytest.raises(UnsupportedOperationError):
            store.set_data("k", b"x", if_none_match="*")
        store.set_data("k", b"x")
        assert store.info()["capabilities"] == []
    assert server.told == ["GET /keys/k/data", "PUT /keys/k/data"]
    assert len(server.lookups) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_service_document_that_is_not_there_now_is_asked_for_again(status):
    answers = [answer(status), answer(status), as_json(service("/keys", "conditional"))]

    def next_answer(wire: Wire) -> None:
        wire.send(answers.pop(0))

    server = WireServer([answer(204)])
    server.service = next_answer  # type: ignore[assignment]
    with server, store_of(server) as store:
        store.set_data("k", b"x", if_none_match="*")
    assert server.seen[0].headers["if-none-match"] == "*"


def test_an_operation_fails_rather_than_take_a_server_that_is_away_for_a_basic_one():
    with WireServer(service=answer(503)) as server, store_of(server) as store:
        with pytest.raises(UnavailableError) as caught:
            store.set("k", b"x")
        assert caught.value.attempts == HASTY.attempts
        server.service = as_json(service("/keys", "conditional"))
        assert store.info()["conditional"]


def test_extensions_are_used_where_they_are_announced():
    document = service(
        "/keys",
        "value",
        "conditional",
        "digest",
        "records",
        store={"atomic_set": True, "readonly": False, "durability": "power-loss"},
        user={"tag": "alice", "tags": ["alice"]},
    )
    steps = [answer(201, ETag='"r1"'), answer(204, ETag='"r2"'), answer(412), answer(200)]
    with WireServer(steps, service=as_json(document)) as server, store_of(server) as store:
        assert store.set("k", (b"d", {"n": 1}), if_none_match="*") == "r1"
        assert store.set_data("k", b"d", if_match="r1") == "r2"
        with pytest.raises(ConflictError):
            store.delete("k", if_match="r1")
        assert list(store.query_keys(prefix="k", limit=2)) == []
        assert store.user_tag() == "alice"
        info = store.info()
    told = {"atomic_set", "conditional", "digests", "durability", "capabilities", "readonly"}
    assert {name: info[name] for name in told} == {
        "atomic_set": True,
        "conditional": True,
        "digests": True,
        "durability": "power-loss",
        "capabilities": ["conditional", "digest", "records", "value"],
        "readonly": False,
    }
    put, data, delete, query = server.seen
    head, _, body = put.body.partition(b"\n")
    digest = "sha256:18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4"
    assert (str(put), json.loads(head), body) == (
        "PUT /keys/k/value",
        {"metadata": {"n": 1}, "digest": digest},
        b"d",
    )
    assert put.headers["content-type"] == "application/vnd.kvstore.value"
    assert put.headers["if-none-match"] == "*"
    assert data.headers["repr-digest"] == "sha-256=:GKw+c0PwFokMUQ6T+TUmEWnZ4/VlQ2Qpgw+vCTT0+OQ=:"
    assert data.headers["if-match"] == '"r1"'
    assert (str(delete), delete.headers["if-match"]) == ("DELETE /keys/k", '"r1"')
    assert str(query) == "GET /query?%24prefix=k&%24limit=2"
    assert query.headers["accept"] == "application/x-ndjson"


def test_data_and_metadata_with_a_condition_need_one_request():
    with WireServer(service=as_json(service("/keys", "conditional"))) as server:
        with store_of(server) as store, pytest.raises(UnsupportedOperationError):
            store.set("k", (b"d", {"n": 1}), if_none_match="*")
    assert server.told == []


# -- discovery -----------------------------------------------------------------------------


def test_discover_takes_everything_from_the_service_document():
    profile = {"url_format": "{base}/{part}/{key}", "parts": {"permissions": "acl"}}
    with (
        WireServer(
            [answer(200, b"data"), as_json({"owned": ["x"]}), answer(204)],
            service=as_json(service("deep/keys", profile=profile)),
        ) as server,
        DynamicURLStore.discover(server.url, policy=HASTY) as store,
    ):
        assert store.info()["url"] == f"{server.url}/.well-known/deep/keys"
        assert store.get_data("a/b").read() == b"data"
        assert store.get_permissions("k") == {"owned": {"x"}}
        store.delete("k")
    assert server.told == [
        "GET /.well-known/deep/keys/data/a/b",
        "GET /.well-known/deep/keys/acl/k",
        "DELETE /.well-known/deep/keys/k",
    ]
    assert len(server.lookups) == 1


def test_discover_below_a_path():
    with WireServer([as_json(service("keys"))]) as server:
        store = DynamicURLStore.discover(f"{server.url}/lab/", policy=HASTY)
        assert store.info()["url"] == f"{server.url}/lab/.well-known/keys"
        store.disconnect()
    assert server.told == [f"GET /lab{SERVICE_PATH}"]


@each(
    "page",
    [
        answer(404),
        answer(200, b"<html>"),
        as_json(service("http://elsewhere.example/keys")),
        as_json(service("/keys", profile={"query": "http://elsewhere.example/query"})),
        as_json(service("/keys", profile={"url_format": "{base}/{key}"})),
        as_json(service("/keys", profile={"url_format": "{key}"})),
        as_json(service("/", profile={"url_format": "{base}{key}/{part}"})),
        as_json(service("/keys", profile={"url_format_no_part": "{base}"})),
    ],
)
def test_discover_refuses_what_describes_no_store_here(page):
    with WireServer(service=page) as server:
        url = server.url.replace("//", "//user:s3cret@")
        with pytest.raises(TransportError) as caught:
            DynamicURLStore.discover(url, policy=HASTY)
    assert "s3cret" not in str(caught.value)


def test_discover_needs_a_server():
    with pytest.raises(TransportError) as caught:
        DynamicURLStore.discover(f"http://127.0.0.1:{refused_port()}", policy=HASTY)
    assert caught.value.attempts == HASTY.attempts


# -- configuration -------------------------------------------------------------------------


@each(
    "arguments",
    [
        {"base_url": "ftp://host/keys"},
        {"base_url": "/keys"},
        {"base_url": "http:///keys"},
        {"base_url": "http://[bad/keys"},
        {"base_url": "http://host:port/keys"},
        {"base_url": "http://host:99999/keys"},
        {"base_url": "http://host/keys#there"},
        {"base_url": b"http://host/keys"},
        {"base_url": None},
        {"query_url": "query"},
        {"query_url": "http://user:pw@host/query"},
        {"url_format": "{base}/{key}"},
        {"url_format": "{base}/{part}"},
        {"url_format": "{base}/{key}/{other}"},
        {"base_url": "http://host", "url_format": "{base}{key}/{part}"},
        {"url_format_no_part": "{base}/{key}/{part}"},
        {"url_format_no_part": "{base}"},
        {"parts": {"data": "x", "metadata": "x"}},
        {"parts": {"datum": "x"}},
        {"parts": {"data": ""}},
        {"parts": {"data": 1}},
    ],
)
def test_a_configuration_that_cannot_work_is_refused_at_once(arguments):
    usual = {"base_url": "http://host/keys", "query_url": "http://host/query"}
    with pytest.raises(InvalidRequestError):
        DynamicURLStore(**{**usual, **arguments})


@pytest.mark.parametrize(
    "url", ["http://u:pa55@[bad/keys", "ftp://u:pa55@host/", "http://u:pa55@host:x/", "u:pa55@host"]
)
def test_no_message_shows_a_password(url):
    with pytest.raises(InvalidRequestError) as caught:
        DynamicURLStore(url, url)
    assert "pa55" not in str(caught.value)


def test_custom_urls():
    with WireServer([answer(201), answer(204), answer(200, b"k\n"), answer(204)]) as server:
        store = DynamicURLStore(
            f"{server.url}/a/",
            f"{server.url}?do=find",
            "{base}/get?id={key}&part={part}",
            "{base}/all?id={key}",
            {"metadata": "m&m"},
            policy=HASTY,
        )
        with store:
            store.set("x&y/z=1", (b"d", {}))
            assert list(store.query_keys(n="a b")) == ["k"]
            store.delete("é")
    assert server.told == [
        "PUT /a/get?id=x%26y/z%3D1&part=data",
        "PUT /a/get?id=x%26y/z%3D1&part=m%26m",
        "GET /?do=find&n=%22a+b%22",
        "DELETE /a/all?id=%C3%A9",
    ]


def test_nothing_works_before_connect_or_after_disconnect(basic):
    basic.entries["k"] = Entry(b"data")
    store = DynamicURLStore(f"{basic.url}/keys", f"{basic.url}/query")
    for _ in range(2):
        for ask in (store.get, store.exists, store.delete, lambda key: store.query_keys()):
            with pytest.raises(NotConnectedError):
                ask("k")
        with pytest.raises(NotConnectedError):
            store.user_tag()
        with store:
            value = store.get("k")
            assert store.is_connected()
        with pytest.raises(NotConnectedError):
            value.read()
    store.disconnect()
    assert "url" in store.info()


@each(
    "credentials",
    [
        "alice",
        ("alice",),
        (1, None),
        ("alice", "s3cret"),
        ("alice", ("alice", "s3cret")),
        {"user": "s3cret"},
    ],
)
def test_credentials_of_another_form_are_refused_and_not_shown(credentials):
    store = DynamicURLStore("http://host/keys", "http://host/query")
    with pytest.raises(InvalidRequestError) as caught:
        store.connect(credentials)
    assert "s3cret" not in str(caught.value)
    assert not store.is_connected()


def test_credentials_in_the_url_are_used_and_never_shown(caplog):
    caplog.set_level("DEBUG")
    with WireServer([answer(404), answer(500), answer(307, Location="//x/")]) as server:
        url = server.url.replace("//", "//us%3Aer:p%40ss@")
        store = DynamicURLStore(f"{url}/keys", f"{url}/query", policy=Policy(attempts=1))
        with store:
            assert not store.exists("k")
            for _ in range(2):
                with pytest.raises(TransportError) as caught:
                    store.get_data("k")
                assert "ss@" not in str(caught.value)
            shown = f"{store!r} {store.info()} {pickle.dumps(store)!r} {caplog.text}"
    assert {seen.headers["authorization"] for seen in server.seen} == {"Basic dXM6ZXI6cEBzcw=="}
    assert not any(secret in shown for secret in ("p@ss", "p%40ss", "dXM6ZXI6cEBzcw"))


def test_a_session_or_auth_object_wins_over_the_credentials_in_the_url():
    with WireServer([answer(404)] * 2) as server:
        url = server.url.replace("//", "//user:pw@")
        store = DynamicURLStore(f"{url}/keys", f"{url}/query", policy=HASTY)
        store.connect(("alice", BearerAuth("t0ken")))
        assert store.user_tag() == "alice"
        assert not store.exists("k")
        session = requests.Session()
        session.auth = HTTPBasicAuth("other", "pw")
        store.connect((None, session))
        assert not store.exists("k")
        store.disconnect()
    first, second = (seen.headers["authorization"] for seen in server.seen)
    assert first == "Bearer t0ken"
    assert second == "Basic b3RoZXI6cHc="
    assert "t0ken" not in repr(BearerAuth("t0ken"))


def test_connecting_again_takes_the_new_credentials_and_looks_again():
    with WireServer([answer(404)] * 2) as server:
        store = store_of(server)
        store.connect(("a", BearerAuth("one")))
        store.exists("k")
        store.connect(("b", BearerAuth("two")))
        store.exists("k")
        store.disconnect()
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer one", "Bearer two"]
    assert len(server.lookups) == 2


def test_a_pickle_has_the_configuration_and_no_secret():
    store = DynamicURLStore(
        "http://host/keys/",
        "http://host/query",
        "{base}/{part}/{key}",
        "{base}/whole/{key}",
        {"data": "d"},
        policy=Policy(attempts=2),
        verify_digests=False,
        metadata_schema={"required": ["n"]},
    )
    for again in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert again.__getstate__() == store.__getstate__()
        assert repr(again) == repr(store) == "<DynamicURLStore 'http://host/keys'>"
        assert not again.is_connected()
        assert again.metadata_schema == {"required": ["n"]}
    store.connect(("alice", None))
    again = pickle.loads(pickle.dumps(store))
    assert again.is_connected()
    assert again.user_tag() == "alice"
    store.connect(("alice", BearerAuth("s3cret")))
    pickled = pickle.dumps(store)
    assert b"s3cret" not in pickled
    assert not pickle.loads(pickled).is_connected()


def test_a_pickled_store_works(basic):
    with store_of(basic) as store:
        store.set("k", b"data")
        with pickle.loads(pickle.dumps(store)) as again:
            assert again.get("k").read() == b"data"


# -- what the base promises ----------------------------------------------------------------


def test_events_and_progress(basic):
    heard: list[Any] = []
    done: list[tuple[int, int]] = []
    with store_of(basic) as store:
        store.events.connect(StoreEvent, heard.append)
        store.set("k", (b"x" * 10, {"n": 1}), progress=lambda *args: done.append(args))
        store.set_data("k", iter([b"abc", b"defg"]), progress=lambda *args: done.append(args))
        store.set_metadata("k", {"n": 2})
        store.update_metadata("k", {"m": 3})
        store.to_bytes("k", 4, progress=lambda *args: done.append(args))
        store.delete("k")
    assert done == [(10, 10), (3, -1), (7, -1), (4, 7), (7, 7)]
    changes = [event for event in heard if hasattr(event, "action")]
    assert [(type(event), dict(event.metadata)) for event in changes] == [
        (StoreSetEvent, {"n": 1}),
        (StoreUpdateEvent, {"n": 1}),
        (StoreUpdateEvent, {"n": 2}),
        (StoreUpdateEvent, {"n": 2, "m": 3}),
        (StoreDeleteEvent, {"n": 2, "m": 3}),
    ]
    assert all(event.source is store for event in heard)


def test_what_a_progress_callable_raises_ends_the_upload_and_stores_nothing(basic):
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with store_of(basic) as store:
        with pytest.raises(Cancelled):
            store.set_data("k", iter([b"abc", b"def"]), progress=cancel)
        assert "k" not in basic.entries
        basic.entries["k"] = Entry(b"data")
        with pytest.raises(Cancelled):
            store.to_bytes("k", progress=cancel)


def test_a_metadata_schema_is_checked_here(basic):
    schema = {"required": ["n"], "properties": {"n": {"type": "integer"}}}
    basic.entries["k"] = Entry(b"", {"n": 1})
    with store_of(basic, metadata_schema=schema) as store:
        store.set("new", (b"", {"n": 1}))
        store.update_metadata("k", {"m": 1})
        store.set_data("k", b"data")
        asked = len(basic.told)
        for change in (
            lambda: store.set("k", (b"", {})),
            lambda: store.set_metadata("k", {"n": "1"}),
            lambda: store.update_metadata("k", {"n": None}),
            lambda: store.set_data("other", b""),
        ):
            with pytest.raises(InvalidMetadataError):
                change()
        with pytest.raises(KeyNotFoundError):
            store.update_metadata("other", {"m": 1})
        assert all(told.startswith("GET") for told in basic.told[asked:])


@each("key", ["", ".", "a/..", "../a", "a\0b", "\ud800", "x" * 1025])
def test_a_bad_key_is_refused_before_anything_is_sent(key):
    with WireServer() as server, store_of(server) as store:
        for ask in (store.get, store.exists, store.delete, lambda key: store.set(key, b"")):
            with pytest.raises(InvalidKeyError):
                ask(key)
    assert server.told == []


def test_bad_metadata_is_refused_before_anything_is_sent():
    with WireServer() as server, store_of(server) as store:
        for metadata in ({"n": float("nan")}, {1: 2}, {"a": object()}):
            with pytest.raises(InvalidMetadataError):
                store.set("k", (b"", metadata))
    assert server.told == []


def test_facts_of_a_key_come_without_its_data():
    line = b'{"key": "k/1", "metadata": {"n": 1}, "size": 4, "revision": "r"}\n'
    longer = line.replace(b"k/1", b"k/1x")
    head = answer(200, Content_Length=7, ETag='"e"')
    steps = [answer(200, line), answer(200, longer), head, as_json({"n": 2}), answer(200)]
    steps += [answer(404, Content_Length=0)]
    with WireServer(steps, service=as_json(service("/keys", "records", "value"))) as server:
        with store_of(server) as store:
            assert store._record("k/1").revision == "r"
            record = store._record("k/1")
            assert (record.size, record.metadata, record.revision) == (7, {"n": 2}, "e")
            with pytest.raises(KeyNotFoundError):
                store._record("k/1")
    assert server.told[0] == "GET /query?%24prefix=k%2F1&%24limit=1"


# -- errors --------------------------------------------------------------------------------


@each(
    "status, error",
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, AuthorizationError),
        (404, KeyNotFoundError),
        (405, UnsupportedOperationError),
        (409, ConflictError),
        (411, InvalidRequestError),
        (412, ConflictError),
        (413, TooLargeError),
        (414, TooLargeError),
        (415, InvalidRequestError),
        (416, RangeError),
        (418, InvalidRequestError),
        (422, InvalidMetadataError),
        (429, UnavailableError),
        (431, TooLargeError),
        (500, TransportError),
        (501, UnsupportedOperationError),
        (502, TransportError),
        (503, UnavailableError),
        (505, TransportError),
        (507, StorageFullError),
        (599, TransportError),
    ],
)
def test_a_status_means_an_error(status, error):
    def page(wire: Wire) -> None:
        bodies = {"PUT": b"", "GET": b"<h1>Sorry</h1>", "POST": b'{"type": "no"}', "DELETE": b"{"}
        wire.send(answer(status, bodies[wire.seen.method], Content_Type="application/json"))

    with WireServer(default=page) as server, store_of(server) as store:
        for ask in (
            lambda: store.set_data("a b", b"x"),
            lambda: store.get_metadata("a b"),
            lambda: store.update_permissions("a b", {}),
            lambda: store.delete("a b"),
        ):
            with pytest.raises(error) as caught:
                ask()
            assert isinstance(caught.value, StoreError)
            assert (caught.value.key, caught.value.status) == ("a b", status)


def test_a_problem_document_tells_errors_apart_that_share_a_status():
    def problem(name: str, status: int, **members: Any) -> bytes:
        document = {"type": f"urn:kvstore:error:{name}", "status": status, **members}
        return as_json(document, status)

    cases: list[tuple[bytes, type[StoreError], str, Any]] = [
        (problem("invalid-key", 400), InvalidKeyError, "key", "k"),
        (problem("invalid-metadata", 422, pointer="/n"), InvalidMetadataError, "pointer", "/n"),
        (problem("invalid-permissions", 400), InvalidPermissionsError, "status", 400),
        (problem("integrity", 400), IntegrityError, "status", 400),
    ]
    with WireServer([page for page, *_ in cases]) as server, store_of(server) as store:
        for _, error, attribute, told in cases:
            with pytest.raises(error) as caught:
                store.set_data("k", b"x")
            assert getattr(caught.value, attribute) == told


@each(
    "document",
    [
        {"owned": "alice"},
        {"owned": [1]},
        {"owned": {"a": 1}},
        {"": ["x"]} | {"owned": None},
        {"owned": ["\ud800"]},
    ],
)
def test_permissions_that_are_none_are_an_error_of_the_server(document):
    with WireServer([as_json(document)]) as server, store_of(server) as store:
        with pytest.raises(TransportError):
            store.get_permissions("k")


def test_a_value_of_another_store_is_streamed_to_the_server(basic):
    with MemoryStore() as memory, store_of(basic) as store:
        memory.set("m", (b"x" * 300_000, {"n": 1}), mimetype="image/png")
        store.set("k", memory.get("m"))
        memory.set("back", store.get("k"))
        assert memory.get("back").read() == b"x" * 300_000
        assert memory.get("back").mimetype == "image/png"
        assert memory.get_metadata("back") == {"n": 1}
